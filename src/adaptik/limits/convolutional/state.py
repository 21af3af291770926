"""The convolutional limit at one time: the law of its filters and the predictor they carry."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from ...kernels import lazy as lazy_kernels
from ...kernels.particles.law import Law, Particles, row_blocks
from ...kernels.particles.state import ParticleState, ReadoutTerm, Term
from ...mathematics.activations import Activation
from ...solution import Kernels
from ...system.devices import on_device
from ...system.errors import InputError
from ...system.registry import register
from ...tasks.patches import Patches
from ...tasks.span import Span
from .flow import (
    Filters,
    Images,
    features_and_gradients,
    outside,
    predictions,
    tangents,
)

EVERY, WEIGHTS, BIAS = slice(None), slice(-1), slice(-1, None)  # parts of gradients
PAIRS = 2**21  # of patches whose analytic kernel is evaluated at once
FIELDS = 2**24  # numbers in a block of pooled fields


@register
@dataclass(frozen=True, eq=False)
class ConvolutionalState(ParticleState):
    """Filters, and the predictor as a sum of terms.

    Attributes
    ----------
    activation, patches, span
        phi, what filters look at, and the coordinates in which they live.
    particles
        The law of (w, z): filters in span coordinates, and readouts with one column for every
        output, or without pooling one for every patch and output.
    terms
        The predictor f; the derivation is in theory section 1 (heads and stages).
    """

    activation: Activation
    patches: Patches
    span: Span
    particles: Particles
    terms: tuple[Term, ...] = ()

    @property
    def heads(self) -> int:
        return self.patches.heads

    @property
    def filters(self) -> Filters:
        """What they compute."""
        return Filters.of(self.activation, self.patches)

    def check_task(self, i, task):
        if outside(self.patches, self.span, task.X).any():
            raise InputError(
                f"stage {i}: the stage trains on patches outside the span of the earlier solve; "
                "pass its task in observe= when solving the earlier stages"
            )

    def together(self, inputs, evaluate):
        values = evaluate(np.concatenate(list(inputs.values())))
        ends = np.cumsum([len(X) for X in inputs.values()])[:-1]
        return dict(zip(inputs, np.split(values, ends, axis=-2), strict=True))

    def _images(self, X: Float[np.ndarray, "n D"], dtype, shrink: float | None) -> Images:
        """Images in coordinates of the span, ``shrink`` scaling what lies outside, or in all."""
        if shrink is None:
            return Images.of(self.patches, Span(np.eye(self.patches.dimension)), X, dtype)
        return Images.of(self.patches, self.span, X, dtype, shrink)

    def evaluate(self, term, X):
        p, filters = term.particles, self.filters
        with jax.enable_x64(True):
            law = Law(on_device(p.w), on_device(p.z))
            images = self._images(X, p.w.dtype, p.shrink)
            if isinstance(term, ReadoutTerm):
                return term.coefficient * np.asarray(_predictions(filters, law, images))
            move = Law(on_device(term.move_w), on_device(term.move_z))
            return np.asarray(_tangents(filters, law, move, images))

    def feature_sum(self, X, dual):
        dual = np.broadcast_to(dual, (len(self.particles.w), *dual.shape[1:]))
        found = []
        for law, c in zip(self._laws(self.particles), dual, strict=True):
            total = np.zeros((law.w.shape[1], self.patches.heads, self.outputs))
            for cut, (pooled, _) in self._fields(law, X, self.particles.shrink):
                total += np.einsum("bmh,bc->mhc", pooled, c[cut])
            found.append(total.reshape(law.z.shape[1:]))
        return np.stack(found)

    def frozen_kernel(self, particles, X, training, kind, estimator, reached=None):
        assert reached is None  # low-rank stages are not computed
        if estimator == "analytic":
            feature, weights = self._analytic(particles, X, training)
            weights = particles.head_scale**2 * weights
            kernel = feature + weights if kind == "ntk" else feature
            return np.broadcast_to(kernel, (particles.w.shape[0], *kernel.shape))
        laws = self._laws(particles)
        feature, weights = self._averaged(laws, X, training, particles.shrink)
        return feature if kind == "feature" else _with_outputs(feature, weights)

    def _analytic(self, particles: Particles, X, training) -> tuple[np.ndarray, np.ndarray]:
        """Phi and what filters add to the NTK at initialisation, each (n, P)."""
        patches, shrink = self.patches, particles.shrink**2
        d, heads = patches.dimension, patches.heads
        seen = patches.count // heads
        second = patches.of(training).reshape(len(training), heads, seen, d)
        size2 = shrink * np.einsum("nhsd,nhsd->nhs", second, second) / d
        feature, weights = np.empty((2, len(X), len(training)))
        rows = max(1, PAIRS // (seen * seen * len(training)))
        for cut in row_blocks(len(X), rows):
            totals = [0.0, 0.0]
            first = patches.of(X[cut]).reshape(-1, heads, seen, d)
            size1 = shrink * np.einsum("nhsd,nhsd->nhs", first, first) / d
            for h in range(heads):
                a, b = first[:, h].reshape(-1, d), second[:, h].reshape(-1, d)
                overlap = a @ b.T / d
                pair = lazy_kernels.two_layer(
                    self.activation, size1[:, h].ravel(), shrink * overlap, size2[:, h].ravel()
                )
                for i, values in enumerate((pair[0], pair[1] * overlap)):
                    each = values.reshape(len(first), seen, len(training), seen)
                    totals[i] = totals[i] + each.sum((1, 3))
            feature[cut], weights[cut] = (patches.scale**2 * total for total in totals)
        return feature, weights

    def _laws(self, particles: Particles) -> list[Law]:
        """Of each replicate."""
        return _on_device(particles.w, particles.z)

    def _fields(
        self, law: Law, X: np.ndarray, shrink: float | None
    ) -> Iterator[tuple[slice, tuple[np.ndarray, np.ndarray]]]:
        """Slices of X with pooled features (b, M, H) and gradients (b, C, M, k) of a replicate.

        Without ``shrink`` the law is that of whole filters, whose gradients end in one for a bias.
        """
        particles, size = law.w.shape[1:]
        numbers = particles * (self.outputs * size + self.patches.heads + self.patches.count)
        for cut in row_blocks(len(X), FIELDS // numbers):
            with jax.enable_x64(True):
                images = self._images(X[cut], law.w.dtype, shrink)
                fields = _features(self.filters, law, images, shrink is None)
                pooled, gradients = (np.asarray(part)[:, 0] for part in fields)
            yield cut, (pooled, gradients)

    def _averaged(
        self,
        laws: list[Law],
        X: np.ndarray,
        others: np.ndarray,
        shrink: float | None,
        part: slice = EVERY,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Phi (R, n, m) and averages of a part of the gradients (R, n, C, m, C).

        Exact in what lies outside the span where one kind of inputs has nothing there.
        """
        found = []
        for law in laws:
            rows = []
            for _, first in self._fields(law, X, shrink):
                blocks = [
                    _products(first, second, part)
                    for _, second in self._fields(law, others, shrink)
                ]
                feature, gradient = zip(*blocks, strict=True)
                rows.append((np.concatenate(feature, 1), np.concatenate(gradient, 2)))
            found.append([np.concatenate(kind) for kind in zip(*rows, strict=True)])
        feature, gradient = (np.stack(kind) for kind in zip(*found, strict=True))
        if X is others:  # symmetric up to rounding
            feature = (feature + feature.swapaxes(1, 2)) / 2
            gradient = (gradient + gradient.transpose(0, 3, 4, 1, 2)) / 2
        return feature, gradient

    def kernels(self, X, rows, columns):
        first = X[rows]
        second, laws = first if rows == columns else X[columns], self._whole()

        def found(kind: int) -> np.ndarray:
            return self._averaged(laws, first, second, None, BIAS)[kind]

        return Kernels(lambda layer: found(0), lambda layer: found(1).transpose(0, 1, 3, 2, 4))

    def ntk(self, X, X2=None, frozen=0):
        """Phi, and the kernel of all patches' pushes: no product of a kernel with x.x'/D."""
        others = X if X2 is None else X2
        full = _with_outputs(*self._averaged(self._whole(), X, others, None, WEIGHTS))
        return full if self.outputs == 1 else full.transpose(0, 1, 3, 2, 4)

    def preactivations(self, X):
        """Those of all patches: ``members, particles * patches, n``."""
        found = []
        for law in self._whole():
            flat = self.patches.of(X) / np.sqrt(self.patches.dimension)
            h = np.einsum("md,nqd->mqn", np.asarray(law.w[0]), flat, optimize=True)
            found.append(h.reshape(-1, len(X)))
        return np.stack(found)

    def _whole(self) -> list[Law]:
        """Of each replicate, with filters in all coordinates of a patch.

        Those outside the span of the training patches are drawn, for every call alike.
        """
        p, basis = self.particles, self.span.basis
        rng, whole = np.random.default_rng(0), []
        for w in p.w:
            full = w @ basis.T
            if len(basis) > self.span.rank:
                xi = rng.standard_normal((len(w), len(basis)))
                full = full + p.shrink * (xi - xi @ basis @ basis.T)
            whole.append(full.astype(w.dtype))
        return _on_device(whole, p.z)


