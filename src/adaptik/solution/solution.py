"""Solution: what solving the limit and training networks both return."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import jax
import numpy as np
from jaxtyping import Float

from ..errors import InputError
from ..mathematics import losses
from ..tasks import LossUnit, Task, accuracy
from ..tasks.stages import Stage
from .estimate import Estimate, leave_one_out, pseudo_values

if TYPE_CHECKING:
    import xarray as xr

KernelKind = Literal["feature", "gradient", "ntk"]
KERNEL_KINDS = ("feature", "gradient", "ntk")


class Outcome(Enum):
    """How a stage ended; losses and their rates are judged relative to the labels of each output.

    See ``loss_tol`` of :class:`adaptik.Stage`.
    """

    CONVERGED = "converged"
    REACHED_DURATION = "reached its duration"
    STALLED = "stalled: the loss stopped falling above loss_tol"
    COLLAPSED = "collapsed: weight decay took all weights to zero"
    OUT_OF_STEPS = "out of steps before converging"
    DIVERGED = "diverged: step size underflow or non-finite loss"
    NON_FINITE = "not finite: predictions became NaN or infinite"

    @property
    def ok(self) -> bool:
        """Whether the stage ended as asked."""
        return self in (Outcome.CONVERGED, Outcome.REACHED_DURATION, Outcome.COLLAPSED)

    @property
    def is_lost(self) -> bool:
        """Whether nothing can go on from the stage's end."""
        return self in (Outcome.DIVERGED, Outcome.NON_FINITE)


class AbstractState:
    """The law of the network (limit) or its weights (network) at one time, able to predict."""

    exact: ClassVar[bool] = False  # no sampling: the standard error is 0

    @abstractmethod
    def predict(self, X: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "members n C"]:
        """Predictions of every member."""

    @abstractmethod
    def kernel(
        self, X: Float[np.ndarray, "n D"], X2: Float[np.ndarray, "m D"] | None, kind: KernelKind
    ) -> Float[np.ndarray, "members n m ..."]:
        """Kernel of every member; multi-output gradient and NTK kernels end in axes (C, C)."""

    def layer_kernel(
        self,
        X: Float[np.ndarray, "n D"],
        X2: Float[np.ndarray, "m D"] | None,
        kind: KernelKind,
        layer: int,
    ) -> Float[np.ndarray, "members n m ..."]:
        """Feature or gradient kernel of one hidden layer; deep states replace it."""
        if layer != 1:
            raise InputError(f"layer must be 1, the only hidden layer, got {layer}")
        return self.kernel(X, X2, kind)

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """The same neurons with a predictor ``factor`` times as large."""

    def check_task(self, i: int, task: Task) -> None:
        """Refuse the task of a later stage ``i`` that has no place in this state."""

    @abstractmethod
    def preactivations(self, X: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "members units n"]:
        """Last-layer preactivations h(x) of every particle or neuron."""


@dataclass(frozen=True)
class Cost:
    """What a stage took: accepted and rejected steps, seconds of compilation and of running."""

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


