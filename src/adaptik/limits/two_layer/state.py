"""The two-layer limit at one time: the law of its particles and the predictor they carry."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import jax
import numpy as np
from jaxtyping import Float

from ...kernels import lazy as lazy_kernels
from ...kernels.particles import Particles, cross_kernels, mean_readout, row_blocks, sampled_fields
from ...mathematics.activations import Activation
from ...solution import Kernels, SpanState
from ...solution.estimate import leave_one_out, pseudo_values
from ...system.programs import on_device
from ...system.registry import register
from ...tasks.span import Points, Span
from .flow import Law, tangent_readout


@register
@dataclass(frozen=True, eq=False)
class ReadoutTerm:
    """coefficient * <z phi(h(x))>."""

    particles: Particles
    coefficient: float

    def scaled(self, factor: float) -> "ReadoutTerm":
        return replace(self, coefficient=factor * self.coefficient)


FrozenKind = Literal["feature", "ntk"]  # the readout moves, or all weights move lazily
Estimator = Literal["analytic", "pooled", "sampled"]


@register
@dataclass(frozen=True, eq=False)
class KernelTerm:
    """sum_mu K(x, x_mu) c_mu with a kernel frozen at some time.

    Attributes
    ----------
    kind
        ``"feature"`` (readout moves) or ``"ntk"`` (all weights move lazily).
    inputs
        The samples x_mu, shape ``(P, D)``.
    dual
        c, shape ``(replicates, P, outputs)``; for a pooled kernel the solutions on
        :func:`leave_one_out` kernels, shape ``(1 + replicates, P, outputs)``.
    estimator
        ``"analytic"``: the kernel at initialisation; ``"sampled"``: every replicate's own;
        ``"pooled"``: over replicates, the predictions being jackknife pseudo-values.
    """

    particles: Particles
    kind: FrozenKind
    inputs: Float[np.ndarray, "P D"]
    dual: Float[np.ndarray, "duals P C"]
    estimator: Estimator

    def scaled(self, factor: float) -> "KernelTerm":
        return replace(self, dual=factor * self.dual)


@register
@dataclass(frozen=True, eq=False)
class TangentTerm:
    """<u_z phi(h) + z phi'(h) u_h>: a lazy stage under weight decay."""

    particles: Particles
    move_w: Float[np.ndarray, "R M rank"]
    move_z: Float[np.ndarray, "R M C"]

    def scaled(self, factor: float) -> "TangentTerm":
        return replace(self, move_w=factor * self.move_w, move_z=factor * self.move_z)


def is_analytic(particles: Particles, kind: str) -> bool:
    """Whether a kernel follows from the Gaussian law at initialisation."""
    return particles.initial_features and (kind == "feature" or particles.initial_head)


