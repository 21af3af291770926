"""A finite-width network in mean-field (muP) scaling, its predictor and its empirical kernels.

    h_1 = W_0 x / sqrt(D),   h_{l+1} = W_l phi(h_l) / sqrt(N),   raw(x) = head^T phi(h_L) / N

with all weights N(0, 1) at the start; a stage of richness gamma predicts with raw/gamma, centred
(theory section 1). Everything here evaluates in float64, whatever the network trains in.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..mathematics import activations
from ..mathematics.activations import Activation, Elementwise
from ..solution import AbstractState, Cost, Kernels, Outcome
from ..system.errors import require_between, require_integers, require_one_of
from ..system.registry import register
from . import convolution
from .convolution import Windows, is_convolutional

Layers = tuple[Array, ...]  # W_0 (N, D), W_1 .. W_{L-1} (N, N), head (N, C)

BLOCK = 2**24  # numbers in one temporary array of hidden units


@dataclass(frozen=True)
class Network:
    """A network of finite width to train.

    Attributes
    ----------
    width
        Units N of every hidden layer.
    activation
        Name, :class:`adaptik.activations.Activation`, or elementwise JAX function.
    depth
        Number of hidden layers L.
    dtype
        ``"float32"`` or ``"float64"``: in which weights are trained and kept.
    tol
        Error of one time step in units of the labels (:attr:`adaptik.Stage.unit`).

    Raises
    ------
    InputError
        For values out of range.

    Examples
    --------
    >>> network = Network(width=512, activation="tanh", depth=2)
    >>> network.phi.name, network.describe()["depth"]
    ('tanh', 2)
    >>> rng = np.random.default_rng(0)
    >>> [W.shape for W in network.initial_hidden(10, rng)], network.initial_head(3, rng).shape
    ([(512, 10), (512, 512)], (512, 3))
    """

    width: int
    activation: Activation | Elementwise | str = "relu"
    depth: int = 1
    dtype: str = "float32"
    tol: float = 1e-3

    def __post_init__(self):
        object.__setattr__(self, "activation", activations.get(self.activation))
        require_integers(1, width=self.width, depth=self.depth)
        require_one_of(("float32", "float64"), dtype=self.dtype)
        require_between(0, 1, tol=self.tol)

    @property
    def phi(self) -> Activation:
        """The activation, resolved."""
        assert isinstance(self.activation, Activation)  # __post_init__ has seen to it
        return self.activation

    def describe(self) -> dict[str, Any]:
        """The fields as plain values."""
        name = self.phi.name
        fields = dict(width=self.width, activation=name, depth=self.depth)
        return fields | dict(dtype=self.dtype, tol=self.tol)

    def initial_hidden(self, dimension: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Standard normal hidden weights: ``(N, D)`` and ``depth - 1`` times ``(N, N)``."""
        columns = [dimension, *[self.width] * (self.depth - 1)]
        return tuple(self._normal(rng, n) for n in columns)

    def initial_head(self, outputs: int, rng: np.random.Generator) -> np.ndarray:
        """A standard normal head ``(N, C)``."""
        return self._normal(rng, outputs)

    def _normal(self, rng: np.random.Generator, columns: int) -> np.ndarray:
        # Drawn in float64 so that both dtypes start from the same network.
        return rng.standard_normal((self.width, columns)).astype(self.dtype)


def preactivations(hidden: Layers, X: Float[Array, "n D"], phi: Elementwise) -> list[Array]:
    """h_1 .. h_L, each of shape ``(n, N)``; ``hidden`` is all layers but the head."""
    h = [X @ hidden[0].T / math.sqrt(X.shape[1])]
    for W in hidden[1:]:
        h.append(phi(h[-1]) @ W.T / math.sqrt(W.shape[1]))
    return h


