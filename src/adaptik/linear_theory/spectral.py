"""Any covariance: inputs, teachers and samples as they are, lazy target stage (theory section 3.4).

Labels are ``y = x.beta + noise`` with inputs of covariance S in D dimensions; losses and label
noise are in units of ``y^2``. The kernel is ``x.x'/D``, so its ridge is that of ``K + ridge I`` and
times are counted in units of D. ``richness`` is gamma_1 = gamma sqrt(D), gamma the richness of a
stage. With S = 1 and ``|beta| = 1`` these are the units of :mod:`.isotropic`.
"""

from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from . import equivalents
from .checked import closed_form
from .source_stage import Finetune, Head, learned, prefactor, strength


@closed_form
def spectral_transfer_loss(
    source_spectrum: Float[ArrayLike, "D"] | Float[ArrayLike, "D D"],
    target_spectrum: Float[ArrayLike, "D"] | Float[ArrayLike, "D D"],
    source_teacher: Float[ArrayLike, "D"],
    target_teacher: Float[ArrayLike, "D"],
    n_source: ArrayLike,
    n_target: ArrayLike,
    richness: ArrayLike,
    *,
    source_ridge: ArrayLike = 0.0,
    target_ridge: ArrayLike = 0.0,
    source_noise: ArrayLike = 0.0,
    target_noise: ArrayLike = 0.0,
    time: ArrayLike | None = None,
    head: Head = "fresh",
    finetune: Finetune = "readout",
) -> Float[Array, "..."]:
    """Target test loss after pretraining, in excess of the label noise (theory section 3.4).

    The numbers (all arguments but the first four) broadcast; use ``jax.vmap`` for several spectra
    or teachers. The result differentiates with respect to everything, covariance matrices with
    repeated eigenvalues excepted.

    Parameters
    ----------
    source_spectrum, target_spectrum
        Covariances: vectors of eigenvalues in a common basis, or matrices in the coordinates of the
        teachers, which need not commute (a vector next to a matrix is a diagonal). Zero
        eigenvalues are allowed.
    source_teacher, target_teacher
        beta_s and beta_t with ``y = x.beta``.
    n_source, n_target
        Numbers of samples, real and positive; infinity for abundant data.
    richness
        gamma_1 of the source stage: the features' spike is
        ``a - 1, a = sqrt(1 + gamma_1^2 |beta_hat|^2)``.
    source_ridge
        A surrogate for early stopping: ridge regression gives the source predictor, and the spike
        is taken along it. No gradient flow does both exactly.
    target_ridge
        Of ``K + ridge I``, K the kernel that fine-tunes with its prefactor (theory section 3.2).
    source_noise, target_noise
        Variances of the label noise, in units of ``y^2``.
    time
        Duration of the target stage's gradient flow divided by D; ``None`` for the end of training.
    head, finetune
        As in :func:`spike`.

    Returns
    -------
    array
        ``E (x.(w - beta_t))^2``, large D. Without ridge or time limit: 0 at zero noise from as many
        target samples as directions with variance on, and infinite with noise where both are equal.

    Examples
    --------
    >>> import numpy as np
    >>> ones, teacher = np.ones(100), np.full(100, 0.1)
    >>> loss = spectral_transfer_loss(ones, ones, teacher, teacher, np.inf, 50, 3.0**0.5)
    >>> round(float(loss), 4)  # isotropic: that of transfer_loss
    0.2222
    """
    stages = (n_source, n_target, richness, source_ridge, target_ridge)
    rest = (source_noise, target_noise, *(() if time is None else (time,)))
    values = [jnp.asarray(x) for x in (*stages, *rest)]
    S1, basis1 = _eigen(jnp.asarray(source_spectrum))
    S2, basis2 = _eigen(jnp.asarray(target_spectrum))
    bs, bt = jnp.asarray(source_teacher), jnp.asarray(target_teacher)
    bs = bs if basis1 is None else basis1.T @ bs
    bt = bt if basis2 is None else basis2.T @ bt
    overlap = None
    if basis1 is not None or basis2 is not None:
        eye = jnp.eye(len(bs))
        overlap = (eye if basis1 is None else basis1.T) @ (eye if basis2 is None else basis2)
    core = partial(_loss, S1, S2, bs, bt, overlap, head, finetune)
    return jnp.vectorize(core)(*values)


def _loss(
    S1, S2, bs, bt, overlap, head, finetune, P1, P2, gamma, ridge1, ridge2, s1, s2, time=None
):
    D = len(S1)
    mean, variance = _source(S1, bs, P1, D * ridge1 / P1, s1)
    q_infinite = jnp.isinf(jnp.sum(variance))
    q = jnp.sum(mean**2) + jnp.sum(variance)
    finite, lost = learned(q, gamma, head, finetune)
    # The direction of an infinite variance is that of its coordinates for unit error.
    variance = jnp.where(q_infinite, finite * _source_noise_shape(S1), variance)
    mean = jnp.where(q_infinite, 0.0, mean)
    if overlap is not None:
        mean, variance = overlap.T @ mean, (overlap**2).T @ variance
    along = mean / jnp.sqrt(jnp.where(finite > 0, finite, 1.0))  # E n, and E n^2 below
    squared = along**2 + variance / jnp.where(finite > 0, finite, 1.0)
    chi = strength(gamma, finite, finetune, head)
    factor = prefactor(gamma, finite, finetune, head)
    lam = D * ridge2 / (P2 * factor)
    if time is None:
        kappa, weights = equivalents.kappa(S2, P2, lam)[None], jnp.ones(1)
    else:
        duration = factor * time
        kappa = equivalents.pairs(equivalents.complex_kappa(S2, P2, lam, duration))
        weights = equivalents.pairs(jnp.asarray(equivalents.rule()[1]))
    d, left = equivalents.shares(S2, kappa[:, None])
    start = jnp.sqrt(finite) if head == "kept" else 0.0
    c = (start + chi * (d @ (along * bt))) / (1 + chi * (d @ squared))

    def form(weight):
        return (left * (S2 * weight)) @ left.T

    loss = equivalents.combine(
        weights, c, form(bt**2), form(along * bt), form(squared), d @ d.T / P2, s2
    )
    interpolates = kappa[0] == 0
    return jnp.where(lost & ~interpolates, jnp.inf, loss)


def _source(S, teacher, P, ridge, noise):
    """Mean and variance of every coordinate of the source predictor."""
    k = equivalents.kappa(S, P, ridge)
    d, left = equivalents.shares(S, k)
    error = jnp.sum(S * jnp.square(left * teacher)) + noise
    room = 1 - jnp.sum(d * d) / P
    full = room <= 0
    error = jnp.where(full, jnp.where(error > 0, jnp.inf, 0.0), error / jnp.where(full, 1.0, room))
    spread = d * d / jnp.where(S > 0, S, 1.0) / P
    return d * teacher, jnp.where(spread > 0, error * spread, 0.0)


def _source_noise_shape(S):
    inverse = jnp.where(S > 0, 1 / jnp.where(S > 0, S, 1.0), 0.0)
    return inverse / jnp.sum(inverse)


def _eigen(spectrum):
    """Eigenvalues, and eigenvectors of a matrix; what is 0 up to rounding is 0."""
    if spectrum.ndim == 1:
        return spectrum, None
    values, vectors = jnp.linalg.eigh(spectrum)
    tiny = len(values) * jnp.finfo(values.dtype).eps * values[-1]
    return jnp.where(values > tiny, values, 0.0), vectors
