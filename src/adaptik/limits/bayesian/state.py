"""A two-layer posterior at infinite width: weighted neurons and the predictor they carry."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...mathematics.activations import Activation
from ...solution import AbstractState
from ...system.registry import register
from ..averages import field, mean_readout, row_blocks, sampled_fields
from ..particles import Particles
from ..span import Points, Span


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

    def kernel(self, X, X2, kind):
        points = self.span.points(X)
        if X2 is not None:
            second = self.span.points(X2)
            if not second.smooth:
                first = self._fields(points), self._fields(second)
                return self._kernels(*first, X @ X2.T / X.shape[1], kind)
            if not points.smooth:
                axes = (0, 2, 1, 4, 3)
                swapped = self.kernel(X2, X, kind)
                return swapped.transpose(axes[: swapped.ndim])
        n, both = len(X), X if X2 is None else np.concatenate([X, X2])
        inputs = both @ both.T / X.shape[1]
        h = sampled_fields(
            self.activation,
            Particles(self.w, np.ones((*self.w.shape[:2], 1)), self.shrink),
            self.span.points(both),
            inputs,
            seed=0,
        )
        phi, slope = (np.stack([f[i] for f in h]) for i in (1, 2))
        slope = slope[..., 0]
        rows, columns = slice(0, n), slice(0 if X2 is None else n, None)
        return self._kernels(
            (phi[:, :, rows], slope[:, :, rows]),
            (phi[:, :, columns], slope[:, :, columns]),
            inputs[rows, columns],
            kind,
        )

    def preactivations(self, X):
        """Weights are turned into numbers of copies."""
        inputs = X @ X.T / X.shape[1]
        carriers = Particles(self.w, np.ones((*self.w.shape[:2], 1)), self.shrink)
        fields = sampled_fields(self.activation, carriers, self.span.points(X), inputs, seed=0)
        rng = np.random.default_rng(0)
        count = self.w.shape[1]
        return np.stack(
            [
                h[rng.choice(count, count, p=weights)]
                for (h, _, _), weights in zip(fields, self.weights, strict=True)
            ]
        )

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

    def _kernels(self, first, second, overlap, kind: str):
        (phi1, slope1), (phi2, slope2) = first, second
        feature = np.einsum("rm,rmn,rmk->rnk", self.weights, phi1, phi2, optimize=True)
        if kind == "feature":
            return feature
        # <z_c z_d | h> = delta_cd + m_c m_d with m = delta . phi(h).
        mean = self._features() @ self.delta
        outputs = mean.shape[-1]
        full = np.empty((*feature.shape, outputs, outputs))
        for c in range(outputs):
            for d in range(outputs):
                square = self.weights * ((c == d) + mean[..., c] * mean[..., d])
                full[..., c, d] = np.einsum(
                    "rm,rmn,rmk->rnk", square, slope1, slope2, optimize=True
                )
        if kind == "ntk":
            full = full * overlap[..., None, None]
            full = full + feature[..., None, None] * np.eye(outputs)
        return full[..., 0, 0] if outputs == 1 else full