def raw(layers: Layers, X: Float[Array, "n D"], phi: Elementwise) -> Float[Array, "n C"]:
    """head^T phi(h_L) / N: the predictor of richness 1 before centring."""
    if is_convolutional(layers, X):
        return convolution.raw(layers, X, phi)
    *hidden, head = layers
    return phi(preactivations(tuple(hidden), X, phi)[-1]) @ head / head.shape[0]


def tangent(
    layers: Layers, direction: Layers, X: Float[Array, "n D"], phi: Elementwise
) -> Float[Array, "n C"]:
    """Derivative of :func:`raw` as the weights move along ``direction``."""
    return jax.jvp(lambda w: raw(w, X, phi), (layers,), (direction,))[1]


def only_above(frozen: int, layers: Layers) -> Layers:
    """Zeros in the place of the first ``frozen`` layers."""
    return (*(jnp.zeros_like(W) for W in layers[:frozen]), *layers[frozen:])


@register
@dataclass(frozen=True, eq=False)
class Weights:
    """All weights of one network, input side first.

    Attributes
    ----------
    layers
        W_0 ``(N, D)``, W_1 .. W_{L-1} ``(N, N)``, head ``(N, C)``.

    Examples
    --------
    >>> Weights((np.ones((4, 2)), np.ones((4, 1)))).layers[-1].shape
    (4, 1)
    """

    layers: tuple[np.ndarray, ...]


@register
@dataclass(frozen=True, eq=False)
class Term:
    """One term of a predictor: coefficient * raw(x), or its derivative along a direction.

    A kernel predictor sum_mu K(x, x_mu) c_mu on the empirical NTK is the derivative along
    N sum_mu c_mu d raw(x_mu)/d theta; storing that direction costs no training data.

    Attributes
    ----------
    coefficient
        Factor in front.
    weights
        Where raw is evaluated.
    direction
        Empty for raw itself, else shaped like ``weights.layers``.

    Examples
    --------
    >>> Term(0.5, Weights((np.ones((4, 2)), np.ones((4, 1))))).direction
    ()
    """

    coefficient: float
    weights: Weights
    direction: tuple[np.ndarray, ...] = ()


@register
@dataclass(frozen=True, eq=False)
class Member:
    """One seed's network and the predictor it has learned: a sum of terms.

    Earlier weights stay in the terms where centring or an earlier stage needs them.

    Examples
    --------
    >>> weights = Weights((np.ones((4, 2)), np.ones((4, 1))))  # four equal neurons
    >>> member = Member(weights, (Term(1.0, weights),))
    >>> X = np.array([[2.0**0.5, 0.0]])  # h = 1
    >>> member.predict(X, activations.get("relu")).round(6).tolist()
    [[1.0]]
    >>> member.scaled(3.0).predict(X, activations.get("relu")).round(6).tolist()
    [[3.0]]
    """

    weights: Weights
    terms: tuple[Term, ...] = ()

    def scaled(self, factor: float) -> "Member":
        """The same network with a predictor ``factor`` times as large."""
        return Member(self.weights, combine((factor, self.terms)))

    def predict(self, X: Float[np.ndarray, "n D"], activation: Activation) -> np.ndarray:
        """f(x), shape ``(n, C)``."""
        head = self.weights.layers[-1]
        total = np.zeros((len(X), head.shape[-1]))
        for term in self.terms:

            def value(x, term=term):
                return _term(term.weights.layers, term.direction, x, activation)

            total += term.coefficient * in_batches(value, X, self.weights)
        return total


@dataclass(frozen=True, eq=False)
class Run:
    """One stage of one seed.

    Attributes
    ----------
    times
        Record times reached and the end, shape ``(T,)``.
    predictions
        f on all recorded inputs, shape ``(T, n, C)``.
    loss, rate
        Training loss at the end and its rate of decrease.
    outcome, cost
        How it ended and what it took.
    end, snapshots
        The network at the end, and at the snapshot times reached.
    """

    times: np.ndarray
    predictions: np.ndarray
    loss: float
    rate: float
    outcome: Outcome
    cost: Cost
    end: Member
    snapshots: dict[float, Member]


