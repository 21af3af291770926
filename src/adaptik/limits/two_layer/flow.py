"""The mean-field flow of particles (theory section 2) as a low-rank-stiff vector field."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...kernels.particles import block_size, field, over_blocks, readout
from ...mathematics import deflation
from ...mathematics.activations import Activation
from ...mathematics.losses import Loss
from ...mathematics.stepping import AbstractFlow, Linearised, LinearisedFlow
from .linearised import Coordinates, Law, Leading, Memory, Point, Whole, push_of

PARTICLE_WEIGHT = 0.02  # of single-particle errors against errors of the predictor


class Anchors(eqx.Module):
    """The active stage's training samples."""

    coordinates: Coordinates
    gram: Float[Array, "P P"]  # K_x
    labels: Float[Array, "P C"]


class ParticleFlow(LinearisedFlow):
    """dw = gamma sum Delta g x - delta (w - home), dz = gamma sum Delta phi(h).

    Both are less lambda times themselves; dz then is multiplied by the rate of the head.
    """

    activation: Activation = eqx.field(static=True)
    objective: Loss = eqx.field(static=True)
    anchors: Anchors
    offset: Float[Array, "R P C"]  # predictor minus <z phi>/gamma; constant
    richness: Float[Array, ""]
    decay: Float[Array, ""]
    elastic: Float[Array, ""]
    home: Float[Array, "#R #M #active"]  # weights that elastic pulls towards
    head_rate: Float[Array, ""] | None = None  # of z over w; None for 1
    deflated: bool = eqx.field(static=True, default=False)  # steps are exact for few directions

    def _cast(self, y: Law) -> Law:
        # diffrax promotes the state to the dtype of time; the arithmetic stays as asked.
        return jax.tree.map(lambda leaf: leaf.astype(self.anchors.coordinates.lift.dtype), y)

    def forward(self, y: Law):
        h = self.anchors.coordinates.preactivations(y.w)
        phi = self.activation.phi(h)
        mean = jnp.einsum("rmc,rmp->rpc", y.z, phi).astype(jnp.float64) / y.z.shape[1]
        return h, phi, self.offset + mean / self.richness

    def __call__(self, y: Law) -> Law:
        law = self._cast(y)
        h, phi, f = self.forward(law)
        move = self.move(law, phi, self.activation.derivative(h), self.signal(f))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), move, y)

    def signal(self, f):
        return self.objective.signal(f, self.anchors.labels) / f.shape[1]

    def move(self, y: Law, phi, slope, signal) -> Law:
        push = push_of(y.z, phi, slope, self.anchors.coordinates, signal, self.richness)
        decay, elastic = (c.astype(y.w.dtype) for c in (self.decay, self.elastic))
        pull = decay * y.w + elastic * (y.w - self.home)
        return Law(push.w - pull, self.paced(push.z - decay * y.z))

    def paced(self, dz):
        """How readouts move at their own rate."""
        return dz if self.head_rate is None else self.head_rate * dz

    def at_equal_rates(self) -> "ParticleFlow":
        """Of the same loss and burden, without a rate of the readouts' own."""
        return replace(self, head_rate=None)

    def loss(self, y: Law):
        return jnp.sum(self.losses(y))

    def losses(self, y: Law):
        f = self.forward(self._cast(y))[2]
        return self.objective.by_part(f, self.anchors.labels)

    def units(self):
        return self.objective.units(self.anchors.labels)

    def burden(self, y: Law):
        y = self._cast(y)
        squares = self.anchors.coordinates.squares(y.w) + jnp.sum(jnp.square(y.z), -1)
        pulled = self.anchors.coordinates.squares(y.w - self.home)
        weighed = jnp.mean(self.decay * squares + self.elastic * pulled)
        return 0.5 * self.objective.rate_factor * weighed / self.richness**2

    def weigh(self, y: Law, error: Law):
        # What the error does to the predictor on the samples. Errors of single particles average
        # out there (a kink of phi is crossed by a few particles at a time), so the Cauchy-Schwarz
        # bound (rms dz rms phi + rms z rms dh)/gamma enters with a small weight only.
        y, error = self._cast(y), self._cast(error)
        change = jax.jvp(lambda law: self.forward(law)[2], (y,), (error,))[1]
        moved = jnp.mean(jnp.square(self.anchors.coordinates.changes(error.w)), -1)
        turned = jnp.sum(jnp.square(error.z), -1)
        size = 1 + jnp.mean(jnp.sum(jnp.square(y.z), -1))
        bound = jnp.sqrt(jnp.mean(moved + turned).astype(jnp.float64) * size) / self.richness
        return jnp.sqrt(jnp.mean(jnp.square(change))) + PARTICLE_WEIGHT * bound

    def memory(self, y: Law) -> Memory:
        y = self._cast(y)
        h, phi, f = self.forward(y)
        above = (h > 0).astype(h.dtype) if self.activation.has_kink else None
        if not self.deflated:
            return Memory(above, None)
        slope, root = self.activation.derivative(h), self._root(f)
        # Features of particles to begin with: they are the same for samples in any order.
        found = jnp.swapaxes(phi[:, : self._directions], 1, 2)
        for _ in range(deflation.ITERATIONS):
            found = self._turned(y, phi, slope, root, deflation.orthonormal(found))[1]
        return Memory(above, found)

    @property
    def _directions(self):
        return min(deflation.DIRECTIONS, len(self.anchors.labels))

    def _root(self, f):
        """Of the loss's curvature, averaged over outputs: what scales the directions."""
        root = self.objective.curvature_root(f, self.anchors.labels)
        mean = jnp.mean(jnp.sum(jnp.square(root), -1), -1)
        return jnp.sqrt(mean)[..., None].astype(self.anchors.coordinates.lift.dtype)

    def _turned(self, y: Law, phi, slope, root, directions):
        """F and T of directions, and what the kernel makes of those."""
        inputs = self.anchors.coordinates.principal
        assert inputs is not None
        phi = _weighted(phi, self.head_rate)
        at = deflation.reduced(phi, slope, inputs, root * directions)
        return at, root * deflation.applied(phi, slope, y.z, inputs, at)

    def slope(self, above: Float[Array, "R M P"]):
        """Of phi, by the share of the time that particles are above a kink."""
        below, high = (self.activation.derivative(jnp.asarray(s, above.dtype)) for s in (-1.0, 1.0))
        return below + (high - below) * above

    def linearise(self, y: Law, memory: Memory | None = None) -> Linearised:
        """B H B~ with K the NTK of the particles, the curvature H and R as they are at y.

        The pull of elastic coupling and the motion of the features are left to N; where the flow is
        deflated, so is all but the leading part of K.
        """
        memory = self.memory(y) if memory is None else memory
        y = self._cast(y)
        h, phi, f = self.forward(y)
        above = memory.above
        slope = self.activation.derivative(h) if above is None else self.slope(above)
        coordinates, rate = self.anchors.coordinates, self.head_rate
        at = Point(y, h, phi, slope, above, coordinates, self.richness, rate)
        if memory.directions is None:
            stiff, rates = self._whole(at, f)
        else:
            stiff, rates = self._leading(at, self._root(f), memory.directions)
        velocity = self.move(y, phi, slope, self.signal(f))
        return Linearised(stiff, velocity, jnp.maximum(rates, 0.0), self.decay)

    def _whole(self, at: Point, f):
        phi, gram = _weighted(at.phi, at.head_rate), self.anchors.gram
        samples, outputs = f.shape[1:]

        def kernel(fields):
            phi, g = fields  # (M, P), (M, P*C)
            feature = (phi.T @ phi).astype(jnp.float64) / phi.shape[0]
            gradient = (g.T @ g).astype(jnp.float64) / g.shape[0]
            gradient = gradient.reshape(samples, outputs, samples, outputs)
            diagonal = jnp.eye(outputs)[:, None, :]
            return feature[:, None, :, None] * diagonal + gradient * gram[:, None, :, None]

        g = at.y.z[:, :, None, :] * at.slope[..., None]
        ntk = jax.lax.map(kernel, (phi, g.reshape(*g.shape[:2], -1)))
        root = self.objective.curvature_root(f, self.anchors.labels)
        stiff = jnp.einsum("rpac,rpaqb,rqbd->rpcqd", root, ntk, root) / samples
        stiff = stiff.reshape(len(f), samples * outputs, samples * outputs)
        # In the precision of the fields: double would resolve their noise, in 1.3 to 1.6 times as
        # much time.
        rates, modes = (part.astype(phi.dtype) for part in jnp.linalg.eigh(stiff.astype(phi.dtype)))
        modes = jnp.einsum("rpac,rpcn->rpan", root, modes.reshape(*f.shape, -1))
        return Whole(at, None, modes), rates

    def _leading(self, at: Point, root, directions):
        directions = deflation.orthonormal(directions)
        reduced, found = self._turned(at.y, at.phi, at.slope, root, directions)
        stiff = deflation.kernel(reduced, at.y.z) / len(self.anchors.labels)
        rates, modes = jnp.linalg.eigh(stiff)
        modes = modes.reshape(*modes.shape[:1], directions.shape[-1], -1, modes.shape[-1])
        return Leading(at, found, reduced, modes), rates


