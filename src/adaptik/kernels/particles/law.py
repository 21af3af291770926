"""Particles and averages over them: readouts and kernels, in blocks of inputs to bound memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...mathematics import gaussian
from ...mathematics.activations import Activation
from ...mathematics.sampling import Sampling, readouts
from ...system.devices import on_device
from ...system.registry import register
from ...tasks.span import Points
from .blocks import stacked

BLOCK = 400_000  # particle-input pairs held at once: larger blocks are slower, too


@register
@dataclass(frozen=True, eq=False)
class Particles:
    """The joint law of first-layer weights and readouts at one time.

    Attributes
    ----------
    w
        First-layer weights in span coordinates, shape ``(replicates, particles, rank)``.
    z
        Readouts, shape ``(replicates, particles, outputs)``.
    shrink
        Standard deviation of the weights orthogonal to the span, which weight decay scales.
    initial_features, initial_head
        Whether w, and whether z, still follow their initial Gaussian law, independent of the
        other; kernels are then analytic.
    c
        With a bias of the readout: readouts of a constant feature, shaped like z and the same for
        all particles.
    head_scale
        Standard deviation of z as long as it follows its initial law.
    """

    w: Float[np.ndarray, "replicates particles rank"]
    z: Float[np.ndarray, "replicates particles outputs"]
    shrink: float = 1.0
    initial_features: bool = True
    initial_head: bool = True
    c: Float[np.ndarray, "replicates particles outputs"] | None = None
    head_scale: float = 1.0

    @classmethod
    def drawn(
        cls,
        w: Float[np.ndarray, "replicates particles rank"],
        z: Float[np.ndarray, "replicates particles outputs"],
        scale: float,
        c: Float[np.ndarray, "replicates particles outputs"] | None = None,
    ) -> "Particles":
        """At initialisation, from standard normal weights and readouts."""
        return cls(w if scale == 1 else scale * w, z, shrink=scale, c=c)

    def with_fresh_head(
        self, rng: np.random.Generator, outputs: int, sampling: Sampling
    ) -> "Particles":
        """New readouts, independent of the features and uncorrelated with the weights."""
        z = readouts(rng, np.asarray(self.w), outputs, sampling)
        c = None if self.c is None else np.zeros_like(z)
        return replace(self, z=z, c=c, initial_head=True, head_scale=1.0)

    def with_head_of(self, scale: float) -> "Particles":
        """A new readout with that standard deviation."""
        if scale == self.head_scale:
            return self
        return replace(self, z=scale / self.head_scale * self.z, head_scale=scale)

    def in_pairs(self) -> "Particles":
        """Every particle twice, as (w, z) and (w, -z).

        Under weight decay alone, which moves what was subtracted at the start, <z phi(h)> stays 0.
        """
        w, z = np.asarray(self.w), np.asarray(self.z)
        c = None if self.c is None else np.concatenate([self.c, self.c], 1)
        return replace(self, w=np.concatenate([w, w], 1), z=np.concatenate([z, -z], 1), c=c)


class Law(NamedTuple):
    """What moves in a stage: weights in the coordinates of its flow, readouts.

    With a bias of the readout, c are readouts of the constant feature b_r, which every particle
    has beside phi(h): equal for all, and 0 at a fresh head.
    """

    w: Float[Array, "R M k"]
    z: Float[Array, "R M C"]
    c: Float[Array, "R M C"] | None = None

    def with_rate(self, eta) -> "Law":
        """With readouts ``eta`` times as large, those of a motion."""
        return Law(self.w, *jax.tree.map(lambda readout: eta * readout, self[1:]))

    def readouts_squared(self) -> Float[Array, "R M"]:
        """Over outputs, a bias with them."""
        squares = jnp.sum(jnp.square(self.z), -1)
        return squares if self.c is None else squares + jnp.sum(jnp.square(self.c), -1)

    def constant(self, bias) -> Float[Array, "R 1 C"] | float:
        """What readouts c of the feature ``bias`` add to <z phi>, in double precision."""
        return 0.0 if self.c is None else bias * jnp.mean(self.c.astype(jnp.float64), 1)[:, None]


class Tangent(NamedTuple):
    """Particles under weight decay and their first-order motion in gamma (lazy stages)."""

    base: Law
    move: Law


def block_size(w) -> int:
    """Inputs per block."""
    return max(1, BLOCK // (w.shape[0] * w.shape[1]))


def row_blocks(count: int, size: int = 4096) -> Iterator[slice]:
    """Slices of at most ``size`` rows (one at least)."""
    size = max(1, size)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def field(activation: Activation, w, inside, rho, smooth: bool, derivative: bool = False):
    """phi (or phi') averaged over the orthogonal part, shape ``(R, M, inputs)``."""
    h = jnp.einsum("rmk,nk->rmn", w, inside)
    if derivative:
        return (
            gaussian.smoothed_derivative(activation, h, rho) if smooth else activation.derivative(h)
        )
    return gaussian.smoothed(activation, h, rho) if smooth else activation.phi(h)


def readout(
    activation: Activation,
    w: Float[Array, "R M rank"],
    z: Float[Array, "R M C"],
    inside: Float[Array, "n rank"],
    rho: Float[Array, " n"],
    smooth: bool,
) -> Float[Array, "R n C"]:
    """<z phi(h(x))> for every replicate, accumulated in blocks of inputs; float64."""

    def block(cut):
        a, r = cut
        values = field(activation, w, a, r, smooth)
        return jnp.einsum("rmc,rmn->nrc", z, values) / w.shape[1]

    out = _over_rows(block, (inside, rho), block_size(w))
    return jnp.swapaxes(out, 0, 1).astype(jnp.float64)


def tangent_readout(activation, base: Law, move: Law, inside, rho, smooth: bool):
    """<u_z phi + z phi' u_h> for every replicate, shape ``(R, n, C)``; float64."""

    def block(cut):
        a, r = cut
        phi = field(activation, base.w, a, r, smooth)
        slope = field(activation, base.w, a, r, smooth, derivative=True)
        dh = jnp.einsum("rmk,nk->rmn", move.w, a)
        total = jnp.einsum("rmc,rmn->nrc", move.z, phi)
        return (total + jnp.einsum("rmc,rmn->nrc", base.z, slope * dh)) / phi.shape[1]

    out = _over_rows(block, (inside, rho), block_size(base.w))
    return jnp.swapaxes(out, 0, 1).astype(jnp.float64)


def _over_rows(function, inputs: tuple[Array, ...], size: int):
    """``function`` of blocks of rows of the inputs, stacked."""

    def block(start, size):
        return function([jax.lax.dynamic_slice_in_dim(v, start, size) for v in inputs])

    return stacked(block, len(inputs[0]), size)


@partial(jax.jit, static_argnums=(0, 5))
def _readout(activation, w, z, inside, rho, smooth):
    return readout(activation, w, z, inside, rho, smooth)


def mean_readout(activation: Activation, particles: Particles, points: Points) -> np.ndarray:
    """<z phi(h(x))> at points, shape ``(R, n, C)``."""
    dtype = particles.w.dtype
    with jax.enable_x64(True):
        inside, rho = (on_device(v, dtype) for v in (points.inside, points.rho * particles.shrink))
        w, z = on_device(particles.w), on_device(particles.z)
        return np.asarray(_readout(activation, w, z, inside, rho, points.smooth))


@partial(jax.jit, static_argnums=(0, 6))
def _fields(activation, w, z, inside, rho, offset, smooth):
    h = jnp.einsum("mk,nk->mn", w, inside) + offset
    if smooth:
        phi = gaussian.smoothed(activation, h, rho)
        slope = gaussian.smoothed_derivative(activation, h, rho)
    else:
        phi, slope = activation.phi(h), activation.derivative(h)
    return phi, z[:, None, :] * slope[..., None]


@jax.jit
def _kernels(first, second, input_kernel):
    """Phi (n, m), and G and NTK (n, C, m, C), from fields of two sets of inputs."""
    (phi1, g1), (phi2, g2) = first, second
    count = phi1.shape[0]
    feature = (phi1.T @ phi2 / count).astype(jnp.float64)
    gradient = jnp.einsum("mnc,mpd->ncpd", g1, g2).astype(jnp.float64) / count
    identity = jnp.eye(g1.shape[-1])
    ntk = feature[:, None, :, None] * identity[:, None, :]
    ntk = ntk + gradient * input_kernel[:, None, :, None]
    return feature, gradient, ntk


def cross_kernels(
    activation: Activation,
    particles: Particles,
    points: Points,
    others: Points,
    moved: Points | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernels between inputs of which one kind is in the span, exact in the orthogonal parts.

    ``moved`` is where ``others`` move weights, if not along themselves.

    Returns
    -------
    feature, gradient, ntk
        Shapes ``(R, n, m)``, ``(R, n, C, m, C)``, ``(R, n, C, m, C)``.
    """
    dtype = particles.w.dtype
    results = []
    with jax.enable_x64(True):
        inside = on_device(points.inside, dtype)
        rho = on_device(points.rho * particles.shrink, dtype)
        inside2 = on_device(others.inside, dtype)
        rho2 = on_device(others.rho * particles.shrink, dtype)
        overlap = points.inside @ (moved or others).inside.T
        for w, z in zip(particles.w, particles.z, strict=True):
            w, z = on_device(w), on_device(z)
            second = _fields(activation, w, z, inside2, rho2, 0.0, others.smooth)
            blocks = []
            for cut in row_blocks(len(inside), BLOCK // particles.w.shape[1]):
                first = _fields(activation, w, z, inside[cut], rho[cut], 0.0, points.smooth)
                blocks.append([np.asarray(k) for k in _kernels(first, second, overlap[cut])])
            results.append([np.concatenate(parts) for parts in zip(*blocks, strict=True)])
    feature, gradient, ntk = (np.stack(parts) for parts in zip(*results, strict=True))
    return feature, gradient, ntk


def sampled_fields(
    activation: Activation,
    particles: Particles,
    points: Points,
    inputs: Float[np.ndarray, "n n"],
    seed: int,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """h, phi and g of every replicate with the orthogonal part drawn once per particle.

    ``inputs`` is K_x at the points. All kernels built from the fields are positive semi-definite;
    the draws add sampling error, which the replicates show.
    """
    rng = np.random.default_rng(seed)
    dtype = particles.w.dtype
    values, vectors = np.linalg.eigh(inputs - points.inside @ points.inside.T)
    keep = values > max(values.max(), 1e-30) * 1e-12
    factor = (vectors[:, keep] * np.sqrt(values[keep]) * particles.shrink).astype(dtype)
    fields = []
    with jax.enable_x64(True):
        inside = on_device(points.inside, dtype)
        rho = np.zeros(len(inside), dtype)
        for w, z in zip(particles.w, particles.z, strict=True):
            offset = np.zeros((), dtype)
            if points.smooth:
                xi = rng.standard_normal((w.shape[0], factor.shape[1])).astype(dtype)
                offset = xi @ factor.T
            phi, g = _fields(activation, w, z, inside, rho, offset, False)
            h = w @ np.asarray(inside).T + offset
            fields.append((h, np.asarray(phi), np.asarray(g)))
    return fields
