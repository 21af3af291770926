"""Isotropic inputs, ridgeless lazy target stage, large D (theory sections 3.2 and 3.3).

Everything is in the units of the proportional limit: ``nu = P/D`` samples per dimension, teachers
with ``|beta|^2 = D``, ``alignment = beta_s.beta_t/D``, label noise as a variance relative to the
unit signal, and losses without the label noise of the test point. ``richness`` is gamma_1: a
network ``f = w.phi/(gamma N)`` with outputs of unit variance has ``gamma_1 = gamma sqrt(D)``.

All functions take numbers or arrays that broadcast, and differentiate under ``jax.grad``.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .checked import closed_form
from .source_stage import (
    Finetune,
    Head,
    interpolated_noise,
    learned,
    safe_sqrt,
    source,
    strength,
)


@closed_form
def spike(
    richness: ArrayLike,
    q: ArrayLike = 1.0,
    finetune: Finetune = "readout",
    head: Head = "fresh",
    depth: int = 1,
) -> Float[Array, "..."]:
    """Strength of the spike in the kernel ``I + chi n n^T`` that fine-tunes (theory section 3.2).

    Parameters
    ----------
    richness
        gamma_1 >= 0.
    q
        ``|beta_hat|^2/D`` of the learned source predictor.
    finetune
        ``"readout"``: features frozen, chi = a - 1 with a = sqrt(1 + gamma_1^2 q). ``"all"``: all
        weights move lazily; (a - 1)/(a + 1) with a kept head, (a - 1)/2 with a fresh one.
    head
        Matters for ``"all"`` only.
    depth
        Hidden layers L, up to 8, after a source stage with abundant data: chi_L for the readout
        (see :func:`layer_spikes`), and for ``"all"`` the NTK's Phi_L + sum_l G_l Phi_{l-1}.

    Examples
    --------
    >>> float(spike(0.75)), float(spike(0.75, finetune="all", head="fresh"))
    (0.25, 0.125)
    >>> round(float(spike(1.0, depth=2)), 4)
    0.8072
    """
    return strength(jnp.asarray(richness), jnp.asarray(q), finetune, head, depth)


@closed_form
def effective_alignment(
    alignment: ArrayLike,
    nu_source: ArrayLike = np.inf,
    noise_alignment: ArrayLike = 0.0,
    source_noise: ArrayLike = 0.0,
) -> Float[Array, "..."]:
    """Overlap of the target teacher with the direction that the source stage learned.

    Parameters
    ----------
    alignment
        ``beta_s.beta_t/D``.
    nu_source
        Source samples per dimension; infinity for abundant data.
    noise_alignment
        Overlap of the target teacher with the part of the learned direction that comes from finite
        data and label noise; 0 for an independent target.
    source_noise
        Variance of the source's label noise.

    Examples
    --------
    >>> float(effective_alignment(0.8, nu_source=0.25))
    0.4
    """
    return source(*map(jnp.asarray, (alignment, nu_source, noise_alignment, source_noise)))[1]


@closed_form
def transfer_loss(
    alignment: ArrayLike,
    nu_target: ArrayLike,
    richness: ArrayLike,
    *,
    nu_source: ArrayLike = np.inf,
    noise_alignment: ArrayLike = 0.0,
    source_noise: ArrayLike = 0.0,
    target_noise: ArrayLike = 0.0,
    head: Head = "fresh",
    finetune: Finetune = "readout",
    depth: int = 1,
) -> Float[Array, "..."]:
    """Target test loss after pretraining, in excess of the label noise (theory section 3.3).

    Parameters
    ----------
    alignment, nu_source, noise_alignment, source_noise
        As in :func:`effective_alignment`.
    nu_target
        Target samples per dimension. Above 1 pretraining has no effect on an interpolator; at 1
        the loss is infinite with target noise.
    richness
        gamma_1 of the source stage.
    target_noise
        Variance of the target's label noise.
    head, finetune, depth
        As in :func:`spike`; a kept head starts from the source's predictor. Above depth 1 the
        source's data must be abundant (``nu_source`` infinite).

    Returns
    -------
    array
        1 is the loss of a predictor at 0. Infinite also where the source interpolates noise at
        ``nu_source = 1`` and a kept head carries its infinite norm over (``finetune="all"``, or
        ``richness = 0``).

    Examples
    --------
    >>> round(float(transfer_loss(1.0, 0.5, 3.0**0.5)), 4)  # a perfectly aligned, rich source
    0.2222
    >>> round(float(transfer_loss(1.0, 0.5, 0.0)), 4)  # lazy features: as without pretraining
    0.5
    """
    align, nu2, gamma, nu1, noise_align, s1, s2 = map(
        jnp.asarray,
        (alignment, nu_target, richness, nu_source, noise_alignment, source_noise, target_noise),
    )
    q, effective = source(align, nu1, noise_align, s1)
    loss = fine_tuned(q, effective, nu2, gamma, s2, head, finetune, depth)
    return loss if depth == 1 else jnp.where(jnp.isinf(nu1), loss, jnp.nan)


@closed_form
def over_rich_loss(
    nu_source: ArrayLike, alignment: ArrayLike, noise_alignment: ArrayLike = 0.0
) -> Float[Array, "..."]:
    """Target loss when only the spike is left: richness -> infinity before anything else.

    This is the paper's Result 4, for a noise-free source, ``nu_source`` and a kernel from which a
    ridge, a finite training time or weight decay has removed the identity part. A ridgeless
    interpolator uses the identity however small it is; its limit is that of :func:`transfer_loss`.

    Examples
    --------
    >>> round(float(over_rich_loss(0.25, 0.8)), 4)
    0.84
    """
    nu = jnp.minimum(jnp.asarray(nu_source), 1.0)
    learned = jnp.sqrt(nu) * jnp.asarray(alignment)
    return 1 - (learned + safe_sqrt(1 - nu) * jnp.asarray(noise_alignment)) ** 2


@closed_form
def baseline_loss(nu_target: ArrayLike, target_noise: ArrayLike = 0.0) -> Float[Array, "..."]:
    """Target test loss without pretraining, in excess of the label noise.

    Examples
    --------
    >>> round(float(baseline_loss(0.3)), 4)
    0.7
    """
    return _baseline(jnp.asarray(nu_target), jnp.asarray(target_noise))


@closed_form
def transfer_gain(
    alignment: ArrayLike,
    nu_target: ArrayLike,
    richness: ArrayLike,
    *,
    nu_source: ArrayLike = np.inf,
    noise_alignment: ArrayLike = 0.0,
    source_noise: ArrayLike = 0.0,
    target_noise: ArrayLike = 0.0,
    head: Head = "fresh",
    finetune: Finetune = "readout",
    depth: int = 1,
) -> Float[Array, "..."]:
    """1 - loss with pretraining/loss without; negative where pretraining hurts.

    Parameters are those of :func:`transfer_loss`. 0 where the baseline is 0 or infinite, that is
    from ``nu_target = 1`` on.

    Examples
    --------
    >>> round(float(transfer_gain(1.0, 0.5, 3.0**0.5)), 4)
    0.5556
    """
    loss = transfer_loss(
        alignment,
        nu_target,
        richness,
        nu_source=nu_source,
        noise_alignment=noise_alignment,
        source_noise=source_noise,
        target_noise=target_noise,
        head=head,
        finetune=finetune,
        depth=depth,
    )
    baseline = _baseline(jnp.asarray(nu_target), jnp.asarray(target_noise))
    informative = (baseline > 0) & jnp.isfinite(baseline)
    return jnp.where(informative, 1 - loss / jnp.where(informative, baseline, 1.0), 0.0)


@closed_form
def negative_transfer_boundary(
    nu_target: ArrayLike,
    richness: ArrayLike,
    *,
    nu_source: ArrayLike = np.inf,
    source_noise: ArrayLike = 0.0,
    finetune: Finetune = "readout",
    depth: int = 1,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Effective alignments (lower, upper) between which transfer with a kept head hurts.

    With a fresh head a lazy target stage on isotropic inputs never hurts. NaN from
    ``nu_target = 1`` on, where pretraining has no effect. The lower bound is -infinity at
    richness 0; bounds outside [-1, 1] are never reached.

    Examples
    --------
    >>> lower, upper = negative_transfer_boundary(0.5, 0.75)
    >>> float(lower), round(float(upper), 4)
    (-8.0, 0.4706)
    """
    nu2, gamma, nu1, s1 = map(jnp.asarray, (nu_target, richness, nu_source, source_noise))
    q = source(jnp.zeros(()), nu1, jnp.zeros(()), s1)[0]
    finite, lost = learned(q, gamma, "kept", finetune)
    pull = strength(gamma, finite, finetune, "kept", depth) * nu2
    root = jnp.where(lost, jnp.inf, jnp.sqrt(finite))
    lower = -root / jnp.where(pull > 0, pull, 0.0)
    matters = (nu2 < 1) & (jnp.isinf(nu1) if depth > 1 else True)
    nan = jnp.nan
    return jnp.where(matters, lower, nan), jnp.where(matters, root / (2 + pull), nan)


