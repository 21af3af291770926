"""Linear posteriors in closed form (theory section 6): an oracle for the sampler.

With one hidden layer, given b = A^T Delta (A the samples in the coordinates of their span), linear
neurons are Gaussian:

    source  S_1 = (1 - gamma^2 b_1 b_1^T)^-1
    target  Q = (1 + delta - gamma^2 b_2 b_2^T)^-1,   S_2 = Q + delta^2 Q S_1 Q

and Delta is the maximum of the concave action, found by Newton steps inside its domain.

With more, neurons are Gaussian in every layer, and the saddle point is one matrix: <w w^T> = S^l in
layer l, where S minimises the action with the maxima over Phihat taken,

    L/2 (tr S - ln det S - rank) + gamma^2/2 tr y^T (A S^L A^T + 1/beta)^-1 y.

S - 1 has at most as many directions as there are outputs: S = 1 + U U^T. For L > 1 the action is
not convex; minimisations from a small and from a large U are compared.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from ...linear_theory.states import AbstractLinearState, LinearState
from ...mathematics.losses import relative_residual
from ...solution import Advance, Cost, Kernels, Outcome, Request, StageRecord, recorded_inputs
from ...system.errors import require_between, require_integers
from ...system.registry import register
from ...tasks import Task
from ...tasks.span import Span, largest_rank
from ...tasks.stages import Stage, check_posterior
from ..base import AbstractLimit

STARTS = (0.1, 3.0)  # lengths of U
POLISH = 2  # Newton steps at the minimum: the action's rounding hides its last digits


@register
@dataclass(frozen=True, eq=False)
class LinearPosteriorState(AbstractLinearState):
    """Second moments of deep linear neurons, and the predictor f(x) = beta.x.

    Attributes
    ----------
    span
        The coordinates; all kernels are that of the inputs outside of them.
    depth
        Number of hidden layers L.
    S
        <w w^T> of layer l is S^l, shape ``(rank, rank)``.
    v
        <h_l z_l> of every layer l with its backward field, shape ``(rank, C)``.
    beta
        Shape ``(rank, C)``.
    action
        At the saddle point, per hidden unit; NaN where the features were frozen.
    """

    span: Span
    depth: int
    S: Float[np.ndarray, "rank rank"]
    v: Float[np.ndarray, "rank C"]
    beta: Float[np.ndarray, "rank C"]
    action: float = np.nan

    @property
    def hidden_layers(self):
        return self.depth

    def scaled(self, factor):
        return replace(self, beta=factor * self.beta)

    def kernels(self, X, rows, columns):
        a, b = (self.span.points(X[each]).inside for each in (rows, columns))
        inputs = X[rows] @ X[columns].T / X.shape[1]

        def feature(layer: int) -> np.ndarray:
            power = np.linalg.matrix_power(self.S, layer)
            return (inputs + a @ (power - np.eye(len(power))) @ b.T)[None]

        def gradient(layer: int) -> np.ndarray:
            G = self._gradient(layer)
            return np.broadcast_to(G, (1, *inputs.shape, *G.shape))

        return Kernels(feature, gradient)

    def _gradient(self, layer: int) -> Float[np.ndarray, "C C"]:
        """<z_l z_l> = 1 + sum over layers above and l of v^T S^-k v."""
        powers = (np.linalg.matrix_power(self.S, k) for k in range(layer, self.depth + 1))
        return np.eye(self.v.shape[1]) + sum(self.v.T @ np.linalg.solve(p, self.v) for p in powers)


@dataclass(frozen=True)
class BayesianLinear(AbstractLimit[LinearState | LinearPosteriorState]):
    """The posterior of infinitely wide linear networks, exactly.

    What :class:`adaptik.Bayesian` samples, with its conventions, for the linear activation.

    Attributes
    ----------
    temperature
        T > 0.
    tol
        Residual of the saddle-point equations relative to the labels, of the worst output; with
        more than one hidden layer, of the action's slope relative to the prior's part.
    max_iterations
        Newton steps after which a stage gives up.
    depth
        Number of hidden layers; the elastic coupling needs 1.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.linear_pair(0.9, n_source=6, n_target=4, dimension=8)
    >>> solution = ak.solve([ak.Stage(task, richness=1.0)], ak.BayesianLinear(temperature=0.1))
    >>> solution.outcome.value
    'converged'
    """

    state: ClassVar = LinearState | LinearPosteriorState
    computes: ClassVar = frozenset({"lazy", "readout", "elastic"})
    free: ClassVar = ("temperature",)

    temperature: float = 0.01
    tol: float = 1e-9
    max_iterations: int = 200
    depth: int = 1

    def __post_init__(self):
        require_between(0, math.inf, temperature=self.temperature)
        require_between(0, 1, tol=self.tol)
        require_integers(1, max_iterations=self.max_iterations, depth=self.depth)

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        rank = largest_rank(tasks.values())
        return 8 * (12 * rank**2 + 6 * max(s.task.n_train * s.task.outputs for s in stages) ** 2)

    def check_stage(self, i: int, stage: Stage) -> None:
        check_posterior(i, stage, self.depth)

    def start(self, stages, tasks, rng) -> LinearState | LinearPosteriorState:
        span, outputs = Span.of(tasks.values()), stages[0].task.outputs
        zero = np.zeros((span.rank, outputs))
        if self.depth > 1:
            return LinearPosteriorState(span, self.depth, np.eye(span.rank), zero, zero)
        return LinearState(span, np.eye(span.rank), zero, np.eye(outputs), zero)

    def advance(
        self, state: LinearState | LinearPosteriorState, stage: Stage, request: Request
    ) -> Advance[LinearState | LinearPosteriorState]:
        began = time.perf_counter()
        points = state.span.training_points(stage.task.X)
        if isinstance(state, LinearPosteriorState):
            after, residual, steps = self._deep(state, points, stage)
        else:
            after, residual, steps = self._two_layer(state, points, stage)
        predictions = {
            key: after.predict(X)[None] for key, X in recorded_inputs(request.tasks, stage.task)
        }
        outcome = Outcome.CONVERGED if residual <= self.tol else Outcome.OUT_OF_STEPS
        cost = Cost("saddle point", steps, 0, 0.0, time.perf_counter() - began)
        return StageRecord.timeless(predictions, stage.task, outcome, cost), after, {}

    def _deep(self, state: LinearPosteriorState, points, stage: Stage):
        residual, steps, action = 0.0, 0, np.nan
        if stage.trains == "all":
            S = np.eye(state.span.rank)
            if stage.richness > 0:
                S, action, residual, steps = minimised(
                    points,
                    stage.task.y,
                    stage.richness,
                    self.temperature,
                    self.depth,
                    self.tol,
                    self.max_iterations,
                )
            state = replace(state, S=S)
        y, gamma = stage.task.y, stage.richness
        return read_out(state, points, y, gamma, self.temperature, action), residual, steps

    def _two_layer(self, state: LinearState, points, stage: Stage):
        with jax.enable_x64(True):
            found = _maximise(
                jnp.asarray(points),
                jnp.asarray(stage.task.y),
                jnp.asarray(state.M),
                self.temperature,
                stage,
                self.tol,
                self.max_iterations,
            )
        delta, M, residual, steps = found
        b = points.T @ delta
        scale = 1 / (1 + stage.elastic)
        shrink = math.sqrt(scale + (stage.elastic * scale * state.shrink) ** 2)
        if stage.trains == "readout":
            M, shrink = state.M, state.shrink
        v = stage.richness * M @ b
        A = np.eye(stage.task.outputs) + stage.richness * b.T @ v
        return LinearState(state.span, M, v, A, M @ b, shrink), residual, steps


def _precision(points, delta, tilt, elastic):
    b = points.T @ delta
    return (1 + elastic) * jnp.eye(points.shape[1]) - tilt**2 * b @ b.T


def _action(flat, points, y, source, ridge, tilt, elastic, moves: bool, tilted: bool):
    """J/gamma^2, or its limit where no tilt acts; -inf outside of its domain."""
    delta = flat.reshape(y.shape)
    b = points.T @ delta
    plain = jnp.sum(delta * y) - 0.5 * ridge * jnp.sum(delta**2)
    eye = jnp.eye(points.shape[1])
    if not tilted:
        S = (eye + elastic**2 / (1 + elastic) * source) / (1 + elastic) if moves else source
        return plain - 0.5 * jnp.sum(b * (S @ b))
    P = _precision(points, delta, tilt, elastic)
    least = jnp.linalg.eigvalsh(P)[0]
    _, logdet = jnp.linalg.slogdet(P)
    logarithm = -0.5 * (logdet - len(P) * jnp.log1p(elastic))
    pull = jnp.linalg.inv(P) - eye / (1 + elastic)
    logarithm += 0.5 * elastic**2 * jnp.sum(pull * source)
    return jnp.where(least > 0, plain - logarithm / tilt**2, -jnp.inf)


_slope = jax.jit(jax.value_and_grad(_action), static_argnames=("moves", "tilted"))
_curvature = jax.jit(jax.hessian(_action), static_argnames=("moves", "tilted"))


def _maximise(points, y, source, ridge: float, stage: Stage, tol: float, max_iterations: int):
    """Delta, <w w^T>, the relative residual, and the number of Newton steps."""
    moves = stage.trains == "all"
    tilt, elastic = stage.richness if moves else 0.0, stage.elastic
    given = (points, y, source, *(jnp.asarray(float(c)) for c in (ridge, tilt, elastic)))
    kind = dict(moves=moves, tilted=tilt > 0)
    flat = jnp.zeros(y.size)
    value, slope = _slope(flat, *given, **kind)
    steps = 0
    while (left := relative_residual(slope.reshape(y.shape), y)) > tol and steps < max_iterations:
        direction = -jnp.linalg.solve(_curvature(flat, *given, **kind), slope)
        part, rise = 1.0, float(slope @ direction)
        while True:
            new_value, new_slope = _slope(flat + part * direction, *given, **kind)
            # Near the maximum the gain drowns in rounding errors: full steps are right there.
            enough = 1e-4 * part * rise - 1e-12 * abs(float(value))
            if float(new_value - value) >= enough or part < 1e-10:
                break
            part /= 2
        flat, value, slope = flat + part * direction, new_value, new_slope
        steps += 1
    delta = flat.reshape(y.shape)
    Q = jnp.linalg.inv(_precision(points, delta, tilt, elastic))
    M = Q + elastic**2 * Q @ source @ Q
    return np.asarray(delta), np.asarray(M), left, steps


def read_out(
    state: LinearPosteriorState,
    points: Float[np.ndarray, "P rank"],
    y: Float[np.ndarray, "P C"],
    richness: float,
    ridge: float,
    action: float = np.nan,
) -> LinearPosteriorState:
    """The predictor and the backward fields for labels at points, on features as they are."""
    power = np.linalg.matrix_power(state.S, state.depth)
    delta = np.linalg.solve(points @ power @ points.T + ridge * np.eye(len(points)), y)
    beta = power @ points.T @ delta
    return LinearPosteriorState(state.span, state.depth, state.S, richness * beta, beta, action)


def _deep_action(flat, points, y, strength, ridge, depth: int):
    U = flat.reshape(points.shape[1], -1)
    S = jnp.eye(len(U)) + U @ U.T
    kernel = points @ jnp.linalg.matrix_power(S, depth) @ points.T
    fit = jnp.sum(y * jnp.linalg.solve(kernel + ridge * jnp.eye(len(y)), y))
    return 0.5 * depth * (jnp.sum(U**2) - jnp.linalg.slogdet(S)[1]) + 0.5 * strength * fit


_deep_slope = partial(jax.jit, static_argnames="depth")(jax.value_and_grad(_deep_action))
_deep_curvature = partial(jax.jit, static_argnames="depth")(jax.hessian(_deep_action))


def minimised(
    points: Float[np.ndarray, "P rank"],
    y: Float[np.ndarray, "P C"],
    richness: float,
    ridge: float,
    depth: int,
    tol: float,
    max_iterations: int,
) -> tuple[Float[np.ndarray, "rank rank"], float, float, int]:
    """S, the action, the gradient in U relative to that of the prior, and the number of steps."""
    rank = points.shape[1]
    with jax.enable_x64(True):
        given = (*map(jnp.asarray, (points, y, richness**2, ridge)), depth)
        plain = points.T @ np.linalg.solve(points @ points.T + ridge * np.eye(len(y)), y)
        start = np.linalg.svd(plain, full_matrices=False)[0]
        best, steps = None, 0
        for length in STARTS:
            found = minimize(
                lambda u: [np.asarray(v) for v in _deep_slope(jnp.asarray(u), *given)],
                length * start.ravel(),
                jac=True,
                hess=lambda u: np.asarray(_deep_curvature(jnp.asarray(u), *given)),
                method="trust-exact",
                options=dict(gtol=0.01 * tol * min(1.0, richness), maxiter=max_iterations),
            )
            steps += found.nit
            if best is None or found.fun < best.fun:
                best = found
        assert best is not None
        u = best.x
        for _ in range(POLISH):  # U turned by any rotation is as good: the curvature is singular
            slope, curvature = _deep_slope(u, *given)[1], _deep_curvature(u, *given)
            u = u - np.linalg.lstsq(np.asarray(curvature), np.asarray(slope), rcond=1e-10)[0]
        action, slope = _deep_slope(u, *given)
    U = u.reshape(rank, -1)
    S = np.eye(rank) + U @ U.T
    prior = depth * np.linalg.norm(U - np.linalg.solve(S, U))
    return S, float(action), float(np.linalg.norm(slope) / max(prior, 1e-300)), steps
