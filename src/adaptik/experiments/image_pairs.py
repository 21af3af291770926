"""Image classes as source and target, in coordinates of the space that the images span."""

from dataclasses import replace
from typing import Protocol

import numpy as np

from ..tasks import Task, load_pair


class Images(Protocol):
    """The part of a configuration that says which images."""

    @property
    def data(self) -> str: ...
    @property
    def source_classes(self) -> str: ...
    @property
    def target_classes(self) -> str: ...
    @property
    def n_source(self) -> int: ...
    @property
    def n_test(self) -> int: ...
    @property
    def seed(self) -> int: ...


def load(config: Images, n_target: int, draw: int) -> tuple[Task, Task]:
    """Source and target of one draw.

    Initial weights are isotropic, so that only inner products of inputs count, at any width: images
    are given by their coordinates in the span of all of them, which is smaller than their pixels.
    """
    source, target = load_pair(
        f"{config.data}:{config.source_classes}", f"{config.data}:{config.target_classes}",
        n_source=config.n_source, n_target=n_target, n_test=config.n_test,
        seed=config.seed + draw,
    )  # fmt: skip
    return in_span(source, target)


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
