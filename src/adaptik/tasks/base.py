"""Task: the data of one supervised problem, validated on construction."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from ..system.errors import InputError
from .label_scale import LabelScale
from .labels import shared_order
from .names import column_names, match

LossUnit = Literal["task", "labels", "variance"]


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
    label_scale
        How ``y`` was made from labels in the user's units, if it was
        (:func:`adaptik.tasks.standardise_labels`).
    features
        Names of the inputs' columns, empty where they have none. They come from a DataFrame given
        as ``X``; one given as ``X_test`` is put into their order.
    notes
        What was assumed or found while the data were read, one line each.

    Raises
    ------
    InputError
        For empty data, wrong dimensions, NaN or infinite entries, labels that do not vary, or
        columns of ``X_test`` that ``X`` has not.

    Examples
    --------
    >>> task = Task([[1.0, 0.0], [0.0, 1.0]], [-1, 1], name="toy")
    >>> task.n_train, task.dimension, task.outputs
    (2, 2, 1)
    >>> task.splits, task.split("train")[1].tolist()  # it has no test data
    (('train',), [[-1.0], [1.0]])
    >>> task.with_note("two toys").notes, task.loss_weights("labels").tolist()
    (('two toys',), [1.0])
    >>> task.columns
    {'toy': slice(0, 1, None)}
    >>> task.heads, task.scaled(2.0).y.tolist(), task.seen_through(lambda X: 3 * X).X[0].tolist()
    ({'toy': 1}, [[-2.0], [2.0]], [3.0, 0.0])
    >>> part = task.subset(rows=np.array([0]), held_out=np.array([1]), name="half")
    >>> part.n_train, part.splits
    (1, ('train', 'test'))
    """

    X: Float[np.ndarray, "samples D"]
    y: Float[np.ndarray, "samples outputs"]
    X_test: Float[np.ndarray, "tests D"] | None = None
    y_test: Float[np.ndarray, "tests outputs"] | None = None
    name: str = "task"
    classes: tuple[str, ...] = ()
    label_scale: LabelScale | None = None
    features: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        self._take_names()
        for field in ("X", "y", "X_test", "y_test"):
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, self._as_matrix(field, value))
        for field in ("classes", "features", "notes"):
            object.__setattr__(self, field, tuple(str(c) for c in getattr(self, field)))
        self._check_shapes()

    def _fail(self, message: str):
        raise InputError(f"task {self.name!r}: {message}")

    def _take_names(self):
        """Names of a DataFrame's columns; the test inputs in the same order."""
        features, tests = column_names(self.X), column_names(self.X_test)
        if features:
            object.__setattr__(self, "features", features)
        if self.features and tests:
            order = match(self.features, tests, f"task {self.name!r}, X", "X_test")
            object.__setattr__(self, "X_test", np.asarray(self.X_test)[:, order])

    def _as_matrix(self, field: str, value) -> np.ndarray:
        if hasattr(value, "toarray"):
            self._fail(f"{field} is a sparse matrix; give {field}.toarray()")
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
        if not self.y.any() and self.label_scale is None:
            self._fail("y is zero everywhere; nothing can be learned from it")
        if self.features and len(self.features) != self.dimension:
            self._fail(f"features names {len(self.features)} columns, X has {self.dimension}")
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
        mine, its = self.label_scale, other.label_scale
        if its is not None if mine is None else not mine.same_as(its):
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

    @property
    def codes(self) -> Int[np.ndarray, " samples"]:
        """Which class every training sample is of: positions in ``classes``.

        Examples
        --------
        >>> Task(np.eye(3), np.eye(3), classes=("a", "b", "c")).codes.tolist()
        [0, 1, 2]
        """
        return self.y.argmax(1) if self.outputs > 1 else (self.y[:, 0] > 0).astype(int)

    @property
    def by_label(self) -> Int[np.ndarray, " samples"]:
        """Training samples sorted by class, or by what their labels add up to.

        Examples
        --------
        >>> Task(np.eye(3), [0.5, -2.0, 0.1]).by_label.tolist()
        [1, 2, 0]
        """
        label = self.codes if self.classes else self.y @ np.arange(1, self.outputs + 1)
        return np.argsort(label, kind="stable")

    @property
    def heads(self) -> dict[str, int]:
        """Outputs of every head that learns it, by name: one of its own name."""
        return {self.name: self.outputs}

    @property
    def columns(self) -> dict[str, slice]:
        """Which outputs are those of each head."""
        ends = np.cumsum(list(self.heads.values())).tolist()
        starts = [0, *ends[:-1]]
        return {name: slice(*cut) for name, *cut in zip(self.heads, starts, ends, strict=True)}

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

    def loss_weights(self, unit: LossUnit) -> Float[np.ndarray, " outputs"]:
        """Factors of the outputs' mean squared errors that give a loss in a unit.

        Parameters
        ----------
        unit
            ``"task"``: the sum over outputs, in squares of ``y``. ``"labels"``: the same in squares
            of the user's labels. ``"variance"``: the mean over outputs, each relative to the
            variance of its training labels (of test labels about them where those are constant),
            so that predicting their mean has loss 1. Classes have one unit: all are ``"task"``.
        """
        ones = np.ones(self.outputs)
        if unit not in get_args(LossUnit):
            raise InputError(f"unit must be one of {get_args(LossUnit)}, got {unit!r}")
        if unit == "task" or self.classes:
            return ones
        if unit == "labels":
            return ones if self.label_scale is None else self.label_scale.std**2
        variance, mean = self.y.var(0), self.y.mean(0)
        if self.y_test is not None:
            around = np.mean((self.y_test - mean) ** 2, axis=0)
            variance = np.where(variance > 0, variance, around)
        return 1 / (self.outputs * np.where(variance > 0, variance, 1.0))

    def scaled(self, factor: float) -> "Task":
        """The same task with labels ``factor`` times as large."""
        y_test = None if self.y_test is None else factor * self.y_test
        return replace(self, y=factor * self.y, y_test=y_test)

    def seen_through(self, view: Callable[[np.ndarray], np.ndarray]) -> "Task":
        """The same task with what ``view`` makes of the inputs in their place."""
        X_test = None if self.X_test is None else view(self.X_test)
        return replace(self, X=view(self.X), X_test=X_test, features=())

    def with_note(self, note: str) -> "Task":
        """The same task with one more note."""
        return replace(self, notes=(*self.notes, note))

    def with_codes_of(self, classes: Sequence[str]) -> "Task":
        """The same task with the codes that its classes have among ``classes``, where they can.

        Examples
        --------
        >>> task = Task([[1.0, 0.0], [0.0, 1.0]], [-1, 1], classes=("good", "ugly"))
        >>> task.with_codes_of(("bad", "good")).classes
        ('ugly', 'good')
        """
        order = shared_order(self.classes, classes)
        if order == sorted(order):
            return self

        def recoded(y: np.ndarray) -> np.ndarray:
            return -y if len(order) == 2 else y[:, order]

        changed: dict[str, Any] = dict(y=recoded(self.y), classes=[self.classes[i] for i in order])
        if self.y_test is not None:
            changed["y_test"] = recoded(self.y_test)
        if self.label_scale is not None and len(order) > 2:
            changed["label_scale"] = self.label_scale.permuted(order)
        return replace(self, **changed)

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
    """Fraction of samples whose class is predicted correctly, shape ``(*members,)``.

    Examples
    --------
    >>> task = Task([[1.0, 0.0], [0.0, 1.0]], [-1, 1])
    >>> float(accuracy(task, np.array([[-0.3], [-0.1]]), task.y))
    0.5
    """
    if task.outputs == 1:
        return np.mean((f[..., 0] > 0) == (y[..., 0] > 0), axis=-1)
    if task.label_scale is not None:
        f, y = task.label_scale.labels(f), task.label_scale.labels(y)
    return np.mean(f.argmax(-1) == y.argmax(-1), axis=-1)