def _weighted(phi: Float[Array, "R M P"], head_rate) -> Float[Array, "R M P"]:
    """Features whose kernel is that of the readout at its own rate."""
    return phi if head_rate is None else jnp.sqrt(head_rate) * phi


class Tangent(NamedTuple):
    """Particles under weight decay and their first-order motion in gamma (lazy stages)."""

    base: Law
    move: Law


class TangentFlow(AbstractFlow):
    """Lazy flow with weight decay: the base decays, its linear response follows the loss."""

    inner: ParticleFlow  # at richness 1

    def _fields(self, y: Tangent):
        h = self.inner.anchors.coordinates.preactivations(y.base.w)
        return self.inner.activation.phi(h), self.inner.activation.derivative(h)

    def _predict(self, y: Tangent, phi, slope):
        dh = self.inner.anchors.coordinates.changes(y.move.w)
        change = jnp.einsum("rmc,rmp->rpc", y.move.z, phi)
        change = change + jnp.einsum("rmc,rmp->rpc", y.base.z, slope * dh)
        return change.astype(jnp.float64) / phi.shape[1]

    def _cast(self, y: Tangent) -> Tangent:
        return Tangent(self.inner._cast(y.base), self.inner._cast(y.move))

    def __call__(self, y: Tangent) -> Tangent:
        given, y = y, self._cast(y)
        phi, slope = self._fields(y)
        signal = self.inner.signal(self._predict(y, phi, slope))
        push = push_of(
            y.base.z, phi, slope, self.inner.anchors.coordinates, signal, self.inner.richness
        )
        decay = self.inner.decay.astype(y.base.w.dtype)
        shrink = jax.tree.map(lambda leaf: -decay * leaf, y)
        move = Tangent(shrink.base, jax.tree.map(jnp.add, push, shrink.move))
        move = Tangent(*(law._replace(z=self.inner.paced(law.z)) for law in move))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), move, given)

    def loss(self, y: Tangent):
        return jnp.sum(self.losses(y))

    def losses(self, y: Tangent):
        y = self._cast(y)
        f = self._predict(y, *self._fields(y))
        return self.inner.objective.by_part(f, self.inner.anchors.labels)

    def units(self):
        return self.inner.units()

    def weigh(self, y: Tangent, error: Tangent):
        return self.inner.weigh(y.base, error.base) + self.inner.weigh(y.base, error.move)


