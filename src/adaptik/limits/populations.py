"""Neurons of a deep network as samples, with matrices that are revealed along what they meet.

A field is a column of N numbers, one a particle; <a, b> = a.b/N (theory 5).
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..errors import InputError
from ..registry import register
from ..revealed import BasisFull
from . import particles as sampling

ROOM = 48  # directions of a matrix that the vector has room for beyond those revealed
QUASI = 128  # Sobol columns of every layer


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

    def forward(self, phi: Float[np.ndarray, "N k"]) -> Float[np.ndarray, "N k"]:
        """W phi, without the fresh directions of what Q does not hold."""
        met, back = self.Q.T @ phi / len(phi), self.E.T @ phi / len(phi)
        return self.shrink * (self.F @ met) + self.S @ (self.shrink * back + self.M @ met)

    def backward(self, g: Float[np.ndarray, "N k"]) -> Float[np.ndarray, "N k"]:
        """W^T g, likewise."""
        met, back = self.S.T @ g / len(g), self.F.T @ g / len(g)
        return self.shrink * (self.E @ met) + self.Q @ (self.shrink * back + self.M.T @ met)


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
    """

    first: Float[np.ndarray, "N rank"]
    hidden: tuple[Hidden, ...]
    head: Float[np.ndarray, "N C"]
    seen: tuple[Float[np.ndarray, "N d"], ...]
    seed: int
    shrink: float = 1.0

    def fields(self, points, phi, jointly: bool) -> list[Float[np.ndarray, "N n"]]:
        """h_1 .. h_L at any inputs.

        What a matrix has not met is Gaussian noise of known size, independent of all else: one
        draw for all inputs where only their own law counts, else with their joint covariance.
        """
        rng, width = np.random.default_rng(self.seed), len(self.first)
        outside = self.shrink**2 * (points.orthogonal @ points.orthogonal.T if jointly else 0)
        size = self.shrink * points.rho
        h = [self.first @ points.inside.T + self._noise(rng, 0, outside, size, jointly)]
        for k, W in enumerate(self.hidden):
            up = phi(h[-1])
            rest = up - W.Q @ (W.Q.T @ up / width)
            if jointly:
                noise = self._noise(rng, k + 1, W.shrink**2 * rest.T @ rest / width, None, True)
            else:
                size = W.shrink * np.sqrt(np.mean(rest**2, axis=0))
                noise = self._noise(rng, k + 1, None, size, False)
            h.append(W.forward(up) + noise)
        return h

    def _noise(self, rng, layer: int, covariance, size, jointly: bool):
        if jointly:
            values, vectors = np.linalg.eigh(covariance)
            factor = vectors * np.sqrt(np.maximum(values, 0.0))
            return rng.standard_normal((len(self.first), len(values))) @ factor.T
        z = rng.standard_normal((len(self.first), 1))
        return fresh_of(z, self.seen[layer]) * size


def fresh_of(sample: Float[np.ndarray, "N k"], seen: Float[np.ndarray, "N d"]):
    """The sample orthogonal to all that was seen, with <x, x> = I."""
    for _ in range(2):
        sample = sample - seen @ (seen.T @ sample / len(sample))
    return sampling._whiten(sample)