def combine(*groups: tuple[float, Sequence[Term]]) -> tuple[Term, ...]:
    """Sum of terms with factors; raw terms at the same weights merge, and zeros drop out."""
    merged: list[Term] = []
    largest = max((abs(c * term.coefficient) for c, terms in groups for term in terms), default=0.0)
    for factor, terms in groups:
        for term in terms:
            added = Term(factor * term.coefficient, term.weights, term.direction)
            for i, other in enumerate(merged):
                if other.weights is added.weights and not (other.direction or added.direction):
                    total = other.coefficient + added.coefficient
                    merged[i] = Term(total, other.weights)
                    break
            else:
                merged.append(added)
    # Terms that cancel leave rounding where they were scaled to another unit in between.
    return tuple(
        term for term in merged if abs(term.coefficient) > 1e-14 * (not term.direction) * largest
    )


@register
@dataclass(frozen=True, eq=False)
class NetworkState(AbstractState):
    """The networks of all seeds at one time.

    Attributes
    ----------
    activation
        phi.
    members
        One per seed.
    windows
        How images are cut, of convolutional networks.

    Examples
    --------
    >>> import adaptik as ak
    >>> task = ak.Task([[1.0, 0.5], [-0.5, 1.0]], [-1, 1])
    >>> state = ak.train([ak.Stage(task, 0.0)], ak.Network(width=64), seeds=2).states[-1]
    >>> state.predict(task.X).shape, state.hidden_layers  # members come first
    ((2, 2, 1), 1)
    >>> state.kernel(task.X, None, "feature").shape, state.preactivations(task.X).shape
    ((2, 2, 2), (2, 64, 2))
    >>> state.kernels(task.X, slice(0, 1), slice(1, 2)).feature(1).shape
    (2, 1, 1)
    >>> np.allclose(state.scaled(2.0).predict(task.X), 2 * state.predict(task.X))
    True
    """

    activation: Activation
    members: tuple[Member, ...]
    windows: Windows | None = None

    def _seen(self, X: Float[np.ndarray, "n D"]) -> np.ndarray:
        """What the first layer is given."""
        return X if self.windows is None else self.windows.of(X)

    def scaled(self, factor):
        return replace(self, members=tuple(m.scaled(factor) for m in self.members))

    def predict(self, X):
        X = self._seen(X)
        return np.stack([m.predict(X, self.activation) for m in self.members])

    @property
    def hidden_layers(self):
        return len(self.members[0].weights.layers) - 1

    def _each(self, X, X2, kind: str, layer: int = 0) -> np.ndarray:
        """A kernel of every member."""
        first, second = self._seen(X), self._seen(X2)
        return np.stack(
            [
                empirical_kernel(m.weights, first, second, kind, self.activation, layer)
                for m in self.members
            ]
        )

    def kernels(self, X, rows, columns):
        each = partial(self._each, X[rows], X[columns])
        return Kernels(
            lambda layer: each("feature", layer),
            lambda layer: each("gradient", layer).transpose(0, 1, 3, 2, 4),
        )

    def ntk(self, X, X2=None, frozen=0):
        if self.windows is None:
            return super().ntk(X, X2, frozen)
        full = self._each(X, X if X2 is None else X2, "ntk").transpose(0, 1, 3, 2, 4)
        return full[..., 0, 0] if full.shape[-1] == 1 else full

    def preactivations(self, X):
        X = self._seen(X)

        def last(weights):
            return in_batches(
                lambda x: _last(weights.layers[:-1], x, self.activation), X, weights
            ).T

        return np.stack([last(m.weights) for m in self.members])


