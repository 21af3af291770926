"""Every stage is solved in the unit of its own labels, and its results are turned back.

The problem (s y, gamma/s) is (y, gamma) in other units: neurons and times are the same, predictors
s times as large. So limits and networks only ever see labels whose mean square, summed over
outputs, is 1; their tolerances of predictors and losses are relative thereby, and no constant of
theirs has a unit. States carry a predictor in the user's unit between stages.
"""

from dataclasses import replace

from ..tasks.stages import Stage
from .record import StageRecord
from .state import State


def in_own_unit(stage: Stage, unit: float) -> Stage:
    """The same problem with labels divided by ``unit``."""
    if unit == 1:
        return stage
    return replace(stage, task=stage.task.scaled(1 / unit), richness=stage.richness * unit)


def turned(state: State, factor: float) -> State:
    """The state with a predictor ``factor`` times as large."""
    return state if factor == 1 else state.scaled(factor)


def turned_back(record: StageRecord, unit: float) -> StageRecord:
    """What happened, in the user's unit."""
    if unit == 1:
        return record
    return replace(
        record,
        predictions={key: unit * f for key, f in record.predictions.items()},
        train_loss=unit**2 * record.train_loss,
        rate=unit**2 * record.rate,
        step_error=unit * record.step_error,
    )
