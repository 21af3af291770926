"""Lazy kernels of a two-layer network: fixed, given by the Gaussian law at initialisation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from . import gaussian
from .activations import Activation


@partial(jax.jit, static_argnums=0)
def _pair(activation, k11, k12, k22):
    return (
        gaussian.product(activation, k11, k12, k22),
        gaussian.derivative_product(activation, k11, k12, k22),
    )


def two_layer(
    activation: Activation,
    k11: Float[np.ndarray, " n"],
    k12: Float[np.ndarray, "n m"],
    k22: Float[np.ndarray, " m"],
) -> tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n m"]]:
    """Feature kernel Phi = E phi phi' and gradient kernel G = E phi' phi' for h ~ GP(0, K_x).

    Parameters
    ----------
    k11, k12, k22
        Input kernel ``x.x'/D``: the diagonals for both sets of inputs, and the cross block.

    Returns
    -------
    Phi, G
        Float64; the lazy NTK is ``Phi + G * k12`` (theory section 4 with L = 1).
    """
    rows = max(1, 4_000_000 // max(1, k12.shape[1]))
    with jax.enable_x64(True):
        feature, gradient = np.empty_like(k12), np.empty_like(k12)
        for start in range(0, len(k11), rows):
            cut = slice(start, start + rows)
            block = tuple(jnp.asarray(k) for k in (k11[cut, None], k12[cut], k22[None, :]))
            feature[cut], gradient[cut] = _pair(activation, *block)
    return feature, gradient
