"""Linear posteriors in closed form (theory section 6): an oracle for the sampler.

With one hidden layer, given b = A^T Delta (A the samples in the coordinates of their span), linear
neurons are Gaussian:

    source  S_1 = (1 - gamma^2 b_1 b_1^T)^-1
    target  Q = (1 + delta - gamma^2 b_2 b_2^T)^-1,   S_2 = Q + delta^2 Q S_1 Q

and Delta is the maximum of the concave action, found by Newton steps inside its domain. More hidden
layers are in ``deep_linear_posterior``.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ...mathematics.losses import relative_residual
from ...solution import Advance, Cost, Outcome, Request, StageRecord, recorded_inputs
from ...system.errors import require_between, require_integers
from ...tasks import Task
from ...tasks.span import Span, largest_rank
from ...tasks.stages import Stage, check_posterior
from ..base import AbstractLimit
from ..linear.two_layer import LinearState
from .linear_state import LinearPosteriorState, minimised, read_out


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
            key: after.predict(X)[None]
            for key, X in recorded_inputs(request.tasks, stage.task.outputs)
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
