"""A finite-width network in mean-field (muP) scaling, its predictor and its empirical kernels.

    h_1 = W_0 x / sqrt(D),   h_{l+1} = W_l phi(h_l) / sqrt(N),   raw(x) = head^T phi(h_L) / N

with all weights N(0, 1) at the start; a stage of richness gamma predicts with raw/gamma, centred
(theory section 1). Biases b and b_r are weights too, the last column of every hidden layer and the
last row of the head:

    h_l = ... + b beta_l,   raw(x) = (head^T phi(h_L) + b_r sqrt(N) c) / N

with beta_l ~ N(0, 1) and c = 0 at the start. Everything here evaluates in float64, whatever the
network trains in.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from ..mathematics import activations
from ..mathematics.activations import Activation, Elementwise
from ..mathematics.biases import NONE, Bias, deviations
from ..solution import AbstractState, Cost, Kernels, Outcome
from ..system.errors import (
    require_above_zero,
    require_between,
    require_integers,
    require_one_of,
)
from ..system.registry import register
from .convolution import Windows, is_convolutional
from .forward import kernel, last, term_of

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
    bias
        Standard deviation b of the biases of hidden layers at the start, or a pair (b, b_r); one
        number is both. The readout's bias starts at 0 and learns by the kernel b_r^2.
    scale
        Standard deviation of hidden weights at the start, those of their biases in units of b.
        Readouts have :attr:`adaptik.Stage.head_scale`.

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
    bias: Bias = NONE
    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "activation", activations.get(self.activation))
        object.__setattr__(self, "bias", deviations(self.bias))
        require_integers(1, width=self.width, depth=self.depth)
        require_one_of(("float32", "float64"), dtype=self.dtype)
        require_between(0, 1, tol=self.tol)
        require_above_zero(scale=self.scale)
        object.__setattr__(self, "scale", float(self.scale))

    @property
    def phi(self) -> Activation:
        """The activation, resolved."""
        assert isinstance(self.activation, Activation)  # __post_init__ has seen to it
        return self.activation

    def describe(self) -> dict[str, Any]:
        """The fields as plain values."""
        name = self.phi.name
        fields = dict(width=self.width, activation=name, depth=self.depth)
        fields |= dict(dtype=self.dtype, tol=self.tol)
        return fields | dict(bias=self.biases, scale=self.scale)

    @property
    def biases(self) -> tuple[float, float]:
        """b and b_r."""
        return deviations(self.bias)

    def initial_hidden(self, dimension: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Normal hidden weights: ``(N, D)`` and ``depth - 1`` times ``(N, N)``.

        With biases, one column more.
        """
        columns = [dimension, *[self.width] * (self.depth - 1)]
        return tuple(self._normal(rng, n + (self.biases[0] > 0), self.scale) for n in columns)

    def initial_head(
        self, outputs: int, rng: np.random.Generator, scale: float = 1.0
    ) -> np.ndarray:
        """A normal head ``(N, C)``, and a row of zeros for a bias."""
        head = self._normal(rng, outputs, scale)
        return np.pad(head, ((0, 1), (0, 0))) if self.biases[1] > 0 else head

    def _normal(self, rng: np.random.Generator, columns: int, scale: float) -> np.ndarray:
        # Drawn in float64 so that both dtypes start from the same network.
        return (scale * rng.standard_normal((self.width, columns))).astype(self.dtype)


@register
@dataclass(frozen=True, eq=False)
class Weights:
    """All weights of one network, input side first.

    Attributes
    ----------
    layers
        W_0 ``(N, D)``, W_1 .. W_{L-1} ``(N, N)``, head ``(N, C)``; with biases one column, or row,
        more.

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

    def predict(
        self,
        X: Float[np.ndarray, "n D"],
        activation: Activation,
        biases: tuple[float, float] = NONE,
    ) -> np.ndarray:
        """f(x), shape ``(n, C)``."""
        head = self.weights.layers[-1]
        total = np.zeros((len(X), head.shape[-1]))
        for term in self.terms:

            def value(x, term=term):
                return term_of(term.weights.layers, term.direction, x, activation, biases)

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
    biases
        b and b_r.

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
    biases: tuple[float, float] = NONE

    def _seen(self, X: Float[np.ndarray, "n D"]) -> np.ndarray:
        """What the first layer is given."""
        return X if self.windows is None else self.windows.of(X)

    def scaled(self, factor):
        return replace(self, members=tuple(m.scaled(factor) for m in self.members))

    def predict(self, X):
        X = self._seen(X)
        return np.stack([m.predict(X, self.activation, self.biases) for m in self.members])

    @property
    def hidden_layers(self):
        return len(self.members[0].weights.layers) - 1

    def _each(self, X, X2, kind: str, layer: int = 0) -> np.ndarray:
        """A kernel of every member."""
        first, second = self._seen(X), self._seen(X2)
        return np.stack(
            [
                empirical_kernel(
                    m.weights, first, second, kind, self.activation, layer, self.biases
                )
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

        def of(member: Member) -> np.ndarray:
            hidden = member.weights.layers[:-1]
            h = in_batches(
                lambda x: last(hidden, x, self.activation, self.biases), X, member.weights
            )
            return h.T

        return np.stack([of(m) for m in self.members])


def empirical_kernel(
    weights: Weights,
    X: Float[np.ndarray, "n D"],
    X2: Float[np.ndarray, "m D"],
    kind: str,
    activation: Activation,
    layer: int = 0,
    biases: tuple[float, float] = NONE,
) -> np.ndarray:
    """Kernel of one network: ``(n, m)`` if ``kind="feature"``, else ``(n, C, m, C)``.

    The feature kernel of hidden layer ``layer`` is Phi_l, the gradient kernel g_l . g_l'/N, and the
    NTK delta_cc' Phi_L + sum_l (g_l . g_l'/N) Phi_{l-1} with Phi_0 = x.x'/D, the sum over layers
    above that one. Layer 0, the inputs, stands for the last one in the other two. In the NTK,
    biases add b^2 to every Phi_{l-1} and b_r^2 to Phi_L.
    """
    layers, of = weights.layers, (kind, activation, layer, biases)

    def columns(block: np.ndarray) -> np.ndarray:
        return in_batches(lambda x: kernel(layers, x, block, *of), X, weights)

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
