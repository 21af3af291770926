"""Linear neurons at one time, in an infinitely wide network: jointly Gaussian."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from ..solution import Kernels, SpanState
from ..system.registry import register
from ..tasks.span import Span

NEURONS = 4096  # drawn where samples of single neurons are asked for


class AbstractLinearState(SpanState):
    """Linear neurons at one time: jointly Gaussian, with the predictor f(x) = beta.x."""

    exact: ClassVar[bool] = True

    beta: Float[np.ndarray, "rank C"]

    def predict(self, X):
        return (self.span.points(X).inside @ self.beta)[None]

    def preactivations(self, X):
        values, vectors = np.linalg.eigh(self.kernel(X, None, "feature")[0])
        factor = vectors * np.sqrt(np.maximum(values, 0.0))
        return (np.random.default_rng(0).standard_normal((NEURONS, len(values))) @ factor.T)[None]


@register
@dataclass(frozen=True, eq=False)
class LinearState(AbstractLinearState):
    """Second moments of (w, z) in span coordinates, and the predictor f(x) = beta.x + c.

    Attributes
    ----------
    span
        The coordinates; orthogonal to them ``<w w'>`` is ``shrink**2`` times the identity.
    M, v, A
        ``<w w'>`` (rank, rank), ``<w z>`` (rank, C) and ``<z z'>`` (C, C).
    beta
        Shape ``(rank, C)``.
    c
        The readout's bias, where it has one, shape ``(C,)``.
    bias
        b_r of the readout; the first layer's is that of the span.
    """

    span: Span
    M: Float[np.ndarray, "rank rank"]
    v: Float[np.ndarray, "rank C"]
    A: Float[np.ndarray, "C C"]
    beta: Float[np.ndarray, "rank C"]
    shrink: float = 1.0
    c: Float[np.ndarray, " C"] | None = None
    bias: float = 0.0

    def scaled(self, factor):
        c = None if self.c is None else factor * self.c
        return replace(self, beta=factor * self.beta, c=c)

    def predict(self, X):
        f = super().predict(X)
        return f if self.c is None else f + self.c

    @property
    def biases(self):
        return self.span.bias, self.bias

    def kernels(self, X, rows, columns):
        a, b = (self.span.points(X[each]).inside for each in (rows, columns))
        inputs = self.span.gram(X[rows], X[columns])
        feature = a @ self.M @ b.T + self.shrink**2 * (inputs - a @ b.T)
        gradient = np.broadcast_to(self.A, (1, *inputs.shape, *self.A.shape))
        return Kernels(lambda layer: feature[None], lambda layer: gradient)
