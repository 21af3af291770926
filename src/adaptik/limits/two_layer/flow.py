"""The mean-field flow of particles (theory section 2) as a low-rank-stiff vector field."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...kernels.particles.blocks import stacked, summed
from ...kernels.particles.flow import AbstractParticleFlow, left_after
from ...kernels.particles.law import Law, Tangent, readout, tangent_readout
from ...mathematics import deflation
from ...mathematics.activations import Activation
from ...mathematics.losses import Objective
from ...mathematics.stepping import Linearised
from .leading import Leading
from .linearised import Coordinates, Memory, Point, Whole, entries, push_of


class Anchors(eqx.Module):
    """The active stage's training samples."""

    coordinates: Coordinates
    labels: Float[Array, "P C"]
    squares: Float[Array, " P"]  # K_x(mu, mu)
    gram: Float[Array, "P P"] | None = None  # K_x, for what needs all of it

    def rows(self, start, size: int) -> "Anchors":
        """Those of a block; not K_x."""
        coordinates, labels, squares = (
            jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size), whole)
            for whole in (Coordinates(self.coordinates.lift), self.labels, self.squares)
        )
        return Anchors(coordinates, labels, squares)

    def among(self, at: Int[Array, "kinks n"], dtype) -> Float[Array, "kinks kinks n"]:
        """K_x of the samples in each column among themselves.

        Without all of it, what different samples have in common along the principal axes.
        """
        if self.gram is not None:
            return entries(self.gram.astype(dtype), at)
        own = jnp.eye(len(at), dtype=bool)[..., None]
        return jnp.where(own, self.squares.astype(dtype)[at], self.coordinates.among(at))


class ParticleFlow(AbstractParticleFlow):
    """dw = gamma sum Delta g x - delta (w - home), dz = gamma sum Delta phi(h).

    Both are less lambda times themselves; dz then is multiplied by the rate of the head.
    """

    activation: Activation = eqx.field(static=True)
    objective: Objective
    anchors: Anchors
    offset: Float[Array, "R P C"]  # predictor minus <z phi>/gamma; constant
    richness: Float[Array, ""]
    decay: Float[Array, ""]
    elastic: Float[Array, ""]
    home: Float[Array, "#R #M #active"]  # weights that elastic pulls towards
    head_rate: Float[Array, ""] | None = None  # of z over w; None for 1
    deflated: bool = eqx.field(static=True, default=False)  # steps are exact for few directions
    bias: Float[Array, ""] | None = None  # b_r, the constant feature of readouts; None without
    # Samples whose fields are held at once; None for all, as steps of the stiff part need it.
    block: int | None = eqx.field(static=True, default=None)

    @property
    def labels(self):
        return self.anchors.labels

    @property
    def dtype(self):
        return self.anchors.coordinates.lift.dtype

    def forward(self, y: Law):
        h = self.anchors.coordinates.preactivations(y.w)
        return h, *self.readout(h, y)

    def readout(self, h: Float[Array, "R M P"], y: Law):
        """Features and the predictor."""
        phi = self.activation.phi(h)
        mean = jnp.einsum("rmc,rmp->rpc", y.z, phi).astype(jnp.float64) / y.z.shape[1]
        return phi, self.offset + (mean + y.constant(self.bias)) / self.richness

    def predictor(self, law: Law):
        return self._over_samples(lambda part: part.forward(law)[2])

    def tangent(self, law: Law, move: Law):
        return self._over_samples(lambda part: part._tangent(law, move))

    def _tangent(self, law: Law, move: Law):
        h = self.anchors.coordinates.preactivations(law.w)
        phi, slope = self.activation.phi(h), self.activation.derivative(h)
        dh = self.anchors.coordinates.changes(move.w)
        change = jnp.einsum("rmc,rmp->rpc", move.z, phi)
        change = change + jnp.einsum("rmc,rmp->rpc", law.z, slope * dh)
        return change.astype(jnp.float64) / phi.shape[1] + move.constant(self.bias)

    def pushed(self, law: Law, move: Law | None = None) -> Law:
        if self.block is None:
            return self._pushed(law, move, 1.0)
        count = len(self.labels)

        def one(start, size, new):
            share = jnp.where(new, size / count, 0.0)[:, None]
            return self._rows(start, size)._pushed(law, move, share), ()

        return summed(one, jax.tree.map(jnp.zeros_like, law), count, self.block)[0]

    def _pushed(self, law: Law, move: Law | None, share) -> Law:
        """``share`` is that of a sample in the loss, in units of its share among these here."""
        h, phi, f = self.forward(law)
        if move is not None:
            f = self.offset + self._tangent(law, move)
        slope, coordinates = self.activation.derivative(h), self.anchors.coordinates
        signal = share * self.signal(f)
        return push_of(law.z, phi, slope, coordinates, signal, self.richness, self.bias)

    def _over_samples(self, function):
        """What ``function`` makes of this flow on blocks of its samples, ``(R, P, ...)``."""
        if self.block is None:
            return function(self)

        def one(start, size):
            return jnp.swapaxes(function(self._rows(start, size)), 0, 1)

        return jnp.swapaxes(stacked(one, len(self.labels), self.block), 0, 1)

    def _rows(self, start, size: int) -> "ParticleFlow":
        """This flow, had it the samples of a block alone."""
        offset = jax.lax.dynamic_slice_in_dim(self.offset, start, size, 1)
        anchors, objective = self.anchors.rows(start, size), self.objective.rows(start, size)
        return replace(self, anchors=anchors, objective=objective, offset=offset, block=None)

    def signal(self, f):
        return self.objective.signal(f, self.labels) / f.shape[1]

    def move(self, y: Law, phi, slope, signal) -> Law:
        coordinates = self.anchors.coordinates
        push = push_of(y.z, phi, slope, coordinates, signal, self.richness, self.bias)
        return self.pulled(y, push)

    def paced(self, move: Law):
        return move if self.head_rate is None else move.with_rate(self.head_rate)

    def at_equal_rates(self) -> "ParticleFlow":
        """Of the same loss and burden, without a rate of the readouts' own."""
        return replace(self, head_rate=None)

    def weigh(self, y: Law, error: Law):
        y, error = self.cast(y), self.cast(error)
        return self.weighed(y, error, jax.jvp(self.predictor, (y,), (error,))[1])

    def squares(self, w):
        return self.anchors.coordinates.squares(w)

    def felt(self, w):
        if self.block is None:
            return jnp.mean(jnp.square(self.anchors.coordinates.changes(w)), -1)
        lift = self.anchors.coordinates.lift
        return jnp.einsum("rmk,kl,rml->rm", w, lift.T @ lift / len(lift), w)

    def memory(self, y: Law) -> Memory:
        y = self.cast(y)
        h, phi, f = self.forward(y)
        above = (h > 0).astype(h.dtype) if self.activation.has_kink else None
        if not self.deflated:
            return Memory(above)
        slope, root = self.activation.derivative(h), self._root(f)
        # Features of particles to begin with: they are the same for samples in any order.
        found = jnp.swapaxes(phi[:, : self._directions], 1, 2)
        for _ in range(deflation.ITERATIONS):
            found = self._turned(y, phi, slope, root, deflation.orthonormal(found))[1]
        return Memory(above, found, h)

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
        bias = None if self.bias is None else _weighted(self.bias, self.head_rate)
        at = deflation.reduced(phi, slope, inputs, root * directions, bias)
        return at, root * deflation.applied(phi, slope, y.z, inputs, at, bias)

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
        y = self.cast(y)
        h = self.anchors.coordinates.preactivations(y.w) if memory.h is None else memory.h
        phi, f = self.readout(h, y)
        above = memory.above
        slope = self.activation.derivative(h) if above is None else self.slope(above)
        coordinates, rate = self.anchors.coordinates, self.head_rate
        at = Point(y, h, phi, slope, above, coordinates, self.richness, rate, self.bias)
        if memory.directions is None:
            stiff, rates = self._whole(at, f)
            velocity = self.move(y, phi, slope, self.signal(f))
        else:
            stiff, rates = self._leading(at, self._root(f), memory.directions)
            velocity = stiff.motion(self, y, phi, slope, self.signal(f))
        return Linearised(stiff, velocity, jnp.maximum(rates, 0.0), self.decay)

    def _whole(self, at: Point, f):
        phi, gram = _weighted(at.phi, at.head_rate), self.anchors.gram
        assert gram is not None
        samples, outputs = f.shape[1:]
        constant = 0.0 if self.bias is None else jnp.square(_weighted(self.bias, at.head_rate))

        def kernel(fields):
            phi, g = fields  # (M, P), (M, P*C)
            feature = (phi.T @ phi).astype(jnp.float64) / phi.shape[0] + constant
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
        return Whole(at, modes), rates

    def _leading(self, at: Point, root, directions):
        directions = deflation.orthonormal(directions)
        reduced, found = self._turned(at.y, at.phi, at.slope, root, directions)
        stiff = deflation.kernel(reduced, at.y.z) / len(self.anchors.labels)
        rates, modes = jnp.linalg.eigh(stiff)
        modes = modes.reshape(*modes.shape[:1], directions.shape[-1], -1, modes.shape[-1])
        return Leading(at, found, reduced, modes), rates


