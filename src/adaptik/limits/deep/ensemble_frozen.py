"""Stages of the dense ensemble whose kernel stays, exact on the kernel of every replicate."""

import math
import time
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from ...solution import Advance, Request, recorded_inputs
from ...tasks.stages import Stage
from ..frozen import FrozenPath
from .dense import DenseTerm, compiled_pull_back, phi_and_g
from .ensemble_state import EnsembleState


def fixed_kernel(state: EnsembleState, stage: Stage, request: Request) -> Advance[EnsembleState]:
    """Run a readout or lazy stage."""
    began = time.perf_counter()
    task, decay, w = stage.task, stage.weight_decay, state.weights
    kind = "feature" if stage.trains == "readout" else "ntk"
    outputs, frozen = task.outputs, stage.frozen_layers(state.hidden_layers)
    if frozen == state.hidden_layers:
        grams = state.kernel(task.X, None, "feature")
    else:
        grams = state.ntk(task.X, None, frozen)
    if grams.ndim == 5:
        grams = grams.transpose(0, 1, 3, 2, 4).reshape(len(grams), task.y.size, task.y.size)
    path = FrozenPath.of(stage, request, grams, state.predict(task.X))
    inside = state.span.training_points(task.X)
    phi = np.asarray(phi_and_g(w.layers, inside, 0.0, state.activation)[0][-1], float)

    def at(t: float) -> EnsembleState:
        dual = path.duals[t]
        fade = math.exp(-decay * t) if decay else 1.0
        if kind == "ntk":
            phi_of = state.activation.phi
            move = compiled_pull_back(w.layers, jnp.asarray(dual), inside, phi_of, frozen)
            term = DenseTerm(1.0, w, tuple(np.asarray(a, w.first.dtype) for a in move))
            moved = state.moved(w, fade, ())
            return replace(moved, terms=(*moved.terms, term))
        learned = np.einsum("rpm,rpc->rmc", phi, dual)
        dtype = w.head.dtype
        if stage.richness == 0:
            return state.moved(w, fade, ((1.0, replace(w, head=learned.astype(dtype))),))
        now = replace(w, head=(fade * w.head + stage.richness * learned).astype(dtype))
        gamma = stage.richness
        return state.moved(now, fade, ((-fade / gamma, w), (1 / gamma, now)))

    states = [at(float(t)) for t in path.times]
    predictions = {
        key: np.stack([s.predict(X) for s in states])
        for key, X in recorded_inputs(request.tasks, outputs)
    }
    record = replace(path.record(stage, predictions, began), step_error=state.step_error)
    return record, states[-1], {t: at(t) for t in path.kept}
