"""Two-layer stages whose kernel stays, and what they tell of rich ones.

Readouts on frozen features and the lazy limit run on one kernel.

Of a rich stage that starts at initialisation the lazy predictor is known exactly, and on the
particles it costs one eigendecomposition. What the particles get wrong there they get wrong, in
part, in the rich stage too: f <- f - share * (lazy on the particles - lazy exactly). Both lazy
flows run on positive semi-definite kernels of their own, beside the particles and without acting on
them. At small richness the share is 1 and sampling errors vanish with the richness.
"""

import math
import time
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from ...mathematics.stepping.choice import EXPONENTIAL_UP_TO
from ...solution import Advance, Request, recorded_inputs
from ...solution.estimate import leave_one_out
from ...tasks.stages import Stage
from ..frozen import FrozenPath, KernelFlows
from .state import FrozenKind, KernelTerm, ParticleState, is_analytic

State = TypeVar("State", bound=ParticleState)

LEAST_REPLICATES = 3  # every share is estimated from the other replicates


def advance_frozen(state: State, stage: Stage, request: Request) -> Advance[State]:
    """Run a stage with a frozen kernel, analytic where the particles still follow their start."""
    began = time.perf_counter()
    task, parts = stage.task, kernel_parts(stage)
    pooled = not is_analytic(state.particles, frozen_kind(stage))
    estimator = "pooled" if pooled else "analytic"
    reached = _reached(state, stage)
    gram, start = _gram(state, parts, task.X, estimator, reached), state.predict(task.X)
    if pooled:
        gram, start = leave_one_out(gram), leave_one_out(start)
    # A pooled kernel decides alone when it has converged; the others only give its error.
    path = FrozenPath.of(stage, request, gram, start, first_decides=pooled)

    def after(t: float) -> State:
        return _after(state, stage, estimator, t, path.duals[t])

    final = after(float(path.times[-1]))
    stack = np.stack([path.duals[float(t)] for t in path.times])
    terms = _terms(state, stage, stack, estimator)
    fade = np.array([_fade(stage, t) for t in path.times])[:, None, None, None]
    predictions = {
        key: state.predict(X)[None] * fade
        + sum(state.apply_kernel(term, X, term.dual) for term in terms)
        for key, X in recorded_inputs(request.tasks, task)
    }
    return path.record(stage, predictions, began), final, {t: after(t) for t in path.kept}


def frozen_kind(stage: Stage) -> FrozenKind:
    """The kernel on which a stage learns if it stays frozen."""
    return "feature" if stage.trains == "readout" else "ntk"


def kernel_parts(stage: Stage) -> tuple[tuple[FrozenKind, float], ...]:
    """The kernel of a stage whose features stay: the kinds that it is a sum of, with factors.

    It is eta Phi where the readout trains, Phi + G K_x + (eta - 1) Phi where all weights move.
    """
    eta = stage.head_rate
    if stage.trains == "readout":
        return (("feature", eta),)
    return (("ntk", 1.0),) if eta == 1 else (("ntk", 1.0), ("feature", eta - 1))


def _reached(state: ParticleState, stage: Stage) -> np.ndarray | None:
    """Where samples move first-layer weights, ``None`` where that is along themselves."""
    few = stage.low_rank
    return None if few is None else few.reached(stage.task.X, state.biases[0])


def _gram(
    state: ParticleState, parts, X: np.ndarray, estimator, reached: np.ndarray | None
) -> Float[np.ndarray, "R n n"]:
    """Of all parts together, on samples or on samples x outputs."""
    grams = [factor * state.frozen_gram(kind, X, estimator, reached) for kind, factor in parts]
    coupled = grams[0].shape[1] // len(X)  # outputs
    total, *more = grams
    for gram in more:
        full = gram if coupled == 1 else np.kron(gram, np.eye(coupled))
        total = total + full
    return total


def _terms(state: ParticleState, stage: Stage, dual, estimator) -> list[KernelTerm]:
    """What all parts of the stage's kernel add to the predictor."""
    X, reached = stage.task.X, _reached(state, stage)
    return [
        KernelTerm(state.particles, kind, X, factor * dual, estimator, reached)
        for kind, factor in kernel_parts(stage)
    ]


def _after(state: State, stage: Stage, estimator, t: float, dual) -> State:
    fade, particles = _fade(stage, t), state.particles
    terms = state.terms if fade == 1.0 else tuple(term.scaled(fade) for term in state.terms)
    terms += tuple(_terms(state, stage, dual, estimator))
    if stage.trains == "readout" and stage.richness > 0:
        own = stage.head_rate * (dual[:1] if estimator == "pooled" else dual)
        moved = state.feature_sum(stage.task.X, own)
        z = fade * particles.z + (stage.richness * moved).astype(particles.z.dtype)
        c = particles.c
        if c is not None:
            push = stage.richness * state.bias * np.sum(own, 1)[:, None]
            c = fade * c + np.broadcast_to(push, c.shape).astype(c.dtype)
        particles = replace(particles, z=z, c=c, initial_head=False)
    return state.altered(particles=particles, terms=terms)


