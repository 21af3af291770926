"""Deterministic equivalents of ridge regression and of gradient flow (theory section 3.4).

With sample covariance ``C`` over P samples, population covariance S and a kernel with a spike along
n, the ridge predictor's error at ridge ``lam`` is, for large dimension,
``kappa (S + kappa)^-1 (beta - c n)`` where ``kappa (1 - Tr S (S + kappa)^-1/P) = lam``. The error
after a time t of gradient flow is the inverse Laplace transform of the same expression in
``lam``, and losses, which are bilinear in errors, follow from pairs of ridges.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jaxtyping import Array, Complex, Float

# The parabola of Weideman and Trefethen (Math. Comp. 76, 2007): with 20 nodes the error of an
# inverse Laplace transform is 1e-9 of the values' scale, wherever its singularities are.
NODES = 20
STEPS = 4  # between neighbouring nodes, for following kappa along the contour


def contour(theta: Float[np.ndarray, " n"]) -> Complex[np.ndarray, " n"]:
    return NODES * (0.1309 - 0.1194 * theta**2 + 0.25j * theta)


def rule() -> tuple[Complex[np.ndarray, " nodes"], Complex[np.ndarray, " nodes"]]:
    """Nodes z in the upper half plane and weights: F(1) = 2 Re sum weight L(z) for L = L[F](z) z.

    Examples
    --------
    >>> z, weights = rule()
    >>> decay = 2 * np.sum(weights * z / (z + 1)).real  # the transform of exp(-t) is 1/(z + 1)
    >>> bool(abs(decay - np.exp(-1)) < 1e-8)
    True
    """
    theta = np.pi * np.arange(1, NODES, 2) / NODES
    z = contour(theta)
    slope = NODES * (-0.2388 * theta + 0.25j)
    return z, np.exp(z) * slope / (1j * NODES * z)


def pairs(of: Array) -> Array:
    """Append complex conjugates: all nodes from those in the upper half plane."""
    return jnp.concatenate([of, jnp.conj(of)])


def combine(weights, c, kept, crossing, shared, taken, noise):
    """Excess loss from weights of ridge predictors, pair by pair.

    Parameters
    ----------
    weights, c
        Of every node, shape ``(nodes,)``; ``c`` is the coefficient of the predictor along n.
    kept, crossing, shared
        ``beta.A.beta``, ``n.A.beta`` and ``n.A.n`` for pairs of nodes, shape ``(nodes, nodes)``.
    taken
        ``Tr S^2/((S + kappa_j)(S + kappa_k))/P``, of that shape.
    noise
        Variance of the label noise.
    """
    half = max(len(weights) // 2, 1)  # the rest are complex conjugates, from :func:`pairs`
    kept, crossing, shared, taken = (form[:half] for form in (kept, crossing, shared, taken))
    first, second = c[:half, None], c[None, :]
    error = kept - (first + second) * crossing + first * second * shared + noise * taken
    room = 1 - taken
    # At the interpolation threshold noise diverges and a noise-free error vanishes.
    ratio = jnp.where(room == 0, jnp.where(error == 0, 0.0, jnp.inf), error / _apart(room))
    return (weights[:half] @ ratio @ weights).real * (len(weights) / half)


def isotropic_kappa(nu, ridge):
    """kappa for S = 1, ``nu`` samples per dimension and real or complex ``ridge``."""
    low, high = jnp.square(1 - 1 / jnp.sqrt(nu)), jnp.square(1 + 1 / jnp.sqrt(nu))
    root = jnp.sqrt(ridge + low) * jnp.sqrt(ridge + high)  # cut along the eigenvalues only
    b = 1 - 1 / nu - ridge
    stable = b.real > 0
    return jnp.where(stable, 2 * ridge / jnp.where(stable, b + root, 1.0), (root - b) / 2)


def kappa(spectrum: Float[Array, " D"], samples, ridge) -> Float[Array, ""]:
    """The root kappa >= 0 of ``kappa (1 - sum S/(S + kappa)/P) = ridge`` for real ridge >= 0.

    Newton's method from above, which converges monotonically because the left side is convex; two
    further steps outside the loop carry derivatives up to the third.
    """
    S, over, lam = map(stop_gradient, (spectrum, 1 / samples, ridge))

    def step(k):
        return k - _excess(S, over, lam, k) / _apart(_slope(S, over, k))

    def body(state):
        k, _ = state
        new = jnp.maximum(step(k), 0.0)
        return new, new < k

    start = jnp.sum(S) * over + lam
    root, _ = jax.lax.while_loop(lambda state: state[1], body, (start, jnp.asarray(True)))
    filled = (lam == 0) & (over * jnp.sum(S > 0) <= 1)  # more samples than directions
    root = jnp.where(filled, 0.0, root)
    return _polished(spectrum, 1 / samples, ridge, root)


def complex_kappa(spectrum: Float[Array, " D"], samples, ridge, time) -> Complex[Array, " nodes"]:
    """kappa at ``ridge + z/time`` for every node z, followed along the contour from real z."""
    S, over, lam, t = map(stop_gradient, (spectrum, 1 / samples, ridge, time))
    path = contour(np.pi * np.arange(NODES * STEPS) / (NODES * STEPS))
    first = kappa(S, samples, lam + path[0].real / t)

    def follow(k, z):
        for _ in range(3):
            k = k - _excess(S, over, lam + z / t, k) / _slope(S, over, k)
        return k, k

    _, ks = jax.lax.scan(follow, first + 0j, jnp.asarray(path[1:]))
    at_nodes = ks[STEPS - 1 :: 2 * STEPS]
    z, _ = rule()
    return jax.vmap(lambda z, k: _polished(spectrum, 1 / samples, ridge + z / time, k))(
        jnp.asarray(z), at_nodes
    )


def shares(spectrum, k):
    """``S/(S + kappa)`` and ``kappa/(S + kappa)``; directions without variance have shares 0, 1."""
    total = jnp.where(spectrum > 0, spectrum + k, 1.0)
    return spectrum / total, jnp.where(spectrum > 0, k / total, 1.0)


def _excess(S, over, ridge, k):
    d, _ = shares(S, k)
    return k * (1 - over * jnp.sum(d)) - ridge


def _slope(S, over, k):
    d, _ = shares(S, k)
    return 1 - over * jnp.sum(d * d)


def _polished(S, over, ridge, k):
    for _ in range(2):
        slope = _slope(S, over, k)
        flat = slope == 0
        k = jnp.where(flat, k, k - _excess(S, over, ridge, k) / jnp.where(flat, 1.0, slope))
    return k


def _apart(x):
    """``x``, or 1 where it is 0 and its quotient is not used."""
    return jnp.where(x == 0, 1.0, x)
