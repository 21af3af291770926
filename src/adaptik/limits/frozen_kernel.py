"""Stages whose kernel stays as it is: readouts on frozen features, and the lazy limit."""

import math
import time
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .. import losses
from ..estimate import leave_one_out
from ..regression import SquaredFlow, dual_flow, settling_time
from ..solution import AbstractState, Cost, Outcome, StageRecord
from ..stages import Stage
from ..stepping import HORIZON
from ..stepping.flow import STALL
from .base import Advance, Request, recorded_inputs
from .two_layer_state import FrozenKind, KernelTerm, ReadoutTerm, TwoLayerState, is_analytic


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
    """

    members: list[list[SquaredFlow]]
    samples: int

    @classmethod
    def on(
        cls,
        grams: Float[np.ndarray, "members n n"],
        labels: Float[np.ndarray, "P C"],
        starts: Float[np.ndarray, "members P C"],
        decay: float = 0.0,
    ) -> "KernelFlows":
        """Flows on Gram matrices over samples (outputs decouple), or over samples x outputs."""
        samples, outputs = labels.shape
        decoupled = grams.shape[1] == samples
        groups = [[c] for c in range(outputs)] if decoupled else [list(range(outputs))]
        members = [
            [SquaredFlow.on(gram, labels[:, g], start[:, g], decay) for g in groups]
            for gram, start in zip(grams, starts, strict=True)
        ]
        return cls(members, samples)

    def dual(self, t: float) -> Float[np.ndarray, "members P C"]:
        """Dual coefficients at time t."""
        return np.stack(
            [
                np.concatenate([f.dual(t).reshape(self.samples, -1) for f in flows], axis=1)
                for flows in self.members
            ]
        )

    def loss_and_rate(self, t: float) -> tuple[float, float]:
        """Mean over members of the loss, summed over outputs, and of its rate of decrease."""
        pairs = np.array([[flow.loss_and_rate(t) for flow in flows] for flows in self.members])
        loss, rate = pairs.sum(1).mean(0)
        return float(loss), float(rate)


def advance_frozen(state: TwoLayerState, stage: Stage, request: Request) -> Advance:
    """Run a stage with a frozen kernel: in closed form, or by an implicit integrator."""
    began = time.perf_counter()
    task, kind = stage.task, frozen_kind(stage)
    estimator = "analytic" if is_analytic(state.particles, kind) else "pooled"
    gram, start = state.frozen_gram(kind, task.X, estimator), state.predict(task.X)
    if estimator == "pooled":
        gram, start = leave_one_out(gram), leave_one_out(start)
    loss = rate = np.nan
    duration, end = stage.duration, Outcome.REACHED_DURATION
    flows = None
    if stage.loss == "squared":
        flows = KernelFlows.on(gram, task.y, start, stage.weight_decay)
        if duration is None:
            # The pooled kernel decides; its leave-one-out variants only give the error.
            chosen = replace(flows, members=flows.members[:1]) if estimator == "pooled" else flows
            loss_tol, rate_tol = stage.tolerances
            duration, end = settling_time([chosen], loss_tol, rate_tol, STALL * rate_tol, HORIZON)
        loss, rate = flows.loss_and_rate(duration)
    assert duration is not None
    times = np.unique([*(t for t in request.times if t < duration), duration])
    kept = np.array([t for t in request.snapshots if t <= duration])
    every = np.unique([*times, *kept])
    if flows is not None:
        duals = {float(t): flows.dual(t) for t in every}
    else:
        objective = losses.get(stage.loss)
        paths = []
        for K, f in zip(gram, start, strict=True):
            full = np.kron(K, np.eye(task.outputs)) if len(K) == task.n_train else K
            path = dual_flow(full, task.y, f, objective, stage.weight_decay, every)
            paths.append(path.reshape(len(every), *task.y.shape))
        duals = {float(t): np.stack([p[i] for p in paths]) for i, t in enumerate(every)}

    def after(t: float) -> TwoLayerState:
        return _after(state, stage, estimator, t, duals[t])

    final = after(float(duration))
    term, stack = final.terms[-1], np.stack([duals[float(t)] for t in times])
    assert isinstance(term, KernelTerm)
    fade = np.array([_fade(stage, t) for t in times])[:, None, None, None]
    predictions = {
        key: state.predict(X)[None] * fade + state.apply_kernel(term, X, stack)
        for key, X in recorded_inputs(request.tasks, task.outputs)
    }
    if flows is None:
        f = predictions[task.name, "train"][-1]
        loss = float(np.mean(np.asarray(losses.get(stage.loss).value(f, task.y))))
        end = end if np.isfinite(loss) else Outcome.DIVERGED
    snapshots: dict[float, AbstractState] = {float(t): after(float(t)) for t in kept}
    method = "BDF in dual space" if flows is None else "closed form"
    cost = Cost(method, 1, 0, 0.0, time.perf_counter() - began)
    record = StageRecord(times, predictions, float(duration), loss, rate, end, cost)
    return record, final, snapshots


def frozen_kind(stage: Stage) -> FrozenKind:
    """The kernel on which a stage learns if it stays frozen."""
    return "feature" if stage.trains == "readout" else "ntk"


def _after(state: TwoLayerState, stage: Stage, estimator, t: float, dual) -> TwoLayerState:
    fade, kind, particles = _fade(stage, t), frozen_kind(stage), state.particles
    terms = tuple(_faded(term, fade) for term in state.terms)
    terms += (KernelTerm(particles, kind, stage.task.X, dual, estimator),)
    if stage.trains == "readout" and stage.richness > 0:
        anchor = state.span.points(stage.task.X).inside.astype(particles.w.dtype)
        with jax.enable_x64(True):
            h = np.einsum("rmk,pk->rmp", particles.w, anchor, optimize=True)
            phi = np.asarray(state.activation.phi(jnp.asarray(h)))
        own = np.broadcast_to(dual[:1], (len(phi), *dual.shape[1:]))
        moved = np.einsum("rmp,rpc->rmc", phi, own if estimator == "pooled" else dual)
        z = fade * particles.z + (stage.richness * moved).astype(particles.z.dtype)
        particles = replace(particles, z=z, initial_head=False)
    return replace(state, particles=particles, terms=terms)


def _fade(stage: Stage, t: float) -> float:
    return math.exp(-stage.weight_decay * t) if stage.weight_decay else 1.0


def _faded(term, fade: float):
    if fade == 1.0:
        return term
    match term:
        case ReadoutTerm():
            return replace(term, coefficient=fade * term.coefficient)
        case KernelTerm():
            return replace(term, dual=fade * term.dual)
    return replace(term, move_w=fade * term.move_w, move_z=fade * term.move_z)
