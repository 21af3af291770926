"""Hamiltonian Monte Carlo for standard Gaussians with a tilt: exp(log_tilt(x) - |x|^2/2).

The Gaussian part is integrated exactly, as a rotation in phase space, and only the tilt in steps.
The step then does not shrink as coordinates without a tilt are added, however many there are. A
quarter of a turn exchanges positions and momenta, which are drawn anew: coordinates without a tilt
are independent after it. A whole turn would bring them back to where they were, and half a turn to
their mirror image.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

LogTilt = Callable[[PyTree], Float[Array, " chains"]]

ACCEPTANCE = 0.95  # aimed at when steps are adapted
SMALLEST_STEP, LARGEST_STEP = 0.005, 0.7  # the smallest bounds what a trajectory costs
SHORTEST, LONGEST = 0.4 * math.pi, 0.6 * math.pi  # angle of a trajectory, drawn between them


def _squares(tree: PyTree) -> Float[Array, " chains"]:
    return sum(jnp.sum(jnp.square(leaf), range(1, leaf.ndim)) for leaf in jax.tree.leaves(tree))  # pyright: ignore[reportReturnType]


def trajectory(
    log_tilt: LogTilt,
    x: PyTree,
    key: PRNGKeyArray,
    step: Float[Array, ""],
) -> tuple[PyTree, Float[Array, ""]]:
    """One trajectory of every chain with new momenta, accepted or refused chain by chain.

    Parameters
    ----------
    log_tilt
        From chains to the logarithm of their tilt.
    x
        Arrays with a leading axis of chains.
    key
        Randomness.
    step
        Largest phase-space angle of one leap; there are as many as the trajectory's angle needs.

    Returns
    -------
    x, acceptance
        The new chains, and the mean probability with which they were accepted.

    Examples
    --------
    >>> x = jnp.zeros((2000, 1))
    >>> tilt = lambda x: jnp.sum(x, -1)  # exp(x - x^2/2): a Gaussian around 1
    >>> for i in range(4):
    ...     x, _ = trajectory(tilt, x, jax.random.key(i), jnp.asarray(0.4))
    >>> abs(float(x.mean()) - 1) < 0.1
    True
    """
    leaves, shape = jax.tree.flatten(x)
    keys = jax.random.split(key, len(leaves) + 2)
    p = shape.unflatten(
        [
            jax.random.normal(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(keys, leaves, strict=False)
        ]
    )
    angle = jax.random.uniform(keys[-2], minval=SHORTEST, maxval=LONGEST)
    leaps = jnp.ceil(angle / step).astype(int)
    step = angle / leaps
    cosine, sine = jnp.cos(step), jnp.sin(step)

    def force(x):
        value, pull_back = jax.vjp(log_tilt, x)
        return value, pull_back(jnp.ones_like(value))[0]

    def kick(p, f):
        return jax.tree.map(lambda a, b: a + 0.5 * step * b, p, f)

    def leap(_, carry):
        x, p, _, f = carry
        p = kick(p, f)
        x, p = (
            jax.tree.map(lambda a, b: cosine * a + sine * b, x, p),
            jax.tree.map(lambda a, b: cosine * b - sine * a, x, p),
        )
        value, f = force(x)
        return x, kick(p, f), value, f

    value, f = force(x)
    end, q, reached, _ = jax.lax.fori_loop(0, leaps, leap, (x, p, value, f))
    gain = reached - value + 0.5 * (_squares(x) + _squares(p) - _squares(end) - _squares(q))
    chance = jnp.exp(jnp.minimum(jnp.where(jnp.isnan(gain), -jnp.inf, gain), 0.0))
    accepted = jax.random.uniform(keys[-1], chance.shape) < chance

    def choose(new, old):
        return jnp.where(accepted.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, end, x), jnp.mean(chance)


def adapted(step: float, acceptance: float) -> float:
    """The step for the next trajectories, after one with this acceptance."""
    factor = min(max(1 + acceptance - ACCEPTANCE, 0.7), 1.1)
    return min(max(step * factor, SMALLEST_STEP), LARGEST_STEP)
