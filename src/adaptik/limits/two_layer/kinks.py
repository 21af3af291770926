"""Neurons on the kinks of their activation.

Where both sides of a kink of phi push a neuron towards it, the flow moves to and fro across
h_mu = 0, in the mean along it: the slope takes the value between those of the sides that keeps
h_mu = 0. That is Filippov's convention, and the subgradient for which such a point is stationary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...kernels.particles.law import Law
from .flow import ParticleFlow

MOST = 8  # kinks that hold one neuron
DEPENDENT = 1e-8  # relative length of samples that add nothing to those before
FAINT = 1e-6  # pushes of kinks that hold nothing, in units of what decay does to preactivations
OFF = 1e-9  # preactivation to which a neuron that leaves a kink is put, in units of typical ones


class Held(NamedTuple):
    """Directions in which the weights of one replicate may not move: samples with h_mu = 0."""

    some: Bool[Array, ""]  # whether any neuron is held at all: often none is
    which: Int[Array, "M k"]
    used: Float[Array, "M k"]  # 1, or 0 where a neuron is held by fewer
    normals: Float[Array, "M k coordinates"]  # orthonormal
    mixture: Float[Array, "M k k"]  # of the samples, in normals

    @classmethod
    def at(cls, flow: ParticleFlow, on: Bool[Array, "M P"]) -> "Held":
        lift, count, some = flow.anchors.coordinates.lift, min(MOST, on.shape[1]), on.any()

        def found(on):
            used, which = jax.lax.top_k(on.astype(jnp.float32), count)
            used = used.astype(jnp.float64)
            normals, mixture = _orthonormal(lift[which] * used[..., None])
            return which, used, normals, mixture

        def nothing(on):
            shape = (len(on), count)
            size = lift.shape[1], count
            which, used = jnp.zeros(shape, jnp.int32), jnp.zeros(shape)
            return which, used, *(jnp.zeros((*shape, n)) for n in size)

        return cls(some, *jax.lax.cond(some, found, nothing, on))

    def along(self, law: Law) -> Law:
        """What is left of a law, or of its motion, when h_mu = 0 is kept."""

        def project(w):
            return w - self._spread(self._read(w))

        return law._replace(w=jax.lax.cond(self.some, project, lambda w: w, law.w))

    def shares(self, w: Float[Array, "1 M coordinates"]) -> Float[Array, "M k"]:
        """How much of every sample is in w."""
        return jnp.sum(self._read(w)[..., None] * self.mixture, 1)

    def moves(self, h: Float[Array, "M k"]) -> Float[Array, "1 M coordinates"]:
        """The shortest change of w that changes preactivations by h."""
        return self._spread(jnp.sum(self.mixture * h[:, None, :], -1))

    def squares(self, flow: ParticleFlow) -> Float[Array, "#M P"]:
        """Squared lengths of what of the samples is in no normal."""
        lift = flow.anchors.coordinates.lift
        square = flow.anchors.squares

        def without():
            parts = jnp.einsum("mkc,pc->mkp", self.normals, lift)
            return square - jnp.sum(jnp.square(parts), 1)

        whole = jnp.broadcast_to(square, (len(self.used), len(square)))
        return jax.lax.cond(self.some, without, lambda: whole)

    def _read(self, w):
        return jnp.sum(self.normals * w[0][:, None, :], -1)

    def _spread(self, amount):
        return jnp.sum(self.normals * amount[..., None], 1)[None]


def _orthonormal(rows: Float[Array, "M k n"]):
    """Gram and Schmidt: orthonormal rows, and the mixture of the given ones that they are.

    Rows that are 0, or depend on those before, stay 0, where a QR decomposition fills them.
    """
    count, size = rows.shape[1:]
    shortest = DEPENDENT * jnp.linalg.norm(rows, axis=-1)

    def next_row(i, table):
        row = table[:, i]
        length = jnp.linalg.norm(row[:, :size], axis=-1)
        kept = length > shortest[:, i]
        row = row * jnp.where(kept, 1 / jnp.where(kept, length, 1.0), 0.0)[:, None]
        overlap = jnp.sum(table[..., :size] * row[:, None, :size], -1)
        overlap = jnp.where(jnp.arange(count) > i, overlap, 0.0)
        return (table - overlap[..., None] * row[:, None]).at[:, i].set(row)

    mixture = jnp.broadcast_to(jnp.eye(count), (len(rows), count, count))
    table = jnp.concatenate([rows, mixture], -1)
    table = jax.lax.fori_loop(0, count, next_row, table)
    return table[..., :size], table[..., size:]


def _pushes(flow: ParticleFlow, law: Law):
    """Preactivations, and the push of every sample per unit of slope, both ``(M, P)``."""
    h, _, f = flow.forward(law)
    return h[0], flow.richness * jnp.einsum("rmc,rpc->mp", law.z, flow.signal(f))


def caught(flow: ParticleFlow, held: Held, before: Law, after: Law) -> Bool[Array, "M P"]:
    """Kinks that a step crosses where both sides push towards them."""
    if not flow.activation.has_kink:
        return jnp.zeros((before.w.shape[1], len(flow.labels)), bool)
    was, now = (flow.anchors.coordinates.preactivations(law.w)[0] for law in (before, after))
    crossed = was * now < 0

    def pushed_back():
        h, push = _pushes(flow, after)
        felt = push * held.squares(flow)
        others = flow.anchors.coordinates.changes(held.along(flow(after)).w)[0]
        others = others + (flow.decay + flow.elastic) * h  # on the kink this is not felt
        others = others - flow.activation.derivative(h) * felt
        below, above = (
            others + flow.activation.derivative(jnp.asarray(s)) * felt for s in (-1.0, 1.0)
        )
        faint = FAINT * flow.decay * jnp.sqrt(jnp.mean(jnp.square(h)))
        return crossed & (below > faint) & (above < -faint)

    return jax.lax.cond(crossed.any(), pushed_back, lambda: crossed)


def let_go(
    flow: ParticleFlow, law: Law, on: Bool[Array, "M P"], fresh: Bool[Array, "M P"]
) -> tuple[Law, Bool[Array, "M P"]]:
    """Neurons that a kink can no longer hold are put next to it, on the side they are pushed to.

    Those with ``fresh`` kinks stay, or they would go to and fro between two that hold together.
    """

    def both(law, on):
        return _let_go(flow, law, on, fresh)

    return jax.lax.cond(on.any(), both, lambda *given: given, law, on)


def _let_go(flow: ParticleFlow, law: Law, on, fresh):
    held = Held.at(flow, on)
    h, push = _pushes(flow, law)
    neuron = jnp.arange(len(h))[:, None]
    slope = flow.activation.derivative(h)[neuron, held.which]
    push = push[neuron, held.which]
    needed = slope * push - held.shares(flow(law).w)  # what the kink must push
    below, above = (flow.activation.derivative(jnp.asarray(s)) * push for s in (-1.0, 1.0))
    strain = jnp.where(held.used > 0, jnp.maximum(above - needed, needed - below), 0.0)
    # One at a time: without it, the others may hold.
    worst = jnp.arange(strain.shape[1]) == jnp.argmax(strain, 1)[:, None]
    leaves = worst & (strain > 0) & ~jnp.any(fresh, 1, keepdims=True)
    side = jnp.where(needed < above, 1.0, -1.0) * leaves
    off = OFF * jnp.sqrt(jnp.mean(jnp.square(h)))
    on = on.at[neuron, held.which].min((held.used > 0) & ~leaves)
    return law._replace(w=law.w + held.moves(off * side)), on
