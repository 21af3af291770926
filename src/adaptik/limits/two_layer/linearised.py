"""How error signals move particles, and the stiff part of that at one point."""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...kernels.particles.law import Law
from ...mathematics.sliding import Met, shares
from ...mathematics.stepping import AbstractLinearisation, Node

AXES = 64  # leading span coordinates in which samples are compared where K_x is not held


class Coordinates(eqx.Module):
    """What ``Law.w`` means.

    Either coordinates in the span of what the active samples move, or, where those are hardly more
    than coordinates and nothing decays, dual coefficients: the weights are those at the stage's
    start plus ``w`` times the samples. Pushes need no matrix product then.
    """

    # A change of w moves the preactivations by w lift^T. Where directions train, every replicate
    # has a lift of its own: of what follows, changes, squares and pushed know that.
    lift: Float[Array, "... P k"]
    start: Float[Array, "R M P"] | None = None  # preactivations at w = 0, where they are not 0
    dual: bool = eqx.field(static=True, default=False)
    principal: Float[Array, "P q"] | None = None  # the samples along their leading axes

    def preactivations(self, w):
        moved = self.changes(w)
        return moved if self.start is None else self.start + moved

    def changes(self, w):
        """Of the preactivations."""
        rule = "rmk,pk->rmp" if self.lift.ndim == 2 else "rmk,rpk->rmp"
        return jnp.einsum(rule, w, self.lift)

    def squares(self, w) -> Float[Array, "R M"]:
        """Squared lengths of weights that differ by ``w``."""
        other = self.changes(w) if self.dual else w
        return jnp.sum(w * other, -1)

    def along(self, w) -> Float[Array, "R M q"]:
        """What a move of w is along the principal axes."""
        assert self.principal is not None
        if not self.dual:
            return w[..., : self.principal.shape[1]]
        return jnp.einsum("rmp,pq->rmq", w, self.principal)

    def of_axes(self, moved: Float[Array, "R M q"]):
        """The move of w that is ``moved`` along the principal axes."""
        assert self.principal is not None
        if not self.dual:
            rest = self.lift.shape[1] - moved.shape[-1]
            return jnp.pad(moved, [(0, 0), (0, 0), (0, rest)])
        scale = jnp.sum(jnp.square(self.principal), 0)
        return jnp.einsum("rmq,pq->rmp", moved, self.principal / scale)

    def among(self, at: Int[Array, "kinks n"]) -> Float[Array, "kinks kinks n"]:
        """K_x of the samples in each column, of span coordinates along the leading ones."""
        if self.dual:
            return entries(self.lift, at)
        inside = self.lift[:, :AXES][at.T]
        return jnp.moveaxis(inside @ jnp.swapaxes(inside, 1, 2), 0, -1)

    def columns(self, some: Int[np.ndarray, " s"]) -> Float[Array, "P s"]:
        """K_x of all samples with some."""
        if self.dual:
            return self.lift[:, some]
        return self.lift @ self.lift[some].T

    def pushed(self, strength: Float[Array, "R M P"]):
        """The move of w that adds ``strength`` times the samples to the weights."""
        if self.dual:
            return strength
        rule = "rmp,pk->rmk" if self.lift.ndim == 2 else "rmp,rpk->rmk"
        return jnp.einsum(rule, strength, self.lift)


def entries(gram: Float[Array, "P P"], at: Int[Array, "kinks n"]):
    """Those of the pairs in each column, shape ``(kinks, kinks, n)``."""
    return gram.ravel()[at[:, None] * len(gram) + at]


def push_of(z, phi, slope, coordinates: Coordinates, signal, richness, bias=None) -> Law:
    """How error signals move weights, readouts, and those of the constant feature ``bias``."""
    strength, readouts = strengths_of(z, phi, slope, signal, richness, bias)
    return Law(coordinates.pushed(strength), *readouts)


def strengths_of(z, phi, slope, signal, richness, bias=None):
    """How strongly samples are added to weights; how readouts move, those of ``bias`` too."""
    signal = (richness * signal).astype(z.dtype)
    strength = slope * jnp.einsum("rmc,rpc->rmp", z, signal)
    dz = jnp.einsum("rmp,rpc->rmc", phi, signal)
    return strength, (dz, None if bias is None else alike(bias * jnp.sum(signal, 1), z))


