"""What a source stage on isotropic inputs leaves behind (theory sections 3.2 and 3.3)."""

from typing import Literal

import jax.numpy as jnp

from .depth import deep_spikes

Finetune = Literal["readout", "all"]
Head = Literal["fresh", "kept"]


def strength(gamma, q, finetune: Finetune, head: Head, depth: int = 1):
    """The spike chi (theory section 3.2; theory section 5 for depth > 1)."""
    if depth > 1:
        spikes = deep_spikes(gamma, q, depth)
        if finetune == "readout":
            return spikes[-1]
        # A fresh head sees matrices whose few learned directions do not matter: G_l = 1.
        gradients = [1 + chi for chi in spikes[::-1]] if head == "kept" else [1.0] * depth
        inputs = [0.0, *spikes[:-1]]
        total = spikes[-1] + sum(G * chi for G, chi in zip(gradients, inputs, strict=True))
        return total / (1 + sum(gradients))
    a = jnp.sqrt(1 + gamma**2 * q)
    excess = gamma**2 * q / (1 + a)  # a - 1 without cancellation
    if finetune == "readout":
        return excess
    return excess / (1 + a) if head == "kept" else excess / 2


def prefactor(gamma, q, finetune: Finetune, head: Head):
    """What multiplies ``I + chi n n^T`` in the kernel that fine-tunes (theory section 3.2)."""
    if finetune == "readout":
        return jnp.ones_like(q)
    return 1 + jnp.sqrt(1 + gamma**2 * q) if head == "kept" else jnp.full_like(q, 2.0)


def learned(q, gamma, head: Head, finetune: Finetune):
    """A finite stand-in for q, and where a kept head carries an infinite norm over.

    q is infinite where the source interpolates noise; most losses have a limit for large q.
    """
    finite = jnp.minimum(q, jnp.finfo(q.dtype).max ** (1 / 4))
    lost = jnp.isinf(q) & ((gamma == 0) | (finetune == "all")) & (head == "kept")
    return finite, lost


def source(alignment, nu, noise_alignment, noise):
    """q = |beta_hat|^2/D and the effective alignment of a source stage run to its end."""
    signal = jnp.minimum(nu, 1.0)
    unknown = signal * (1 - signal)  # the teacher outside the samples' span
    fitted = interpolated_noise(nu, noise)
    spread = unknown + fitted  # q - m^2
    q = signal**2 + spread
    tilt = jnp.where(jnp.isinf(q), 1.0, safe_sqrt(spread) / jnp.sqrt(q))
    kept = jnp.where(jnp.isinf(q), 0.0, signal / jnp.sqrt(q))
    return q, kept * alignment + tilt * noise_alignment


def interpolated_noise(nu, noise):
    """What interpolating label noise adds to the loss."""
    finite = jnp.where(jnp.isinf(nu) | (nu == 1), 2.0, nu)
    added = noise * jnp.minimum(finite, 1.0) / jnp.abs(1 - finite)
    added = jnp.where(jnp.isinf(nu), 0.0, added)
    return jnp.where((nu == 1) & (noise > 0), jnp.inf, added)


def safe_sqrt(x):
    """A square root whose derivative at 0 is 0, not infinite."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
