"""The stiff part of the kernel of particles: few directions of samples and of inputs.

Residuals of a flow decay at the rates of S = (1/P) R^T K R, of which few are large. With V = R U, U
orthonormal directions of the samples, and with x^q the samples in their q leading principal
coordinates, the reduced kernel

    S_U = (1/P) [ <F F^T> + sum_k <z^2 T_k T_k^T> ],    F = sum_mu phi(h_mu) V_mu,
                                                        T_k = sum_mu phi'(h_mu) x^q_mu,k V_mu

is that of the moves B_U u = (F u, z T u) of a particle's readout and of its weights along those
coordinates. An exponential step that is exact for this part alone is as consistent as one that is
exact for all of S (theory section 2), and what is left is not stiff. One pass over the fields
costs P q |U| operations a particle, in place of P^2.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

DIRECTIONS = 32
COORDINATES = 16
ITERATIONS = 3  # of the power method, before a stage's first step


class Reduced(NamedTuple):
    """F and T of every particle."""

    features: Float[Array, "R M modes"]
    gradients: Float[Array, "R M q modes"]
    constant: Float[Array, "R modes"] | None  # F of a feature that is the same everywhere


def reduced(
    phi: Float[Array, "R M P"],
    slope: Float[Array, "R M P"],
    inputs: Float[Array, "P q"],
    directions: Float[Array, "R P modes"],
    bias: Float[Array, ""] | None = None,
) -> Reduced:
    """F and T for the columns of V, and F of the constant feature ``bias`` beside phi."""
    members, samples, _ = directions.shape
    products = inputs[:, :, None] * directions[:, :, None, :]
    moved = jnp.einsum("rmp,rpn->rmn", slope, products.reshape(members, samples, -1))
    gradients = moved.reshape(*moved.shape[:2], inputs.shape[1], -1)
    constant = None if bias is None else bias.astype(phi.dtype) * jnp.sum(directions, 1)
    return Reduced(jnp.einsum("rmp,rpj->rmj", phi, directions), gradients, constant)


def kernel(at: Reduced, z: Float[Array, "R M C"]) -> Float[Array, "R modes*C modes*C"]:
    """P S_U, of directions and outputs together."""

    def member(given):
        features, gradients, constant, z = given
        (count, outputs), modes = z.shape, features.shape[-1]
        feature = features.T @ features
        if constant is not None:
            feature = feature + count * jnp.outer(constant, constant)
        own = feature[:, None, :, None] * jnp.eye(outputs, dtype=z.dtype)[:, None]
        # All outputs share a particle's T: its products come first, and are of few directions.
        inner = jnp.swapaxes(gradients, 1, 2) @ gradients
        outer = z[:, :, None] * z[:, None, :]
        moves = inner.reshape(count, -1).T @ outer.reshape(count, -1)
        moves = moves.reshape(modes, modes, outputs, outputs).swapaxes(1, 2)
        return (own + moves).reshape(modes * outputs, -1) / count

    return jax.lax.map(member, (*at, z))


def applied(
    phi: Float[Array, "R M P"],
    slope: Float[Array, "R M P"],
    z: Float[Array, "R M C"],
    inputs: Float[Array, "P q"],
    at: Reduced,
    bias: Float[Array, ""] | None = None,
) -> Float[Array, "R P modes"]:
    """The kernel along the leading coordinates, averaged over outputs, times that V."""
    squares = jnp.mean(jnp.square(z), -1)[..., None, None]
    moves = (squares * at.gradients).reshape(*z.shape[:2], -1)
    spread = jnp.einsum("rmp,rmn->rpn", slope, moves)
    spread = spread.reshape(*spread.shape[:2], inputs.shape[1], -1)
    there = jnp.einsum("pk,rpkj->rpj", inputs, spread)
    found = (jnp.einsum("rmp,rmj->rpj", phi, at.features) + there) / phi.shape[1]
    if bias is None or at.constant is None:
        return found
    return found + bias.astype(found.dtype) * at.constant[:, None]


def orthonormal(columns: Float[Array, "R P modes"]) -> Float[Array, "R P modes"]:
    """An orthonormal basis of the columns."""
    return jnp.linalg.qr(columns)[0]