def _on_device(w: Iterable[np.ndarray], z: Iterable[np.ndarray]) -> list[Law]:
    """Laws of one replicate each."""
    with jax.enable_x64(True):
        return [Law(on_device(a[None]), on_device(b[None])) for a, b in zip(w, z, strict=True)]


def _with_outputs(feature, weights) -> Float[np.ndarray, "R n C m C"]:
    """The NTK, (R, n, m) where there is one output."""
    if weights.shape[-1] == 1:
        return feature + weights[:, :, 0, :, 0]
    return weights + feature[:, :, None, :, None] * np.eye(weights.shape[-1])[:, None, :]


def _products(first, second, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """Averages over the particles of one replicate: (b, n) and (b, C, n, C)."""
    (phi, g), (phi2, g2) = first, second
    (_, particles, _), (_, outputs, _, _) = phi.shape, g.shape

    def rows(a: np.ndarray) -> np.ndarray:
        return a[..., part].reshape(len(a) * outputs, -1)

    feature = phi.reshape(len(phi), -1) @ phi2.reshape(len(phi2), -1).T
    gradient = rows(g) @ (rows(g2)).T
    gradient = gradient.reshape(len(g), outputs, len(g2), outputs)
    return feature.astype(float) / particles, gradient.astype(float) / particles


_predictions = eqx.filter_jit(predictions)
_tangents = eqx.filter_jit(tangents)


@eqx.filter_jit
def _features(filters: Filters, law: Law, images: Images, bias: bool):
    return features_and_gradients(filters, law, images, 0, images.count, bias)