class PopulationFlow:
    """Gradient flow of one replicate in a rich stage, as :class:`.march.Revealing`."""

    def __init__(self, start: Population, X, labels, base, recorded, activation, objective,
                 richness: float, decay: float, tol: float, rng: np.random.Generator):  # fmt: skip
        """``base`` is f - <z phi>/gamma on X; ``recorded`` pairs points with the same there."""
        self.X, self.labels, self.base, self.recorded = X, labels, base, recorded
        self.objective, self.richness, self.decay = objective, richness, decay
        self.first, self.tol, self.rng = start, tol, rng
        self.hidden, self.seen = list(start.hidden), list(start.seen)
        self.width, self.root = len(start.first), math.sqrt(len(start.first))
        both = jax.jit(lambda h: (activation.phi(h), activation.derivative(h)))
        self.both = lambda h: tuple(np.asarray(a) for a in both(jnp.asarray(h)))
        self.phi = lambda h: np.asarray(activation.phi(jnp.asarray(h)))
        quasi = 0 if any(W.S.size for W in start.hidden) else QUASI
        self.pools = [
            rng.permutation(sampling._sobol_normal(rng, self.width, quasi))
            if quasi
            else np.zeros((self.width, 0))
            for _ in range(len(start.hidden) + 1)
        ]
        self._make_room()

    def _make_room(self):
        self.room = [(W.S.shape[1] + ROOM, W.Q.shape[1] + ROOM) for W in self.hidden]

    def _pack(self, first, learned, head):
        parts = [first.ravel() / self.root]
        for M, room in zip(learned, self.room, strict=True):
            padded = np.zeros(room)
            padded[: M.shape[0], : M.shape[1]] = M
            parts.append(padded.ravel())
        return np.concatenate([*parts, head.ravel() / self.root])

    def _unpack(self, t, y):
        rank, outputs = self.first.first.shape[1], self.labels.shape[1]
        first = self.root * y[: self.width * rank].reshape(self.width, rank)
        at, hidden, fade = self.width * rank, [], math.exp(-self.decay * t)
        for W, room, before in zip(self.hidden, self.room, self.first.hidden, strict=True):
            M = y[at : at + room[0] * room[1]].reshape(room)[: W.S.shape[1], : W.Q.shape[1]]
            hidden.append(replace(W, M=M, shrink=fade * before.shrink))
            at += room[0] * room[1]
        return first, hidden, self.root * y[at:].reshape(self.width, outputs)

    def start(self):
        return self._pack(self.first.first, [W.M for W in self.first.hidden], self.first.head)

    def enlarge(self, y):
        first, hidden, head = self._unpack(0.0, y)
        self._make_room()
        return self._pack(first, [W.M for W in hidden], head)

    def population(self, t, y) -> Population:
        first, hidden, head = self._unpack(t, y)
        hidden = tuple(replace(W, M=W.M.copy()) for W in hidden)
        shrink = self.first.shrink * math.exp(-self.decay * t)
        return Population(
            first.copy(), hidden, head.copy(), tuple(self.seen), self.first.seed, shrink
        )

    def _meet(self, k: int, W: Hidden, V, backward: bool) -> Hidden:
        """Extend the basis of matrix k until it holds V."""
        basis = W.S if backward else W.Q
        allowed = self.tol * np.linalg.norm(V, axis=0)
        rest = V - basis @ (basis.T @ V / self.width)
        if (np.linalg.norm(rest, axis=0) <= allowed).all():
            return W
        rest = rest - basis @ (basis.T @ rest / self.width)
        left, values, right = np.linalg.svd(rest, full_matrices=False)
        # What every column misses once the first 0, 1, 2 .. directions are taken.
        missed = np.cumsum((values[:, None] * right)[::-1] ** 2, axis=0)[::-1]
        enough = (missed <= allowed**2).all(axis=1)
        count = int(np.argmax(enough)) if enough.any() else len(values)
        if basis.shape[1] + count > self.room[k][0 if backward else 1]:
            raise BasisFull
        return self._extended(k, W, self.root * left[:, :count], backward)

    def _extended(self, k: int, W: Hidden, v, backward: bool) -> Hidden:
        here, there = (k + 1, k) if backward else (k, k + 1)  # where v lives, where it is sent
        self._see(here, v)
        fresh = fresh_of(self._drawn(there, v.shape[1]), self.seen[there])
        self._see(there, fresh)
        (s, q), new = W.M.shape, v.shape[1]
        M = np.zeros((s + new * backward, q + new * (not backward)))
        M[:s, :q] = W.M
        if backward:
            W = replace(W, S=np.append(W.S, v, 1), E=np.append(W.E, fresh, 1), M=M)
        else:
            W = replace(W, Q=np.append(W.Q, v, 1), F=np.append(W.F, fresh, 1), M=M)
        self.hidden[k] = W
        return W

    def _drawn(self, layer: int, count: int):
        """Columns for fresh directions: Sobol points first, which matter most, then Gaussians."""
        pool = self.pools[layer]
        columns, self.pools[layer] = pool[:, :count], pool[:, count:]
        rest = self.rng.standard_normal((self.width, count - columns.shape[1]))
        return np.concatenate([columns, rest], axis=1)

    def _see(self, layer: int, v):
        seen = self.seen[layer]
        if seen.shape[1] + v.shape[1] > self.width // 2:
            raise InputError(
                f"width={self.width} is too small for the {seen.shape[1]} directions that were "
                "revealed; give more particles or a larger reveal_tol, or use adaptik.Ensemble"
            )
        for _ in range(2):
            v = v - seen @ (seen.T @ v / self.width)
        left, values, _ = np.linalg.svd(v, full_matrices=False)
        new = self.root * left[:, values > 1e-8 * self.root]
        self.seen[layer] = np.append(seen, new, 1)

    def reveal_forward(self, first, hidden: list[Hidden]):
        """phi_l and phi'(h_l) of all layers, revealing the matrices on the way."""
        h, phis, slopes = first @ self.X.T, [], []
        for k in range(len(hidden) + 1):
            phi, slope = self.both(h)
            phis.append(phi)
            slopes.append(slope)
            if k < len(hidden):
                hidden[k] = self._meet(k, hidden[k], phi, backward=False)
                h = hidden[k].forward(phi)
        return phis, slopes

    def with_fresh_head(self, outputs: int) -> Population:
        """The start with a new readout, orthogonal to the features of all samples."""
        hidden = list(self.first.hidden)
        phis, _ = self.reveal_forward(self.first.first, hidden)
        z = fresh_of(self._drawn(len(hidden), outputs), self.seen[-1])
        top = np.concatenate([self.seen[-1], phis[-1]], axis=1)
        z = z - top @ np.linalg.lstsq(top, z, rcond=1e-10)[0]
        head = sampling._whiten(z)
        self._see(len(hidden), head)
        hidden = tuple(replace(W, M=W.M.copy()) for W in hidden)
        return replace(self.first, hidden=hidden, head=head, seen=tuple(self.seen))

    def slope(self, t, y):
        first, hidden, head = self._unpack(t, y)
        phis, slopes = self.reveal_forward(first, hidden)
        signal = self._signal(phis[-1], head)
        gamma, outputs = self.richness, range(self.labels.shape[1])
        z = [head[:, [c]] for c in outputs]
        learned: list[Any] = [None] * len(hidden)
        for k in reversed(range(len(hidden))):
            g = np.concatenate([slopes[k + 1] * z[c] for c in outputs], axis=1)
            hidden[k] = W = self._meet(k, hidden[k], g, backward=True)
            weighed = g * signal.T.ravel()
            total = sum(np.split(W.S.T @ weighed / self.width, len(z), axis=1))
            learned[k] = gamma * total @ (W.Q.T @ phis[k] / self.width).T - self.decay * W.M
            z = np.split(W.backward(g), len(z), axis=1)
        g = sum(slopes[0] * z[c] * signal[:, c] for c in outputs)
        move = gamma * g @ self.X - self.decay * first
        return self._pack(move, learned, gamma * phis[-1] @ signal - self.decay * head)

    def _signal(self, phi, head):
        f = self.base + phi.T @ head / self.width / self.richness
        return np.asarray(self.objective.signal(f, self.labels)) / len(self.labels)

    def _predictor(self, t, y, points, base):
        at = self.population(t, y)
        top = self.phi(at.fields(points, self.phi, jointly=False)[-1])
        return base + top.T @ at.head / self.width / self.richness

    def loss(self, t, y):
        first, hidden, head = self._unpack(t, y)
        h = first @ self.X.T
        for W in hidden:
            h = W.forward(self.phi(h))
        f = self.base + self.phi(h).T @ head / self.width / self.richness
        return float(np.mean(np.asarray(self.objective.value(f, self.labels))))

    def rate(self, t, y, slope):
        """Rate of decrease of the loss, by a difference along the flow."""
        step = 1e-4 / max(float(np.linalg.norm(slope)), 1e-300) * self.richness
        return (self.loss(t - step, y - step * slope) - self.loss(t + step, y + step * slope)) / (
            2 * step
        )

    def predictions(self, t, y):
        return [self._predictor(t, y, points, base) for points, base in self.recorded]