def _fade(stage: Stage, t: float) -> float:
    return math.exp(-stage.fade_rate * t) if stage.fade_rate else 1.0


@dataclass(frozen=True)
class LazyControl:
    """Lazy flows of one stage from one start: the control variate of a rich one.

    Attributes
    ----------
    state
        At the start of the stage.
    stage
        What is learned, and how.
    exact, sampled
        On the analytic kernel (one member) and on every replicate's own.
    """

    state: ParticleState
    stage: Stage
    exact: KernelFlows
    sampled: KernelFlows

    @staticmethod
    def applies(state: ParticleState, stage: Stage) -> bool:
        """Whether a stage has a lazy limit that is known exactly, and cheap beside the stage."""
        return (
            stage.loss == "squared"
            and stage.weight_decay == 0
            and not state.terms
            and is_analytic(state.particles, "ntk")
            and len(state.particles.w) >= LEAST_REPLICATES
            and stage.task.n_train * stage.task.outputs <= EXPONENTIAL_UP_TO
        )

    @classmethod
    def of(cls, state: ParticleState, stage: Stage) -> "LazyControl":
        X, y = stage.task.X, stage.task.y
        parts = kernel_parts(stage)
        reached = _reached(state, stage)
        analytic = _gram(state, parts, X, "analytic", reached)[:1]
        own = _gram(state, parts, X, "sampled", reached)
        start = np.zeros((len(own), *y.shape))
        weights = stage.loss_weights
        exact = KernelFlows.on(analytic, y, start[:1], weights=weights)
        sampled = KernelFlows.on(own, y, start, weights=weights)
        return cls(state, stage, exact, sampled)

    def _duals(self, times) -> tuple[np.ndarray, np.ndarray]:
        exact = np.stack([self.exact.dual(t) for t in times])
        sampled = np.stack([self.sampled.dual(t) for t in times])
        return np.broadcast_to(exact, sampled.shape), sampled

    def _terms(self, dual, estimator) -> list[KernelTerm]:
        return _terms(self.state, self.stage, dual, estimator)

    def error(self, X: Float[np.ndarray, "n D"], times) -> Float[np.ndarray, "T R n C"]:
        """Lazy predictor on the particles minus the exact one."""
        exact, sampled = (
            sum(self.state.apply_kernel(term, X, term.dual) for term in self._terms(dual, kind))
            for dual, kind in zip(self._duals(times), ("analytic", "sampled"), strict=True)
        )
        return np.asarray(sampled - exact)

    def correct(self, advance: Advance[State], request: Request) -> Advance[State]:
        """What happened in the stage, corrected by the share of the lazy error."""
        record, final, snapshots = advance
        inputs = dict(recorded_inputs(request.tasks, self.stage.task))
        errors = self.state.together(inputs, lambda X: self.error(X, record.times))
        share = shares(
            np.concatenate([record.predictions[key][-1] for key in errors], axis=1),
            np.concatenate([error[-1] for error in errors.values()], axis=1),
        )
        predictions = {
            key: record.predictions[key] - share[:, None, None] * error
            for key, error in errors.items()
        }

        def corrected(state: State, t: float) -> State:
            weight = share[:, None, None]
            (exact,), (sampled,) = self._duals([t])
            known = self._terms(weight * exact, "analytic")
            own = self._terms(-weight * sampled, "sampled")
            return state.altered(terms=(*state.terms, *known, *own))

        return (
            replace(record, predictions=predictions),
            corrected(final, record.duration),
            {t: corrected(state, t) for t, state in snapshots.items()},
        )


def shares(
    f: Float[np.ndarray, "R n C"], error: Float[np.ndarray, "R n C"]
) -> Float[np.ndarray, " R"]:
    """Regression coefficient of f on the control's error over the *other* replicates.

    It is thus independent of the error that it multiplies, whose mean is 0: no bias enters.
    """
    out = np.zeros(len(f))
    for r in range(len(f)):
        others = np.arange(len(f)) != r
        a, b = (v[others] - v[others].mean(0) for v in (f, error))
        scale = np.sum(b * b)
        if scale > np.finfo(np.float32).eps ** 2 * np.sum(f**2):
            out[r] = np.clip(np.sum(a * b) / scale, 0.0, 1.0)
    return out
