"""The two-layer linear limit, exactly: the law stays Gaussian (theory section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...linear_theory.states import LinearState
from ...mathematics.biases import NONE, Bias, deviations
from ...mathematics.losses import Objective
from ...mathematics.stepping import AbstractLinearisation, Linearised, LinearisedFlow
from ...mathematics.stepping.choice import EXPONENTIAL_UP_TO, by_size
from ...solution import Advance, Request, recorded_inputs
from ...system.devices import on_device
from ...system.errors import require_above_zero, require_between, require_integers
from ...tasks import Task
from ...tasks.span import Span, largest_rank
from ...tasks.stages import Stage
from ..base import FLOW, AbstractLimit
from ..run import step_through


@dataclass(frozen=True)
class Linear(AbstractLimit[LinearState]):
    """One hidden layer of linear neurons, infinitely wide.

    The law of a neuron (w, z) stays Gaussian, so its second moments ``M = <w w'>``, ``v = <w z>``
    and ``A = <z z'>`` obey closed equations. Nothing is sampled: standard errors are 0.

    Attributes
    ----------
    tol
        Error allowed in one step, in units of the labels (:attr:`adaptik.Stage.unit`).
    max_steps
        Steps after which a stage gives up.
    bias, scale
        Of neurons and readout, and of hidden weights, as for :class:`adaptik.TwoLayer`.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.linear_pair(0.5, n_source=10, n_target=5, dimension=20, n_test=50)
    >>> solution = ak.solve([ak.Stage(task, richness=1.0)], ak.Linear())
    >>> solution.outcome.value, float(solution.loss(task).standard_error)
    ('converged', 0.0)
    """

    state: ClassVar = LinearState
    computes: ClassVar = FLOW | {"head rate", "head scale"}

    tol: float = 1e-6
    max_steps: int = 16384
    bias: Bias = NONE
    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "bias", deviations(self.bias))
        require_between(0, 1, tol=self.tol)
        require_integers(1, max_steps=self.max_steps)
        require_above_zero(scale=self.scale)
        object.__setattr__(self, "scale", float(self.scale))

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        rank = largest_rank(tasks.values(), deviations(self.bias)[0])
        active = max(s.task.n_train * s.task.outputs for s in stages)
        exponential = 6 * active**2 if active <= EXPONENTIAL_UP_TO else 0
        return 8 * (24 * rank**2 + exponential)

    def start(self, stages, tasks, rng):
        first, readout = deviations(self.bias)
        span, outputs = Span.of(tasks.values(), first), stages[0].task.outputs
        zero, c = np.zeros((span.rank, outputs)), np.zeros(outputs)
        M, A = self.scale**2 * np.eye(span.rank), np.eye(outputs)
        c = c if readout else None
        return LinearState(span, M, zero, A, zero, shrink=self.scale, c=c, bias=readout)

    def advance(self, state: LinearState, stage: Stage, request: Request) -> Advance[LinearState]:
        task = stage.task
        if stage.head == "fresh":
            zero = np.zeros((state.span.rank, task.outputs))
            c = None if state.c is None else zero[0]
            A = stage.head_scale**2 * np.eye(task.outputs)
            state = replace(state, v=zero, A=A, beta=zero, c=c)
        inside = state.span.training_points(task.X)
        recorded = {
            key: state.span.points(X).inside for key, X in recorded_inputs(request.tasks, task)
        }

        def state_at(t: float, y: Moments) -> LinearState:
            fade = np.exp(-stage.weight_decay * t) if stage.trains == "all" else 1.0
            moments = jax.tree.map(np.asarray, y)._asdict()
            return replace(state, **moments, shrink=float(fade * state.shrink))

        held = state.M, state.v, state.A, state.beta, state.c
        with jax.enable_x64(True):
            flow = MomentFlow(
                stage.objective.placed(),
                stage.trains == "readout",
                on_device(inside),
                on_device(task.y),
                on_device(float(stage.richness)),
                on_device(float(stage.weight_decay)),
                on_device(stage.head_rate),
                on_device(state.bias) if state.bias else None,
            )
            return step_through(
                stage,
                request,
                flow,
                Moments(*jax.tree.map(jnp.asarray, held)),
                Recorder([on_device(points) for points in recorded.values()]),
                list(recorded),
                state_at,
                by_size(task.n_train * task.outputs),
                self.tol,
                self.max_steps,
            )


class Moments(NamedTuple):
    """What moves during a stage."""

    M: Float[Array, "rank rank"]
    v: Float[Array, "rank C"]
    A: Float[Array, "C C"]
    beta: Float[Array, "rank C"]
    c: Float[Array, " C"] | None = None  # the readout's bias

    def predict(self, inside: Float[Array, "n rank"]) -> Float[Array, "1 n C"]:
        """With a members axis of length 1; of an error in the moments, the predictor's."""
        f = inside @ self.beta
        return (f if self.c is None else f + self.c)[None]