def preactivation_scale(tasks: Iterable[Task]) -> float:
    """Largest standard deviation of a first-layer preactivation at initialisation.

    Examples
    --------
    >>> preactivation_scale([Task([[3.0, 4.0], [0.0, 1.0]], [-1, 1])]).__round__(3)
    3.536
    """
    inputs = [X for task in tasks for X in (task.X, task.X_test) if X is not None]
    largest = max(np.abs(X).max() for X in inputs)  # its square may be no number any more
    return max(float(largest * np.sqrt(np.mean((X / largest) ** 2, axis=1).max())) for X in inputs)


def standardise_labels(task: Task, source: Task | None = None) -> Task:
    """The task with labels centred and scaled by its training labels.

    Every front end solves it in place of the task: what is learned, and at which richness, does
    not depend on the labels' units, nor on how many classes there are. Two classes stay -1 and +1;
    one-hot codes of more are taken less the classes' shares, in one unit for all, so that
    predicting the shares has loss 1.

    Parameters
    ----------
    task
        With labels as they stand in the user's table.
    source
        A standardised task whose unit an output takes that is constant, as with one sample.

    Returns
    -------
    Task
        Its ``label_scale`` turns predictions back; losses in the user's units are those of
        ``Solution.loss(..., unit="labels")``.

    Examples
    --------
    >>> from adaptik.tasks import Task
    >>> task = standardise_labels(Task([[1.0], [2.0]], [4e5, 6e5]))
    >>> task.y.tolist(), task.label_scale.mean.tolist()
    ([[-1.0], [1.0]], [500000.0])
    >>> three = standardise_labels(Task(np.eye(3), np.eye(3), classes=("a", "b", "c")))
    >>> three.y.round(3).tolist()[0], three.loss_weights("labels").tolist()
    ([0.816, -0.408, -0.408], [1.0, 1.0, 1.0])
    """
    if task.label_scale is not None or len(task.classes) == 2:
        return task
    if task.classes:
        scale = LabelScale.of_classes(task.y)
    else:
        scale = LabelScale.of(task.y, None if source is None else source.label_scale)
    y_test = None if task.y_test is None else scale.standardised(task.y_test)
    return replace(task, y=scale.standardised(task.y), y_test=y_test, label_scale=scale)
