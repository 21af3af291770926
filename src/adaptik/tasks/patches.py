"""Patches of images: what the filters of a convolution see (theory section 2.1)."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from ..mathematics.bases import axes_of
from ..system.errors import InputError
from ..system.registry import register
from .base import Task
from .span import Span

Pooling = Literal["average", "root", "none"]
POOLING = ("average", "root", "none")
HELD = 2**22  # numbers in the patches that NumPy holds at once


@register
@dataclass(frozen=True)
class Patches:
    """Where the patches of an image lie, and how what filters find there is pooled.

    Images are rows of ``height * width * channels`` numbers, channels last; patches are rows of
    ``d = size[0] * size[1] * channels`` numbers in the same order.

    Attributes
    ----------
    image
        Height, width, channels.
    size, stride
        Height and width of a patch; steps between patches down and across.
    padding
        Pixels of zeros on every side.
    pooling
        ``"average"``, ``"root"`` or ``"none"``.

    Examples
    --------
    >>> patches = Patches((3, 4, 1), (2, 2), (1, 2), 0, "average")
    >>> patches.count, patches.dimension
    (4, 4)
    >>> patches.of(np.arange(12.0)[None])[0, 1].tolist()  # the second one in the first row
    [2.0, 3.0, 6.0, 7.0]
    """

    image: tuple[int, int, int]
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: int
    pooling: Pooling

    @property
    def dimension(self) -> int:
        """Numbers d in a patch."""
        return math.prod(self.size) * self.image[2]

    @property
    def pixels(self) -> int:
        """Numbers D in an image."""
        return math.prod(self.image)

    @property
    def grid(self) -> tuple[int, int]:
        """How many patches down and across."""
        padded = (n + 2 * self.padding for n in self.image[:2])
        down, across = (
            (n - size) // step + 1
            for n, size, step in zip(padded, self.size, self.stride, strict=True)
        )
        return down, across

    @property
    def count(self) -> int:
        """Patches Q of an image."""
        return math.prod(self.grid)

    @property
    def heads(self) -> int:
        """Readouts of a filter for each output: one, or one for every patch."""
        return self.count if self.pooling == "none" else 1

    @property
    def scale(self) -> float:
        """Factor in front of the sum over patches."""
        return 1 / self.count if self.pooling == "average" else self.count**-0.5

    @cached_property
    def index(self) -> Int[np.ndarray, "Q d"]:
        """Columns of an image that its patches hold; D stands for padding."""
        height, width, channels = self.image
        columns = np.arange(height * width * channels).reshape(self.image)
        pad = (self.padding,) * 2
        columns = np.pad(columns, (pad, pad, (0, 0)), constant_values=columns.size)
        windows = np.lib.stride_tricks.sliding_window_view(columns, (*self.size, channels))
        found = windows[:: self.stride[0], :: self.stride[1], 0]
        return found.reshape(self.count, self.dimension)

    def of(self, X: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n Q d"]:
        """The patches of images."""
        return padded(X)[:, self.index]

    def blocks(self, X: Float[np.ndarray, "n D"]) -> Iterator[slice]:
        """Slices of images whose patches are held at once."""
        size = max(1, HELD // self.index.size)
        return (slice(start, start + size) for start in range(0, len(X), size))


def padded(X: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D+1"]:
    """Images with a column of zeros, which padding takes."""
    return np.concatenate([X, np.zeros((len(X), 1), X.dtype)], axis=1)


def square(dimension: int) -> tuple[int, int, int]:
    """The square image of one or three channels that has so many numbers.

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> square(784), square(3072)
    ((28, 28, 1), (32, 32, 3))
    """
    for channels in (1, 3):
        side = math.isqrt(dimension // channels)
        if side * side * channels == dimension:
            return side, side, channels
    raise InputError(
        f"image=None takes inputs for squares of one or three channels, which {dimension} numbers "
        "are not; give image=(height, width) or (height, width, channels)"
    )


def span_of(patches: Patches, tasks: Iterable[Task]) -> Span:
    """The span of all training patches, ordered as :class:`adaptik.tasks.span.Span` says.

    Every patch counts as a sample with the label of its image. Patches are held block by block.
    """
    tasks, d = list(tasks), patches.dimension
    values, basis = axes_of(
        patches.of(task.X[cut]).reshape(-1, d) for task in tasks for cut in patches.blocks(task.X)
    )
    rows = patches.count * sum(task.n_train for task in tasks)
    rank = int((values > values[0] * max(rows, d) * np.finfo(float).eps).sum())
    basis = basis[:rank].T
    weight, pull = np.zeros((rank, rank)), np.zeros(rank)
    for task in tasks:
        first = np.zeros((task.outputs, rank))
        second = np.zeros((task.outputs, rank, rank))
        for cut in patches.blocks(task.X):
            inside = patches.of(task.X[cut]).reshape(-1, d) @ basis
            labels = np.repeat(task.y[cut], patches.count, axis=0) / task.n_train / patches.count
            first += labels.T @ inside
            second += np.stack([(inside.T * y) @ inside for y in labels.T])
        weight += first.T @ first + (second @ second).sum(0)
        pull += first.sum(0)
    return Span.turned(basis, weight, pull)
