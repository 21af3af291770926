"""Tasks from a user's tables: which rows train and which test."""

from pathlib import Path

import numpy as np

from ..system.errors import InputError
from . import labels
from .base import Task
from .labels import encode_labels
from .tables import Table

__all__ = ["encode_labels", "of_table"]


def of_table(
    table: Table, kind: labels.Kind, n_train: int | None, n_test: int | None, seed: int
) -> Task:
    """A task of a table's rows.

    Where the file has no test data, ``n_test`` rows (default a fifth) are held out at random.
    Rows are drawn from the sorted table, so that the file's order of rows and columns does not
    matter.
    """
    path = table.name
    encoded, classes = labels.encode(table.labels, kind)
    X, y, X_test, y_test = table.X, encoded[: len(table.X)], table.X_test, encoded[len(table.X) :]
    rng = np.random.default_rng(seed)
    ordered = _sorted_rows(X, y)
    order = ordered[rng.permutation(len(X))]
    if X_test is None:
        held_out = len(X) // 5 if n_test is None else n_test
        if not 1 <= held_out < len(X):
            raise InputError(
                f"{path}: n_test={held_out} of {len(X)} rows leaves nothing to train on"
            )
        test, order = order[:held_out], order[held_out:]
        X_test, y_test = X[test], y[test]
    elif n_test is not None:
        keep = _sorted_rows(X_test, y_test)[rng.permutation(len(X_test))[:n_test]]
        X_test, y_test = X_test[keep], y_test[keep]
    if n_train is not None and n_train > len(order):
        raise InputError(f"{path}: n_train={n_train} but only {len(order)} training rows")
    order = order[:n_train]
    task = Task(
        X[order], y[order], X_test, y_test, Path(path).stem, classes, features=table.columns
    )
    return _with_repeats_said(task)


def _sorted_rows(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Row numbers by value of the first column (by name, in a table), then the next, then y."""
    return np.lexsort(np.column_stack([X, y]).T[::-1])


def as_bytes(X: np.ndarray) -> np.ndarray:
    """Every row as one value that can be sorted and compared, shape ``(rows,)``."""
    rows = np.ascontiguousarray(X + 0.0)  # so that -0 is 0
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()


def repeated(X: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """Which rows of ``X`` also stand in one of the others."""
    held = {row.tobytes() for other in others for row in as_bytes(other)}
    return np.array([row.tobytes() in held for row in as_bytes(X)])


def _with_repeats_said(task: Task) -> Task:
    if task.X_test is None:
        return task
    count = int(repeated(task.X_test, [task.X]).sum())
    if not count:
        return task
    return task.with_note(
        f"{task.name}: {count} of {len(task.X_test)} test rows also stand in the training data"
    )
