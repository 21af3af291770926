"""Task: the data of one supervised problem, validated on construction."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from ..errors import InputError


@dataclass(frozen=True, eq=False)
class Task:
    """Training and test data of one problem.

    Attributes
    ----------
    X
        Training inputs, shape ``(samples, D)``; the theory's kernel is ``x.x'/D``, so inputs
        are best scaled to mean ``|x|^2 = D`` (see :func:`adaptik.tasks.standardise_pair`).
    y
        Labels, shape ``(samples,)`` or ``(samples, outputs)``; two classes are -1 and +1,
        more are one-hot. Stored as ``(samples, outputs)``.
    X_test, y_test
        Optional held-out data of the same form.
    name
        Names the task in tables, plots and results.
    classes
        Names of the classes in label order (empty for regression); accuracy is reported
        when it is given.

    Raises
    ------
    InputError
        For empty data, wrong dimensions, NaN or infinite entries, or labels that do not vary.

    Examples
    --------
    >>> task = Task([[1.0, 0.0], [0.0, 1.0]], [-1, 1], name="toy")
    >>> task.n_train, task.dimension, task.outputs
    (2, 2, 1)
    """

    X: Float[np.ndarray, "samples D"]
    y: Float[np.ndarray, "samples outputs"]
    X_test: Float[np.ndarray, "tests D"] | None = None
    y_test: Float[np.ndarray, "tests outputs"] | None = None
    name: str = "task"
    classes: tuple[str, ...] = ()

    def __post_init__(self):
        for field in ("X", "y", "X_test", "y_test"):
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, self._as_matrix(field, value))
        object.__setattr__(self, "classes", tuple(str(c) for c in self.classes))
        self._check_shapes()

    def _fail(self, message: str):
        raise InputError(f"task {self.name!r}: {message}")

    def _as_matrix(self, field: str, value) -> np.ndarray:
        try:
            array = np.array(value, dtype=float)
        except (TypeError, ValueError):
            self._fail(f"{field} must be numeric; encode labels as -1/+1 or one-hot")
        if field.startswith("y") and array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2:
            self._fail(f"{field} must have 2 dimensions (samples, ...), got shape {array.shape}")
        if array.size == 0:
            self._fail(f"{field} is empty (shape {array.shape}); give at least one sample")
        if not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).any(axis=1).sum())
            self._fail(f"{field} has NaN or infinite values in {bad} rows; remove or impute them")
        array.setflags(write=False)
        return array

    def _check_shapes(self):
        if len(self.X) != len(self.y):
            self._fail(f"X has {len(self.X)} samples but y has {len(self.y)}")
        if (self.X_test is None) != (self.y_test is None):
            self._fail("give both X_test and y_test, or neither")
        if self.X_test is not None and self.y_test is not None:
            if len(self.X_test) != len(self.y_test):
                self._fail(
                    f"X_test has {len(self.X_test)} samples but y_test has {len(self.y_test)}"
                )
            if self.X_test.shape[1] != self.dimension or self.y_test.shape[1] != self.outputs:
                self._fail(
                    f"test data have {self.X_test.shape[1]} features and {self.y_test.shape[1]} "
                    f"outputs, training data {self.dimension} and {self.outputs}"
                )
        if len(self.y) > 1 and (self.y == self.y[0]).all():
            self._fail("y is a single class or constant; nothing can be learned from it")
        if not self.y.any():
            self._fail("y is zero everywhere; nothing can be learned from it")
        if not self.X.any():
            self._fail("X is zero everywhere; the kernel x.x'/D vanishes")
        expected = 1 if len(self.classes) == 2 else len(self.classes)
        if self.classes and expected != self.outputs:
            self._fail(f"{len(self.classes)} classes need {expected} outputs, got {self.outputs}")

    def same_as(self, other: "Task") -> bool:
        """Whether the other task has the same name, classes and data, as after saving and loading.

        Examples
        --------
        >>> task = Task([[1.0, 0.0], [0.0, 1.0]], [-1, 1])
        >>> task.same_as(Task(task.X, task.y)), task.same_as(Task(task.X, -task.y))
        (True, False)
        """
        if self is other:
            return True
        if (self.name, self.classes, self.splits) != (other.name, other.classes, other.splits):
            return False
        return all(
            np.array_equal(mine, its)
            for split in self.splits
            for mine, its in zip(self.split(split), other.split(split), strict=True)
        )

    @property
    def n_train(self) -> int:
        return self.X.shape[0]

    @property
    def dimension(self) -> int:
        return self.X.shape[1]

    @property
    def outputs(self) -> int:
        return self.y.shape[1]

    def split(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of ``"train"`` or ``"test"``."""
        if split == "train":
            return self.X, self.y
        if self.X_test is None or self.y_test is None:
            self._fail("has no test data; give X_test and y_test")
        return self.X_test, self.y_test

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that exist: ``("train",)`` or ``("train", "test")``."""
        return ("train",) if self.X_test is None else ("train", "test")

    def subset(self, rows: np.ndarray, held_out: np.ndarray, name: str) -> "Task":
        """A task trained on ``rows`` of the training data and tested on ``held_out`` of them."""
        return replace(
            self,
            X=self.X[rows],
            y=self.y[rows],
            X_test=self.X[held_out],
            y_test=self.y[held_out],
            name=name,
        )


def accuracy(task: Task, f: Float[np.ndarray, "*members n outputs"], y: np.ndarray) -> np.ndarray:
    """Fraction of samples whose class is predicted correctly, shape ``(*members,)``."""
    if task.outputs == 1:
        return np.mean((f[..., 0] > 0) == (y[..., 0] > 0), axis=-1)
    return np.mean(f.argmax(-1) == y.argmax(-1), axis=-1)


def preactivation_scale(tasks: Iterable[Task]) -> float:
    """Largest standard deviation of a first-layer preactivation at initialisation.

    Examples
    --------
    >>> preactivation_scale([Task([[3.0, 4.0], [0.0, 1.0]], [-1, 1])]).__round__(3)
    3.536
    """
    inputs = [X for task in tasks for X in (task.X, task.X_test) if X is not None]
    return max(float(np.sqrt(np.mean(X**2, axis=1).max())) for X in inputs)