def alike(values: Float[Array, "R C"], z: Float[Array, "R M C"]) -> Float[Array, "R M C"]:
    """The same for every particle."""
    return jnp.broadcast_to(values[:, None], z.shape).astype(z.dtype)


class Memory(NamedTuple):
    """What a step hands on to the next."""

    above: Float[Array, "R M P"] | None  # shares of time above kinks, where phi has them
    directions: Float[Array, "R P modes"] | None = None  # leading ones of the kernel, if deflated
    h: Float[Array, "R M P"] | None = None  # preactivations there, if deflated


class Point(eqx.Module):
    """Particles and their fields at the start of a step."""

    y: Law
    h: Float[Array, "R M P"]
    phi: Float[Array, "R M P"]
    slope: Float[Array, "R M P"]
    above: Float[Array, "R M P"] | None
    coordinates: Coordinates
    richness: Float[Array, ""]
    head_rate: Float[Array, ""] | None  # None for 1
    bias: Float[Array, ""] | None  # constant feature of the readout, None without


class Slopes(NamedTuple):
    """What a node sees of phi' where particles cross kinks on their way, or slide along them."""

    there: Float[Array, "R M P"]  # at the node, without what jumped
    sudden: Float[Array, "R M P"]  # a jump at once, times what it pushes by
    way: tuple[Float[Array, "R M P"], Float[Array, "R M P"], Met]  # for the node after
    ending: Float[Array, "R M P"]  # shares above kinks at the end


class Linearisation(AbstractLinearisation):
    """B and B~ at one point, in eigenmodes of the stiff matrix."""

    at: Point

    def slopes(self, flow: Any, h, z, signal, part, length, before) -> Slopes:
        """At the node with preactivations h, readouts and error signals; phi has kinks."""
        start, dtype = self.at.above, h.dtype
        assert start is not None
        ones = jnp.ones((), dtype)
        jump = flow.slope(ones) - flow.slope(0 * ones)
        push = jnp.einsum("rmc,rpc->rmp", z, (jump * flow.richness * signal).astype(dtype))
        spent, met = shares(
            flow.anchors.squares.astype(dtype),
            partial(flow.anchors.among, dtype=dtype),
            self.at.h,
            (h - self.at.h) / part,
            start if before is None else before[0] + part / 2 * before[1],
            length.astype(dtype) * push,
            None if before is None else before[2],  # looked for once a step
        )
        # Above the kink for a constant part of the step, and for one that grows along it.
        sudden = 2 * spent.share - spent.ending - start
        gradual = 2 * (spent.ending - spent.share)
        slope = flow.slope(start + sudden + part * gradual)
        return Slopes(slope, sudden * push, (start + sudden, gradual, met), spent.ending)


class Whole(Linearisation):
    """Of all samples and outputs."""

    modes: Float[Array, "R P C modes"]  # R V

    def field(self, flow: Any, y: Law, change: Law, part, h, before):
        if self.at.above is None:
            node = super().field(flow, y, change, part, h, before)
            return node._replace(memory=Memory(None))
        there = jax.tree.map(jnp.add, y, change)
        preactivations, phi, f = flow.forward(there)
        signal = flow.signal(f)
        seen = self.slopes(flow, preactivations, there.z, signal, part, h, before)
        return Node(
            value=flow.move(there, phi, seen.there, signal),
            jump=Law(
                self.at.coordinates.pushed(seen.sudden),
                *jax.tree.map(jnp.zeros_like, there[1:]),
            ),
            way=seen.way,
            memory=Memory(seen.ending),
        )

    def spread(self, u):
        at = self.at
        signal = jnp.einsum("rpcn,rn->rpc", self.modes, u) / at.phi.shape[-1]
        push = push_of(at.y.z, at.phi, at.slope, at.coordinates, signal, at.richness, at.bias)
        return push if at.head_rate is None else push.with_rate(at.head_rate)

    def read(self, v: Law):
        at = self.at
        v = jax.tree.map(lambda leaf: leaf.astype(at.phi.dtype), v)
        change = jnp.einsum("rmc,rmp->rpc", v.z, at.phi)
        change = change + jnp.einsum("rmc,rmp->rpc", at.y.z, at.slope * at.coordinates.changes(v.w))
        change = change.astype(jnp.float64) / (at.phi.shape[1] * at.richness)
        change = change + v.constant(at.bias) / at.richness
        return jnp.einsum("rpcn,rpc->rn", self.modes, change)
