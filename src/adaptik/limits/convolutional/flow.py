"""The flow of filters that look at every patch of an image (theory section 2.1).

Nothing is ever held for all particles and all patches at once: a sample's predictor needs its own
patches alone, so that predictor, error signal and push are one pass over blocks of samples.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...kernels.particles.blocks import held_at_once, stacked, summed
from ...kernels.particles.flow import AbstractParticleFlow, left_after
from ...kernels.particles.law import Law, Tangent, field
from ...mathematics.activations import Activation
from ...mathematics.losses import Objective
from ...mathematics.stepping import (
    AbstractLinearisation,
    Linearised,
    Progress,
)
from ...system.devices import on_device
from ...tasks.patches import Patches, padded
from ...tasks.span import Span


class Images(eqx.Module):
    """Images whose patches are made block by block, in coordinates of the span."""

    pixels: Float[Array, "n D+1"]
    rho: Float[Array, "n Q"]  # norms of the patches' parts outside the span
    index: Int[Array, "Q d"]
    basis: Float[Array, "d k"]  # over sqrt(d)
    smooth: bool = eqx.field(static=True)

    @classmethod
    def of(
        cls, patches: Patches, span: Span, X: np.ndarray, dtype, shrink: float = 1.0
    ) -> "Images":
        """``shrink`` scales weights outside the span, to which no training patch points."""
        rho = outside(patches, span, X)
        return cls(
            on_device(padded(X), dtype),
            on_device(shrink * rho, dtype),
            on_device(patches.index, np.int32),
            on_device(span.basis / np.sqrt(patches.dimension), dtype),
            smooth=bool(rho.any()),
        )

    @property
    def count(self) -> int:
        return len(self.pixels)

    def block(self, start, size: int) -> tuple[Float[Array, "b Q k"], Float[Array, "b Q"]]:
        """Patches of ``size`` images, inside the span, and norms of their parts outside."""
        pixels, rho = (
            jax.lax.dynamic_slice_in_dim(v, start, size) for v in (self.pixels, self.rho)
        )
        return pixels[:, self.index] @ self.basis, rho


def outside(patches: Patches, span: Span, X: np.ndarray) -> Float[np.ndarray, "n Q"]:
    """Norms of the parts of patches outside the span."""
    d = patches.dimension
    parts = [span.points(patches.of(X[cut]).reshape(-1, d)).rho for cut in patches.blocks(X)]
    return np.concatenate(parts).reshape(len(X), patches.count)


class Filters(eqx.Module):
    """What filters make of patches: phi, summed over the patches that a readout sees."""

    activation: Activation = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    @classmethod
    def of(cls, activation: Activation, patches: Patches) -> "Filters":
        return cls(activation, patches.heads, patches.scale)

    def fields(
        self, w: Float[Array, "R M k"], block, smooth: bool, derivative: bool = False
    ) -> Float[Array, "R M b Q"]:
        """phi (or phi') of every patch."""
        inside, rho = block
        shape = (*w.shape[:2], *rho.shape)
        flat = inside.reshape(-1, inside.shape[-1])
        return field(self.activation, w, flat, rho.ravel(), smooth, derivative).reshape(shape)

    def parted(self, fields: Float[Array, "R M b Q"]) -> Float[Array, "R M b H S"]:
        """With an axis of readouts and one of the patches that each sees."""
        *first, count = fields.shape
        return fields.reshape(*first, self.heads, count // self.heads)

    def pooled(self, fields: Float[Array, "R M b Q"]) -> Float[Array, "R M b H"]:
        return self.scale * jnp.sum(self.parted(fields), -1)

    def each(self, z: Float[Array, "R M HC"]) -> Float[Array, "R M H C"]:
        """Readouts with an axis of their own, which states store with that of outputs."""
        return z.reshape(*z.shape[:2], self.heads, -1)

    def readout(self, law: Law, block, smooth: bool) -> Float[Array, "b R C"]:
        """<z phi> of a block of images; float64."""
        pooled = self.pooled(self.fields(law.w, block, smooth))
        return self.averaged(self.each(law.z), pooled)

    def averaged(self, z, pooled) -> Float[Array, "b R C"]:
        mean = jnp.einsum("rmhc,rmbh->brc", z, pooled).astype(jnp.float64)
        return mean / z.shape[1]

    def tangent(self, base: Law, move: Law, block, smooth: bool) -> Float[Array, "b R C"]:
        """<u_z phi + z phi' u_h>: how the readout moves to first order."""
        inside, _ = block
        slope = self.fields(base.w, block, smooth, derivative=True)
        dh = jnp.einsum("rmk,bqk->rmbq", move.w, inside)
        turned = self.readout(Law(base.w, move.z), block, smooth)
        return turned + self.averaged(self.each(base.z), self.pooled(slope * dh))


def over_images(function, w: Array, images: Images):
    """``function(start, size)`` of all blocks, stacked over images."""
    return stacked(function, images.count, held_at_once(w, len(images.index)))


def predictions(filters: Filters, law: Law, images: Images) -> Float[Array, "R n C"]:
    """<z phi> of all images."""
    out = over_images(
        lambda start, size: filters.readout(law, images.block(start, size), images.smooth),
        law.w,
        images,
    )
    return jnp.swapaxes(out, 0, 1)


def tangents(filters: Filters, base: Law, move: Law, images: Images) -> Float[Array, "R n C"]:
    """<u_z phi + z phi' u_h> of all images."""
    out = over_images(
        lambda start, size: filters.tangent(base, move, images.block(start, size), images.smooth),
        base.w,
        images,
    )
    return jnp.swapaxes(out, 0, 1)


class Samples(eqx.Module):
    """The active stage's training images, all of whose patches lie in the span."""

    images: Images
    labels: Float[Array, "P C"]
    covariance: Float[Array, "k k"]  # of their patches


class ConvolutionalFlow(AbstractParticleFlow):
    """dw = gamma sum_mu Delta_mu z <phi'(h_q) x_q> - delta (w - home), dz = gamma sum_mu Delta phi.

    Averages over patches q are those of the pooling; both are less lambda times themselves.
    """

    filters: Filters
    objective: Objective
    samples: Samples
    offset: Float[Array, "R P C"]  # predictor minus <z phi>/gamma; constant
    richness: Float[Array, ""]
    decay: Float[Array, ""]
    elastic: Float[Array, ""]
    home: Float[Array, "#R #M #k"]  # weights that elastic pulls towards

    @property
    def labels(self):
        return self.samples.labels

    @property
    def dtype(self):
        return self.samples.images.basis.dtype

    def predictor(self, law: Law):
        return self.offset + predictions(self.filters, law, self.samples.images) / self.richness

    def tangent(self, law: Law, move: Law):
        return tangents(self.filters, law, move, self.samples.images)

    def pushed(self, law: Law, move: Law | None = None) -> Law:
        return self._pushed(law, move)[0]

    def _pushed(self, law: Law, move: Law | None = None) -> tuple[Law, Float[Array, "R P C"]]:
        """The push, and the predictor of its error signals, in one pass."""
        images, filters = self.samples.images, self.filters
        count, size = images.count, held_at_once(law.w, len(images.index))

        def one(start, size, new):
            block = images.block(start, size)
            y, offset = (
                jax.lax.dynamic_slice_in_dim(v, start, size, axis)
                for v, axis in ((self.labels, 0), (self.offset, 1))
            )
            if move is None:
                mean = filters.readout(law, block, False)
            else:
                mean = filters.tangent(law, move, block, False)
            f = offset + jnp.swapaxes(mean, 0, 1) / self.richness
            signal = self.objective.rows(start, size).signal(f, y) / count
            part = self._push(law, block, jnp.where(new[:, None], signal, 0.0))
            return part, jnp.swapaxes(f, 0, 1)

        push, f = summed(one, jax.tree.map(jnp.zeros_like, law), count, size)
        return push, jnp.swapaxes(f, 0, 1)

    def _push(self, law: Law, block, signal: Float[Array, "R b C"]) -> Law:
        inside, _ = block
        filters, signal = self.filters, (self.richness * signal).astype(law.w.dtype)
        pooled = filters.pooled(filters.fields(law.w, block, False))
        slope = filters.parted(filters.fields(law.w, block, False, derivative=True))
        strength = filters.scale * jnp.einsum("rmhc,rbc->rmbh", filters.each(law.z), signal)
        pushes = (slope * strength[..., None]).reshape(*law.w.shape[:2], -1)
        dw = jnp.einsum("rmn,nk->rmk", pushes, inside.reshape(-1, inside.shape[-1]))
        dz = jnp.einsum("rmbh,rbc->rmhc", pooled, signal)
        return Law(dw, dz.reshape(law.z.shape))

    def squares(self, w):
        return jnp.sum(jnp.square(w), -1)

    def felt(self, w):
        return jnp.einsum("rmk,kl,rml->rm", w, self.samples.covariance, w)

    def progress(self, y: Law) -> Progress:
        if len(self.units()) > 1:  # each output's rate is its own
            return super().progress(y)
        # Along a gradient flow the speed says how fast the loss falls: no second pass.
        law, factor = self.cast(y), self.objective.rate_factor / self.richness**2
        push, f = self._pushed(law)
        move = self.pulled(law, push)
        squares = jnp.sum(jnp.square(move.w), -1) + jnp.sum(jnp.square(move.z), -1)
        losses, units = self.objective.by_part(f, self.labels), self.units()
        loss, rate = jnp.sum(losses), factor * jnp.mean(squares.astype(jnp.float64))
        return Progress(loss, rate, jnp.max(losses / units), rate / jnp.sum(units))

    def linearise(self, y: Law, memory: None = None) -> Linearised:
        """B H B~ with K the NTK of the particles, the curvature H and R as they are at y."""
        y = self.cast(y)
        count = self.samples.images.count
        pooled, gradients, ntk = jax.lax.map(self._replicate, y)
        z = y.z.reshape(len(y.z), pooled.shape[-1], -1)
        f = jnp.einsum("rnc,rpn->rpc", z, pooled).astype(jnp.float64)
        f = self.offset + f / (y.z.shape[1] * self.richness)
        signal = jnp.asarray(self.objective.signal(f, self.samples.labels)) / count
        ntk = ntk.reshape(len(f), *f.shape[1:], *f.shape[1:])
        root = self.objective.curvature_root(f, self.samples.labels)
        stiff = jnp.einsum("rpac,rpaqb,rqbd->rpcqd", root, ntk, root) / count
        size = count * f.shape[-1]
        stiff = stiff.reshape(len(f), size, size)
        rates, modes = (
            part.astype(stiff.dtype) for part in jnp.linalg.eigh(stiff.astype(y.w.dtype))
        )
        modes = jnp.einsum("rpac,rpcn->rpan", root, modes.reshape(*f.shape, -1))
        stiff = Linearisation(y.z, pooled, gradients, modes, self.richness)
        velocity = self.pulled(y, stiff.pushed(signal))
        return Linearised(stiff, velocity, jnp.maximum(rates, 0.0), self.decay)

    def _replicate(
        self, law: Law
    ) -> tuple[Float[Array, "P MH"], Float[Array, "PC Mk"], Float[Array, "PC PC"]]:
        """Features and gradients of one replicate's law at all samples, and its NTK."""
        single, images = Law(law.w[None], law.z[None]), self.samples.images
        pooled, gradients = over_images(
            lambda start, size: features_and_gradients(self.filters, single, images, start, size),
            single.w,
            images,
        )
        outputs = gradients.shape[2]
        pooled = pooled.reshape(images.count, -1)
        gradients = gradients.reshape(images.count * outputs, -1)
        feature, weights = ((a @ a.T).astype(jnp.float64) / len(law.w) for a in (pooled, gradients))
        return pooled, gradients, weights + jnp.kron(feature, jnp.eye(outputs))


def features_and_gradients(
    filters: Filters, law: Law, images: Images, start, size: int, bias: bool = False
) -> tuple[Float[Array, "b R M H"], Float[Array, "b R C M k"]]:
    """Pooled features of a block of images, and the readout's gradient by w before the average.

    With ``bias`` the gradient has a last entry, by a constant that all patches add to h.
    """
    block = inside, _ = images.block(start, size)
    pooled = filters.pooled(filters.fields(law.w, block, images.smooth))
    slope = filters.parted(filters.fields(law.w, block, images.smooth, derivative=True))
    z = filters.each(law.z)
    if bias:
        inside = jnp.concatenate([inside, jnp.ones_like(inside[..., :1])], -1)
    if filters.heads == 1:
        sums = jnp.einsum("rmbs,bsk->brmk", slope[:, :, :, 0], inside)
        gradients = jnp.einsum("rmc,brmk->brcmk", filters.scale * z[:, :, 0], sums)
    else:
        pushes = filters.scale * jnp.einsum("rmbh,rmhc->brcmh", slope[..., 0], z)
        gradients = jnp.einsum("brcmh,bhk->brcmk", pushes, inside)
    return jnp.moveaxis(pooled, 2, 0), gradients


class Linearisation(AbstractLinearisation):
    """B and B~ at one point, in the eigenmodes of the stiff matrix.

    Features and gradients are matrices: a reading or a push is one product with each.
    """

    z: Float[Array, "R M HC"]
    pooled: Float[Array, "R P MH"]
    gradients: Float[Array, "R PC Mk"]
    modes: Float[Array, "R P C modes"]  # R V
    richness: Float[Array, ""]

    def pushed(self, signal: Float[Array, "R P C"]) -> Law:
        signal, (members, particles, _) = self._low(self.richness * signal), self.z.shape
        flat = signal.reshape(members, -1)
        dw = jnp.einsum("rp,rpn->rn", flat, self.gradients)
        dz = jnp.einsum("rpc,rpn->rnc", signal, self.pooled)
        return Law(dw.reshape(members, particles, -1), dz.reshape(self.z.shape))

    def _low(self, v):
        return jax.tree.map(lambda leaf: leaf.astype(self.z.dtype), v)

    def spread(self, u):
        return self.pushed(jnp.einsum("rpcn,rn->rpc", self.modes, u) / self.pooled.shape[1])

    def changed(self, v: Law) -> Float[Array, "R P C"]:
        """How the predictor changes, to first order."""
        v, (members, particles, _) = self._low(v), self.z.shape
        z = v.z.reshape(members, self.pooled.shape[-1], -1)
        change = jnp.einsum("rnc,rpn->rpc", z, self.pooled)
        moved = jnp.einsum("rn,rpn->rp", v.w.reshape(members, -1), self.gradients)
        change = (change + moved.reshape(change.shape)).astype(jnp.float64)
        return change / (particles * self.richness)

    def read(self, v: Law):
        return jnp.einsum("rpcn,rpc->rn", self.modes, self.changed(v))

    def weigh(self, flow: ConvolutionalFlow, y: Law, error: Law):
        return flow.weighed(y, error, self.changed(error))


class Recorder(eqx.Module):
    """Predictions at recorded images while a stage runs: f - <z phi>/gamma, and <z phi>/gamma."""

    filters: Filters
    images: list[Images]  # a list: names would make every task its own compilation
    bases: list[Float[Array, "R n C"]]
    richness: Float[Array, ""]
    decay: Float[Array, ""]
    elastic: Float[Array, ""]

    def fade(self, t):
        """What is left of weights that no patch sees, pulled to 0 and to where they started."""
        return left_after(t, self.decay, self.elastic)

    def __call__(self, t, y: Law | Tangent) -> list[Array]:
        fade, dtype = self.fade(t), self.images[0].basis.dtype
        y = jax.tree.map(lambda leaf: leaf.astype(dtype), y)
        found = []
        for images, base in zip(self.images, self.bases, strict=True):
            seen = eqx.tree_at(lambda i: i.rho, images, images.rho * fade.astype(dtype))
            if isinstance(y, Tangent):
                found.append(base + tangents(self.filters, y.base, y.move, seen))
            else:
                found.append(base + predictions(self.filters, y, seen) / self.richness)
        return found
