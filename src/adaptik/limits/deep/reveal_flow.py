"""Populations of neurons and their gradient flow, in which training reveals matrices.

Neurons of a deep network are samples, whose matrices are revealed along what they meet. A field is
a column of N numbers, one a particle; <a, b> = a.b/N (theory section 5).
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ...mathematics import sampling
from ...mathematics.activations import Activation
from ...mathematics.bases import Columns, Packing, fresh_of, gram, meet
from ...mathematics.biases import NONE
from ...system.errors import InputError
from ...system.registry import register

ROOM = 48  # directions of a matrix that the vector has room for beyond those revealed
QUASI = 128  # Sobol columns of every layer at most


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
    betas
        Of hidden layers above the first, in units of their bias: one column a layer, or none.
    c
        Weights of the readout's constant feature b_r, shape ``(1, C)``, or ``(0, C)`` without.
    bias
        b of hidden layers and b_r of the readout.
    """

    first: Float[np.ndarray, "N rank"]
    hidden: tuple[Hidden, ...]
    head: Float[np.ndarray, "N C"]
    seen: tuple[Float[np.ndarray, "N d"], ...]
    seed: int
    shrink: float = 1.0
    betas: Float[np.ndarray, "N hidden"] | None = None
    c: Float[np.ndarray, "b C"] | None = None
    bias: tuple[float, float] = NONE

    def shift(self, k: int) -> Float[np.ndarray, "N 1"] | float:
        """What biases add to preactivations above matrix k."""
        return 0.0 if self.betas is None else self.bias[0] * self.betas[:, [k]]

    def constant(self) -> Float[np.ndarray, " C"] | float:
        """What the readout's bias adds to <z phi>."""
        return 0.0 if self.c is None else self.bias[1] * self.c[0]

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
            h = W.forward(up, met) + self._one(rng, k + 1) * size + self.shift(k)
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
            h.append(W.forward(up, met) + W.shrink * fresh + self.shift(k))
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


@partial(jax.jit, static_argnums=1)
def _phi_and_slope(h, activation: Activation):
    return activation.phi(h), activation.derivative(h)


@partial(jax.jit, static_argnums=1)
def _phi(h, activation: Activation):
    return activation.phi(h)


@partial(jax.jit, static_argnums=1)
def _slope(h, activation: Activation):
    return activation.derivative(h)


def on_host(activation: Activation):
    """phi and its derivative as functions of NumPy arrays."""
    return (
        lambda h: np.asarray(_phi(h, activation)),
        lambda h: np.asarray(_slope(h, activation)),
    )


