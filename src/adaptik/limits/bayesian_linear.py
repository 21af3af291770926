"""The two-layer linear posterior in closed form (theory section 6): an oracle for the sampler.

Given b = A^T Delta (A the samples in the coordinates of their span), linear neurons are Gaussian:

    source  S_1 = (1 - gamma^2 b_1 b_1^T)^-1
    target  Q = (1 + delta - gamma^2 b_2 b_2^T)^-1,   S_2 = Q + delta^2 Q S_1 Q

and Delta is the maximum of the concave action, found by Newton steps inside its domain.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import require_between, require_integers
from ..solution import Cost, Outcome, Solution, StageRecord
from ..stages import Stage, check_posterior
from ..tasks import Task
from .base import Advance, Request, recorded_inputs
from .linear import LinearState
from .span import Span


@dataclass(frozen=True)
class BayesianLinear:
    """The posterior of infinitely wide linear networks with one hidden layer, exactly.

    What :class:`adaptik.Bayesian` samples, with its conventions, for the linear activation.

    Attributes
    ----------
    temperature
        T > 0.
    tol
        Residual of the saddle-point equations relative to the labels.
    max_iterations
        Newton steps after which a stage gives up.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.linear_pair(0.9, n_source=6, n_target=4, dimension=8)
    >>> solution = ak.solve([ak.Stage(task, richness=1.0)], ak.BayesianLinear(temperature=0.1))
    >>> solution.outcome.value
    'converged'
    """

    couples: ClassVar[str] = "posterior"

    temperature: float = 0.01
    tol: float = 1e-9
    max_iterations: int = 200

    def __post_init__(self):
        require_between(0, math.inf, temperature=self.temperature)
        require_between(0, 1, tol=self.tol)
        require_integers(1, max_iterations=self.max_iterations)

    def describe(self) -> dict[str, Any]:
        return {"limit": "BayesianLinear", "temperature": self.temperature, "tol": self.tol}

    def refined(self, tol: float, found: Solution | None) -> "BayesianLinear":
        return self

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        for i, stage in enumerate(stages):
            check_posterior(i, stage)
        rank = min(stages[0].task.dimension, sum(t.n_train for t in tasks.values()))
        return 8 * (12 * rank**2 + 6 * max(s.task.n_train * s.task.outputs for s in stages) ** 2)

    def start(self, stages, tasks, rng) -> LinearState:
        span, outputs = Span.of(tasks.values()), stages[0].task.outputs
        zero = np.zeros((span.rank, outputs))
        return LinearState(span, np.eye(span.rank), zero, np.eye(outputs), zero)

    def advance(self, state: LinearState, stage: Stage, request: Request) -> Advance:
        began = time.perf_counter()
        points = state.span.training_points(stage.task.X)
        with jax.enable_x64(True):
            found = _maximise(
                jnp.asarray(points), jnp.asarray(stage.task.y), jnp.asarray(state.M),
                self.temperature, stage, self.tol, self.max_iterations,
            )  # fmt: skip
        delta, M, residual, steps = found
        b = points.T @ delta
        scale = 1 / (1 + stage.elastic)
        shrink = math.sqrt(scale + (stage.elastic * scale * state.shrink) ** 2)
        if stage.trains == "readout":
            M, shrink = state.M, state.shrink
        v = stage.richness * M @ b
        A = np.eye(stage.task.outputs) + stage.richness * b.T @ v
        after = LinearState(state.span, M, v, A, M @ b, shrink)
        predictions = {
            key: after.predict(X)[None]
            for key, X in recorded_inputs(request.tasks, stage.task.outputs)
        }
        f = predictions[stage.task.name, "train"][0, 0]
        record = StageRecord(
            times=np.zeros(1),
            predictions=predictions,
            duration=0.0,
            train_loss=float(np.mean(np.sum((f - stage.task.y) ** 2, axis=-1))),
            rate=0.0,
            outcome=Outcome.CONVERGED if residual <= self.tol else Outcome.OUT_OF_STEPS,
            cost=Cost("saddle point", steps, 0, 0.0, time.perf_counter() - began),
        )
        return record, after, {}


def _maximise(points, y, source, ridge: float, stage: Stage, tol: float, max_iterations: int):
    """Delta, <w w^T>, the relative residual, and the number of Newton steps."""
    eye, elastic = jnp.eye(points.shape[1]), stage.elastic
    tilt = 0.0 if stage.trains == "readout" else stage.richness
    fixed = source if stage.trains == "readout" else eye

    def precision(delta):
        b = points.T @ delta
        return (1 + elastic) * eye - tilt**2 * b @ b.T

    def action(flat):
        """J/gamma^2, or its limit where features do not move; -inf outside of its domain."""
        delta = flat.reshape(y.shape)
        b = points.T @ delta
        plain = jnp.sum(delta * y) - 0.5 * ridge * jnp.sum(delta**2)
        if tilt == 0:
            if elastic > 0:
                S = (eye + elastic**2 / (1 + elastic) * source) / (1 + elastic)
                return plain - 0.5 * jnp.sum(b * (S @ b))
            return plain - 0.5 * jnp.sum(b * (fixed @ b))
        P = precision(delta)
        least = jnp.linalg.eigvalsh(P)[0]
        _, logdet = jnp.linalg.slogdet(P)
        logarithm = -0.5 * (logdet - len(P) * math.log1p(elastic))
        if elastic > 0:
            Q = jnp.linalg.inv(P)
            logarithm += 0.5 * elastic**2 * jnp.sum((Q - eye / (1 + elastic)) * source)
        return jnp.where(least > 0, plain - logarithm / tilt**2, -jnp.inf)

    gradient, curvature = jax.jit(jax.value_and_grad(action)), jax.jit(jax.hessian(action))
    flat, size = jnp.zeros(y.size), float(jnp.linalg.norm(y))
    value, slope = gradient(flat)
    steps = 0
    while float(jnp.linalg.norm(slope)) > tol * size and steps < max_iterations:
        direction = -jnp.linalg.solve(curvature(flat), slope)
        part, rise = 1.0, float(slope @ direction)
        # Near the maximum the gain drowns in rounding errors: full steps are right there.
        while part > 1e-10:
            new_value, new_slope = gradient(flat + part * direction)
            if float(new_value - value) >= 1e-4 * part * rise - 1e-12 * abs(float(value)):
                break
            part /= 2
        flat, value, slope = flat + part * direction, new_value, new_slope
        steps += 1
    delta = flat.reshape(y.shape)
    Q = jnp.linalg.inv(precision(delta))
    M = Q + elastic**2 * Q @ source @ Q
    return np.asarray(delta), np.asarray(M), float(jnp.linalg.norm(slope)) / size, steps