class Targets(eqx.Module):
    """Recorded inputs of one task and split."""

    inside: Float[Array, "n rank"]
    rho: Float[Array, " n"]
    base: Float[Array, "R n C"]  # predictor minus <z phi>/gamma
    smooth: bool = eqx.field(static=True)


class Recorder(eqx.Module):
    """Predictions at recorded inputs while a stage runs."""

    activation: Activation = eqx.field(static=True)
    targets: list[Targets]  # a list: names would make every task its own compilation
    resting: Float[Array, "R M rank"]  # weights at w = 0
    basis: Float[Array, "rank k"]  # what w adds to them
    richness: Float[Array, ""]
    decay: Float[Array, ""]
    elastic: Float[Array, ""]

    def fade(self, t):
        """What is left of weights that no sample sees, pulled to 0 and to where they started."""
        rate = self.decay + self.elastic
        left = (self.elastic + self.decay * jnp.exp(-rate * t)) / jnp.where(rate > 0, rate, 1.0)
        return jnp.where(rate > 0, left, 1.0)

    def weights(self, t, w):
        """All span coordinates at time t."""
        fade = self.fade(t).astype(w.dtype)
        return fade * self.resting + jnp.einsum("rmk,jk->rmj", w, self.basis)

    def at_targets(self, evaluate: Callable[..., Array]) -> list[Array]:
        """``evaluate(inside, rho, smooth)`` for all targets, in one for those that are alike."""
        found: dict[int, Array] = {}
        for smooth in (False, True):
            alike = {i: to for i, to in enumerate(self.targets) if to.smooth == smooth}
            if not alike:
                continue
            inside, rho = (
                jnp.concatenate([getattr(to, part) for to in alike.values()])
                for part in ("inside", "rho")
            )
            ends = np.cumsum([len(to.rho) for to in alike.values()])[:-1]
            found |= zip(alike, jnp.split(evaluate(inside, rho, smooth), ends, axis=1), strict=True)
        return [found[i] for i in range(len(self.targets))]

    def __call__(self, t, y: Law) -> list[Array]:
        y = jax.tree.map(lambda leaf: leaf.astype(self.resting.dtype), y)
        w = self.weights(t, y.w)
        fade = self.fade(t).astype(w.dtype)
        means = self.at_targets(
            lambda inside, rho, smooth: readout(self.activation, w, y.z, inside, fade * rho, smooth)
        )
        return [
            to.base + mean / self.richness for to, mean in zip(self.targets, means, strict=True)
        ]


