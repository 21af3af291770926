"""The two-layer limit at one time: the law of its particles and the predictor they carry."""

from dataclasses import dataclass

import jax
import numpy as np

from ...kernels import lazy as lazy_kernels
from ...kernels.particles.law import (
    Law,
    Particles,
    cross_kernels,
    mean_readout,
    sampled_fields,
    tangent_readout,
)
from ...kernels.particles.state import KernelTerm, ParticleState, ReadoutTerm, TangentTerm
from ...mathematics.activations import Activation
from ...solution import Kernels, SpanState
from ...system.devices import on_device
from ...system.registry import register
from ...tasks.span import Points, Span


@register
@dataclass(frozen=True, eq=False)
class TwoLayerState(SpanState, ParticleState):
    """Particles, and the predictor as a sum of terms.

    Attributes
    ----------
    activation, span
        phi, and the coordinates in which the particles live.
    particles
        The law of (h, z).
    bias
        b_r of the readout; the first layer's is that of the span.
    terms
        The predictor f; the derivation is in theory section 1 (heads and stages).
    """

    activation: Activation
    span: Span
    particles: Particles
    terms: tuple[ReadoutTerm | KernelTerm | TangentTerm, ...] = ()
    bias: float = 0.0

    def together(self, inputs, evaluate):
        return self.span.together(inputs, evaluate)

    def evaluate(self, term, X):
        points = self.span.points(X)
        if isinstance(term, ReadoutTerm):
            mean = mean_readout(self.activation, term.particles, points)
            return term.coefficient * (mean + self._constant(term.particles.c))
        return self._tangent(term, points) + self._constant(term.move_c)

    def _constant(self, c: np.ndarray | None):
        """What readouts of the constant feature add to <z phi>."""
        return 0.0 if c is None else self.bias * np.mean(c, 1, dtype=float)[:, None]

    def _tangent(self, term: TangentTerm, points: Points):
        p, dtype = term.particles, term.particles.w.dtype
        with jax.enable_x64(True):
            inside = on_device(points.inside, dtype)
            rho = on_device(points.rho * p.shrink, dtype)
            base = Law(on_device(p.w), on_device(p.z))
            move = Law(on_device(term.move_w), on_device(term.move_z))
            return np.asarray(
                tangent_readout(self.activation, base, move, inside, rho, points.smooth)
            )

    def frozen_kernel(self, particles, X, training, kind, estimator, reached=None):
        points, others = self.span.points(X), self.span.points(training)
        moved = others if reached is None else self.span.points(reached)
        if estimator == "analytic":
            overlap = particles.shrink**2 * points.inside @ others.inside.T
            variances = (particles.shrink**2 * p.variance for p in (points, others))
            k11, k22 = variances
            feature, gradient = lazy_kernels.two_layer(self.activation, k11, overlap, k22)
            if kind == "ntk":
                gradient = particles.head_scale**2 * gradient
                feature = feature + gradient * (points.inside @ moved.inside.T)
            feature = feature + self.bias**2
            return np.broadcast_to(feature, (particles.w.shape[0], *feature.shape))
        feature, _, ntk = cross_kernels(self.activation, particles, points, others, moved)
        if kind == "feature":
            return feature + self.bias**2
        return ntk + self.bias**2 * np.eye(ntk.shape[-1])[:, None]

    def feature_sum(self, X, dual):
        w = self.particles.w
        anchor = self.span.points(X).inside.astype(w.dtype)
        with jax.enable_x64(True):
            h = np.einsum("rmk,pk->rmp", w, anchor, optimize=True)
            phi = np.asarray(self.activation.phi(on_device(h)))
        return np.einsum("rmp,rpc->rmc", phi, np.broadcast_to(dual, (len(phi), *dual.shape[1:])))

    def kernels(self, X, rows, columns):
        first, second = self.span.points(X[rows]), self.span.points(X[columns])
        if rows != columns and not (first.smooth and second.smooth):
            feature, gradient, _ = cross_kernels(self.activation, self.particles, first, second)
            gradient = gradient.transpose(0, 1, 3, 2, 4)
            return Kernels(lambda layer: feature, lambda layer: gradient)
        fields = [[a.astype(float) for a in part] for part in zip(*self._sampled(X), strict=True)]
        return Kernels.averaged(fields[1:2], fields[2:], rows, columns)

    @property
    def biases(self):
        return self.span.bias, self.bias

    def preactivations(self, X):
        return np.stack([h for h, _, _ in self._sampled(X)])

    def _sampled(self, X) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        points, inputs = self.span.points(X), self.span.gram(X, X)
        return sampled_fields(self.activation, self.particles, points, inputs, seed=0)