def _weighted(phi: Float[Array, "..."], head_rate) -> Float[Array, "..."]:
    """Features whose kernel is that of the readout at its own rate."""
    return phi if head_rate is None else jnp.sqrt(head_rate) * phi


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
    basis: Float[Array, "... rank k"]  # what w adds to them; replicates may have their own
    richness: Float[Array, ""]
    decay: Float[Array, ""]  # of the resting weights
    elastic: Float[Array, ""]
    bias: Float[Array, ""] | None = None  # b_r

    def fade(self, t):
        """What is left of weights that no sample sees, pulled to 0 and to where they started."""
        return left_after(t, self.decay, self.elastic)

    def weights(self, t, w):
        """All span coordinates at time t."""
        fade = self.fade(t).astype(w.dtype)
        rule = "rmk,jk->rmj" if self.basis.ndim == 2 else "rmk,rjk->rmj"
        return fade * self.resting + jnp.einsum(rule, w, self.basis)

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

    def __call__(self, t, y: Law | Tangent) -> list[Array]:
        y = jax.tree.map(lambda leaf: leaf.astype(self.resting.dtype), y)
        base, move = y if isinstance(y, Tangent) else (y, None)
        law, richness = Law(self.weights(t, base.w), base.z), 1.0 if move else self.richness
        constant = (base if move is None else move).constant(self.bias)
        if move is not None:
            move = Law(jnp.einsum("rmk,jk->rmj", move.w, self.basis), move.z)
        fade = self.fade(t).astype(law.w.dtype)

        def mean(inside, rho, smooth: bool) -> Array:
            points = inside, fade * rho, smooth
            if move is None:
                return readout(self.activation, law.w, law.z, *points)
            return tangent_readout(self.activation, law, move, *points)

        means = self.at_targets(mean)
        return [
            to.base + (mean + constant) / richness
            for to, mean in zip(self.targets, means, strict=True)
        ]
