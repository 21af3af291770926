"""Dense networks of one width: fields, flow, and matrices whose initial fields are matched."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...mathematics.activations import Activation, Elementwise
from ...mathematics.losses import Loss
from ...mathematics.stepping import AbstractFlow
from ...system.registry import register

FLOOR = 0.1  # part of an error in the weights that is taken to be felt outside the samples


class Layers(NamedTuple):
    """All weights: h_1 = W a(x), h_{l+1} = U_l phi(h_l), <z phi> = head.phi(h_L)/N."""

    first: Float[Array, "R N rank"]
    hidden: Float[Array, "L-1 R N N"]
    head: Float[Array, "R N C"]


def fields(layers: Layers, inside, outside, phi: Elementwise) -> list[Array]:
    """h_1 .. h_L, each ``(R, n, N)``; ``outside`` is what inputs outside the span add to h_1."""
    h = [jnp.einsum("pk,rmk->rpm", inside, layers.first) + outside]
    for U in layers.hidden:
        h.append(jnp.einsum("rmk,rpk->rpm", U, phi(h[-1])))
    return h


def raw(layers: Layers, inside, outside, phi: Elementwise) -> Float[Array, "R n C"]:
    """<z phi(h_L)>."""
    top = phi(fields(layers, inside, outside, phi)[-1])
    return jnp.einsum("rpm,rmc->rpc", top, layers.head) / layers.head.shape[1]


def tangent(layers: Layers, move: Layers, inside, outside, phi: Elementwise):
    """Derivative of :func:`raw` along ``move``."""
    return jax.jvp(lambda w: raw(w, inside, outside, phi), (layers,), (move,))[1]


def trained(layers: Layers, frozen: int) -> Layers:
    """1 for layers above the first ``frozen`` hidden ones and 0 for the others, to multiply by."""
    hidden = (np.arange(len(layers.hidden)) + 1 >= frozen).astype(layers.head.dtype)
    one = layers.head.dtype.type(1)
    return Layers(one * (frozen == 0), hidden[:, None, None, None], one)  # pyright: ignore[reportArgumentType]


def pull_back(layers: Layers, signal, inside, phi: Elementwise, frozen: int) -> Layers:
    """How weights above the frozen layers answer an error signal ``(R, P, C)`` at richness 1."""
    gradient = jax.vjp(lambda w: raw(w, inside, 0.0, phi), layers)[1](signal)[0]
    width = layers.head.shape[1]
    scaled = Layers(width * gradient.first, gradient.hidden, width * gradient.head)
    return jax.tree.map(jnp.multiply, scaled, trained(layers, frozen))


def packed(layers: Layers) -> tuple[Array, ...]:
    """As the time stepper carries it: in double precision, without hidden matrices if none."""
    present = layers if len(layers.hidden) else (layers.first, layers.head)
    return tuple(leaf.astype(jnp.float64) for leaf in present)


def unpacked(y: tuple[Array, ...], dtype) -> Layers:
    """The inverse of :func:`packed`, in the precision of matrix products."""
    first, head = y[0].astype(dtype), y[-1].astype(dtype)
    replicates, width, _ = head.shape
    hidden = y[1].astype(dtype) if len(y) > 2 else jnp.zeros((0, replicates, width, width), dtype)
    return Layers(first, hidden, head)


class EnsembleFlow(AbstractFlow):
    """Gradient flow of all replicates; diffrax carries y in double precision."""

    inside: Float[Array, "P rank"]
    labels: Float[Array, "P C"]
    base: Float[Array, "R P C"]  # f - raw/gamma
    richness: Float[Array, ""]
    decay: Float[Array, ""]
    phi: Elementwise = eqx.field(static=True)
    objective: Loss = eqx.field(static=True)
    frozen: int = eqx.field(static=True, default=0)

    def predict(self, y):
        own = unpacked(y, self.inside.dtype)
        return self.base + raw(own, self.inside, 0.0, self.phi) / self.richness

    def __call__(self, y):
        signal = self.objective.signal(self.predict(y), self.labels) / len(self.labels)
        own = unpacked(y, self.inside.dtype)
        signal = signal.astype(self.inside.dtype)
        push = pull_back(own, signal, self.inside, self.phi, self.frozen)
        on = packed(trained(own, self.frozen))
        moves = zip(packed(push), y, on, strict=True)
        return tuple(self.richness * p - self.decay * m * w for p, w, m in moves)

    def loss(self, y):
        return jnp.sum(self.losses(y))

    def losses(self, y):
        return self.objective.by_part(self.predict(y), self.labels)

    def units(self):
        return self.objective.units(self.labels)

    def burden(self, y):
        replicates, width, _ = y[-1].shape
        on = packed(trained(unpacked(y, self.inside.dtype), self.frozen))
        first, *hidden, head = (jnp.sum(m * jnp.square(w)) for m, w in zip(on, y, strict=True))
        total = self.decay * ((first + head) / width + sum(hidden)) / replicates
        return 0.5 * self.objective.rate_factor * total / self.richness**2

    def weigh(self, y, error):
        own, error = unpacked(y, self.inside.dtype), unpacked(error, self.inside.dtype)
        change = tangent(own, error, self.inside, 0.0, self.phi)
        seen = jnp.sqrt(jnp.mean(jnp.square(change)))
        width = own.head.shape[1]
        parts = [jnp.sum(jnp.square(error.first)) / width, jnp.sum(jnp.square(error.head)) / width]
        parts += [jnp.sum(jnp.square(error.hidden))]
        size = jnp.sqrt(sum(parts) / len(own.head))
        return jnp.maximum(seen, FLOOR * size).astype(jnp.float64) / self.richness


class Recorder(eqx.Module):
    """f at recorded inputs."""

    flow: EnsembleFlow
    points: list[tuple[Array, Array, Array]]  # inside, outside, f - raw/gamma

    def __call__(self, t, y):
        flow = self.flow
        own = unpacked(y, flow.inside.dtype)
        decay = 0.0 if flow.frozen else flow.decay
        fade = jnp.exp(-decay * t).astype(flow.inside.dtype)
        return [
            base + raw(own, inside, fade * outside, flow.phi) / flow.richness
            for inside, outside, base in self.points
        ]


@register
@dataclass(frozen=True, eq=False)
class DenseWeights:
    """Weights of all replicates at one time.

    Attributes
    ----------
    first, hidden, head
        Shapes ``(R, N, rank)``, ``(L - 1, R, N, N)`` and ``(R, N, C)``.
    seed
        Of the first-layer weights of directions outside the span, which never learn.
    shrink
        Factor by which weight decay has scaled those.
    """

    first: Float[np.ndarray, "R N rank"]
    hidden: Float[np.ndarray, "L-1 R N N"]
    head: Float[np.ndarray, "R N C"]
    seed: int
    shrink: float = 1.0

    @property
    def layers(self) -> Layers:
        return Layers(*map(jnp.asarray, (self.first, self.hidden, self.head)))

    def outside(self, orthogonal: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "R n N"]:
        """What parts outside the span add to h_1."""
        replicates, width, _ = self.first.shape
        if not orthogonal.any():
            return np.zeros((replicates, 1, 1), self.first.dtype)
        rng = np.random.default_rng(self.seed)
        rows = [rng.standard_normal((orthogonal.shape[1], width)) for _ in range(replicates)]
        return np.stack([self.shrink * orthogonal @ W for W in rows]).astype(self.first.dtype)


@register
@dataclass(frozen=True, eq=False)
class DenseTerm:
    """coefficient * <z phi(h_L)>, or its derivative along ``move`` (shaped like the layers)."""

    coefficient: float
    weights: DenseWeights
    move: tuple[Any, ...] = ()


compiled_raw = partial(jax.jit, static_argnums=3)(raw)
compiled_tangent = partial(jax.jit, static_argnums=4)(tangent)
compiled_pull_back = partial(jax.jit, static_argnums=(3, 4))(pull_back)


@partial(jax.jit, static_argnums=3)
def phi_and_g(layers: Layers, inside, outside, activation: Activation):
    """phi(h_l), each ``(R, n, N)``, and g_l, each ``(R, n, C, N)``, for every layer."""
    h = fields(layers, inside, outside, activation.phi)
    z = layers.head.transpose(0, 2, 1)[:, None]
    gradients = []
    for k in reversed(range(len(h))):
        g = activation.derivative(h[k])[:, :, None, :] * z
        gradients.insert(0, g)
        z = jnp.einsum("rpcm,rmk->rpck", g, layers.hidden[k - 1]) if k else z
    return [activation.phi(x) for x in h], gradients
