"""The stages that were gone through, and what can be asked of them; nothing of files."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ..mathematics import losses
from ..system.errors import InputError
from ..tasks import LossUnit, Task, accuracy
from ..tasks.stages import Stage, in_heads
from ..tasks.stages.heads import head_of
from .estimate import Estimate, leave_one_out, pseudo_values
from .record import Outcome, StageRecord
from .state import KERNEL_KINDS, AbstractState, KernelKind


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a :class:`Solution` holds and answers, but for files and data sets."""

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
        return Outcome.of_all(record.outcome for record in self.records)

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

    def heads(self, stage: int = -1) -> dict[str, int]:
        """Outputs of every head of the network in ``stage``, by the name of the task it is for."""
        return self._learned(stage).heads

    def head_of(self, task: Task, stage: int = -1) -> str | None:
        """The head that predicts a task in ``stage``: its own, or the only one."""
        return head_of(task, self._learned(stage))

    def _learned(self, stage: int) -> Task:
        return in_heads(self.stages)[stage].task

    def predict(
        self,
        X: Float[np.ndarray, "n D"],
        stage: int = -1,
        time: float | None = None,
        head: str | None = None,
    ) -> Estimate:
        """Predictor at any inputs at the end of ``stage``: shape ``(n,)`` or ``(n, outputs)``.

        Inputs are on the scale of the tasks; they need not have been seen by the solve. Of a joint
        stage, ``head`` names the task whose head is asked; all of them side by side by default.
        """
        f = self.state(stage, time).predict(self._inputs(X))
        f = f if head is None else f[..., self._columns(head, stage)]
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
        first, second = self._inputs(X), None if X2 is None else self._inputs(X2)
        state = self.state(stage, time)
        if layer is None:
            found = state.kernel(first, second, kind)
        elif kind == "ntk":
            raise InputError(
                "layer: the NTK sums over layers; ask for kind='feature' or 'gradient'"
            )
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
        self,
        task: Task | str,
        split: str = "test",
        stage: int = -1,
        unit: LossUnit = "task",
        head: str | None = None,
    ) -> Estimate:
        """Loss on ``task`` at the end of ``stage``, with its standard error.

        Of the limit, or of a network averaged over seeds. Mean squared error (a zero predictor
        on unit-variance labels has loss 1), or mean log-loss after the logistic loss. ``unit`` is
        that of :meth:`adaptik.Task.loss_weights`: squares of the task's labels, of the user's
        (``"labels"``), or of their standard deviations (``"variance"``). ``head`` is as in
        :meth:`predictions`.
        """
        return self.estimate(self.losses(task, split, stage, unit, head)[-1])

    def accuracy(
        self, task: Task | str, split: str = "test", stage: int = -1, head: str | None = None
    ) -> Estimate:
        """Fraction of correctly classified samples at the end of ``stage``."""
        task = self._task(task)
        f = self.predictions(task, split, stage, head)[-1]
        return self.estimate(accuracy(task, f, task.split(split)[1]))

    def losses(
        self,
        task: Task | str,
        split: str = "test",
        stage: int = -1,
        unit: LossUnit = "task",
        head: str | None = None,
    ) -> Float[np.ndarray, "T members"]:
        """Loss at the recorded times of ``stage`` (see ``records[stage].times``), by member.

        For networks the loss of each seed. For a limit, jackknife pseudo-values of the loss of
        the mean predictor: their mean is free of the sampling variance of single replicates.
        """
        return self.sample_losses(task, split, stage, unit, head).mean(-1)

    def sample_losses(
        self,
        task: Task | str,
        split: str = "test",
        stage: int = -1,
        unit: LossUnit = "task",
        head: str | None = None,
    ) -> Float[np.ndarray, "T members n"]:
        """As :meth:`losses`, for every sample."""
        task = self._task(task)
        loss = losses.get(self.stages[stage].loss)
        f = self.predictions(task, split, stage, head)
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
        self,
        task: Task | str,
        split: str = "test",
        stage: int = -1,
        head: str | None = None,
    ) -> Float[np.ndarray, "T members n C"]:
        """Recorded predictions of every member over the times of ``stage``.

        In and after a joint stage, ``head`` names the task whose head predicts; by default the
        task's own.
        """
        task, stage = self._task(task), range(len(self.stages))[stage]
        task.split(split)
        name = head or self.head_of(task, stage)
        heads = self.heads(stage)
        if heads.get(name or "", task.outputs) != task.outputs or (
            name is None and task.outputs not in heads.values()
        ):
            raise InputError(
                f"task {task.name!r} has {task.outputs} outputs, stage {stage} trains "
                f"{heads if name is None else heads[name]}; it is not predicted there"
            )
        if name is None:
            raise InputError(
                f"head: stage {stage} has heads {', '.join(heads)}, and none for task "
                f"{task.name!r}; say which predicts it, as head={next(iter(heads))!r}"
            )
        columns = self._columns(name, stage)
        return self.records[stage].predictions[task.name, split][..., columns]

    def _columns(self, head: str, stage: int) -> slice:
        learned = self._learned(stage)
        if head not in learned.heads:
            raise InputError(
                f"head={head!r} is none of the heads of stage {stage}: {', '.join(learned.heads)}"
            )
        return learned.columns[head]

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