class KernelParts(NamedTuple):
    """Coefficients of the kernel's spike in signal and noise directions.

    Attributes
    ----------
    signal
        Of ``beta_s beta_s^T/D``.
    crosstalk
        Of ``(beta_s g^T + g beta_s^T)/D``.
    noise
        Of ``g g^T/D``, where g with ``|g|^2 = D`` is the part of the learned direction that comes
        from finite data and label noise.

    Examples
    --------
    >>> parts = kernel_parts(4.0)  # abundant source data without noise: signal alone
    >>> float(parts.signal) > 3, float(parts.crosstalk), float(parts.noise)
    (True, 0.0, 0.0)
    """

    signal: Float[Array, "..."]
    crosstalk: Float[Array, "..."]
    noise: Float[Array, "..."]


@closed_form
def kernel_parts(
    richness: ArrayLike,
    *,
    nu_source: ArrayLike = np.inf,
    source_noise: ArrayLike = 0.0,
    head: Head = "fresh",
    finetune: Finetune = "readout",
) -> KernelParts:
    """Signal spike, crosstalk and noise spike of the kernel that fine-tunes (theory section 3.3).

    The kernel is ``x.(I + chi n n^T).x'/D`` up to its prefactor, and its spike
    ``chi n n^T`` has the parts chi m^2/q, chi m sigma/q and chi sigma^2/q with m the learned
    fraction of the teacher and sigma^2 = q - m^2.

    Parameters
    ----------
    richness, nu_source, source_noise, head, finetune
        As in :func:`transfer_loss`.

    Returns
    -------
    KernelParts
        At ``nu_source = 1`` with noise, q is infinite: signal 0, crosstalk the limit, and noise
        infinite (``finetune="all"`` with a kept head: 1).

    Examples
    --------
    >>> [float(part) for part in kernel_parts(0.75)]  # abundant data: all of it is signal
    [0.25, 0.0, 0.0]
    """
    gamma, nu, s = map(jnp.asarray, (richness, nu_source, source_noise))
    q, _ = source(jnp.zeros(()), nu, jnp.zeros(()), s)
    finite, _ = learned(q, gamma, head, finetune)
    chi = strength(gamma, finite, finetune, head)
    m = jnp.minimum(nu, 1.0)
    sigma = safe_sqrt(finite - m**2)
    bounded = finetune == "all" and head == "kept"
    noise = jnp.where(jnp.isinf(q) & (gamma > 0) & (not bounded), jnp.inf, chi * sigma**2 / finite)
    return KernelParts(chi * m**2 / finite, chi * m * sigma / finite, noise)


def fine_tuned(q, effective, nu2, gamma, s2, head: Head, finetune: Finetune, depth: int = 1):
    """Target loss after a source stage that left a predictor of norm q with this overlap."""
    finite, lost = learned(q, gamma, head, finetune)
    chi = strength(gamma, finite, finetune, head, depth)
    start = jnp.sqrt(finite) if head == "kept" else 0.0
    c = (start + chi * nu2 * effective) / (1 + chi * nu2)
    c = jnp.where(lost, jnp.inf, c)
    distance = 1 - effective**2 + (c - effective) ** 2
    return jnp.where(nu2 < 1, (1 - nu2) * distance, 0.0) + interpolated_noise(nu2, s2)


def _baseline(nu, noise):
    return jnp.where(nu < 1, 1 - nu, 0.0) + interpolated_noise(nu, noise)
