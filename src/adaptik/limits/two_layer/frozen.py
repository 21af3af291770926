"""Two-layer stages whose kernel stays: readouts on frozen features, and the lazy limit."""

import math
import time
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ...kernels.frozen import FrozenPath
from ...solution import Advance, Request, recorded_inputs
from ...solution.estimate import leave_one_out
from ...tasks.stages import Stage
from ..particle_state import FrozenKind, KernelTerm, ParticleState, is_analytic

State = TypeVar("State", bound=ParticleState)


def advance_frozen(state: State, stage: Stage, request: Request) -> Advance[State]:
    """Run a stage with a frozen kernel, analytic where the particles still follow their start."""
    began = time.perf_counter()
    task, kind = stage.task, frozen_kind(stage)
    pooled = not is_analytic(state.particles, kind)
    estimator = "pooled" if pooled else "analytic"
    gram, start = state.frozen_gram(kind, task.X, estimator), state.predict(task.X)
    if pooled:
        gram, start = leave_one_out(gram), leave_one_out(start)
    # A pooled kernel decides alone when it has converged; the others only give its error.
    path = FrozenPath.of(stage, request, gram, start, first_decides=pooled)

    def after(t: float) -> State:
        return _after(state, stage, estimator, t, path.duals[t])

    final = after(float(path.times[-1]))
    term, stack = final.terms[-1], np.stack([path.duals[float(t)] for t in path.times])
    assert isinstance(term, KernelTerm)
    fade = np.array([_fade(stage, t) for t in path.times])[:, None, None, None]
    predictions = {
        key: state.predict(X)[None] * fade + state.apply_kernel(term, X, stack)
        for key, X in recorded_inputs(request.tasks, task.outputs)
    }
    return path.record(stage, predictions, began), final, {t: after(t) for t in path.kept}


def frozen_kind(stage: Stage) -> FrozenKind:
    """The kernel on which a stage learns if it stays frozen."""
    return "feature" if stage.trains == "readout" else "ntk"


def _after(state: State, stage: Stage, estimator, t: float, dual) -> State:
    fade, kind, particles = _fade(stage, t), frozen_kind(stage), state.particles
    terms = state.terms if fade == 1.0 else tuple(term.scaled(fade) for term in state.terms)
    terms += (KernelTerm(particles, kind, stage.task.X, dual, estimator),)
    if stage.trains == "readout" and stage.richness > 0:
        own = dual[:1] if estimator == "pooled" else dual
        moved = state.feature_sum(stage.task.X, own)
        z = fade * particles.z + (stage.richness * moved).astype(particles.z.dtype)
        particles = replace(particles, z=z, initial_head=False)
    return replace(state, particles=particles, terms=terms)


def _fade(stage: Stage, t: float) -> float:
    return math.exp(-stage.weight_decay * t) if stage.weight_decay else 1.0
