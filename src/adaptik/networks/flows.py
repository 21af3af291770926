"""Gradient flow of a finite network's weights, as vector fields for the time stepper."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..mathematics.activations import Elementwise
from ..mathematics.biases import NONE
from ..mathematics.losses import Objective
from ..mathematics.stepping import HORIZON, AbstractFlow, Chebyshev, integrate, outcome
from ..solution import Cost
from ..system.devices import on_device
from ..tasks.stages import Stage
from .forward import Layers, only_above, raw, tangent
from .mup import (
    BLOCK,
    Member,
    Network,
    Run,
    Term,
    Weights,
    combine,
    in_batches,
)

MAX_STEPS = 100_000
FLOOR = 0.01


def _cast(layers: Layers, dtype) -> Layers:
    # diffrax carries y in the dtype of time, float64; the matrix products run in the network's.
    return jax.tree.map(lambda w: w.astype(dtype), layers)


def _weighed(flow: "RichFlow | DecayingTangentFlow", layers: Layers, error: Layers):
    """Error of gamma f for an error in the weights, on the training inputs to first order.

    A floor guards errors that the training inputs do not see: a part of the largest that any
    input could feel, |error| times about |d raw/d theta|.
    """
    layers, error = _cast(layers, flow.X.dtype), _cast(error, flow.X.dtype)
    seen = jnp.sqrt(jnp.mean(jnp.square(tangent(layers, error, flow.X, flow.phi, flow.biases))))
    size = jnp.sqrt(sum(jnp.sum(jnp.square(e)) for e in error) / len(layers[0]))
    slope = 1 + jnp.sqrt(jnp.mean(jnp.square(layers[-1])))
    return jnp.maximum(seen, FLOOR * size * slope).astype(flow.y.dtype)


def _paced(moves: Layers, head_rate) -> Layers:
    """Moves of all layers, the last at a rate of its own."""
    return (
        moves if head_rate is None else (*moves[:-1], head_rate.astype(moves[-1].dtype) * moves[-1])
    )


def _rate(stage: Stage):
    return None if stage.head_rate == 1 else on_device(stage.head_rate)


def _directions(network: Network, stage: Stage) -> np.ndarray:
    """The a_k of a low-rank stage as columns, where they start."""
    assert stage.low_rank is not None
    return stage.low_rank.directions(stage.task.dimension + (network.biases[0] > 0))


class RichFlow(AbstractFlow):
    """d theta/dt = gamma N (d raw/d theta)^T Delta - lambda theta; y is the tuple of layers.

    First-layer weights also follow -delta (W_0 - home); the head's move is multiplied by its rate.
    """

    X: Float[Array, "P D"]
    y: Float[Array, "P C"]
    offset: Float[Array, "P C"]  # f - raw/gamma: the predictor before, less the centring
    richness: Float[Array, ""]
    decay: Float[Array, ""]
    elastic: Float[Array, ""]
    home: Float[Array, "#N #D"]  # first-layer weights that elastic pulls towards
    phi: Elementwise = eqx.field(static=True)
    objective: Objective
    frozen: int = eqx.field(static=True)
    head_rate: Float[Array, ""] | None = None  # over that of other layers; None for 1
    biases: tuple[float, float] = eqx.field(static=True, default=NONE)

    def layers(self, y: Layers) -> Layers:
        return _cast(y, self.X.dtype)

    def pushed(self, layers_of: Callable[[Any], Layers], y):
        """gamma N (d raw/d y)^T Delta of layers that follow from ``y``."""
        out, pull_back = jax.vjp(lambda v: raw(layers_of(v), self.X, self.phi, self.biases), y)
        signal = self.objective.signal(self.offset + out / self.richness, self.y) / len(self.y)
        push = self.richness * len(layers_of(y)[0]) * signal
        return pull_back(push.astype(out.dtype))[0]

    def __call__(self, y: Layers) -> Layers:
        gradient = self.pushed(lambda layers: layers, self.layers(y))
        first, *rest = jax.tree.map(lambda g, w: g.astype(w.dtype) - self.decay * w, gradient, y)
        moves = (first - self.elastic * (y[0] - self.home), *rest)
        return only_above(self.frozen, _paced(moves, self.head_rate))

    def losses(self, y: Layers):
        now = raw(_cast(y, self.X.dtype), self.X, self.phi, self.biases)
        f = self.offset + now / self.richness
        return self.objective.by_part(f, self.y)

    def units(self):
        return self.objective.units(self.y)

    def burden(self, y: Layers):
        total = self.decay * sum(jnp.sum(jnp.square(w)) for w in y[self.frozen :])
        total = total + self.elastic * jnp.sum(jnp.square(y[0] - self.home))
        return 0.5 * self.objective.rate_factor * total / (self.richness**2 * len(y[0]))

    def weigh(self, y: Layers, error: Layers):
        return _weighed(self, y, error) / self.richness


class Adapted(NamedTuple):
    """What moves in a low-rank stage: W_0 = W_1 + b a^T, and the head."""

    b: Float[Array, "N r"]
    a: Float[Array, "D r"]
    head: Float[Array, "N C"]


class LowRankFlow(AbstractFlow):
    """The same flow of b and the head, which decay; and of a, whose rate is eta_a gamma^2."""

    inner: RichFlow
    first: Float[Array, "N D"]  # W_1
    rate: Float[Array, ""]  # eta_a; directions stay, and have no decay, at 0

    def layers(self, y: Adapted) -> Layers:
        b, a, head = jax.tree.map(lambda leaf: leaf.astype(self.first.dtype), y)
        return self.first + b @ a.T, head

    def __call__(self, y: Adapted) -> Adapted:
        inner, given = self.inner, y
        push = inner.pushed(self.layers, jax.tree.map(lambda v: v.astype(self.first.dtype), y))
        push = push._replace(a=push.a / len(self.first))
        move = jax.tree.map(lambda g, w: g.astype(w.dtype) - inner.decay * w, push, given)
        eta = 1.0 if inner.head_rate is None else inner.head_rate
        return Adapted(move.b, self.rate * move.a, eta * move.head)

    def losses(self, y: Adapted):
        return self.inner.losses(self.layers(y))

    def units(self):
        return self.inner.units()

    def burden(self, y: Adapted):
        inner, width = self.inner, len(self.first)
        total = jnp.sum(jnp.square(y.b)) + jnp.sum(jnp.square(y.head))
        total = total + jnp.where(self.rate > 0, width * jnp.sum(jnp.square(y.a)), 0.0)
        scale = inner.decay * inner.objective.rate_factor / (inner.richness**2 * width)
        return 0.5 * scale * total

    def weigh(self, y: Adapted, error: Adapted):
        return self.inner.weigh(*jax.jvp(self.layers, (y,), (error,)))


class DecayingTangentFlow(AbstractFlow):
    """Richness 0 with weight decay; y = (s, u), the weights theta_0 s and their direction u.

    The head's are theta_0 s^eta and its direction moves at eta times the rate.
    s' = -lambda s, u' = N (d raw/d theta at s theta_0)^T Delta - lambda u, f = u . d raw/d theta.
    In a low-rank stage the first layer stays theta_0, and what moves it goes through A = a a^T.
    """

    start: Layers
    X: Float[Array, "P D"]
    y: Float[Array, "P C"]
    decay: Float[Array, ""]
    phi: Elementwise = eqx.field(static=True)
    objective: Objective
    frozen: int = eqx.field(static=True)
    head_rate: Float[Array, ""] | None = None
    biases: tuple[float, float] = eqx.field(static=True, default=NONE)
    directions: Float[Array, "D r"] | None = None  # the a_k of a low-rank stage

    def weights(self, scale: Float[Array, ""]) -> Layers:
        faded = jax.tree.map(lambda w: scale.astype(w.dtype) * w, self.start)
        if self.head_rate is not None:
            head = self.start[-1]
            faded = (*faded[:-1], (scale**self.head_rate).astype(head.dtype) * head)
        kept = self.frozen if self.directions is None else 1
        return (*self.start[:kept], *faded[kept:])

    def __call__(self, y):
        scale, u = y
        layers = self.weights(scale)
        pull_back = jax.vjp(lambda w: raw(w, self.X, self.phi, self.biases), layers)[1]
        signal = self.objective.signal(self.predictor(y), self.y) / len(self.y)
        (gradient,) = pull_back((len(layers[0]) * signal).astype(self.X.dtype))
        if self.directions is not None:
            first = (gradient[0] @ self.directions) @ self.directions.T
            gradient = (first, *gradient[1:])
        fall = jax.tree.map(lambda g, v: g.astype(v.dtype) - self.decay * v, gradient, u)
        return -self.decay * scale, only_above(self.frozen, _paced(fall, self.head_rate))

    def predictor(self, y):
        scale, u = y
        u = _cast(u, self.X.dtype)
        f = tangent(self.weights(scale), u, self.X, self.phi, self.biases)
        return f.astype(self.y.dtype)

    def losses(self, y):
        return self.objective.by_part(self.predictor(y), self.y)

    def units(self):
        return self.objective.units(self.y)

    def weigh(self, y, error):
        return _weighed(self, self.start, error[1])


class Recorder(eqx.Module):
    """f on all recorded inputs: ``record(t, y)`` of the time stepper."""

    flow: RichFlow | LowRankFlow | DecayingTangentFlow
    X: Float[Array, "n D"]
    offset: Float[Array, "n C"]

    def __call__(self, t, y):
        flow = self.flow
        if not isinstance(flow, DecayingTangentFlow):
            rich = flow.inner if isinstance(flow, LowRankFlow) else flow
            layers = flow.layers(y)
            grown = self._over_inputs(lambda x: raw(layers, x, rich.phi, rich.biases), layers[0])
            return self.offset + grown / rich.richness
        layers, u = flow.weights(y[0]), _cast(y[1], self.X.dtype)
        moved = self._over_inputs(lambda x: tangent(layers, u, x, flow.phi, flow.biases), layers[0])
        return self.offset + moved

    def _over_inputs(self, function, first: Float[Array, "N d"]):
        # Of all patches, where it has some.
        units = len(first) * max(1, self.X.shape[1] // first.shape[1])
        rows = min(len(self.X), 512, max(1, BLOCK // units))
        return jax.lax.map(lambda x: function(x[None])[0], self.X, batch_size=rows)


def _stored(layers: Layers, dtype: str) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(w).astype(dtype) for w in layers)


_raw = partial(jax.jit, static_argnums=(2, 3))(raw)


class _Moving(NamedTuple):
    """A stage as a flow: what moves, from where, and what its predictions are added to."""

    flow: RichFlow | LowRankFlow | DecayingTangentFlow
    y0: PyTree
    offset: Float[np.ndarray, "n C"]  # at the recorded inputs
    member: Callable[[PyTree], Member]  # of what has moved


def _rich(network: Network, stage: Stage, start: Member, inputs) -> _Moving:
    phi, dtype, gamma = network.phi.phi, network.dtype, stage.richness
    layers = tuple(on_device(w, dtype) for w in start.weights.layers)

    def centred(points):  # in the network's dtype, so that f starts exactly where it was
        def now(x):
            return _raw(layers, on_device(x, dtype), phi, network.biases)

        before = start.predict(points, network.phi, network.biases)
        return before - in_batches(now, points, start.weights) / gamma

    def member(y: Layers) -> Member:
        weights = Weights(_stored(y, dtype))
        moved = (Term(1 / gamma, weights), Term(-1 / gamma, start.weights))
        return Member(weights, combine((1.0, start.terms), (1.0, moved)))

    flow = RichFlow(
        X=on_device(stage.task.X, dtype),
        y=on_device(stage.task.y),
        offset=on_device(centred(stage.task.X)),
        richness=on_device(gamma),
        decay=on_device(stage.weight_decay),
        elastic=on_device(stage.elastic),
        home=layers[0] if stage.elastic > 0 else jnp.zeros((1, 1), dtype),
        phi=phi,
        objective=stage.objective.placed(),
        frozen=stage.frozen_layers(network.depth),
        head_rate=_rate(stage),
        biases=network.biases,
    )
    if stage.low_rank is None:
        return _Moving(flow, layers, centred(inputs), member)
    a = on_device(_directions(network, stage), dtype)
    b = jnp.zeros((network.width, a.shape[1]), dtype)
    few = LowRankFlow(flow, layers[0], on_device(stage.low_rank.rate))
    offset = centred(inputs)
    return _Moving(few, Adapted(b, a, layers[-1]), offset, lambda y: member(few.layers(y)))


def _lazy(network: Network, stage: Stage, start: Member, inputs) -> _Moving:
    dtype, frozen = network.dtype, stage.frozen_layers(network.depth)
    layers = tuple(on_device(w, dtype) for w in start.weights.layers)
    directions = None
    if stage.low_rank is not None:
        directions = on_device(_directions(network, stage), dtype)

    def member(y) -> Member:
        scale, direction = y
        scales = [scale] * network.depth + [scale**stage.head_rate]
        faded = (
            np.asarray(w * s, dtype) for w, s in zip(start.weights.layers, scales, strict=True)
        )
        kept = frozen if stage.low_rank is None else 1
        weights = Weights((*start.weights.layers[:kept], *tuple(faded)[kept:]))
        return Member(weights, (Term(1.0, weights, _stored(direction, dtype)),))

    flow = DecayingTangentFlow(
        start=layers,
        X=on_device(stage.task.X, dtype),
        y=on_device(stage.task.y),
        decay=on_device(stage.weight_decay),
        phi=network.phi.phi,
        objective=stage.objective.placed(),
        frozen=frozen,
        head_rate=_rate(stage),
        biases=network.biases,
        directions=directions,
    )
    y0 = (on_device(1.0), jax.tree.map(jnp.zeros_like, layers))
    return _Moving(flow, y0, np.zeros((len(inputs), stage.task.outputs)), member)


def flow_through(network: Network, stage: Stage, start: Member, inputs, grid, snapshots) -> Run:
    """Run a stage whose kernel moves: step the weights until it ends.

    Parameters
    ----------
    network, stage, start
        What is trained, how, and from where.
    inputs
        Where predictions are recorded, shape ``(n, D)``.
    grid, snapshots
        Record and snapshot times since the stage's start.
    """
    moving = (_lazy if stage.is_lazy else _rich)(network, stage, start, inputs)
    loss_tol, rate_tol = (-1.0, -1.0) if stage.duration else stage.tolerances
    done = integrate(
        moving.flow,
        moving.y0,
        Recorder(moving.flow, on_device(inputs, network.dtype), on_device(moving.offset)),
        Chebyshev(),
        duration=on_device(stage.duration or HORIZON, float),
        record_times=on_device(grid),
        snapshot_times=on_device(snapshots, float),
        loss_tol=on_device(loss_tol, float),
        rate_tol=on_device(rate_tol, float),
        tol=on_device(network.tol),
        max_steps=MAX_STEPS,
    )
    end, end_time = moving.member(done.end), float(done.end_time)
    reached = grid < end_time
    last = end.predict(inputs, network.phi, network.biases)[None]
    return Run(
        times=np.append(grid[reached], end_time),
        predictions=np.concatenate([np.asarray(done.recorded)[reached], last]),
        loss=float(done.loss),
        rate=float(done.rate),
        outcome=outcome(done, loss_tol, rate_tol),
        cost=Cost("chebyshev", int(done.steps), int(done.rejected), 0.0, 0.0),
        end=end,
        snapshots={
            t: moving.member(jax.tree.map(lambda leaf, i=i: leaf[i], done.snapshots))
            for i, t in enumerate(snapshots)
            if t <= end_time
        },
    )
