"""Gradient flow of a population, whose matrices training reveals (theory section 5)."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ...mathematics import sampling
from ...mathematics.activations import Activation
from ...mathematics.bases import Columns, Packing, fresh_of, gram, meet
from ...system.errors import InputError
from .series import Hidden, Population

ROOM = 48  # directions of a matrix that the vector has room for beyond those revealed
QUASI = 128  # Sobol columns of every layer at most


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
        head = (self.width, self.labels.shape[1])
        self.packing = Packing([self.first.first.shape, *hidden, head])

    def trains(self, k: int) -> bool:
        """Whether the matrix above hidden layer ``k + 1`` trains."""
        return k + 1 >= self.frozen

    def _pack(self, first, learned, head):
        return self.packing.pack([first / self.root, *learned, head / self.root])

    def _unpack(self, t, y):
        first, head = self.packing.room[0], self.packing.room[-1]
        revealed = [W.M.shape for W in self.hidden]
        first, *learned, head = self.packing.unpack(y, [first, *revealed, head])
        dtype, fade = self.X.dtype, math.exp(-self.decay * t)
        hidden = []
        for k, (W, M) in enumerate(zip(self.hidden, learned, strict=True)):
            shrink = (fade if self.trains(k) else 1.0) * self.first.hidden[k].shrink
            hidden.append(replace(W, M=M.astype(dtype), shrink=shrink))
        return (self.root * first).astype(dtype), hidden, (self.root * head).astype(dtype)

    def start(self):
        return self._pack(self.first.first, [W.M for W in self.first.hidden], self.first.head)

    def enlarge(self, y):
        first, hidden, head = self._unpack(0.0, y)
        self._make_room()
        return self._pack(first, [W.M for W in hidden], head)

    def population(self, t, y) -> Population:
        first, hidden, head = self._unpack(t, y)
        shrink = self.first.shrink * (1.0 if self.frozen else math.exp(-self.decay * t))
        seen = tuple(basis.array for basis in self.seen)
        return Population(first, tuple(hidden), head, seen, self.first.seed, shrink)

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

    def reveal_forward(self, first, hidden: list[Hidden]):
        """phi_l, phi'(h_l) and <Q, phi_l> of all layers, revealing the matrices on the way."""
        h, phis, slopes, met = first @ self.X.T, [], [], []
        for k in range(len(hidden) + 1):
            phi, slope = map(np.asarray, _phi_and_slope(h, self.activation))
            phis.append(phi)
            slopes.append(slope)
            if k < len(hidden):
                hidden[k], inside = self._meet(k, hidden[k], phi, backward=False)
                met.append(inside)
                h = hidden[k].forward(phi, inside)
        return phis, slopes, met

    def with_fresh_head(self, outputs: int) -> Population:
        """The start with a new readout, orthogonal to the features of all samples."""
        hidden = list(self.hidden)
        phis, _, _ = self.reveal_forward(self.first.first, hidden)
        self._see(len(hidden), phis[-1])
        head = fresh_of(self._drawn(len(hidden), outputs), self.seen[-1].array, self.width)
        self.seen[-1].append(head)
        seen = tuple(basis.array for basis in self.seen)
        return replace(self.first, hidden=tuple(hidden), head=head, seen=seen)

    def slope(self, t, y):
        first, hidden, head = self._unpack(t, y)
        phis, slopes, met = self.reveal_forward(first, hidden)
        signal = self._signal(phis[-1], head).astype(first.dtype)
        gamma, decay, outputs = self.richness, self.decay, range(self.labels.shape[1])
        z = [head[:, [c]] for c in outputs]
        learned: list[Any] = [np.zeros((0, 0))] * len(hidden)
        for k in reversed(range(max(0, self.frozen - 1), len(hidden))):
            g = np.concatenate([slopes[k + 1] * z[c] for c in outputs], axis=1)
            W, sent = self._meet(k, hidden[k], g, backward=True)
            total = sum(np.split(sent * signal.T.ravel(), len(z), axis=1))
            learned[k] = gamma * total @ met[k].T - decay * W.M
            if k + 1 > self.frozen:
                z = np.split(W.backward(g, sent), len(z), axis=1)
        move = np.zeros_like(first)
        if not self.frozen:
            g = sum(slopes[0] * z[c] * signal[:, c] for c in outputs)
            move = gamma * g @ self.X - decay * first
        return self._pack(move, learned, gamma * phis[-1] @ signal - decay * head)

    def _signal(self, phi, head):
        f = self.base + phi.T @ head / self.width / self.richness
        return np.asarray(self.objective.signal(f, self.labels)) / len(self.labels)

    def losses(self, t, y):
        h, hidden, head = self._unpack(t, y)
        h = h @ self.X.T
        for W in hidden:
            up = self.phi(h)
            h = W.forward(up, W.Q.T @ up / self.width)
        f = self.base + self.phi(h).T @ head / self.width / self.richness
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
        scale = self.width * self.richness
        return [base + at.top(p, self.phi).T @ at.head / scale for p, base in self.recorded]


def readout(member: Population, points, activation: Activation) -> Float[np.ndarray, "n C"]:
    """<z phi(h_L)> of one replicate."""
    top = member.top(points, on_host(activation)[0])
    return (top.T @ member.head / len(top)).astype(float)
