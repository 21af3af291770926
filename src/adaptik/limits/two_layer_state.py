"""The two-layer limit at one time: the law of its particles and the predictor they carry."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .. import lazy_kernels
from ..activations import Activation
from ..estimate import leave_one_out, pseudo_values
from ..registry import register
from ..solution import AbstractState
from .averages import cross_kernels, mean_readout, sampled_fields
from .particle_flow import Law, tangent_readout
from .particles import Particles
from .span import Points, Span


@register
@dataclass(frozen=True, eq=False)
class ReadoutTerm:
    """coefficient * <z phi(h(x))>."""

    particles: Particles
    coefficient: float


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
        c, shape ``(replicates, P, outputs)`` for an analytic kernel. A sampled kernel is pooled
        over replicates, and c holds the solutions on :func:`leave_one_out` kernels, shape
        ``(1 + replicates, P, outputs)``: the predictions are jackknife pseudo-values.
    pooled
        Whether the kernel is sampled.
    """

    particles: Particles
    kind: str
    inputs: Float[np.ndarray, "P D"]
    dual: Float[np.ndarray, "duals P C"]
    pooled: bool = False


@register
@dataclass(frozen=True, eq=False)
class TangentTerm:
    """<u_z phi(h) + z phi'(h) u_h>: a lazy stage under weight decay."""

    particles: Particles
    move_w: Float[np.ndarray, "R M rank"]
    move_z: Float[np.ndarray, "R M C"]


def is_analytic(particles: Particles, kind: str) -> bool:
    """Whether a kernel follows from the Gaussian law at initialisation."""
    return particles.initial_features and (kind == "feature" or particles.initial_head)


@register
@dataclass(frozen=True, eq=False)
class TwoLayerState(AbstractState):
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

    def predict(self, X):
        points = self.span.points(X)
        shape = (self.particles.w.shape[0], len(X), self.particles.z.shape[-1])
        total = np.zeros(shape)
        for term in self.terms:
            total = total + self._evaluate(term, points)
        return total

    def _evaluate(self, term, points: Points) -> np.ndarray:
        match term:
            case ReadoutTerm():
                return term.coefficient * mean_readout(self.activation, term.particles, points)
            case KernelTerm():
                return self.apply_kernel(term, points, term.dual[None])[0]
        return self._tangent(term, points)

    def _tangent(self, term: TangentTerm, points: Points):
        p, dtype = term.particles, term.particles.w.dtype
        with jax.enable_x64(True):
            inside = jnp.asarray(points.inside, dtype)
            rho = jnp.asarray(points.rho * p.shrink, dtype)
            base = Law(jnp.asarray(p.w), jnp.asarray(p.z))
            move = Law(jnp.asarray(term.move_w), jnp.asarray(term.move_z))
            return np.asarray(
                tangent_readout(self.activation, base, move, inside, rho, points.smooth)
            )

    def apply_kernel(
        self, term: KernelTerm, points: Points, duals: Float[np.ndarray, "T duals P C"]
    ) -> Float[np.ndarray, "T R n C"]:
        """sum_mu K(x, x_mu) c_mu for several sets of dual coefficients at once."""
        training = self.span.points(term.inputs)
        outputs = duals.shape[-1]
        rows = max(1, 2_000_000 // (outputs * outputs * len(term.inputs)))
        blocks = []
        for start in range(0, len(points.inside), rows):
            cut = slice(start, start + rows)
            part = Points(points.inside[cut], points.rho[cut], points.orthogonal[cut])
            kernel, decoupled = self._frozen_kernels(term.particles, part, training, term.kind)
            if term.pooled:
                kernel = leave_one_out(kernel)
            rule = "rnp,trpc->rtnc" if decoupled else "rncpd,trpd->rtnc"
            f = np.einsum(rule, kernel, duals, optimize=True)
            blocks.append(np.swapaxes(pseudo_values(f) if term.pooled else f, 0, 1))
        return np.concatenate(blocks, axis=2)

    def _frozen_kernels(self, particles: Particles, points: Points, training: Points, kind: str):
        """A kernel, analytic where possible, and whether outputs decouple (see frozen_gram)."""
        if is_analytic(particles, kind):
            overlap = particles.shrink**2 * points.inside @ training.inside.T
            variances = (particles.shrink**2 * p.variance for p in (points, training))
            k11, k22 = variances
            feature, gradient = lazy_kernels.two_layer(self.activation, k11, overlap, k22)
            if kind == "ntk":
                feature = feature + gradient * (points.inside @ training.inside.T)
            replicates = particles.w.shape[0]
            return np.broadcast_to(feature, (replicates, *feature.shape)), True
        feature, _, ntk = cross_kernels(self.activation, particles, points, training)
        return (feature, True) if kind == "feature" else (ntk, False)

    def frozen_gram(self, kind: str, inputs: np.ndarray) -> tuple[np.ndarray, bool]:
        """Kernel of a stage with frozen kernel on its samples, and whether outputs decouple.

        Shape ``(R, P, P)`` where outputs decouple, else ``(R, P*C, P*C)``; an analytic kernel is
        the same for every replicate.
        """
        points = self.span.points(inputs)
        gram, decoupled = self._frozen_kernels(self.particles, points, points, kind)
        size = math.prod(gram.shape[1:]) // len(inputs) if decoupled else gram[0, :, :, 0, 0].size
        return gram.reshape(len(gram), size, size), decoupled

    def kernel(self, X, X2, kind):
        first = self.span.points(X)
        n = len(X)
        if X2 is None:
            points, rows, columns = first, slice(None), slice(None)
        else:
            second = self.span.points(X2)
            if not second.smooth:
                return self._pick(
                    cross_kernels(self.activation, self.particles, first, second), kind
                )
            if not first.smooth:
                swapped = self._pick(
                    cross_kernels(self.activation, self.particles, second, first), kind
                )
                axes = (0, 2, 1) if swapped.ndim == 3 else (0, 2, 1, 4, 3)
                return swapped.transpose(axes)
            points = self.span.points(np.concatenate([X, X2]))
            rows, columns = slice(0, n), slice(n, None)
        fields = sampled_fields(self.activation, self.particles, points, seed=0)
        inputs = points.inside @ points.inside.T + points.orthogonal @ points.orthogonal.T
        overlap = inputs[rows, columns]
        kernels = []
        for _, phi, g in fields:
            phi, g = phi.astype(float), g.astype(float)
            feature = phi[:, rows].T @ phi[:, columns] / len(phi)
            gradient = np.einsum("mnc,mpd->ncpd", g[:, rows], g[:, columns], optimize=True)
            gradient = gradient / len(phi)
            eye = np.eye(g.shape[-1])
            ntk = feature[:, None, :, None] * eye[:, None, :] + gradient * overlap[:, None, :, None]
            kernels.append((feature, gradient, ntk))
        return self._pick(tuple(np.stack(k) for k in zip(*kernels, strict=True)), kind)

    @staticmethod
    def _pick(kernels, kind: str):
        feature, gradient, ntk = kernels
        if kind == "feature":
            return feature
        full = gradient if kind == "gradient" else ntk
        full = full.transpose(0, 1, 3, 2, 4)
        return full[..., 0, 0] if full.shape[-1] == 1 else full

    def preactivations(self, X):
        points = self.span.points(X)
        fields = sampled_fields(self.activation, self.particles, points, seed=0)
        return np.stack([h for h, _, _ in fields])