@dataclass(frozen=True, eq=False)
class Solution:
    """The trajectory of one sequence of stages, with error bars from its members.

    Members are independent replicates of the particle system (limit) or seeds (networks).

    Attributes
    ----------
    kind
        ``"limit"`` or ``"network"``.
    stages, records
        The stages asked for and what happened in each.
    states
        State at the end of each stage.
    snapshots
        States at requested ``(stage, time)``.
    tasks
        Tasks whose losses and predictions were recorded, by name.
    provenance
        The model's configuration, seeds and versions that made this result.
    """

    kind: str
    stages: tuple[Stage, ...]
    records: tuple[StageRecord, ...]
    states: tuple[AbstractState, ...]
    tasks: dict[str, Task]
    snapshots: dict[tuple[int, float], AbstractState] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """The worst outcome over stages."""
        bad = [r.outcome for r in self.records if not r.outcome.ok]
        return bad[-1] if bad else self.records[-1].outcome

    @property
    def members(self) -> int:
        return next(iter(self.records[0].predictions.values())).shape[1]

    def estimate(self, values: Float[np.ndarray, "members ..."]) -> Estimate:
        """Mean over members with its standard error, 0 where nothing was sampled."""
        if self.states and self.states[-1].exact:
            return Estimate(values[0], np.zeros(np.shape(values)[1:]))
        return Estimate.over_members(values)

    @property
    def sampling_error(self) -> float:
        """Standard error of predictions at stage ends: rms over recorded inputs, the worst split.

        In units of the stage's labels (:attr:`adaptik.Stage.unit`). 0 where nothing was sampled,
        NaN for a single member.
        """
        ends = [
            f[-1] / stage.unit
            for stage, record in zip(self.stages, self.records, strict=True)
            for f in record.predictions.values()
        ]
        errors = (np.asarray(self.estimate(end).standard_error) for end in ends)
        return max(float(np.sqrt(np.mean(np.square(error)))) for error in errors)

    @property
    def timed_stages(self) -> tuple[Stage, ...]:
        """The same stages with the durations that they took, to train networks equally long."""
        return tuple(
            replace(stage, duration=stage.duration or record.duration or None)
            for stage, record in zip(self.stages, self.records, strict=True)
        )

    def state(self, stage: int = -1, time: float | None = None) -> AbstractState:
        """State at the end of ``stage``, or at one of the requested snapshot times within it."""
        stage = range(len(self.states))[stage]
        if time is None:
            return self.states[stage]
        for (at, when), snapshot in self.snapshots.items():
            if at == stage and np.isclose(when, time, rtol=1e-9):
                return snapshot
        kept = [when for at, when in self.snapshots if at == stage]
        raise InputError(
            f"time={time:g}: stage {stage} has snapshots at {kept}; ask solve for more"
        )

    def predict(
        self, X: Float[np.ndarray, "n D"], stage: int = -1, time: float | None = None
    ) -> Estimate:
        """Predictor at any inputs at the end of ``stage``: shape ``(n,)`` or ``(n, outputs)``.

        Inputs are on the scale of the tasks; they need not have been seen by the solve.
        """
        f = self.state(stage, time).predict(self._inputs(X))
        return self.estimate(f[..., 0] if f.shape[-1] == 1 else f)

    def kernel(
        self,
        X: Float[np.ndarray, "n D"],
        X2: Float[np.ndarray, "m D"] | None = None,
        kind: KernelKind = "feature",
        stage: int = -1,
        time: float | None = None,
        layer: int | None = None,
    ) -> Estimate:
        """Adaptive kernel at the end of ``stage``, of the last hidden layer or of ``layer``.

        ``"feature"`` is Phi = <phi phi>, ``"gradient"`` G = <g g>, ``"ntk"`` Phi + G K_x
        (theory section 2; for deep networks the sum over layers). Shape ``(n, m)``; gradient and
        NTK kernels of several outputs have shape ``(n, m, C, C)``. Symmetric positive semi-definite
        where ``X2`` is None; the standard error includes that of the sampled orthogonal parts
        between two inputs outside the span of the training data.
        """
        if kind not in KERNEL_KINDS:
            raise InputError(f"kind={kind!r} is unknown; use one of {KERNEL_KINDS}")
        if layer is not None and kind == "ntk":
            raise InputError(
                "layer: the NTK sums over layers; ask for kind='feature' or 'gradient'"
            )
        first, second = self._inputs(X), None if X2 is None else self._inputs(X2)
        state = self.state(stage, time)
        if layer is None:
            found = state.kernel(first, second, kind)
        else:
            found = state.layer_kernel(first, second, kind, layer)
        if second is None:  # to the last digit, which products of matrices are not
            found = (found + found.transpose(0, 2, 1, *range(3, found.ndim)[::-1])) / 2
        return self.estimate(found)

    def preactivations(
        self, X: Float[np.ndarray, "n D"], stage: int = -1, time: float | None = None
    ) -> Float[np.ndarray, "members units n"]:
        """Samples of the preactivations h(x), whose histogram is p(h)."""
        return self.state(stage, time).preactivations(self._inputs(X))

    def loss(
        self, task: Task | str, split: str = "test", stage: int = -1, unit: LossUnit = "task"
    ) -> Estimate:
        """Loss on ``task`` at the end of ``stage``, with its standard error.

        Of the limit, or of a network averaged over seeds. Mean squared error (a zero predictor
        on unit-variance labels has loss 1), or mean log-loss after the logistic loss. ``unit`` is
        that of :meth:`adaptik.Task.loss_weights`: squares of the task's labels, of the user's
        (``"labels"``), or of their standard deviations (``"variance"``).
        """
        return self.estimate(self.losses(task, split, stage, unit)[-1])

    def accuracy(self, task: Task | str, split: str = "test", stage: int = -1) -> Estimate:
        """Fraction of correctly classified samples at the end of ``stage``."""
        task = self._task(task)
        f = self.predictions(task, split, stage)[-1]
        return self.estimate(accuracy(task, f, task.split(split)[1]))

    def losses(
        self, task: Task | str, split: str = "test", stage: int = -1, unit: LossUnit = "task"
    ) -> Float[np.ndarray, "T members"]:
        """Loss at the recorded times of ``stage`` (see ``records[stage].times``), by member.

        For networks the loss of each seed. For a limit, jackknife pseudo-values of the loss of
        the mean predictor: their mean is free of the sampling variance of single replicates.
        """
        return self.sample_losses(task, split, stage, unit).mean(-1)

    def sample_losses(
        self, task: Task | str, split: str = "test", stage: int = -1, unit: LossUnit = "task"
    ) -> Float[np.ndarray, "T members n"]:
        """As :meth:`losses`, for every sample."""
        task = self._task(task)
        loss = losses.get(self.stages[stage].loss)
        f = self.predictions(task, split, stage)
        if task.outputs != self.stages[stage].task.outputs:
            raise InputError(
                f"task {task.name!r} has {task.outputs} outputs, stage {stage} trains "
                f"{self.stages[stage].task.outputs}; its loss is not defined there"
            )
        y, weights = task.split(split)[1], task.loss_weights(unit)

        def value(f):
            if loss.parts is None or unit == "task":
                return np.asarray(loss.value(f, y))
            return np.asarray(loss.parts(f, y)) @ weights

        with jax.enable_x64(True):
            if self.kind == "network":
                return value(f)
            values = value(leave_one_out(np.swapaxes(f, 0, 1)))
        return np.swapaxes(pseudo_values(values), 0, 1)

    def predictions(
        self, task: Task | str, split: str = "test", stage: int = -1
    ) -> Float[np.ndarray, "T members n C"]:
        """Recorded predictions of every member over the times of ``stage``."""
        task = self._task(task)
        task.split(split)
        return self.records[stage].predictions[task.name, split]

    def save(self, path) -> None:
        """Write everything to one ``.zip`` file of zarr arrays, atomically, without pickles."""
        from .archive import save

        save(self, path)

    @classmethod
    def load(cls, path) -> "Solution":
        """Read what :meth:`save` wrote."""
        from .archive import load

        return load(path)

    def to_xarray(self) -> "xr.Dataset":
        """Losses, accuracies and predictions with labelled axes (:mod:`.to_xarray`)."""
        from .to_xarray import to_xarray

        return to_xarray(self)

    def _task(self, task: Task | str) -> Task:
        name = task if isinstance(task, str) else task.name
        if name not in self.tasks:
            raise InputError(f"task {name!r} was not recorded; recorded: {list(self.tasks)}")
        return self.tasks[name]

    def _inputs(self, X) -> np.ndarray:
        X = np.asarray(X, float)
        dimension = self.stages[0].task.dimension
        if X.ndim != 2 or X.shape[1] != dimension:
            raise InputError(f"X must have shape (n, {dimension}), got {X.shape}")
        if not np.isfinite(X).all():
            raise InputError("X has NaN or infinite entries")
        return X


def recorded_tasks(stages: Sequence[Stage], observe: Sequence[Task]) -> dict[str, Task]:
    """All tasks of ``stages`` and ``observe`` by name, without repeats."""
    tasks: dict[str, Task] = {}
    dimension = stages[0].task.dimension
    for task in [*(s.task for s in stages), *observe]:
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
    """Geometric record times, starting at 0; ``duration`` itself is recorded at the end anyway."""
    if duration is None or np.isinf(duration):
        return np.concatenate([[0.0], np.geomspace(0.1, horizon, record - 1)])
    return np.concatenate([[0.0], np.geomspace(1e-4, 1.0, record - 1)[:-1] * duration])
