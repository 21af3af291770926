"""Dense networks of all replicates between stages, and the predictor that they have learned."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...mathematics import sampling
from ...mathematics.activations import Activation, Elementwise
from ...mathematics.biases import NONE
from ...mathematics.matched import PART, basis_of, conditioned, off, refreshed
from ...solution import Kernels, SpanState
from ...system.devices import on_device
from ...system.registry import register
from ...tasks.span import Span
from ...tasks.stages import Stage

BLOCK = 2**24  # numbers in one temporary array of hidden units


class Layers(NamedTuple):
    """All weights: h_1 = W a(x), h_{l+1} = U_l phi(h_l), <z phi> = head.phi(h_L)/N.

    Where there are biases they are added, of standard deviation b to h_2 .. h_L, and to <z phi>.
    """

    first: Float[Array, "R N rank"]
    hidden: Float[Array, "L-1 R N N"]
    head: Float[Array, "R N C"]
    biases: Float[Array, "L-1 R N"] | None = None
    c: Float[Array, "R C"] | None = None


def fields(layers: Layers, inside, outside, phi: Elementwise) -> list[Array]:
    """h_1 .. h_L, each ``(R, n, N)``; ``outside`` is what inputs outside the span add to h_1."""
    h = [jnp.einsum("pk,rmk->rpm", inside, layers.first) + outside]
    for k, U in enumerate(layers.hidden):
        h.append(jnp.einsum("rmk,rpk->rpm", U, phi(h[-1])))
        if layers.biases is not None:
            h[-1] = h[-1] + layers.biases[k][:, None]
    return h


def raw(layers: Layers, inside, outside, phi: Elementwise) -> Float[Array, "R n C"]:
    """<z phi(h_L)>."""
    top = phi(fields(layers, inside, outside, phi)[-1])
    mean = jnp.einsum("rpm,rmc->rpc", top, layers.head) / layers.head.shape[1]
    return mean if layers.c is None else mean + layers.c[:, None]


def tangent(layers: Layers, move: Layers, inside, outside, phi: Elementwise):
    """Derivative of :func:`raw` along ``move``."""
    return jax.jvp(lambda w: raw(w, inside, outside, phi), (layers,), (move,))[1]


def trained(layers: Layers, frozen: int) -> Layers:
    """1 for layers above the first ``frozen`` hidden ones and 0 for the others, to multiply by."""
    hidden = (np.arange(len(layers.hidden)) + 1 >= frozen).astype(layers.head.dtype)
    one = layers.head.dtype.type(1)
    biases = None if layers.biases is None else hidden[:, None, None]
    matrices, c = hidden[:, None, None, None], None if layers.c is None else one
    return Layers(one * (frozen == 0), matrices, one, biases, c)  # pyright: ignore[reportArgumentType]


def pull_back(
    layers: Layers,
    signal,
    inside,
    phi: Elementwise,
    frozen: int,
    biases: tuple[float, float] = NONE,
) -> Layers:
    """How weights above the frozen layers answer an error signal ``(R, P, C)`` at richness 1."""
    gradient = jax.vjp(lambda w: raw(w, inside, 0.0, phi), layers)[1](signal)[0]
    width, (b, b_r) = layers.head.shape[1], biases
    rates = Layers(width, 1, width, width * b**2, b_r**2)  # pyright: ignore[reportArgumentType]
    on = trained(layers, frozen)
    return jax.tree.map(lambda g, k, m: k * g * m, gradient, _like(gradient, rates), on)


def _like(layers: Layers, numbers: Layers) -> Layers:
    """The numbers of those that there are."""
    return Layers(*(n if w is not None else None for w, n in zip(layers, numbers, strict=True)))  # pyright: ignore[reportArgumentType]


compiled_raw = partial(jax.jit, static_argnums=3)(raw)
compiled_tangent = partial(jax.jit, static_argnums=4)(tangent)
compiled_pull_back = partial(jax.jit, static_argnums=(3, 4, 5))(pull_back)


@partial(jax.jit, static_argnums=3)
def phi_and_g(layers: Layers, inside, outside, activation: Activation):
    """phi(h_l), each ``(R, n, N)``, and g_l, each ``(R, n, C, N)``, for every layer."""
    h = fields(layers, inside, outside, activation.phi)
    z = layers.head.transpose(0, 2, 1)[:, None]
    gradients = []
    for k in reversed(range(len(h))):
        g = activation.derivative(h[k])[:, :, None, :] * z
        gradients.insert(0, g)
        z = jnp.einsum("rpcm,rmk->rpck", g, layers.hidden[k - 1]) if k else z
    return [activation.phi(x) for x in h], gradients


@register
@dataclass(frozen=True, eq=False)
class DenseWeights:
    """Weights of all replicates at one time.

    Attributes
    ----------
    first, hidden, head
        Shapes ``(R, N, rank)``, ``(L - 1, R, N, N)`` and ``(R, N, C)``.
    seed
        Of the first-layer weights of directions outside the span, which never learn.
    shrink
        Factor by which weight decay has scaled those.
    biases, c
        Of hidden layers above the first, ``(L - 1, R, N)``, and what one of the readout adds to
        <z phi>, ``(R, C)``.
    """

    first: Float[np.ndarray, "R N rank"]
    hidden: Float[np.ndarray, "L-1 R N N"]
    head: Float[np.ndarray, "R N C"]
    seed: int
    shrink: float = 1.0
    biases: Float[np.ndarray, "L-1 R N"] | None = None
    c: Float[np.ndarray, "R C"] | None = None

    @property
    def layers(self) -> Layers:
        own = Layers(self.first, self.hidden, self.head, self.biases, self.c)  # pyright: ignore[reportArgumentType]
        return jax.tree.map(jnp.asarray, own)

    def with_layers(self, layers: Layers, shrink: float) -> "DenseWeights":
        """The same neurons with what has become of their weights."""
        return replace(self, **layers._asdict(), shrink=shrink)

    def outside(self, orthogonal: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "R n N"]:
        """What parts outside the span add to h_1."""
        replicates, width, _ = self.first.shape
        if not orthogonal.any():
            return np.zeros((replicates, 1, 1), self.first.dtype)
        rng = np.random.default_rng(self.seed)
        rows = [rng.standard_normal((orthogonal.shape[1], width)) for _ in range(replicates)]
        return np.stack([self.shrink * orthogonal @ W for W in rows]).astype(self.first.dtype)


@register
@dataclass(frozen=True, eq=False)
class DenseTerm:
    """coefficient * <z phi(h_L)>, or its derivative along ``move`` (shaped like the layers)."""

    coefficient: float
    weights: DenseWeights
    move: tuple[Any, ...] = ()


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
    bias
        b of hidden layers and b_r of the readout.
    """

    activation: Activation
    span: Span
    weights: DenseWeights
    terms: tuple[DenseTerm, ...] = ()
    initial: bool = False
    step_error: float = 0.0
    bias: tuple[float, float] = NONE

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
        bias: tuple[float, float] = NONE,
    ) -> "EnsembleState":
        """Networks at initialisation, with exact moments of the fields on X.

        ``sizes`` are the number of replicates, their width, and their hidden layers; the span has
        the bias of the first layer.
        """
        replicates, width, depth = sizes
        first, z = sampling.neurons(rng, replicates, width, span.rank, outputs)
        _, distinct = np.unique(X, axis=0, return_index=True)  # tasks may share inputs
        inside = span.points(X[np.sort(distinct)]).inside
        drawn = [
            conditioned(rng, W @ inside.T, W, head, depth - 1, activation, bias[0])
            for W, head in zip(first, z, strict=True)
        ]
        hidden = np.stack([U for U, _, _, _ in drawn], axis=1).astype(dtype)
        head = np.stack([w for _, w, _, _ in drawn]).astype(dtype)
        seed = int(rng.integers(2**31))
        weights = DenseWeights(first.astype(dtype), hidden, head, seed)
        if bias[0]:
            biases = np.stack([beta for _, _, _, beta in drawn], axis=1).astype(dtype)
            weights = replace(weights, biases=biases)
        if bias[1]:
            weights = replace(weights, c=np.zeros((replicates, outputs), dtype))
        return cls(activation, span, weights, initial=True, bias=bias)

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
        hidden, heads, drawn = [], [], []
        for r in range(len(w.head)):
            h = [np.asarray(x[r], float).T for x in lower]
            z = rng.permutation(sampling.sobol_normal(rng, len(h[0]), outputs))
            new, head, back, beta = conditioned(rng, h[-1], h[-1], z, count, phi, self.bias[0])
            old = refreshed(rng, w.hidden[: kept - 1, r], h, back, phi)
            hidden.append(np.concatenate([old, new]))
            heads.append(head)
            drawn.append(beta)
        if w.biases is not None:
            fresh = np.stack(drawn, axis=1).astype(w.biases.dtype)
            w = replace(w, biases=np.concatenate([w.biases[: kept - 1], fresh]))
        return replace(self, weights=w)._anew(hidden, heads)

    def _anew(self, hidden: list[np.ndarray], heads: list[np.ndarray]) -> "EnsembleState":
        """The state with these matrices and readouts of every replicate, and f = 0."""
        w = self.weights
        matrices = np.stack(hidden, axis=1).astype(w.head.dtype)
        head = np.stack(heads).astype(w.head.dtype)
        c = None if w.c is None else np.zeros_like(head[:, 0])
        weights = replace(w, hidden=matrices, head=head, c=c)
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
                        move = jax.tree.map(jnp.asarray, Layers(*term.move))
                        value = compiled_tangent(layers, move, inside, outside, phi)
                    else:
                        value = compiled_raw(layers, inside, outside, phi)
                    total[:, rows] += term.coefficient * np.asarray(value, float)
        return total

    @property
    def hidden_layers(self):
        return len(self.weights.hidden) + 1

    @property
    def biases(self):
        return self.bias

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
