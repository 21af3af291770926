"""A stage whose kernel stays is kernel regression, wherever the kernel comes from."""

import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..mathematics.stepping import HORIZON
from ..mathematics.stepping.flow import STALL
from ..solution import Cost, Outcome, Request, StageRecord
from ..tasks.stages import Stage
from .regression import Relative, SquaredFlow, dual_flow, settling_time


@dataclass(frozen=True)
class KernelFlows:
    """Gradient flow of the squared loss on one kernel for each member.

    Attributes
    ----------
    members
        For each member the flows of its outputs, or of all outputs together where the kernel
        couples them.
    samples
        Number of samples P.
    root
        Roots of the weights of samples and outputs in the loss, ``None`` for 1.
    """

    members: list[list[SquaredFlow]]
    samples: int
    root: Float[np.ndarray, "P C"] | None = None

    @classmethod
    def on(
        cls,
        grams: Float[np.ndarray, "members n n"],
        labels: Float[np.ndarray, "P C"],
        starts: Float[np.ndarray, "members P C"],
        decay: float = 0.0,
        weights: Float[np.ndarray, "P C"] | None = None,
    ) -> "KernelFlows":
        """Flows on Gram matrices over samples (outputs decouple), or over samples x outputs.

        With ``weights`` in the loss, sqrt(w) f flows on sqrt(w) K sqrt(w).
        """
        samples, outputs = labels.shape
        decoupled = grams.shape[1] == samples
        groups = [[c] for c in range(outputs)] if decoupled else [list(range(outputs))]
        root = None if weights is None else np.sqrt(weights)

        def flow(gram, start, g):
            if root is None:
                return SquaredFlow.on(gram, labels[:, g], start[:, g], decay)
            r = root[:, g]
            scaled = r.ravel()[:, None] * gram * r.ravel()
            return SquaredFlow.on(scaled, r * labels[:, g], r * start[:, g], decay)

        members = [
            [flow(gram, start, g) for g in groups]
            for gram, start in zip(grams, starts, strict=True)
        ]
        return cls(members, samples, root)

    def dual(self, t: float) -> Float[np.ndarray, "members P C"]:
        """Dual coefficients at time t."""
        duals = np.stack(
            [
                np.concatenate([f.dual(t).reshape(self.samples, -1) for f in flows], axis=1)
                for flows in self.members
            ]
        )
        return duals if self.root is None else self.root * duals

    def loss_and_rate(self, t: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Mean over members of the loss, summed over outputs, and of its rate of decrease."""
        pairs = np.array([[flow.loss_and_rate(t) for flow in flows] for flows in self.members])
        loss, rate = pairs.sum(1).mean(0)
        return loss, rate


@dataclass(frozen=True)
class FrozenPath:
    """How a stage with a frozen kernel went: in closed form, or by an implicit integrator.

    Attributes
    ----------
    times, kept
        Record times with the end last, and times of snapshots.
    duals
        Dual coefficients ``(members, P, C)`` at all of them.
    loss, rate
        At the end; NaN where only the predictions tell.
    outcome, method
        How it ended, and how it was computed.
    """

    times: Float[np.ndarray, " T"]
    kept: list[float]
    duals: dict[float, Float[np.ndarray, "members P C"]]
    loss: float
    rate: float
    outcome: Outcome
    method: str

    @classmethod
    def of(
        cls,
        stage: Stage,
        request: Request,
        grams: Float[np.ndarray, "members n n"],
        starts: Float[np.ndarray, "members P C"],
        *,
        first_decides: bool = False,
    ) -> "FrozenPath":
        """Solve the stage on Gram matrices over samples (outputs decouple) or samples x outputs.

        ``first_decides``: the first member alone says when the stage has converged.
        """
        labels, decay, duration = stage.task.y, stage.fade_rate, stage.duration
        outcome, loss, rate = Outcome.REACHED_DURATION, np.nan, np.nan
        objective = stage.objective
        flows = None
        if stage.loss == "squared":
            flows = KernelFlows.on(grams, labels, starts, decay, stage.loss_weights)
            if duration is None:
                members = flows.members[:1] if first_decides else flows.members
                decides = Relative(members, np.asarray(objective.units(labels)))
                loss_tol, rate_tol = stage.tolerances
                duration, outcome = settling_time(
                    [decides], loss_tol, rate_tol, STALL * rate_tol, HORIZON
                )
            loss, rate = map(float, flows.loss_and_rate(duration))
        assert duration is not None  # Stage refuses other losses without one
        times, kept = asked_times(request, duration)
        every = np.unique([*times, *kept])
        if flows is not None:
            duals = {float(t): flows.dual(t) for t in every}
            return cls(times, kept, duals, loss, rate, outcome, "closed form")
        outputs = labels.shape[1]
        paths = []
        for K, f in zip(grams, starts, strict=True):
            full = np.kron(K, np.eye(outputs)) if len(K) == len(labels) else K
            path = dual_flow(full, labels, f, objective, decay, every)
            paths.append(path.reshape(len(every), *labels.shape))
        duals = {float(t): np.stack([p[i] for p in paths]) for i, t in enumerate(every)}
        return cls(times, kept, duals, loss, rate, outcome, "BDF in dual space")

    def record(self, stage: Stage, predictions: dict, began: float) -> StageRecord:
        """The stage's record; steps cost no accuracy, so its step error is 0."""
        loss, outcome = self.loss, self.outcome
        if np.isnan(loss):
            f = predictions[stage.task.name, "train"][-1]
            loss = float(np.sum(np.asarray(stage.objective.by_part(f, stage.task.y))))
            outcome = outcome if np.isfinite(loss) else Outcome.DIVERGED
        cost = Cost(self.method, 1, 0, 0.0, time.perf_counter() - began)
        return StageRecord(
            self.times,
            predictions,
            float(self.times[-1]),
            loss,
            self.rate,
            outcome,
            cost,
            step_error=0.0,
        )


def asked_times(request: Request, duration: float) -> tuple[Float[np.ndarray, " T"], list[float]]:
    """Record times with the end last, and times of snapshots, within a stage of known duration."""
    times = np.unique([*(t for t in request.times if t < duration), duration])
    return times, [float(t) for t in request.snapshots if t <= duration]
