"""Image classes as source and target, in coordinates of the space that the images span."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...tasks import Task, load_pair


@dataclass(frozen=True, kw_only=True)
class Images:
    """The part of a configuration that says which images.

    Attributes
    ----------
    data
        Data set of the images.
    source_classes, target_classes
        Two each, as text; a shared class is split between the tasks.
    n_source, n_target, n_test
        P1, P2 (where there are several, smaller ones are subsets), test samples.
    """

    data: str = "cifar10"
    source_classes: str = "0,1"
    target_classes: str = "0,9"
    n_source: int = 50
    n_target: Any = 50
    n_test: int = 200

    @property
    def title(self) -> str:
        return f"{self.data} {self.source_classes} → {self.target_classes}"

    @property
    def classes(self) -> str:
        """In words, for captions."""
        return f"{self.data}, classes {self.source_classes} → {self.target_classes}"

    def load(self, seed: int) -> tuple[Task, Task]:
        """Source and target: the draw of the images that ``seed`` fixes.

        Initial weights are isotropic, so that only inner products of inputs count, at any width:
        images are given by their coordinates in the span of all of them, which is smaller than
        their pixels.
        """
        return in_span(*self.load_pixels(seed))

    def load_pixels(self, seed: int) -> tuple[Task, Task]:
        """:meth:`load` as they stand, for networks to which places matter."""
        return load_pair(
            f"{self.data}:{self.source_classes}",
            f"{self.data}:{self.target_classes}",
            n_source=self.n_source,
            n_target=int(np.max(self.n_target)),
            n_test=self.n_test,
            seed=seed,
        )


def in_span(source: Task, target: Task) -> tuple[Task, Task]:
    """Both tasks in an orthonormal basis of their inputs' span, ``x.x'/D`` unchanged.

    Examples
    --------
    >>> task = Task(np.eye(5)[:2], [-1, 1], np.eye(5)[1:2], [1], name="t")
    >>> first, _ = in_span(task, task)
    >>> first.X.shape, round(float(first.X[0] @ first.X[0]) / 2, 6)  # was 1/5
    ((2, 2), 0.2)
    """
    parts = [X for t in (source, target) for X in (t.X, t.X_test) if X is not None]
    _, sizes, basis = np.linalg.svd(np.concatenate(parts), full_matrices=False)
    basis = basis[sizes > 1e-10 * sizes[0]]
    change = basis.T * np.sqrt(len(basis) / source.dimension)

    def moved(task: Task) -> Task:
        X_test = None if task.X_test is None else task.X_test @ change
        return replace(task, X=task.X @ change, X_test=X_test)

    return moved(source), moved(target)
