"""Deep linear networks at infinite width, exactly, by revealed matrices (theory section 5)."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp

from ...kernels.frozen import FrozenPath, asked_times
from ...linear_theory.revealed import ROOM, LinearNetworkFlow, LinearWeights
from ...linear_theory.states import AbstractLinearState
from ...solution import Advance, Kernels, Outcome, Request, recorded_inputs
from ...system.errors import require_above_zero, require_between, require_integers
from ...system.registry import register
from ...tasks import Task
from ...tasks.span import Span, largest_rank
from ...tasks.stages import Stage
from ..base import FLOW, LAYERS, AbstractLimit
from ..run import again, march, step_error, timed_together

COARSER = 32.0  # tolerances of the second solve that estimates the error of the first


@register
@dataclass(frozen=True, eq=False)
class DeepLinearState(AbstractLinearState):
    """Revealed weights, and the predictor f(x) = beta.x in span coordinates.

    Attributes
    ----------
    span
        The coordinates.
    weights
        All layers.
    beta
        Shape ``(rank, C)``.
    coarse
        The same state from a solve with a larger tolerance; the difference estimates the error.
    """

    span: Span
    weights: LinearWeights
    beta: Float[np.ndarray, "rank C"]
    coarse: "DeepLinearState | None" = None

    def scaled(self, factor):
        coarse = None if self.coarse is None else self.coarse.scaled(factor)
        return replace(self, beta=factor * self.beta, coarse=coarse)

    @property
    def hidden_layers(self):
        return len(self.weights.matrices)

    def kernels(self, X, rows, columns):
        points = self.span.points(X)
        outside = points.orthogonal @ points.orthogonal.T
        features = self.weights.features(points.inside, outside)
        shape = 1, *outside[rows, columns].shape

        def gradient(layer: int) -> np.ndarray:
            G = self.weights.gradients()[layer - 1]
            return np.broadcast_to(G, (*shape, *G.shape))

        return Kernels(lambda layer: features[layer - 1][rows, columns][None], gradient)


@dataclass(frozen=True)
class DeepLinear(AbstractLimit[DeepLinearState]):
    """Any number of hidden layers of linear neurons, infinitely wide.

    The infinite random matrices are revealed along the directions that training applies them to,
    where they are known exactly, so nothing is sampled and standard errors are 0. Time steps are
    adaptive, of order 5; the error that is left is estimated by a second solve with 32 times
    larger tolerances and stands in ``records[i].step_error``.

    Attributes
    ----------
    depth
        Number of hidden layers L.
    tol
        Error allowed in one step, in units of the labels (:attr:`adaptik.Stage.unit`).
    reveal_tol
        Part of a vector, relative to its length, that the revealed directions may miss.
        Predictions err by less than this times a number of order 1.
    max_steps
        Steps after which a stage gives up.
    scale
        Standard deviation of all hidden weights at the start, as for :class:`adaptik.TwoLayer`.

    Raises
    ------
    InputError
        For values out of range.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.linear_pair(0.5, n_source=10, n_target=5, dimension=20, n_test=50)
    >>> solution = ak.solve([ak.Stage(task, richness=1.0, duration=2.0)], ak.DeepLinear(depth=2))
    >>> solution.outcome.value, solution.records[0].step_error < 1e-3
    ('reached its duration', True)
    """

    state: ClassVar = DeepLinearState
    computes: ClassVar = FLOW | LAYERS | {"head scale"}

    depth: int
    tol: float = 1e-5
    reveal_tol: float = 1e-5
    max_steps: int = 16384
    scale: float = 1.0

    def __post_init__(self):
        require_above_zero(scale=self.scale)
        object.__setattr__(self, "scale", float(self.scale))
        require_integers(1, depth=self.depth, max_steps=self.max_steps)
        require_between(0, 2e-3, tol=self.tol, reveal_tol=self.reveal_tol)

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        rank = largest_rank(tasks.values())
        outputs = max(s.task.outputs for s in stages)
        directions = outputs * (min(rank, 3 * ROOM) + ROOM * (len(stages) + 1))
        vector = self.depth * directions * (directions + outputs)
        kernels = max(s.task.n_train * s.task.outputs for s in stages) ** 2
        inputs = sum(len(X) for s in stages for _, X in recorded_inputs(tasks, s.task))
        return 8 * (40 * vector + 6 * kernels + (self.depth + 4) * rank**2 + 2 * inputs * rank)

    def start(self, stages, tasks, rng) -> DeepLinearState:
        span, outputs = Span.of(tasks.values()), stages[0].task.outputs
        weights = LinearWeights.initial(span.rank, self.depth, self.scale)
        return DeepLinearState(span, weights, np.zeros((span.rank, outputs)))

    def advance(
        self, state: DeepLinearState, stage: Stage, request: Request
    ) -> Advance[DeepLinearState]:
        with jax.enable_x64(True):
            return self._with_error(state, stage, request)

    def _with_error(
        self, state: DeepLinearState, stage: Stage, request: Request
    ) -> Advance[DeepLinearState]:
        record, end, snapshots = self._advance(state, stage, request)
        if state.coarse is None and stage.has_fixed_kernel:
            return replace(record, step_error=0.0), end, snapshots
        timed, same = again(stage, request, record)
        other, coarse, others = self._advance(state.coarse or state, timed, same, COARSER)
        error = step_error(record, other)
        cost = timed_together(record.cost, other.cost)
        paired = {t: replace(snapshots[t], coarse=others[t]) for t in snapshots}
        end = replace(end, coarse=coarse)
        return replace(record, cost=cost, step_error=error), end, paired

    def _advance(
        self, state: DeepLinearState, stage: Stage, request: Request, coarser: float = 1.0
    ) -> Advance[DeepLinearState]:
        if stage.head == "fresh":
            outputs = stage.task.outputs
            kept = self.depth if stage.fresh_above is None else stage.fresh_above
            weights = state.weights.with_fresh_layers(kept, self.scale)
            weights = weights.with_fresh_head(outputs, stage.head_scale)
            zero = np.zeros((state.span.rank, outputs))
            state = replace(state, weights=weights, beta=zero)
        recorded = dict(recorded_inputs(request.tasks, stage.task))
        points = [state.span.points(X).inside for X in recorded.values()]
        flow = self._flow(state, stage, points, coarser * self.reveal_tol)
        if stage.has_fixed_kernel:
            return _fixed_kernel(state, stage, request, flow, list(recorded))
        if stage.is_lazy:
            return _decaying_tangent(state, stage, request, flow, list(recorded))

        def state_at(t: float, y: np.ndarray) -> DeepLinearState:
            weights = flow.weights_at(t, y)
            beta = flow.offset + weights.predictor() / stage.richness
            return DeepLinearState(state.span, weights, beta)

        return march(
            stage,
            request,
            flow,
            list(recorded),
            state_at,
            stage.richness,
            coarser * self.tol,
            self.max_steps,
            "Runge-Kutta 5(4) on revealed matrices",
        )

    def _flow(self, state: DeepLinearState, stage: Stage, points, tol: float):
        richness, frozen = stage.richness or 1.0, stage.frozen_layers(self.depth)
        return LinearNetworkFlow(
            state.weights,
            state.span.training_points(stage.task.X),
            stage.task.y,
            state.beta - state.weights.predictor() / richness,
            points,
            stage.objective,
            richness,
            stage.weight_decay,
            tuple(k >= frozen for k in range(self.depth + 1)),
            tol,
        )


class _FrozenKernel:
    """The kernel of a stage's start as a map on R = sum_mu x_mu c_mu: readout and layers' parts."""

    def __init__(self, weights: LinearWeights, trained: tuple[bool, ...]):
        rank = weights.sizes[0]
        features = [np.eye(rank), *weights.features(np.eye(rank), np.zeros((rank, rank)))]
        self.readout = features[-1]
        self.layers = [
            (feature, G)
            for feature, G, on in zip(features, weights.gradients(), trained, strict=False)
            if on
        ]

    def __call__(self, R: Float[np.ndarray, "... rank C"]) -> Float[np.ndarray, "... rank C"]:
        return self.readout @ R + sum(feature @ R @ G for feature, G in self.layers)

    def gram(self, X: Float[np.ndarray, "P rank"], outputs: int) -> Float[np.ndarray, "PC PC"]:
        total = np.kron(X @ self.readout @ X.T, np.eye(outputs))
        for feature, G in self.layers:
            total += np.kron(X @ feature @ X.T, G)
        return total


def _fixed_kernel(state, stage: Stage, request: Request, flow: LinearNetworkFlow, keys):
    """A stage whose kernel stays."""
    began = time.perf_counter()
    X, decay = flow.X, stage.weight_decay
    kernel = _FrozenKernel(state.weights, flow.trained[:-1])
    gram = kernel.gram(X, stage.task.outputs)
    path = FrozenPath.of(stage, request, gram[None], (X @ state.beta)[None])

    def at(t: float) -> DeepLinearState:
        R, fade = X.T @ path.duals[t][0], math.exp(-decay * t) if decay else 1.0
        weights = state.weights
        if stage.trains == "readout" and stage.richness > 0:
            weights = _moved_head(flow, stage.richness, fade, R)
        return DeepLinearState(state.span, weights, fade * state.beta + kernel(R))

    return _recorded(path, stage, flow, at, keys, began)


def _moved_head(flow: LinearNetworkFlow, richness: float, fade: float, R) -> LinearWeights:
    """w <- fade w + gamma sum_mu h_L(x_mu) c_mu; the matrices are revealed along the way."""
    weights = flow.weights_at(0.0, flow.start())
    matrices = [replace(W, M=W.M) for W in weights.matrices]
    _, q = flow.push(matrices, R)
    top = tuple(flow.sizes)
    head = fade * np.pad(weights.head, ((0, top[-1] - len(weights.head)), (0, 0)))
    return LinearWeights(top, tuple(matrices), head + richness * q).aligned()


def _decaying_tangent(state, stage: Stage, request: Request, flow: LinearNetworkFlow, keys):
    """Richness 0 under weight decay: trained weights fade by s = exp(-lambda t).

    f is homogeneous of degree n in the n layers that train, so their kernel fades by s^(2n - 2)
    and f' = s^(2n - 2) K Delta - n lambda f.
    """
    began = time.perf_counter()
    trained, decay, objective = sum(flow.trained), stage.weight_decay, flow.objective
    kernel, labels = _FrozenKernel(state.weights, flow.trained[:-1]), flow.labels
    assert stage.duration is not None  # Stage refuses a lazy decay without one
    times, kept = asked_times(request, stage.duration)
    every = np.unique([*times, *kept])

    def slope(t, flat):
        beta = flat.reshape(state.beta.shape)
        signal = np.asarray(objective.signal(flow.X @ beta, labels)) / len(labels)
        push = math.exp(-2 * (trained - 1) * decay * t) * kernel(flow.X.T @ signal)
        return (push - trained * decay * beta).ravel()

    done = solve_ivp(
        slope,
        (0.0, stage.duration),
        state.beta.ravel(),
        method="BDF",
        t_eval=every,
        rtol=1e-8,
        atol=1e-10,
    )
    betas = dict(zip(done.t.tolist(), done.y.T.reshape(-1, *state.beta.shape), strict=True))

    def at(t: float) -> DeepLinearState:
        fade, w = math.exp(-decay * t), state.weights
        faded = tuple(
            replace(W, M=fade * W.M, shrink=fade * W.shrink) if on else W
            for W, on in zip(w.matrices, flow.trained, strict=False)
        )
        weights = replace(w, matrices=faded, head=fade * w.head)
        return DeepLinearState(state.span, weights, betas[t])

    ended = Outcome.REACHED_DURATION if done.success else Outcome.DIVERGED
    path = FrozenPath(times, kept, {}, np.nan, np.nan, ended, "BDF")
    return _recorded(path, stage, flow, at, keys, began)


def _recorded(path: FrozenPath, stage: Stage, flow: LinearNetworkFlow, at, keys, began: float):
    """Record, end and snapshots of a stage whose state ``at`` any time is known."""
    states = [at(float(t)) for t in path.times]
    predictions = {
        key: np.stack([X @ state.beta for state in states])[:, None]
        for key, X in zip(keys, flow.recorded, strict=True)
    }
    return path.record(stage, predictions, began), states[-1], {t: at(t) for t in path.kept}