class TangentRecorder(eqx.Module):
    """The same for a lazy stage with weight decay."""

    inner: Recorder

    def __call__(self, t, y: Tangent) -> list[Array]:
        y = jax.tree.map(lambda leaf: leaf.astype(self.inner.resting.dtype), y)
        w = self.inner.weights(t, y.base.w)
        base, move = (
            Law(w, y.base.z),
            Law(jnp.einsum("rmk,jk->rmj", y.move.w, self.inner.basis), y.move.z),
        )
        fade = self.inner.fade(t).astype(w.dtype)
        return self.inner.at_targets(
            lambda inside, rho, smooth: tangent_readout(
                self.inner.activation, base, move, inside, fade * rho, smooth
            )
        )


def tangent_readout(activation, base: Law, move: Law, inside, rho, smooth: bool):
    """<u_z phi + z phi' u_h> for every replicate, shape ``(R, n, C)``; float64."""

    def block(cut):
        a, r = cut
        phi = field(activation, base.w, a, r, smooth)
        slope = field(activation, base.w, a, r, smooth, derivative=True)
        dh = jnp.einsum("rmk,nk->rmn", move.w, a)
        total = jnp.einsum("rmc,rmn->nrc", move.z, phi)
        return (total + jnp.einsum("rmc,rmn->nrc", base.z, slope * dh)) / phi.shape[1]

    out = over_blocks(block, (inside, rho), block_size(base.w))
    return jnp.swapaxes(out, 0, 1).astype(jnp.float64)
