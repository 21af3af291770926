"""Deep linear posteriors in closed form (theory section 6): an oracle for the sampler.

Linear neurons are Gaussian in every layer, and the saddle point is one matrix: in span coordinates
<w w^T> = S^l in layer l, where S minimises the action with the maxima over Phihat taken,

    L/2 (tr S - ln det S - rank) + gamma^2/2 tr y^T (A S^L A^T + 1/beta)^-1 y.

S - 1 has at most as many directions as there are outputs: S = 1 + U U^T. For L > 1 the action is
not convex; minimisations from a small and from a large U are compared.
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from ...solution import Kernels
from ...system.registry import register
from ...tasks.span import Span
from ..linear.two_layer import AbstractLinearState

STARTS = (0.1, 3.0)  # lengths of U
POLISH = 2  # Newton steps at the minimum: the action's rounding hides its last digits


@register
@dataclass(frozen=True, eq=False)
class LinearPosteriorState(AbstractLinearState):
    """Second moments of deep linear neurons, and the predictor f(x) = beta.x.

    Attributes
    ----------
    span
        The coordinates; all kernels are that of the inputs outside of them.
    depth
        Number of hidden layers L.
    S
        <w w^T> of layer l is S^l, shape ``(rank, rank)``.
    v
        <h_l z_l> of every layer l with its backward field, shape ``(rank, C)``.
    beta
        Shape ``(rank, C)``.
    action
        At the saddle point, per hidden unit; NaN where the features were frozen.
    """

    span: Span
    depth: int
    S: Float[np.ndarray, "rank rank"]
    v: Float[np.ndarray, "rank C"]
    beta: Float[np.ndarray, "rank C"]
    action: float = np.nan

    @property
    def hidden_layers(self):
        return self.depth

    def scaled(self, factor):
        return replace(self, beta=factor * self.beta)

    def kernels(self, X, rows, columns):
        a, b = (self.span.points(X[each]).inside for each in (rows, columns))
        inputs = X[rows] @ X[columns].T / X.shape[1]

        def feature(layer: int) -> np.ndarray:
            power = np.linalg.matrix_power(self.S, layer)
            return (inputs + a @ (power - np.eye(len(power))) @ b.T)[None]

        def gradient(layer: int) -> np.ndarray:
            G = self._gradient(layer)
            return np.broadcast_to(G, (1, *inputs.shape, *G.shape))

        return Kernels(feature, gradient)

    def _gradient(self, layer: int) -> Float[np.ndarray, "C C"]:
        """<z_l z_l> = 1 + sum over layers above and l of v^T S^-k v."""
        powers = (np.linalg.matrix_power(self.S, k) for k in range(layer, self.depth + 1))
        return np.eye(self.v.shape[1]) + sum(self.v.T @ np.linalg.solve(p, self.v) for p in powers)


def read_out(
    state: LinearPosteriorState,
    points: Float[np.ndarray, "P rank"],
    y: Float[np.ndarray, "P C"],
    richness: float,
    ridge: float,
    action: float = np.nan,
) -> LinearPosteriorState:
    """The predictor and the backward fields for labels at points, on features as they are."""
    power = np.linalg.matrix_power(state.S, state.depth)
    delta = np.linalg.solve(points @ power @ points.T + ridge * np.eye(len(points)), y)
    beta = power @ points.T @ delta
    return LinearPosteriorState(state.span, state.depth, state.S, richness * beta, beta, action)


def _action(flat, points, y, strength, ridge, depth: int):
    U = flat.reshape(points.shape[1], -1)
    S = jnp.eye(len(U)) + U @ U.T
    kernel = points @ jnp.linalg.matrix_power(S, depth) @ points.T
    fit = jnp.sum(y * jnp.linalg.solve(kernel + ridge * jnp.eye(len(y)), y))
    return 0.5 * depth * (jnp.sum(U**2) - jnp.linalg.slogdet(S)[1]) + 0.5 * strength * fit


_slope = partial(jax.jit, static_argnames="depth")(jax.value_and_grad(_action))
_curvature = partial(jax.jit, static_argnames="depth")(jax.hessian(_action))


def minimised(
    points: Float[np.ndarray, "P rank"],
    y: Float[np.ndarray, "P C"],
    richness: float,
    ridge: float,
    depth: int,
    tol: float,
    max_iterations: int,
) -> tuple[Float[np.ndarray, "rank rank"], float, float, int]:
    """S, the action, the gradient in U relative to that of the prior, and the number of steps."""
    rank = points.shape[1]
    with jax.enable_x64(True):
        given = (*map(jnp.asarray, (points, y, richness**2, ridge)), depth)
        plain = points.T @ np.linalg.solve(points @ points.T + ridge * np.eye(len(y)), y)
        start = np.linalg.svd(plain, full_matrices=False)[0]
        best, steps = None, 0
        for length in STARTS:
            found = minimize(
                lambda u: [np.asarray(v) for v in _slope(jnp.asarray(u), *given)],
                length * start.ravel(),
                jac=True,
                hess=lambda u: np.asarray(_curvature(jnp.asarray(u), *given)),
                method="trust-exact",
                options=dict(gtol=0.01 * tol * min(1.0, richness), maxiter=max_iterations),
            )
            steps += found.nit
            if best is None or found.fun < best.fun:
                best = found
        assert best is not None
        u = best.x
        for _ in range(POLISH):  # U turned by any rotation is as good: the curvature is singular
            slope, curvature = _slope(u, *given)[1], _curvature(u, *given)
            u = u - np.linalg.lstsq(np.asarray(curvature), np.asarray(slope), rcond=1e-10)[0]
        action, slope = _slope(u, *given)
    U = u.reshape(rank, -1)
    S = np.eye(rank) + U @ U.T
    prior = depth * np.linalg.norm(U - np.linalg.solve(S, U))
    return S, float(action), float(np.linalg.norm(slope) / max(prior, 1e-300)), steps
