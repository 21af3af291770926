"""What a limit must do for :func:`adaptik.solve`: one protocol, one file a limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..errors import InputError
from ..solution import AbstractState, Solution, StageRecord
from ..stages import Stage
from ..tasks import Task


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


class Limit(Protocol):
    """An infinite-width limit.

    One that computes the elastic coupling says so by a class attribute ``couples``: ``"flow"``
    where it pulls during gradient flow, ``"posterior"`` where it is part of the prior.
    """

    def describe(self) -> dict[str, Any]:
        """Its configuration, as stored with results."""
        ...

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        """Peak memory of a solve."""
        ...

    def start(
        self, stages: Sequence[Stage], tasks: dict[str, Task], rng: np.random.Generator
    ) -> Any:
        """What the first :meth:`advance` takes as its state: the law at initialisation."""
        ...

    def advance(self, state: Any, stage: Stage, request: Request) -> Advance:
        """Run one stage from ``state``: what happened, the state at its end, the snapshots."""
        ...

    def refined(self, tol: float, tasks: dict[str, Task], found: Solution | None) -> "Limit":
        """The limit set for predictions with standard errors of ``tol``.

        ``tasks`` are those recorded, as in :meth:`predicted_bytes`; ``found`` is a solution by
        the limit as it is, whose errors are too large, ``None`` before there is one. Limits
        without sampling control their steps alone.
        """
        ...


def growth(found: Solution, tol: float) -> float:
    """By how much to enlarge a sample so that its standard errors become ``tol``."""
    return 1.1 * (found.sampling_error / tol) ** 2


def recorded_inputs(tasks: dict[str, Task], outputs: int):
    """Inputs of every recorded task and split whose outputs the stage predicts."""
    for name, task in tasks.items():
        if task.outputs == outputs:
            for split in task.splits:
                yield (name, split), task.split(split)[0]


def refuse_layers(stages: Sequence[Stage], limit: str) -> None:
    """Refuse stages that part hidden layers, for a limit that moves all of them or none."""
    for stage in stages:
        for name in ("trains", "fresh_above"):
            if isinstance(layer := getattr(stage, name), int):
                raise InputError(
                    f"{name}={layer}: {limit} does not part hidden layers; use "
                    "adaptik.Ensemble, adaptik.DeepLinear or adaptik.Deep"
                )


def checked_layer(layer: int, depth: int) -> None:
    """Refuse a hidden layer that does not exist."""
    if not 1 <= layer <= depth:
        raise InputError(f"layer must be between 1 and the depth {depth}, got {layer}")