class PopulationFlow:
    """Gradient flow of one replicate in a rich stage, as :class:`..run.Revealing`."""

    def __init__(
        self,
        start: Population,
        X,
        labels,
        base,
        recorded,
        activation,
        objective,
        richness: float,
        decay: float,
        frozen: int,
        tol: float,
        rng: np.random.Generator,
    ):
        """``base`` is f - <z phi>/gamma on X; ``recorded`` pairs points with the same there."""
        dtype = start.first.dtype
        self.X, self.labels, self.base, self.recorded = X.astype(dtype), labels, base, recorded
        self.objective, self.richness, self.decay = objective, richness, decay
        self.first, self.tol, self.rng, self.frozen = start, tol, rng, frozen
        self.activation, (self.phi, _) = activation, on_host(activation)
        self.width, self.root = len(start.first), math.sqrt(len(start.first))
        self.seen = [Columns(basis) for basis in start.seen]
        self.bases = [{n: Columns(getattr(W, n)) for n in "QFSE"} for W in start.hidden]
        self.hidden = [
            replace(W, **{n: basis.array for n, basis in bases.items()})
            for W, bases in zip(start.hidden, self.bases, strict=True)
        ]
        self.pools = [self._quasi(layer) for layer in range(len(self.seen))]
        self._make_room()

    def _quasi(self, layer: int) -> Float[np.ndarray, "N k"]:
        """Sobol columns for the directions met first, where the matrices about a layer are new."""
        about = self.hidden[max(0, layer - 1) : layer + 1]
        new = not about or not all(W.S.size for W in about)
        count = min(QUASI, (len(self.labels) + 1) * self.labels.shape[1]) if new else 0
        if not count:
            return np.zeros((self.width, 0), self.X.dtype)
        columns = sampling.sobol_normal(self.rng, self.width, count)
        return self.rng.permutation(columns).astype(self.X.dtype)

    def _make_room(self):
        room = max(ROOM, 2 * self.labels.size)
        hidden = [(W.S.shape[1] + room, W.Q.shape[1] + room) for W in self.hidden]
        first, outputs = self.first, self.labels.shape[1]
        # Behind all that grows: biases, which are no columns where there are none.
        betas = (self.width, 0 if first.betas is None else len(hidden))
        c = (0 if first.c is None else 1, outputs)
        self.packing = Packing([first.first.shape, *hidden, (self.width, outputs), betas, c])

    def trains(self, k: int) -> bool:
        """Whether the matrix above hidden layer ``k + 1`` trains."""
        return k + 1 >= self.frozen

    def _pack(self, first, learned, head, betas, c):
        shapes = self.packing.room[-2:]
        betas, c = (
            np.zeros(shape) if a is None else a for a, shape in zip((betas, c), shapes, strict=True)
        )
        parts = [first / self.root, *learned, head / self.root, betas / self.root, c]
        return self.packing.pack(parts)

    def _unpack(self, t, y):
        first, *_, head, betas, c = self.packing.room
        revealed = [W.M.shape for W in self.hidden]
        shapes = [first, *revealed, head, betas, c]
        first, *learned, head, betas, c = self.packing.unpack(y, shapes)
        dtype, fade = self.X.dtype, math.exp(-self.decay * t)
        hidden = []
        for k, (W, M) in enumerate(zip(self.hidden, learned, strict=True)):
            shrink = (fade if self.trains(k) else 1.0) * self.first.hidden[k].shrink
            hidden.append(replace(W, M=M.astype(dtype), shrink=shrink))
        return Population(
            (self.root * first).astype(dtype),
            tuple(hidden),
            (self.root * head).astype(dtype),
            (),
            self.first.seed,
            betas=None if self.first.betas is None else (self.root * betas).astype(dtype),
            c=None if self.first.c is None else c.astype(dtype),
            bias=self.first.bias,
        )

    def start(self):
        return self._packed(self.first)

    def _packed(self, at: Population):
        return self._pack(at.first, [W.M for W in at.hidden], at.head, at.betas, at.c)

    def enlarge(self, y):
        at = self._unpack(0.0, y)
        self._make_room()
        return self._packed(at)

    def population(self, t, y) -> Population:
        shrink = self.first.shrink * (1.0 if self.frozen else math.exp(-self.decay * t))
        seen = tuple(basis.array for basis in self.seen)
        return replace(self._unpack(t, y), seen=seen, shrink=shrink)

    def _meet(self, k: int, W: Hidden, V, backward: bool):
        """Extend the basis of matrix k until it holds V: W, and V in the basis."""
        basis = W.S if backward else W.Q
        inside, new = meet(basis, V, self.tol, self.width)
        if not new.shape[1]:
            return W, inside
        s, q = W.M.shape
        self.packing.check(k + 1, (len(inside), q) if backward else (s, len(inside)))
        return self._extended(k, W, new, backward), inside

    def _extended(self, k: int, W: Hidden, v, backward: bool) -> Hidden:
        here, there = (k + 1, k) if backward else (k, k + 1)  # where v lives, where it is sent
        self._see(here, v)
        fresh = fresh_of(self._drawn(there, v.shape[1]), self.seen[there].array, self.width)
        self.seen[there].append(fresh)
        (s, q), new, bases = W.M.shape, v.shape[1], self.bases[k]
        M = np.zeros((s + new * backward, q + new * (not backward)), v.dtype)
        M[:s, :q] = W.M
        if backward:
            W = replace(W, S=bases["S"].append(v), E=bases["E"].append(fresh), M=M)
        else:
            W = replace(W, Q=bases["Q"].append(v), F=bases["F"].append(fresh), M=M)
        self.hidden[k] = W
        return W

    def _drawn(self, layer: int, count: int):
        """Columns for fresh directions: Sobol points first, which matter most, then Gaussians."""
        pool = self.pools[layer]
        columns, self.pools[layer] = pool[:, :count], pool[:, count:]
        rest = self.rng.standard_normal((self.width, count - columns.shape[1]), self.X.dtype)
        return np.concatenate([columns, rest], axis=1)

    def _see(self, layer: int, v):
        seen = self.seen[layer].array
        if seen.shape[1] + v.shape[1] > self.width // 2:
            raise InputError(
                f"width={self.width} is too small for the {seen.shape[1]} directions that were "
                "revealed; give more particles or a larger reveal_tol, or use adaptik.Ensemble"
            )
        for _ in range(2):
            v = v - seen @ (seen.T @ v / self.width)
        values, vectors = np.linalg.eigh(gram(v, self.width))
        new = values > np.finfo(v.dtype).eps * max(values[-1], 1e-3)
        scale = vectors[:, new] / np.sqrt(values[new])
        self.seen[layer].append(fresh_of(v @ scale.astype(v.dtype), seen, self.width))

    def reveal_forward(self, at: Population, hidden: list[Hidden]):
        """phi_l, phi'(h_l) and <Q, phi_l> of all layers, revealing the matrices on the way."""
        h, phis, slopes, met = at.first @ self.X.T, [], [], []
        for k in range(len(hidden) + 1):
            phi, slope = map(np.asarray, _phi_and_slope(h, self.activation))
            phis.append(phi)
            slopes.append(slope)
            if k < len(hidden):
                hidden[k], inside = self._meet(k, hidden[k], phi, backward=False)
                met.append(inside)
                h = hidden[k].forward(phi, inside) + at.shift(k)
        return phis, slopes, met

    def with_fresh_head(self, outputs: int) -> Population:
        """The start with a new readout, orthogonal to the features of all samples."""
        hidden = list(self.hidden)
        phis, _, _ = self.reveal_forward(self.first, hidden)
        self._see(len(hidden), phis[-1])
        head = fresh_of(self._drawn(len(hidden), outputs), self.seen[-1].array, self.width)
        self.seen[-1].append(head)
        seen = tuple(basis.array for basis in self.seen)
        c = None if self.first.c is None else np.zeros_like(head[:1])
        return replace(self.first, hidden=tuple(hidden), head=head, seen=seen, c=c)

    def slope(self, t, y):
        at = self._unpack(t, y)
        first, hidden, head = at.first, list(at.hidden), at.head
        phis, slopes, met = self.reveal_forward(at, hidden)
        signal = self._signal(phis[-1], at).astype(first.dtype)
        gamma, decay, outputs = self.richness, self.decay, range(self.labels.shape[1])
        betas = None if at.betas is None else np.zeros_like(at.betas)
        z = [head[:, [c]] for c in outputs]
        learned: list[Any] = [np.zeros((0, 0))] * len(hidden)
        for k in reversed(range(max(0, self.frozen - 1), len(hidden))):
            g = np.concatenate([slopes[k + 1] * z[c] for c in outputs], axis=1)
            W, sent = self._meet(k, hidden[k], g, backward=True)
            total = sum(np.split(sent * signal.T.ravel(), len(z), axis=1))
            learned[k] = gamma * total @ met[k].T - decay * W.M
            if betas is not None and at.betas is not None:
                pushed = gamma * at.bias[0] * (g @ signal.T.ravel())
                betas[:, k] = pushed - decay * at.betas[:, k]
            if k + 1 > self.frozen:
                z = np.split(W.backward(g, sent), len(z), axis=1)
        move = np.zeros_like(first)
        if not self.frozen:
            g = sum(slopes[0] * z[c] * signal[:, c] for c in outputs)
            move = gamma * g @ self.X - decay * first
        c = None
        if at.c is not None:
            c = gamma * at.bias[1] * np.sum(signal, 0, keepdims=True) - decay * at.c
        return self._pack(move, learned, gamma * phis[-1] @ signal - decay * head, betas, c)

    def _predictor(self, phi, at: Population):
        mean = phi.T @ at.head / self.width + at.constant()
        return self.base + mean / self.richness

    def _signal(self, phi, at: Population):
        f = self._predictor(phi, at)
        return np.asarray(self.objective.signal(f, self.labels)) / len(self.labels)

    def losses(self, t, y):
        at = self._unpack(t, y)
        h = at.first @ self.X.T
        for k, W in enumerate(at.hidden):
            up = self.phi(h)
            h = W.forward(up, W.Q.T @ up / self.width) + at.shift(k)
        f = self._predictor(self.phi(h), at)
        return np.asarray(self.objective.by_part(f, self.labels))

    def units(self):
        return self.objective.units(self.labels)

    def rate(self, t, y, slope):
        """Rate of decrease of the loss with what decay of the learned part adds: |y'|^2/gamma^2.

        What is left of the matrices at the start fades by itself and is left out.
        """
        return self.objective.rate_factor * float(slope @ slope) / self.richness**2

    def predictions(self, t, y):
        at = self.population(t, y)
        scale, constant = self.width * self.richness, at.constant() / self.richness
        return [
            base + at.top(p, self.phi).T @ at.head / scale + constant for p, base in self.recorded
        ]


def readout(member: Population, points, activation: Activation) -> Float[np.ndarray, "n C"]:
    """<z phi(h_L)> of one replicate."""
    top = member.top(points, on_host(activation)[0])
    return (top.T @ member.head / len(top) + member.constant()).astype(float)
