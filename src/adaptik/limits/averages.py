"""Averages over particles: readouts and kernels, in blocks of inputs so that memory is bounded."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import gaussian
from ..activations import Activation
from .particles import Particles
from .span import Points

BLOCK = 4_000_000  # particle-input pairs held at once


def block_size(w) -> int:
    """Inputs per block."""
    return max(1, BLOCK // (w.shape[0] * w.shape[1]))


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

    def one(point):
        a, r = point
        values = field(activation, w, a[None], r[None], smooth)[..., 0]
        return jnp.einsum("rmc,rm->rc", z, values) / w.shape[1]

    out = jax.lax.map(one, (inside, rho), batch_size=min(block_size(w), inside.shape[0]))
    return jnp.swapaxes(out, 0, 1).astype(jnp.float64)


@partial(jax.jit, static_argnums=(0, 5))
def _readout(activation, w, z, inside, rho, smooth):
    return readout(activation, w, z, inside, rho, smooth)


def mean_readout(activation: Activation, particles: Particles, points: Points) -> np.ndarray:
    """<z phi(h(x))> at points, shape ``(R, n, C)``."""
    dtype = particles.w.dtype
    with jax.enable_x64(True):
        inside, rho = (
            jnp.asarray(v, dtype) for v in (points.inside, points.rho * particles.shrink)
        )
        w, z = jnp.asarray(particles.w), jnp.asarray(particles.z)
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
    activation: Activation, particles: Particles, points: Points, training: Points
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernels between any inputs and inputs in the span, exact in the orthogonal parts.

    Returns
    -------
    feature, gradient, ntk
        Shapes ``(R, n, m)``, ``(R, n, C, m, C)``, ``(R, n, C, m, C)``.
    """
    dtype = particles.w.dtype
    results = []
    with jax.enable_x64(True):
        inside = jnp.asarray(points.inside, dtype)
        rho = jnp.asarray(points.rho * particles.shrink, dtype)
        anchor = jnp.asarray(training.inside, dtype)
        overlap = jnp.asarray(points.inside @ training.inside.T)
        rows = max(1, BLOCK // particles.w.shape[1])
        for w, z in zip(particles.w, particles.z, strict=True):
            w, z = jnp.asarray(w), jnp.asarray(z)
            second = _fields(activation, w, z, anchor, jnp.zeros(len(anchor), dtype), 0.0, False)
            blocks = []
            for s in range(0, len(inside), rows):
                cut = slice(s, s + rows)
                first = _fields(activation, w, z, inside[cut], rho[cut], 0.0, points.smooth)
                blocks.append([np.asarray(k) for k in _kernels(first, second, overlap[cut])])
            results.append([np.concatenate(parts) for parts in zip(*blocks, strict=True)])
    feature, gradient, ntk = (np.stack(parts) for parts in zip(*results, strict=True))
    return feature, gradient, ntk


def sampled_fields(
    activation: Activation, particles: Particles, points: Points, seed: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """h, phi and g of every replicate with the orthogonal part drawn once per particle.

    All kernels built from them are positive semi-definite; the draws add sampling error, which
    the replicates show.
    """
    rng = np.random.default_rng(seed)
    dtype = particles.w.dtype
    values, vectors = np.linalg.eigh(points.orthogonal @ points.orthogonal.T)
    keep = values > max(values.max(), 1e-30) * 1e-12
    factor = (vectors[:, keep] * np.sqrt(values[keep]) * particles.shrink).astype(dtype)
    fields = []
    with jax.enable_x64(True):
        inside = jnp.asarray(points.inside, dtype)
        rho = jnp.zeros(len(inside), dtype)
        for w, z in zip(particles.w, particles.z, strict=True):
            offset = jnp.zeros((), dtype)
            if points.smooth:
                xi = rng.standard_normal((w.shape[0], factor.shape[1])).astype(dtype)
                offset = jnp.asarray(xi @ factor.T)
            phi, g = _fields(activation, jnp.asarray(w), jnp.asarray(z), inside, rho, offset, False)
            h = np.asarray(jnp.asarray(w) @ inside.T + offset)
            fields.append((h, np.asarray(phi), np.asarray(g)))
    return fields
