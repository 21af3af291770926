"""The error of a stage's time steps, estimated by a second solve with larger tolerances."""

from dataclasses import replace

import numpy as np

from ..solution import Cost, Request, StageRecord
from ..tasks.stages import Stage


def again(stage: Stage, request: Request, record: StageRecord) -> tuple[Stage, Request]:
    """The stage of known duration and the request that record at the times of ``record``."""
    if record.duration == 0:  # it had converged at its start
        return stage, request
    timed = replace(stage, duration=stage.duration or record.duration)
    return timed, replace(request, times=record.times[record.times < record.duration])


def step_error(record: StageRecord, coarse: StageRecord) -> float:
    """Largest difference of any recorded prediction, in units of the predictor."""
    return max(
        float(np.abs(coarse.predictions[key] - f).max()) for key, f in record.predictions.items()
    )


def timed_together(first: Cost, *others: Cost) -> Cost:
    """The cost of the first solve with the seconds of all."""
    costs = (first, *others)
    return replace(
        first,
        compile_seconds=sum(c.compile_seconds for c in costs),
        run_seconds=sum(c.run_seconds for c in costs),
    )
