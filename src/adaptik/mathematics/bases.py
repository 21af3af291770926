"""Orthonormal bases that grow as directions are revealed, and growing matrices in one vector.

Of a growing basis B all that is asked is <b, b'> = delta with <a, b> = a.b/size: sizes are 1 for
coordinates, and the number of particles for samples.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float

TALL = 8  # rows for a column that are taken into a triangle at once
ROOM = 48  # columns of a new buffer beyond twice those that it starts with


def axes_of(
    matrices: Iterable[Float[np.ndarray, "n D"]],
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "m D"]]:
    """Singular values and right singular vectors of matrices one below the other, largest first.

    They are those of the triangle R in X = Q R, which takes in rows block by block: nothing else of
    the size of X is made, and m is min(n, D).

    Examples
    --------
    >>> X = np.array([[3.0, 0.0], [0.0, 1.0], [4.0, 0.0]])
    >>> values, rows = axes_of([X[:1], X[1:]])
    >>> values.round(6).tolist(), abs(rows).round(6).tolist()
    ([5.0, 1.0], [[1.0, 0.0], [0.0, 1.0]])
    """
    triangle: list[np.ndarray] = []
    for X in matrices:
        size = TALL * X.shape[1]
        for start in range(0, len(X), size):
            below = np.concatenate([*triangle, X[start : start + size]])
            triangle = [np.asarray(np.linalg.qr(below, "r"))]
    _, values, rows = np.linalg.svd(triangle[0], full_matrices=False)
    return values, rows


class BasisFull(Exception):
    """A vector has no room for another direction; its flow can make a longer one."""


def padded(a: Float[np.ndarray, "m n"], rows: int, columns: int | None = None) -> np.ndarray:
    """The matrix with zeros below and to the right; itself, not a copy, where it has that shape."""
    shape = (rows, a.shape[1] if columns is None else columns)
    if a.shape == shape:
        return a
    out = np.zeros(shape)  # many times faster than np.pad on small arrays
    out[: a.shape[0], : a.shape[1]] = a
    return out


class Packing:
    """Matrices that grow, one behind the other in a vector that has room for them.

    Parameters
    ----------
    room
        Shape up to which each may grow.

    Examples
    --------
    >>> packing = Packing([(2, 2), (1, 2)])
    >>> y = packing.pack([np.ones((1, 1)), np.ones((1, 2))])
    >>> y.tolist(), [M.shape for M in packing.unpack(y, [(1, 2), (1, 1)])]
    ([1.0, 0.0, 0.0, 0.0, 1.0, 1.0], [(1, 2), (1, 1)])
    """

    def __init__(self, room: Sequence[tuple[int, int]]):
        self.room = list(room)
        self.ends = np.cumsum([0, *(rows * columns for rows, columns in room)]).tolist()

    def pack(self, matrices: Sequence[Float[np.ndarray, "m n"]]) -> Float[np.ndarray, " length"]:
        parts = zip(matrices, self.room, strict=True)
        return np.concatenate([padded(M, *room).ravel() for M, room in parts])

    def unpack(
        self, y: Float[np.ndarray, " length"], shapes: Sequence[tuple[int, int]]
    ) -> list[Float[np.ndarray, "m n"]]:
        """Views of the matrices, which have these shapes by now."""
        parts = zip(pairwise(self.ends), self.room, shapes, strict=True)
        return [y[a:b].reshape(room)[:m, :n] for (a, b), room, (m, n) in parts]

    def check(self, i: int, shape: tuple[int, int]) -> None:
        """Raise :class:`BasisFull` where matrix ``i`` has no room for that shape."""
        if shape[0] > self.room[i][0] or shape[1] > self.room[i][1]:
            raise BasisFull


class Columns:
    """Columns in a buffer that grows; views handed out earlier stay as they are."""

    def __init__(self, start: Float[np.ndarray, "N d"]):
        self.count = start.shape[1]
        self.rows = np.empty((2 * self.count + ROOM, len(start)), start.dtype)
        self.rows[: self.count] = start.T

    @property
    def array(self) -> Float[np.ndarray, "N d"]:
        return self.rows[: self.count].T

    def append(self, new: Float[np.ndarray, "N k"]) -> Float[np.ndarray, "N d"]:
        count = self.count + new.shape[1]
        if count > len(self.rows):
            grown = np.empty((2 * count, self.rows.shape[1]), self.rows.dtype)
            grown[: self.count] = self.rows[: self.count]
            self.rows = grown
        self.rows[self.count : count] = new.T
        self.count = count
        return self.array


def gram(sample: Float[np.ndarray, "N k"], size: float) -> Float[np.ndarray, "k k"]:
    """<x, x> of all pairs of columns, in double precision."""
    sample = sample.astype(float, copy=False)
    return sample.T @ sample / size


def fresh_of(
    sample: Float[np.ndarray, "N k"], basis: Float[np.ndarray, "N d"], size: float
) -> Float[np.ndarray, "N k"]:
    """The sample orthogonal to the basis, with <x, x> = I."""
    sample = sample - basis @ (basis.T @ sample / size)
    values, vectors = np.linalg.eigh(gram(sample, size))
    return sample @ ((vectors / np.sqrt(values)) @ vectors.T).astype(sample.dtype)


def meet(
    basis: Float[np.ndarray, "N d"], V: Float[np.ndarray, "N k"], tol: float, size: float
) -> tuple[Float[np.ndarray, "d+new k"], Float[np.ndarray, "N new"]]:
    """Columns in a basis, and the new directions that it takes to hold them.

    Parameters
    ----------
    basis, V
        The basis, and what it meets.
    tol
        Part of every column, relative to its length, that may be missed: as few directions are
        taken as are enough, along the principal axes of what the basis misses.
    size
        Of the inner product.

    Returns
    -------
    inside, new
        Coefficients of V in the basis with the new directions behind it, and these; none where the
        basis holds V already.

    Examples
    --------
    >>> e, V = np.eye(3), np.array([[1.0], [3.0], [4.0]])
    >>> inside, new = meet(e[:, :1], V, 1e-3, size=1.0)
    >>> inside.round(6).tolist(), new.round(6).tolist()
    ([[1.0], [5.0]], [[0.0], [0.6], [0.8]])
    """
    allowed = tol * np.linalg.norm(V, axis=0)
    inside = basis.T @ V / size
    rest = V - basis @ inside
    if (np.linalg.norm(rest, axis=0) <= allowed).all():
        return inside, V[:, :0]
    rest = rest - basis @ (basis.T @ rest / size)
    values, vectors = np.linalg.eigh(gram(rest, size))
    values, vectors = values[::-1], vectors[:, ::-1]
    # What every column misses once the first 0, 1, 2 .. directions are taken.
    missed = np.cumsum((values[:, None] * vectors.T**2)[::-1], axis=0)[::-1]
    enough = (missed <= allowed**2 / size).all(axis=1)
    count = int(np.argmax(enough)) if enough.any() else len(values)
    scale = vectors[:, :count] / np.sqrt(values[:count])
    new = fresh_of(rest @ scale.astype(V.dtype), basis, size)
    return np.concatenate([inside, new.T @ V / size]), new
