"""What a limit must do for :func:`adaptik.solve`: one class, one file a limit."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from ..mathematics.activations import Activation, check_finite
from ..solution import AbstractState, Solution, StageRecord
from ..system.errors import InputError
from ..tasks import Task, preactivation_scale
from ..tasks.stages import Stage, check_elastic_flow


@dataclass(frozen=True, eq=False)
class Request:
    """What to keep of a stage.

    Attributes
    ----------
    tasks
        Tasks whose predictions are recorded, by name.
    times
        Record times since the stage's start; those beyond its end are dropped.
    snapshots
        Times at which whole states are kept.
    rng
        Randomness of this stage alone.
    """

    tasks: dict[str, Task]
    times: np.ndarray
    snapshots: tuple[float, ...]
    rng: np.random.Generator


Advance = tuple[StageRecord, AbstractState, dict[float, AbstractState]]


class Limit(ABC):
    """An infinite-width limit: a frozen dataclass of its settings.

    Attributes
    ----------
    couples
        How it computes the elastic coupling: ``"flow"`` where it pulls during gradient flow,
        ``"posterior"`` where it is part of the prior; without it such stages are refused.
    timed
        Whether a stage has times, at which snapshots can be taken.
    free
        Settings, beside those of accuracy, in which a limit that goes on from a solution may
        differ from the one that made it.
    """

    couples: ClassVar[Literal["", "flow", "posterior"]] = ""
    timed: ClassVar[bool] = True
    free: ClassVar[tuple[str, ...]] = ()

    def describe(self) -> dict[str, Any]:
        """Its settings, as stored with results; they decide what can go on from a solution."""
        found: dict[str, Any] = {"limit": type(self).__name__}
        for field in fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            if isinstance(value, Activation):
                value = value.name
            found[field.name] = value.item() if isinstance(value, np.generic) else value
        return found

    def check(
        self, stages: Sequence[Stage], first: int = 0, state: AbstractState | None = None
    ) -> None:
        """Refuse stages from ``first`` on that cannot be computed, before anything is.

        Parameters
        ----------
        stages
            All stages, those before ``first`` having been solved by an equal limit.
        state
            Their end, ``None`` at the start.

        Raises
        ------
        InputError
            As :meth:`check_stage` does, and for tasks that ``state`` has no coordinates for.
        """
        for i, stage in enumerate(stages[first:], first):
            self._check_elastic(i, stage)
            self.check_stage(i, stage)
            if state is not None:
                state.check_task(i, stage.task)

    def check_values(self, tasks: dict[str, Task]) -> None:
        """Refuse an activation, if it has one, that is not finite where networks start.

        Raises
        ------
        InputError
            As :func:`adaptik.activations.check_finite` does.
        """
        settings = {field.name: getattr(self, field.name) for field in fields(self)}  # pyright: ignore[reportArgumentType]
        activation = settings.get("activation")
        if isinstance(activation, Activation):
            depth, dtype = settings.get("depth", 1), settings.get("dtype", "float32")
            check_finite(activation, preactivation_scale(tasks.values()), depth, dtype)

    @abstractmethod
    def check_stage(self, i: int, stage: Stage) -> None:
        """Refuse every option of stage ``i`` that the limit does not compute."""

    @abstractmethod
    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        """Peak memory of a solve."""

    @abstractmethod
    def start(
        self, stages: Sequence[Stage], tasks: dict[str, Task], rng: np.random.Generator
    ) -> Any:
        """What the first :meth:`advance` takes as its state: the law at initialisation."""

    @abstractmethod
    def advance(self, state: Any, stage: Stage, request: Request) -> Advance:
        """Run one stage from ``state``: what happened, the state at its end, the snapshots."""

    @abstractmethod
    def refined(self, tol: float, tasks: dict[str, Task], found: Solution | None) -> "Limit":
        """The limit set for predictions with standard errors of ``tol``.

        ``tasks`` are those recorded, as in :meth:`predicted_bytes`; ``found`` is a solution by
        the limit as it is, whose errors are too large, ``None`` before there is one. Limits
        without sampling control their steps alone.
        """

    def _check_elastic(self, i: int, stage: Stage) -> None:
        if self.couples == "flow":
            check_elastic_flow(i, stage)
        if stage.elastic > 0 and not self.couples:
            raise InputError(
                f"stage {i}: {type(self).__name__} does not compute the elastic coupling "
                f"(elastic={stage.elastic:g}); use TwoLayer or Bayesian, or elastic=0"
            )


def growth(found: Solution, tol: float) -> float:
    """By how much to enlarge a sample so that its standard errors become ``tol``."""
    return 1.1 * (found.sampling_error / tol) ** 2


def recorded_inputs(tasks: dict[str, Task], outputs: int):
    """Inputs of every recorded task and split whose outputs the stage predicts."""
    for name, task in tasks.items():
        if task.outputs == outputs:
            for split in task.splits:
                yield (name, split), task.split(split)[0]


def refuse_layers(i: int, stage: Stage, limit: str) -> None:
    """Refuse a stage that parts hidden layers, for a limit that has one."""
    for name, same in (("trains", "trains='readout'"), ("fresh_above", "no fresh_above")):
        layer = getattr(stage, name)
        if isinstance(layer, int):
            same = f", or {same}, which is the same" if layer == 1 else ""
            raise InputError(
                f"stage {i}: {name}={layer}: {limit} does not part hidden layers; use "
                f"adaptik.Ensemble, adaptik.DeepLinear or adaptik.Deep{same}"
            )


def checked_layer(layer: int, depth: int) -> None:
    """Refuse a hidden layer that does not exist."""
    if not 1 <= layer <= depth:
        raise InputError(f"layer must be between 1 and the depth {depth}, got {layer}")
