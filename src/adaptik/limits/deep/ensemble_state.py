"""Dense networks of all replicates between stages, and the predictor that they have learned."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...mathematics import sampling
from ...mathematics.activations import Activation
from ...mathematics.matched import PART, basis_of, conditioned, off, refreshed
from ...solution import Kernels, SpanState
from ...system.programs import on_device
from ...system.registry import register
from ...tasks.span import Span
from ...tasks.stages import Stage
from .dense import (
    DenseTerm,
    DenseWeights,
    Layers,
    compiled_raw,
    compiled_tangent,
    fields,
    phi_and_g,
)

BLOCK = 2**24  # numbers in one temporary array of hidden units


@register
@dataclass(frozen=True, eq=False)
class EnsembleState(SpanState):
    """Dense networks, and the predictor as a sum of terms.

    Attributes
    ----------
    activation, span
        phi, and the coordinates of inputs.
    weights
        Of all replicates.
    terms
        The predictor f.
    initial
        Whether nothing has been trained yet.
    step_error
        Sum of the estimates of the stages so far, which later ones inherit.
    """

    activation: Activation
    span: Span
    weights: DenseWeights
    terms: tuple[DenseTerm, ...] = ()
    initial: bool = False
    step_error: float = 0.0

    @classmethod
    def drawn(
        cls,
        rng: np.random.Generator,
        activation: Activation,
        span: Span,
        X: Float[np.ndarray, "n D"],
        outputs: int,
        sizes: tuple[int, int, int],
        dtype: str,
    ) -> "EnsembleState":
        """Networks at initialisation, with exact moments of the fields on X.

        ``sizes`` are the number of replicates, their width, and their hidden layers.
        """
        replicates, width, depth = sizes
        first, z = sampling.neurons(rng, replicates, width, span.rank, outputs)
        inside = span.points(X).inside
        drawn = [
            conditioned(rng, W @ inside.T, W, head, depth - 1, activation)
            for W, head in zip(first, z, strict=True)
        ]
        hidden = np.stack([U for U, _, _ in drawn], axis=1).astype(dtype)
        head = np.stack([w for _, w, _ in drawn]).astype(dtype)
        seed = int(rng.integers(2**31))
        weights = DenseWeights(first.astype(dtype), hidden, head, seed)
        return cls(activation, span, weights, initial=True)

    def scaled(self, factor):
        terms = tuple(replace(t, coefficient=factor * t.coefficient) for t in self.terms)
        return replace(self, terms=terms, step_error=abs(factor) * self.step_error)

    def moved(self, weights: DenseWeights, fade: float, added) -> "EnsembleState":
        """The state after a stage: terms faded, readout terms added, equal weights merged."""
        sums: dict[int, tuple[float, DenseWeights]] = {}
        kept = [replace(t, coefficient=fade * t.coefficient) for t in self.terms]
        for c, w in [*((t.coefficient, t.weights) for t in kept if not t.move), *added]:
            sums[id(w)] = (sums.get(id(w), (0.0, w))[0] + c, w)
        terms = [t for t in kept if t.move]
        rounding = 1e-12 * max((abs(c) for c, _ in added), default=0.0)
        terms += [DenseTerm(c, w) for c, w in sums.values() if abs(c) > rounding]
        return replace(self, weights=weights, terms=tuple(terms), initial=False)

    def with_fresh_head(self, rng: np.random.Generator, stage: Stage) -> "EnsembleState":
        """A new readout, orthogonal to the features of the stage's samples, and f = 0.

        Hidden matrices send its gradients back as those of an infinite network do.
        """
        outputs, w = stage.task.outputs, self.weights
        if self.initial and w.head.shape[-1] == outputs:
            return self
        inside, phi = self.span.training_points(stage.task.X), self.activation
        lower = fields(w.layers, on_device(inside), 0.0, phi.phi)
        hidden, heads = [], []
        for r in range(len(w.head)):
            h = [np.asarray(x[r], float).T for x in lower]
            z = rng.permutation(sampling.sobol_normal(rng, len(h[0]), outputs))
            top = basis_of(np.asarray(phi.phi(on_device(h[-1]))), len(z) // PART)
            heads.append(off(top, z))
            back = np.split(heads[-1], outputs, axis=1)
            hidden.append(refreshed(rng, w.hidden[:, r], h, back, phi))
        return self._anew(hidden, heads)

    def with_fresh_layers(self, rng: np.random.Generator, stage: Stage, kept: int):
        """New hidden layers above layer ``kept``, a new readout, and f = 0."""
        w, count, outputs = self.weights, len(self.weights.hidden) + 1 - kept, stage.task.outputs
        inside, phi = self.span.training_points(stage.task.X), self.activation
        lower = fields(w.layers, on_device(inside), 0.0, phi.phi)[:kept]
        hidden, heads = [], []
        for r in range(len(w.head)):
            h = [np.asarray(x[r], float).T for x in lower]
            z = rng.permutation(sampling.sobol_normal(rng, len(h[0]), outputs))
            new, head, back = conditioned(rng, h[-1], h[-1], z, count, phi)
            old = refreshed(rng, w.hidden[: kept - 1, r], h, back, phi)
            hidden.append(np.concatenate([old, new]))
            heads.append(head)
        return self._anew(hidden, heads)

    def _anew(self, hidden: list[np.ndarray], heads: list[np.ndarray]) -> "EnsembleState":
        """The state with these matrices and readouts of every replicate, and f = 0."""
        w = self.weights
        matrices = np.stack(hidden, axis=1).astype(w.head.dtype)
        head = np.stack(heads).astype(w.head.dtype)
        weights = replace(w, hidden=matrices, head=head)
        return replace(self, weights=weights, terms=(), initial=False)

    def predict(self, X):
        points = self.span.points(X)
        replicates, _, outputs = self.weights.head.shape
        total = np.zeros((replicates, len(X), outputs))
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            for rows in _blocks(len(X), self.weights):
                inside = points.inside[rows].astype(self.weights.first.dtype)
                for term in self.terms:
                    outside = term.weights.outside(points.orthogonal[rows])
                    layers, phi = term.weights.layers, self.activation.phi
                    if term.move:
                        move = Layers(*map(jnp.asarray, term.move))
                        value = compiled_tangent(layers, move, inside, outside, phi)
                    else:
                        value = compiled_raw(layers, inside, outside, phi)
                    total[:, rows] += term.coefficient * np.asarray(value, float)
        return total

    @property
    def hidden_layers(self):
        return len(self.weights.hidden) + 1

    def kernels(self, X, rows, columns):
        points, w = self.span.points(X), self.weights
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            phi, g = phi_and_g(
                w.layers, points.inside, w.outside(points.orthogonal), self.activation
            )
        phi = [np.swapaxes(np.asarray(a, float), 1, 2) for a in phi]
        g = [np.asarray(a, float).transpose(0, 3, 1, 2) for a in g]
        return Kernels.averaged(phi, g, rows, columns)

    def preactivations(self, X):
        points, w = self.span.points(X), self.weights
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            outside = w.outside(points.orthogonal)
            h = fields(w.layers, on_device(points.inside), outside, self.activation.phi)[-1]
        return np.asarray(h).transpose(0, 2, 1)


def _blocks(count: int, weights: DenseWeights):
    rows = max(1, BLOCK // (weights.first.shape[0] * weights.first.shape[1]))
    return [slice(i, i + rows) for i in range(0, count, rows)]
