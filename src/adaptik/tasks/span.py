"""Coordinates in the span of the training inputs: the only part of a weight that learns."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from ..mathematics.bases import axes_of
from ..system.errors import InputError
from ..system.registry import register
from .base import Task

K = TypeVar("K")
RESOLUTION = 1e-6  # orthogonal parts below this fraction of |x| count as zero


def largest_rank(tasks: Iterable[Task], bias: float = 0.0) -> int:
    """As many directions as training inputs span at most, a constant for the bias with them.

    Examples
    --------
    >>> largest_rank([Task([[1.0, 2.0, 3.0]], [1.0]), Task([[1.0, 0.0, 0.0]], [1.0])])
    2
    """
    shapes = [task.X.shape for task in tasks]
    return min(shapes[0][1] + (bias > 0), sum(count for count, _ in shapes))


@register
@dataclass(frozen=True, eq=False)
class Span:
    """An orthonormal basis of the span of training inputs.

    Directions are ordered by their weight in the labels, T = sum over tasks and outputs of
    b b' + H H' with b = <y x> and H = <y x x'>, the first two moments that a gradient step sees,
    and point along the sum of b: with the orders of samples and columns only rounding changes.

    With a bias of the first layer, inputs have one more coordinate, the constant b sqrt(D).

    Attributes
    ----------
    basis
        Shape ``(D, rank)``, or ``(D + 1, rank)`` with a bias.
    bias
        Its standard deviation b, so that K_x = x.x'/D + b^2.
    """

    basis: Float[np.ndarray, "D rank"]
    bias: float = 0.0

    @classmethod
    def of(
        cls, tasks: Iterable[Task], bias: float = 0.0, also: Iterable[np.ndarray] = ()
    ) -> "Span":
        """The span of the training inputs of all tasks, and of other vectors ``(n, D)``."""
        tasks = list(tasks)
        parts = [with_constant(task.X, bias) for task in tasks]
        for vectors in also:  # what rounding alone puts outside adds no coordinate
            inside = axes_of(parts)[1]
            left = vectors - (vectors @ inside.T) @ inside
            far = np.linalg.norm(left, axis=1) > RESOLUTION * np.linalg.norm(vectors, axis=1)
            parts.append(vectors[far])
        values, rows = axes_of(parts)
        size = max(sum(map(len, parts)), parts[0].shape[1])
        rank = int((values > values[0] * size * np.finfo(float).eps).sum())
        basis = rows[:rank].T
        weight, pull = np.zeros((rank, rank)), np.zeros(rank)
        for task in tasks:
            inside = with_constant(task.X, bias) @ basis
            for y in task.y.T:
                first, second = y @ inside / len(y), (inside.T * y) @ inside / len(y)
                weight += np.outer(first, first) + second @ second
                pull += first
        return cls.turned(basis, weight, pull, bias)

    @classmethod
    def turned(
        cls,
        basis: Float[np.ndarray, "D rank"],
        weight: Float[np.ndarray, "rank rank"],
        pull: Float[np.ndarray, " rank"],
        bias: float = 0.0,
    ) -> "Span":
        """An orthonormal basis turned to the order of T and the signs of b, given in it."""
        _, turn = np.linalg.eigh(weight)
        # Signs that the order of samples and of inputs' columns does not change.
        turn = turn * np.where(pull @ turn < 0, -1.0, 1.0)
        return cls(basis @ turn[:, ::-1], bias)

    @property
    def rank(self) -> int:
        return self.basis.shape[1]

    def seen(self, X: Float[np.ndarray, "n D"]) -> np.ndarray:
        """Inputs and the constant of a bias; what has a coordinate for that stays as it is."""
        return X if X.shape[1] == len(self.basis) else with_constant(X, self.bias)

    def points(self, X: Float[np.ndarray, "n D"]) -> "Points":
        """In-span coordinates of inputs and what is left, in units where K_x = x.x'/D."""
        seen, dimension = self.seen(X), len(self.basis) - (self.bias > 0)
        inside = seen @ (self.basis / np.sqrt(dimension))
        size = np.einsum("nd,nd->n", seen, seen) / dimension
        rho = np.sqrt(np.maximum(size - np.einsum("nk,nk->n", inside, inside), 0.0))
        rho[rho < RESOLUTION * np.sqrt(size)] = 0.0
        return Points(inside, rho, X, self)

    def gram(
        self, X: Float[np.ndarray, "n D"], X2: Float[np.ndarray, "m D"]
    ) -> Float[np.ndarray, "n m"]:
        """K_x."""
        seen, other = (with_constant(x, self.bias) for x in (X, X2))
        return seen @ other.T / X.shape[1]

    def together(
        self, inputs: Mapping[K, np.ndarray], evaluate: Callable[[np.ndarray], np.ndarray]
    ) -> dict[K, np.ndarray]:
        """``evaluate`` of each: of all in the span at once, and of all others; outputs (..., n, C).

        Every other number of inputs would be compiled for itself.
        """
        alike: dict[bool, list[K]] = {}
        for key, X in inputs.items():
            alike.setdefault(self.points(X).smooth, []).append(key)
        found = {}
        for keys in alike.values():
            values = evaluate(np.concatenate([inputs[key] for key in keys]))
            ends = np.cumsum([len(inputs[key]) for key in keys])[:-1]
            found |= zip(keys, np.split(values, ends, axis=-2), strict=True)
        return {key: found[key] for key in inputs}

    def training_points(self, X: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n rank"]:
        """Coordinates of inputs that must lie in the span."""
        points = self.points(X)
        if points.rho.any():
            raise InputError(
                "the stage trains on inputs outside the span of the earlier solve; pass its "
                "task in observe= when solving the earlier stages"
            )
        return points.inside


@dataclass(frozen=True, eq=False)
class Points:
    """Inputs split into in-span coordinates and the norms of their orthogonal parts.

    Attributes
    ----------
    inside
        Coordinates a(x) with h(x) = w.a(x) + rho(x) xi, shape ``(n, rank)``.
    rho
        Norm of the orthogonal part, shape ``(n,)``.
    inputs, span
        Where they come from.
    """

    inside: Float[np.ndarray, "n rank"]
    rho: Float[np.ndarray, " n"]
    inputs: Float[np.ndarray, "n D"]
    span: Span

    @property
    def smooth(self) -> bool:
        """Whether any point has an orthogonal part to average over."""
        return bool(self.rho.any())

    @property
    def variance(self) -> Float[np.ndarray, " n"]:
        """K_x(x, x)."""
        return np.einsum("nk,nk->n", self.inside, self.inside) + self.rho**2

    @property
    def orthogonal(self) -> Float[np.ndarray, "n D"]:
        """The orthogonal parts themselves, in units where K_x = x.x'/D."""
        dimension = len(self.span.basis) - (self.span.bias > 0)
        seen = self.span.seen(self.inputs) / np.sqrt(dimension)
        return seen - self.inside @ self.span.basis.T


def with_constant(X: Float[np.ndarray, "n D"], bias: float) -> np.ndarray:
    """Inputs and, for a bias b of the first layer, the constant b sqrt(D) beside them."""
    if not bias:
        return X
    return np.column_stack([X, np.full(len(X), bias * np.sqrt(X.shape[1]))])
