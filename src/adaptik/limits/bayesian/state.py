"""A two-layer posterior at infinite width: weighted neurons and the predictor they carry."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...kernels.particles.law import Particles, field, mean_readout, row_blocks, sampled_fields
from ...mathematics.activations import Activation
from ...solution import AbstractState, Kernels
from ...system.registry import register
from ...tasks.span import Points, Span


@register
@dataclass(frozen=True, eq=False)
class BayesianState(AbstractState):
    """Neurons of every replicate, and the adaptive kernel predictor f(x) = Phi(x, .) dual.

    Attributes
    ----------
    activation, span
        phi, and the coordinates in which the neurons' weights live.
    w
        First-layer weights, shape ``(R, M, rank)``.
    weights
        Of the neurons in averages; sum 1 for every replicate, shape ``(R, M)``.
    shrink
        Standard deviation of weights orthogonal to the span.
    inputs
        Training inputs of the stage, shape ``(P, D)``.
    delta
        gamma Delta of the law, shape ``(R, P, C)``: readouts given h are N(delta' phi(h), 1).
    dual
        (Phi + 1/beta)^-1 y on the neurons, shape ``(R, P, C)``.
    action
        The action at the saddle point, shape ``(R,)``; NaN where the features were frozen.
    residual
        rms of y - Delta/beta - Phi Delta relative to that of y, of the output where it is largest,
        shape ``(R,)``.
    effective
        Effective number of neurons, 1/sum weights^2, shape ``(R,)``.
    memory
        Correlation of the neurons' tilt with that before the last moves, shape ``(R,)``: near 1
        they have not moved enough to be trusted.
    acceptance
        Of Monte Carlo moves, shape ``(R,)``.
    """

    activation: Activation
    span: Span
    w: Float[np.ndarray, "R M rank"]
    weights: Float[np.ndarray, "R M"]
    shrink: float
    inputs: Float[np.ndarray, "P D"]
    delta: Float[np.ndarray, "R P C"]
    dual: Float[np.ndarray, "R P C"]
    action: Float[np.ndarray, " R"]
    residual: Float[np.ndarray, " R"]
    effective: Float[np.ndarray, " R"]
    memory: Float[np.ndarray, " R"]
    acceptance: Float[np.ndarray, " R"]

    def scaled(self, factor):
        return replace(self, dual=factor * self.dual)

    def predict(self, X):
        # sum_mu <phi(x) phi(x_mu)> dual_mu is a readout whose weights are dual . phi(h).
        count = self.w.shape[1]
        u = count * self.weights[..., None] * self._features() @ self.dual
        carriers = Particles(self.w, u, self.shrink)
        blocks = [
            mean_readout(self.activation, carriers, self.span.points(X[cut]))
            for cut in row_blocks(len(X))
        ]
        return np.concatenate(blocks, axis=1)

    def kernels(self, X, rows, columns):
        first, second = self.span.points(X[rows]), self.span.points(X[columns])
        if rows != columns and not (first.smooth and second.smooth):
            (phi1, slope1), (phi2, slope2) = self._fields(first), self._fields(second)
        else:
            _, phi, slope = (np.stack(part) for part in zip(*self._sampled(X), strict=True))
            phi1, phi2, slope1, slope2 = (
                a[:, :, each] for a in (phi, slope[..., 0]) for each in (rows, columns)
            )

        def averaged(weights, a, b):
            return np.einsum("rm,rmn,rmk->rnk", weights, a, b, optimize=True)

        def gradient(layer: int) -> np.ndarray:
            # <z_c z_d | h> = delta_cd + m_c m_d with m = delta . phi(h).
            mean = self._features() @ self.delta
            outputs = mean.shape[-1]
            squares = np.eye(outputs) + mean[..., None] * mean[..., None, :]
            full = [
                averaged(self.weights * squares[..., c, d], slope1, slope2)
                for c, d in np.ndindex(outputs, outputs)
            ]
            return np.stack(full, axis=-1).reshape(*full[0].shape, outputs, outputs)

        return Kernels(lambda layer: averaged(self.weights, phi1, phi2), gradient)

    def preactivations(self, X):
        """Weights are turned into numbers of copies."""
        rng, count = np.random.default_rng(0), self.w.shape[1]
        return np.stack(
            [
                h[rng.choice(count, count, p=weights)]
                for (h, _, _), weights in zip(self._sampled(X), self.weights, strict=True)
            ]
        )

    def _sampled(self, X) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        carriers = Particles(self.w, np.ones((*self.w.shape[:2], 1)), self.shrink)
        points, inputs = self.span.points(X), X @ X.T / X.shape[1]
        return sampled_fields(self.activation, carriers, points, inputs, seed=0)

    def _features(self) -> Float[np.ndarray, "R M P"]:
        return self._fields(self.span.points(self.inputs))[0]

    def _fields(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """phi and phi' averaged over orthogonal parts, shapes ``(R, M, n)``."""
        with jax.enable_x64(True):
            args = (
                self.activation,
                jnp.asarray(self.w),
                jnp.asarray(points.inside),
                jnp.asarray(self.shrink * points.rho),
                points.smooth,
            )
            return np.asarray(field(*args)), np.asarray(field(*args, derivative=True))