@register
@dataclass(frozen=True, eq=False)
class TwoLayerState(SpanState):
    """Particles, and the predictor as a sum of terms.

    Attributes
    ----------
    activation, span
        phi, and the coordinates in which the particles live.
    particles
        The law of (h, z).
    terms
        The predictor f; the derivation is in theory section 1 (heads and stages).
    """

    activation: Activation
    span: Span
    particles: Particles
    terms: tuple[ReadoutTerm | KernelTerm | TangentTerm, ...] = ()

    def scaled(self, factor):
        return replace(self, terms=tuple(term.scaled(factor) for term in self.terms))

    def moved(self, particles: Particles, richness: float) -> "TwoLayerState":
        """f(t) = f(t1) + (<z phi>_t - <z phi>_{t1}) / gamma, terms at t1 merged."""
        terms, start = [], -1 / richness
        for term in self.terms:
            if isinstance(term, ReadoutTerm) and term.particles is self.particles:
                start += term.coefficient
            else:
                terms.append(term)
        if abs(start) > 1e-12 / richness:
            terms.append(ReadoutTerm(self.particles, start))
        terms.append(ReadoutTerm(particles, 1 / richness))
        return replace(self, particles=particles, terms=tuple(terms))

    def predict(self, X):
        shape = (self.particles.w.shape[0], len(X), self.particles.z.shape[-1])
        total = np.zeros(shape)
        for cut in row_blocks(len(X)):
            points = self.span.points(X[cut])
            for term in self.terms:
                if isinstance(term, KernelTerm):
                    total[:, cut] += self.apply_kernel(term, X[cut], term.dual[None])[0]
                else:
                    total[:, cut] += self._evaluate(term, points)
        return total

    def _evaluate(self, term: ReadoutTerm | TangentTerm, points: Points) -> np.ndarray:
        if isinstance(term, ReadoutTerm):
            return term.coefficient * mean_readout(self.activation, term.particles, points)
        return self._tangent(term, points)

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

    def apply_kernel(
        self,
        term: KernelTerm,
        X: Float[np.ndarray, "n D"],
        duals: Float[np.ndarray, "T duals P C"],
    ) -> Float[np.ndarray, "T R n C"]:
        """sum_mu K(x, x_mu) c_mu for several sets of dual coefficients at once."""
        training = self.span.points(term.inputs)
        outputs = duals.shape[-1]
        pooled = term.estimator == "pooled"
        blocks = []
        for cut in row_blocks(len(X), 2_000_000 // (outputs * outputs * len(term.inputs))):
            points = self.span.points(X[cut])
            kernel = self._frozen_kernel(
                term.particles, points, training, term.kind, term.estimator
            )
            if pooled:
                kernel = leave_one_out(kernel)
            rule = "rnp,trpc->rtnc" if kernel.ndim == 3 else "rncpd,trpd->rtnc"
            f = np.einsum(rule, kernel, duals, optimize=True)
            blocks.append(np.swapaxes(pseudo_values(f) if pooled else f, 0, 1))
        return np.concatenate(blocks, axis=2)

    def _frozen_kernel(
        self,
        particles: Particles,
        points: Points,
        training: Points,
        kind: FrozenKind,
        estimator: Estimator,
    ) -> np.ndarray:
        """A kernel of every replicate: (R, n, P) where outputs decouple, else (R, n, C, P, C)."""
        if estimator == "analytic":
            overlap = particles.shrink**2 * points.inside @ training.inside.T
            variances = (particles.shrink**2 * p.variance for p in (points, training))
            k11, k22 = variances
            feature, gradient = lazy_kernels.two_layer(self.activation, k11, overlap, k22)
            if kind == "ntk":
                feature = feature + gradient * (points.inside @ training.inside.T)
            return np.broadcast_to(feature, (particles.w.shape[0], *feature.shape))
        feature, _, ntk = cross_kernels(self.activation, particles, points, training)
        return feature if kind == "feature" else ntk

    def frozen_gram(
        self, kind: FrozenKind, inputs: np.ndarray, estimator: Estimator
    ) -> Float[np.ndarray, "R n n"]:
        """Kernel of a frozen stage on its samples: n is P where outputs decouple, else P*C.

        An analytic kernel is the same for every replicate.
        """
        points = self.span.points(inputs)
        gram = self._frozen_kernel(self.particles, points, points, kind, estimator)
        size = math.isqrt(gram[0].size)
        return gram.reshape(len(gram), size, size)

    def kernels(self, X, rows, columns):
        first, second = self.span.points(X[rows]), self.span.points(X[columns])
        if rows != columns and not (first.smooth and second.smooth):
            feature, gradient, _ = cross_kernels(self.activation, self.particles, first, second)
            gradient = gradient.transpose(0, 1, 3, 2, 4)
            return Kernels(lambda layer: feature, lambda layer: gradient)
        fields = [[a.astype(float) for a in part] for part in zip(*self._sampled(X), strict=True)]
        return Kernels.averaged(fields[1:2], fields[2:], rows, columns)

    def preactivations(self, X):
        return np.stack([h for h, _, _ in self._sampled(X)])

    def _sampled(self, X) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        points, inputs = self.span.points(X), X @ X.T / X.shape[1]
        return sampled_fields(self.activation, self.particles, points, inputs, seed=0)