class MomentFlow(LinearisedFlow):
    """The flow of the moments under R = sum_mu x_mu Delta_mu; richness 0 is the lazy flow.

    M' = gamma (R v' + v R') - 2 lambda M, v' = gamma (eta M R + R A) - (1 + eta) lambda v,
    A' = eta gamma (R' v + v' R) - 2 eta lambda A, beta' = eta M R + R A - (1 + eta) lambda beta,
    with the readout's rate eta, and c' = eta (b_r^2 sum_mu Delta_mu - lambda c) of its bias. With a
    frozen M the terms in which w moves are absent.
    """

    objective: Objective
    frozen: bool = eqx.field(static=True)
    inside: Float[Array, "P rank"]
    labels: Float[Array, "P C"]
    richness: Float[Array, ""]
    decay: Float[Array, ""]
    head_rate: Float[Array, ""]
    bias: Float[Array, ""] | None = None  # b_r

    def _predict(self, y: Moments):
        return y.predict(self.inside)

    def _push(self, y: Moments, signal) -> Moments:
        R = self.inside.T @ signal
        gamma, eta = self.richness, self.head_rate
        beta = eta * (y.M @ R)
        beta = beta if self.frozen else beta + R @ y.A
        M = jnp.zeros_like(y.M) if self.frozen else gamma * (R @ y.v.T + y.v @ R.T)
        A = eta * gamma * (R.T @ y.v + y.v.T @ R)
        c = None if self.bias is None else eta * self.bias**2 * jnp.sum(signal, 0)
        return Moments(M, gamma * beta, A, beta, c)

    def __call__(self, y: Moments) -> Moments:
        signal = self.objective.signal(self._predict(y), self.labels)[0] / len(self.labels)
        eta, moving = self.head_rate, 0.0 if self.frozen else 1.0  # of z, and of w
        M, v, A, beta = 2 * moving, moving + eta, 2 * eta, moving + eta
        factors = (M, v, A, beta, None if y.c is None else eta)
        push = tuple(self._push(y, signal))
        moved = jax.tree.map(lambda p, k, m: p - k * self.decay * m, push, factors, tuple(y))
        return Moments(*moved)

    def losses(self, y: Moments):
        return self.objective.by_part(self._predict(y), self.labels)

    def units(self):
        return self.objective.units(self.labels)

    def burden(self, y: Moments):
        gamma = self.richness
        total = self.decay * (jnp.trace(y.M) + jnp.trace(y.A))
        if self.bias is not None and y.c is not None:
            total = total + self.decay * jnp.sum(jnp.square(gamma * y.c / self.bias))
        rich = (gamma > 0) & (not self.frozen)
        return jnp.where(rich, total / jnp.where(rich, gamma, 1.0) ** 2, 0.0)

    def weigh(self, y: Moments, error: Moments):
        # Features' errors act on the predictor through the kernel, whose scale is that of M and A.
        seen = jnp.sqrt(jnp.mean(jnp.square(self._predict(error))))
        moved = self.inside @ error.M @ self.inside.T
        scale = jnp.trace(self.inside @ y.M @ self.inside.T) / len(self.labels)
        features = jnp.sqrt(jnp.sum(jnp.square(moved))) / (len(self.labels) * scale)
        heads = jnp.max(jnp.abs(error.A)) / jnp.max(jnp.abs(y.A))
        return seen + features + heads

    def linearise(self, y: Moments, memory=None) -> Linearised:
        """B and B~ of the moments, with M and A as they are at y; how these move is left to N.

        The predictor decays at (1 + eta) lambda, or at eta lambda on frozen features.
        """
        samples, outputs = self.labels.shape
        feature, inputs = self.inside @ y.M @ self.inside.T, self.inside @ self.inside.T
        if self.bias is not None:
            feature = feature + self.bias**2
        ntk = self.head_rate * feature[:, None, :, None] * jnp.eye(outputs)[:, None, :]
        if not self.frozen:
            ntk = ntk + inputs[:, None, :, None] * y.A[:, None, :]
        root = self.objective.curvature_root(self._predict(y), self.labels)[0]
        stiff = jnp.einsum("pac,paqb,qbd->pcqd", root, ntk, root) / samples
        rates, modes = jnp.linalg.eigh(stiff.reshape(samples * outputs, -1))
        modes = jnp.einsum("pac,pcn->pan", root, modes.reshape(samples, outputs, -1))
        return Linearised(
            stiff=MomentLinearisation(self, y, modes),
            velocity=self(y),
            rates=jnp.maximum(rates, 0.0)[None],
            decay=(self.head_rate + (0.0 if self.frozen else 1.0)) * self.decay,
        )


class MomentLinearisation(AbstractLinearisation):
    """How the moments answer an error signal, and the predictor the moments, at one point."""

    flow: MomentFlow
    at: Moments
    modes: Float[Array, "P C modes"]

    def spread(self, u):
        signal = jnp.einsum("pcn,n->pc", self.modes, u[0]) / len(self.modes)
        return self.flow._push(self.at, signal)

    def read(self, v: Moments):
        return jnp.einsum("pcn,pc->n", self.modes, self.flow._predict(v)[0])[None]


class Recorder(eqx.Module):
    """Predictions at recorded inputs, with a members axis of length 1."""

    inside: list[Float[Array, "n rank"]]

    def __call__(self, t, y: Moments):
        return [y.predict(points) for points in self.inside]
