"""Kernels with any spikes, planted rather than learned (theory section 3.6).

Gradient flow of two layers leaves one spike with coefficients that belong together. Here they are
free, which tells what a kernel has to have to do harm. Units are those of :mod:`.isotropic`.
"""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .checked import closed_form
from .source_stage import interpolated_noise


@closed_form
def spike_loss(
    coefficients: Float[ArrayLike, "... k k"],
    alignments: Float[ArrayLike, "... k"],
    nu_target: ArrayLike,
    *,
    start: Float[ArrayLike, "... k"] | None = None,
    target_noise: ArrayLike = 0.0,
) -> Float[Array, "..."]:
    """Target test loss with a planted kernel, in excess of the label noise (theory section 3.6).

    The kernel that fine-tunes is proportional to ``x.(I + U C U^T).x'/D``, the k columns of U
    orthonormal directions; inputs are isotropic, the target stage is lazy, has no ridge and runs to
    its end, D is large. Dimensions before those of C and of the alignments broadcast.

    Parameters
    ----------
    coefficients
        C, symmetric, with eigenvalues above -1. In the directions of signal and noise it is
        ``[[signal, crosstalk], [crosstalk, noise]]`` of :class:`KernelParts`. With all weights
        training under a fresh head it is half the C of the features.
    alignments
        Overlaps of the target's teacher (of unit length) with the directions.
    nu_target
        Target samples per dimension. Above 1 the kernel has no effect on an interpolator; at 1 the
        loss is infinite with target noise.
    start
        Coordinates, in these directions, of the predictor that the target stage starts from, in
        units of the teacher's length; none for a fresh head.
    target_noise
        Variance of the target's label noise.

    Returns
    -------
    array
        Without a start it exceeds :func:`baseline_loss` for some teacher exactly where C has a
        negative eigenvalue, and most for a teacher along its eigenvector.

    Raises
    ------
    InputError
        For coefficients that are not symmetric or leave no positive kernel, alignments longer than
        1, shapes that do not belong together.

    Examples
    --------
    >>> from adaptik.linear_theory import baseline_loss
    >>> spike_loss([[1.0, 0.8], [0.8, 1.0]], [1.0, 0.0], [0.2, 0.8]).round(3).tolist()
    [0.586, 0.091]
    >>> spike_loss([[1.0, 1.5], [1.5, 1.0]], [1.0, 0.0], [0.2, 0.8]).round(3).tolist()
    [0.672, 0.289]
    >>> float(baseline_loss(0.8).round(3))  # too much crosstalk hurts where samples are many
    0.2
    """
    C, a, nu, s2 = map(jnp.asarray, (coefficients, alignments, nu_target, target_noise))
    rest = a if start is None else a - jnp.asarray(start)
    seen = jnp.where(nu < 1, nu, 0.0)[..., None, None]
    left = jnp.linalg.solve(jnp.eye(C.shape[-1]) + seen * C, rest[..., None])[..., 0]
    distance = 1 - jnp.sum(a**2, -1) + jnp.sum(left**2, -1)
    return jnp.where(nu < 1, (1 - nu) * distance, 0.0) + interpolated_noise(nu, s2)
