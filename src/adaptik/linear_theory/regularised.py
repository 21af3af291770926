"""Isotropic inputs, lazy target stage with a ridge or stopped after a finite time.

Units are those of :mod:`.isotropic`. The ridge is that of ``K + ridge I`` and the time is counted
in units of D, because the rates of gradient flow are those of the kernel ``x.x'/D`` over P.
"""

from functools import partial
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from . import equivalents
from .checked import closed_form
from .source_stage import Finetune, Head, learned, prefactor, source, strength

Scale = Literal["identity", "spike"]


@closed_form
def regularised_transfer_loss(
    alignment: ArrayLike,
    nu_target: ArrayLike,
    richness: ArrayLike,
    *,
    ridge: ArrayLike = 0.0,
    time: ArrayLike | None = None,
    scale: Scale = "identity",
    nu_source: ArrayLike = np.inf,
    noise_alignment: ArrayLike = 0.0,
    source_noise: ArrayLike = 0.0,
    target_noise: ArrayLike = 0.0,
    head: Head = "fresh",
    finetune: Finetune = "readout",
) -> Float[Array, "..."]:
    """Target test loss after pretraining where the target stage does not interpolate.

    The setting is that of :func:`transfer_loss` (theory section 3.3), which is the value at ridge 0
    and no time limit. With ``scale="spike"`` an over-rich source hurts: the identity part of the
    kernel is suppressed as the spike grows, and the loss tends to that of the spike alone.

    Parameters
    ----------
    alignment, nu_target, richness, nu_source, noise_alignment, source_noise, target_noise
        As in :func:`transfer_loss`.
    ridge
        Of kernel ridge regression with ``K + ridge I``, K the kernel that fine-tunes, prefactor
        included (theory section 3.2).
    time
        Duration of gradient flow divided by D; ``None`` for the end of training. A ridge together
        with a time is a penalty on the weights' distance to their start.
    scale
        ``"identity"``: ridge and time as they are. ``"spike"``: in units of the largest eigenvalue
        ``prefactor (1 + chi)`` of the kernel, as where the step size of a fixed number of steps is
        limited by the largest eigenvalue; the ridge is multiplied and the time divided by it.
    head, finetune
        As in :func:`spike`.

    Returns
    -------
    array
        Excess over the label noise; 1 is the loss of a predictor at 0. Infinite as in
        :func:`transfer_loss`.

    Examples
    --------
    >>> round(float(regularised_transfer_loss(1.0, 0.5, 3.0**0.5)), 4)  # that of transfer_loss
    0.2222
    >>> rich = regularised_transfer_loss(0.5, 0.5, [0.0, 2.0, 1e6], ridge=0.1, scale="spike")
    >>> [round(float(loss), 3) for loss in rich]  # an interior optimum of the richness
    [0.517, 0.475, 0.757]
    """
    numbers = (
        alignment,
        nu_target,
        richness,
        nu_source,
        noise_alignment,
        source_noise,
        target_noise,
        ridge,
        *(() if time is None else (time,)),
    )
    return jnp.vectorize(partial(_loss, scale, head, finetune))(*map(jnp.asarray, numbers))


def _loss(scale, head, finetune, align, nu2, gamma, nu1, noise_align, s1, s2, lam, time=None):
    q, effective = source(align, nu1, noise_align, s1)
    finite, lost = learned(q, gamma, head, finetune)
    chi = strength(gamma, finite, finetune, head)
    factor = prefactor(gamma, finite, finetune, head)
    largest = factor * (1 + chi) if scale == "spike" else 1.0
    lam = lam * largest / (factor * nu2)  # in units of the sample covariance's eigenvalues
    if time is None:
        kappa, weights = equivalents.isotropic_kappa(nu2, lam[None]), jnp.ones(1)
    else:
        z, weights = map(jnp.asarray, equivalents.rule())
        rates = z * largest / (factor * time)
        kappa = equivalents.pairs(equivalents.isotropic_kappa(nu2, lam + rates))
        weights = equivalents.pairs(weights)
    d, left = 1 / (1 + kappa), kappa / (1 + kappa)
    start = jnp.sqrt(finite) if head == "kept" else 0.0
    c = (start + chi * d * effective) / (1 + chi * d)
    size = jnp.outer(left, left)
    loss = equivalents.combine(weights, c, size, size * effective, size, jnp.outer(d, d) / nu2, s2)
    stays = (nu2 < 1) | (lam > 0) | (time is not None)  # the target stage does not interpolate
    return jnp.where(lost & stays, jnp.inf, loss)