def empirical_kernel(
    weights: Weights,
    X: Float[np.ndarray, "n D"],
    X2: Float[np.ndarray, "m D"],
    kind: str,
    activation: Activation,
    layer: int = 0,
) -> np.ndarray:
    """Kernel of one network: ``(n, m)`` if ``kind="feature"``, else ``(n, C, m, C)``.

    The feature kernel of hidden layer ``layer`` is Phi_l, the gradient kernel g_l . g_l'/N, and the
    NTK delta_cc' Phi_L + sum_l (g_l . g_l'/N) Phi_{l-1} with Phi_0 = x.x'/D, the sum over layers
    above that one. Layer 0, the inputs, stands for the last one in the other two.
    """
    layers = weights.layers

    def columns(block: np.ndarray) -> np.ndarray:
        return in_batches(lambda x: _kernel(layers, x, block, kind, activation, layer), X, weights)

    found = [columns(block) for block in _blocks(X2, layers)]
    return np.concatenate(found, axis=1 if kind == "feature" else 2)


def in_batches(
    function: Callable[[np.ndarray], Array], X: Float[np.ndarray, "n D"], weights: Weights
) -> np.ndarray:
    """``function`` over blocks of inputs that fit in memory, concatenated; float64 inside."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        parts = [np.asarray(function(block)) for block in _blocks(X, weights.layers)]
    return np.concatenate(parts)


def _blocks(X: np.ndarray, layers: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    # Multi-output gradient fields have N C numbers a sample and a layer.
    numbers = layers[-1].size * (len(layers) - 1)
    if is_convolutional(layers, X):  # a field of every patch, or a gradient by every weight
        patches = X.shape[1] // layers[0].shape[1]
        numbers = layers[-1].shape[-1] * len(layers[0]) * max(layers[0].shape[1], patches)
    rows = max(1, BLOCK // numbers)
    for start in range(0, len(X), rows):
        yield np.asarray(X[start : start + rows], float)


def _double(layers):
    return tuple(jnp.asarray(w, jnp.float64) for w in layers)


@partial(jax.jit, static_argnums=3)
def _term(layers, direction, X, activation: Activation):
    if direction:
        return tangent(_double(layers), _double(direction), X, activation.phi)
    return raw(_double(layers), X, activation.phi)


@partial(jax.jit, static_argnums=2)
def _last(hidden, X, activation: Activation):
    if is_convolutional(hidden, X):
        (filters,) = _double(hidden)
        return convolution.preactivations(filters, X).reshape(len(X), -1)
    return preactivations(_double(hidden), X, activation.phi)[-1]


@partial(jax.jit, static_argnums=(3, 4, 5))
def _kernel(layers, X, X2, kind: str, activation: Activation, layer: int):
    layers = _double(layers)
    if is_convolutional(layers, X):
        return convolution.kernel(layers, X, X2, kind, activation, layer)
    width, outputs = layers[-1].shape
    (phi_a, g_a), (phi_b, g_b) = (_fields(layers, x, activation) for x in (X, X2))
    if kind == "feature":
        return phi_a[layer - 1] @ phi_b[layer - 1].T / width
    gradients = [jnp.einsum("ncN,mdN->ncmd", a, b) / width for a, b in zip(g_a, g_b, strict=True)]
    if kind == "gradient":
        return gradients[layer - 1]
    below = [X @ X2.T / X.shape[1], *[a @ b.T / width for a, b in zip(phi_a, phi_b, strict=True)]]
    ntk = below[-1][:, None, :, None] * jnp.eye(outputs)[:, None, :]
    for gradient, feature in list(zip(gradients, below[:-1], strict=True))[layer:]:
        ntk = ntk + gradient * feature[:, None, :, None]
    return ntk


def _fields(layers, X, activation: Activation):
    """phi(h_l), each ``(n, N)``, and gradient fields g_l = phi'(h_l) z_l, each ``(n, C, N)``."""
    *hidden, head = layers
    h = preactivations(tuple(hidden), X, activation.phi)
    z = head.T[None]
    gradients = []
    for level in reversed(range(len(hidden))):
        g = activation.derivative(h[level])[:, None, :] * z
        gradients.insert(0, g)
        z = g @ hidden[level] / math.sqrt(hidden[level].shape[1]) if level else z
    return [activation.phi(x) for x in h], gradients
