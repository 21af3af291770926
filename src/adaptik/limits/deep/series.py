"""Neurons of a deep network as samples, with matrices that are revealed along what they meet.

A field is a column of N numbers, one a particle; <a, b> = a.b/N (theory section 5).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ...mathematics.bases import fresh_of
from ...system.registry import register


@register
@dataclass(frozen=True, eq=False)
class Hidden:
    """W = F Q^T + S E^T + S M Q^T, each column one direction of N particles."""

    Q: Float[np.ndarray, "N q"]
    F: Float[np.ndarray, "N q"]
    S: Float[np.ndarray, "N s"]
    E: Float[np.ndarray, "N s"]
    M: Float[np.ndarray, "s q"]
    shrink: float = 1.0

    @classmethod
    def unknown(cls, like: Float[np.ndarray, "N k"]) -> "Hidden":
        """A matrix of which nothing is revealed, for as many particles."""
        empty = like[:, :0]
        return cls(empty, empty, empty, empty, np.zeros((0, 0), like.dtype))

    def forward(
        self, phi: Float[np.ndarray, "N k"], met: Float[np.ndarray, "q k"]
    ) -> Float[np.ndarray, "N k"]:
        """W phi, without the fresh directions of what Q does not hold; ``met`` is <Q, phi>."""
        back = self.E.T @ phi / len(phi)
        return self.F @ (self.shrink * met) + self.S @ (self.shrink * back + self.M @ met)

    def backward(
        self, g: Float[np.ndarray, "N k"], met: Float[np.ndarray, "s k"]
    ) -> Float[np.ndarray, "N k"]:
        """W^T g, likewise; ``met`` is <S, g>."""
        back = self.F.T @ g / len(g)
        return self.E @ (self.shrink * met) + self.Q @ (self.shrink * back + self.M.T @ met)


@register
@dataclass(frozen=True, eq=False)
class Population:
    """All weights of one replicate, and orthonormal bases of what every layer has seen.

    Attributes
    ----------
    first
        First-layer weights in span coordinates, shape ``(N, rank)``.
    hidden
        The matrices between hidden layers.
    head
        Shape ``(N, C)``.
    seen
        One basis a layer, each ``(N, d)``.
    seed
        Of the noise of inputs outside of what was met.
    shrink
        Factor by which weight decay has scaled first-layer weights outside the span.
    """

    first: Float[np.ndarray, "N rank"]
    hidden: tuple[Hidden, ...]
    head: Float[np.ndarray, "N C"]
    seen: tuple[Float[np.ndarray, "N d"], ...]
    seed: int
    shrink: float = 1.0

    def top(self, points, phi) -> Float[np.ndarray, "N n"]:
        """phi(h_L) at any inputs, where only the law of each one by itself counts.

        What a matrix has not met is Gaussian noise of known size, independent of all else: one
        draw for all inputs.
        """
        rng, width = np.random.default_rng(self.seed), len(self.first)
        h = self.first @ points.inside.T.astype(self.first.dtype)
        if points.rho.any():
            h = h + self._one(rng, 0) * (self.shrink * points.rho).astype(h.dtype)
        for k, W in enumerate(self.hidden):
            up = phi(h)
            met = W.Q.T @ up / width
            size = W.shrink * np.sqrt(np.mean((up - W.Q @ met) ** 2, axis=0))
            h = W.forward(up, met) + self._one(rng, k + 1) * size
        return phi(h)

    def _one(self, rng, layer: int) -> Float[np.ndarray, "N 1"]:
        z = rng.standard_normal((len(self.first), 1), self.first.dtype)
        return fresh_of(z, self.seen[layer], len(z))

    def jointly(self, points, phi, slope):
        """h_l and g_l of every layer at any inputs with their joint law: ``(N, n)``, ``(N, n, C)``.

        A matrix is revealed along what it has not met, for this purpose alone: responses between
        inputs and gradients that it did not train on are there as well.
        """
        rng, (width, outputs) = np.random.default_rng(self.seed), self.head.shape
        inputs = points.orthogonal @ points.orthogonal.T
        h = [self.first @ points.inside.T.astype(self.first.dtype)]
        h[0] = h[0] + self.shrink * self._noise(rng, 0, *_principal(inputs))
        met_here = []
        for k, W in enumerate(self.hidden):
            up = phi(h[-1])
            met = W.Q.T @ up / width
            rest = up - W.Q @ met
            sizes, vectors = _principal(rest.T @ rest / width)
            F = self._noise(rng, k + 1, np.ones(len(sizes)), np.eye(len(sizes)))
            met_here.append((rest @ (vectors / sizes).astype(rest.dtype), F))
            fresh = F @ (sizes * vectors).T.astype(F.dtype)
            h.append(W.forward(up, met) + W.shrink * fresh)
        z = [self.head[:, [c]] for c in range(outputs)]
        gradients: list[np.ndarray] = []
        for k in reversed(range(len(h))):
            g = np.concatenate([slope(h[k]) * b for b in z], axis=1)
            gradients.insert(0, g.reshape(width, outputs, -1).transpose(0, 2, 1))
            if k:
                W, (Q, F) = self.hidden[k - 1], met_here[k - 1]
                met = W.S.T @ g / width
                rest = g - W.S @ met
                fresh = Q @ (F.T @ g / width)
                fresh = fresh + self._noise(rng, k - 1, *_principal(rest.T @ rest / width))
                z = np.split(W.backward(g, met) + W.shrink * fresh, outputs, axis=1)
        return h, gradients

    def _noise(self, rng, layer: int, sizes, vectors) -> Float[np.ndarray, "N n"]:
        """Gaussian columns with covariance ``vectors sizes^2 vectors^T``."""
        seen, dtype = self.seen[layer], self.first.dtype
        z = rng.standard_normal((len(self.first), len(sizes)), dtype)
        if seen.shape[1] + len(sizes) <= len(z) // 2:
            z = fresh_of(z, seen, len(z))
        return z @ (sizes * vectors).T.astype(dtype)


def _principal(covariance: Float[np.ndarray, "n n"]):
    """Standard deviations along principal axes, and the axes, but for those of rounding size."""
    values, vectors = np.linalg.eigh(covariance.astype(float))
    kept = values > 1e-6 * max(values[-1], 1e-6)
    return np.sqrt(values[kept]), vectors[:, kept]
