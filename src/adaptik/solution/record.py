"""One stage as it happened: how it ended, what it took, what was recorded on the way."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from ..mathematics.outcome import Outcome
from ..system.errors import InputError
from ..tasks import Task
from ..tasks.stages import Stage
from .state import State


@dataclass(frozen=True)
class Cost:
    """What a stage took: accepted and rejected steps, seconds of compilation and of running.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.linear_pair(0.5, n_source=4, n_target=4, dimension=5)
    >>> cost = ak.solve([ak.Stage(task, richness=0.0)], ak.TwoLayer(particles=16)).records[0].cost
    >>> cost.steps, cost.rejected, cost.run_seconds >= 0  # one eigendecomposition
    (1, 0, True)
    """

    method: str
    steps: int
    rejected: int
    compile_seconds: float
    run_seconds: float


@dataclass(frozen=True, eq=False)
class StageRecord:
    """One stage as it happened.

    Attributes
    ----------
    times
        Recorded times since the stage's start, shape ``(T,)``; the last is the stage's end.
    predictions
        For ``(task name, split)``, predictions of shape ``(T, members, samples, outputs)``.
    duration
        Time at the end of the stage (averaged over members where they differ).
    train_loss, rate
        Training loss of the stage at its end, and the rate of decrease of what the flow descends,
        the loss with the terms of weight decay and elastic pull (for constant kernels the loss).
    outcome, cost
        How it ended and what it took.
    step_error
        Estimated error of predictions from time stepping, the largest over those recorded, which
        all members share (no standard error shows it); NaN where it is not estimated.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.linear_pair(0.5, n_source=4, n_target=4, dimension=5, n_test=3)
    >>> limit = ak.TwoLayer(particles=16, replicates=2)
    >>> record = ak.solve([ak.Stage(task, richness=0.0, duration=2.0)], limit, record=6).records[0]
    >>> record.duration, record.outcome.value, len(record.times)
    (2.0, 'reached its duration', 6)
    >>> record.predictions[task.name, "test"].shape  # times, members, samples, outputs
    (6, 2, 3, 1)
    >>> record.judged() is record  # its predictions are finite
    True
    >>> record.without(task).predictions
    {}

    A posterior's stage has no time:

    >>> of = {(task.name, "train"): np.zeros((1, 2, 4, 1))}
    >>> timeless = StageRecord.timeless(of, task, Outcome.CONVERGED, record.cost)
    >>> timeless.duration, timeless.times.tolist()
    (0.0, [0.0])
    """

    times: Float[np.ndarray, " T"]
    predictions: dict[tuple[str, str], Float[np.ndarray, "T members n C"]]
    duration: float
    train_loss: float
    rate: float
    outcome: Outcome
    cost: Cost
    step_error: float = np.nan

    def judged(self) -> "StageRecord":
        """With the outcome ``NON_FINITE`` where predictions are not finite numbers."""
        if all(np.isfinite(f).all() for f in self.predictions.values()):
            return self
        return replace(self, outcome=Outcome.NON_FINITE)

    def without(self, task: Task) -> "StageRecord":
        """Without the predictions of one task."""
        kept = {key: f for key, f in self.predictions.items() if key[0] != task.name}
        return replace(self, predictions=kept)

    @classmethod
    def timeless(
        cls,
        predictions: dict[tuple[str, str], Float[np.ndarray, "1 members n C"]],
        task: Task,
        outcome: Outcome,
        cost: Cost,
    ) -> "StageRecord":
        """Of a stage on ``task`` that has no time, such as a posterior: its training loss is that
        of the members' mean.
        """
        gap = predictions[task.name, "train"][0].mean(0) - task.y
        loss = float(np.mean(np.sum(gap**2, axis=-1)))
        return cls(np.zeros(1), predictions, 0.0, loss, 0.0, outcome, cost)


# What happened in a stage, the state at its end, and states at the times asked for.
Advance = tuple[StageRecord, State, Mapping[float, State]]


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

    Examples
    --------
    >>> times = record_grid(1.0, record=4)
    >>> request = Request({}, times, snapshots=(), rng=np.random.default_rng(0))
    >>> request.times.round(4).tolist()
    [0.0, 0.0001, 0.01]
    """

    tasks: dict[str, Task]
    times: Float[np.ndarray, " T"]
    snapshots: tuple[float, ...]
    rng: np.random.Generator


def recorded_inputs(
    tasks: dict[str, Task], learned: Task
) -> Iterator[tuple[tuple[str, str], Float[np.ndarray, "n D"]]]:
    """Inputs of every recorded task and split whose outputs a stage predicts that learns a task.

    Examples
    --------
    >>> task = Task([[1.0, 0.0], [0.0, 1.0]], [-1, 1], name="toy")
    >>> [(key, X.shape) for key, X in recorded_inputs({"toy": task}, task)]
    [(('toy', 'train'), (2, 2))]
    """
    for name, task in tasks.items():
        if name == learned.name or task.outputs in learned.heads.values():
            for split in task.splits:
                yield (name, split), task.split(split)[0]


def recorded_tasks(stages: Sequence[Stage], observe: Sequence[Task]) -> dict[str, Task]:
    """All tasks of ``stages`` and ``observe`` by name, without repeats.

    Examples
    --------
    >>> task = Task([[1.0, 0.0], [0.0, 1.0]], [-1, 1], name="toy")
    >>> other = Task([[1.0, 1.0]], [1], name="other")
    >>> list(recorded_tasks([Stage(task, 1.0), Stage(task, 2.0)], [other]))
    ['toy', 'other']
    """
    tasks: dict[str, Task] = {}
    dimension = stages[0].task.dimension
    for task in [*(task for stage in stages for task in stage.tasks), *observe]:
        if not isinstance(task, Task):
            raise InputError(f"observe must hold adaptik.Tasks, got {type(task).__name__}")
        if task.dimension != dimension:
            raise InputError(
                f"observe: task {task.name!r} has {task.dimension} features, those of the stages "
                f"{dimension}; all tasks share one input space"
            )
        if not tasks.setdefault(task.name, task).same_as(task):
            raise InputError(f"two different tasks are called {task.name!r}; rename one")
    return tasks


def record_grid(duration: float | None, record: int, horizon: float = 1e8) -> np.ndarray:
    """Geometric record times, starting at 0; ``duration`` itself is recorded at the end anyway.

    Examples
    --------
    >>> record_grid(10.0, record=4).round(4).tolist()
    [0.0, 0.001, 0.1]
    """
    if duration is None or np.isinf(duration):
        return np.concatenate([[0.0], np.geomspace(0.1, horizon, record - 1)])
    return np.concatenate([[0.0], np.geomspace(1e-4, 1.0, record - 1)[:-1] * duration])
