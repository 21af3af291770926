"""Several tasks that are learned at once, each by a head of its own, as one problem.

Inputs of all tasks are stacked (those that tasks share once), outputs of all heads lie side by
side, and every pair of a sample and an output counts with a weight, 0 where it has no label
(theory section 1, "Joint stages").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real

import numpy as np
from jaxtyping import Float

from ...system.errors import InputError
from ..base import Task
from ..label_scale import LabelScale


@dataclass(frozen=True, eq=False)
class Joint(Task):
    """Tasks as the one problem that they are together.

    Attributes
    ----------
    parts
        The tasks.
    among
        Outputs of every head of the network, by name and in order; ``None`` where each task has
        brought its own.
    learned
        Names of the heads that the parts train; their own by default.
    X
        Inputs of all parts, shape ``(samples, D)``: an input that several parts have stands once.
    y
        Their labels in the columns of the heads that they train, 0 where there is none.

    Examples
    --------
    >>> a = Task([[1.0, 0.0], [0.0, 1.0]], [-1, 1], name="a")
    >>> b = Task([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]], [3, 4, 5], name="b")
    >>> joint = Joint((a, b))
    >>> joint.y.tolist()
    [[-1.0, 0.0], [1.0, 3.0], [0.0, 4.0], [0.0, 5.0]]
    >>> joint.weights((0.25, 0.75)).tolist()  # w_k P/P_k
    [[0.5, 0.0], [0.5, 1.0], [0.0, 1.0], [0.0, 1.0]]
    >>> joint.heads, joint.columns
    ({'a': 1, 'b': 1}, {'a': slice(0, 1, None), 'b': slice(1, 2, None)})
    """

    X: Float[np.ndarray, "samples D"] = field(init=False)
    y: Float[np.ndarray, "samples outputs"] = field(init=False)
    X_test: Float[np.ndarray, "tests D"] | None = field(init=False, default=None)
    y_test: Float[np.ndarray, "tests outputs"] | None = field(init=False, default=None)
    name: str = field(init=False)
    classes: tuple[str, ...] = field(init=False, default=())
    label_scale: LabelScale | None = field(init=False, default=None)
    features: tuple[str, ...] = field(init=False, default=())
    notes: tuple[str, ...] = field(init=False, default=())
    parts: tuple[Task, ...] = ()
    among: dict[str, int] | None = None
    learned: tuple[str, ...] | None = None
    rows: tuple[np.ndarray, ...] = field(init=False)  # of every part's samples

    def __post_init__(self):
        X, rows = _stacked([part.X for part in self.parts])
        y = np.zeros((len(X), sum(self.heads.values())))
        for part, at, head in zip(self.parts, rows, self.trained, strict=True):
            y[at, self.columns[head]] = part.y
        X.setflags(write=False)
        y.setflags(write=False)
        name = f"joint stage of {', '.join(part.name for part in self.parts)}"
        named = next((part.features for part in self.parts if part.features), ())
        for key, value in dict(X=X, y=y, name=name, features=named, rows=rows).items():
            object.__setattr__(self, key, value)

    @property
    def heads(self):
        return self.among or {part.name: part.outputs for part in self.parts}

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the heads that the parts train."""
        return self.learned or tuple(part.name for part in self.parts)

    def weights(self, shares: Sequence[float]) -> Float[np.ndarray, "samples outputs"]:
        """What each pair of a sample and an output counts in the mean over samples.

        ``shares`` are those of the parts in the loss.
        """
        found = np.zeros(self.y.shape)
        for share, at, head in zip(shares, self.rows, self.trained, strict=True):
            found[at, self.columns[head]] = share * len(self.X) / len(at)
        return found

    def same_as(self, other: Task) -> bool:
        return (
            isinstance(other, Joint)
            and (self.heads, self.trained) == (other.heads, other.trained)
            and len(self.parts) == len(other.parts)
            and all(a.same_as(b) for a, b in zip(self.parts, other.parts, strict=True))
        )

    def scaled(self, factor):
        return replace(self, parts=tuple(part.scaled(factor) for part in self.parts))

    def seen_through(self, view):
        return replace(self, parts=tuple(part.seen_through(view) for part in self.parts))


def joined(tasks: Sequence[Task], weights: Sequence[float] | None) -> Task:
    """The tasks of a stage as one, and a single one as it is.

    Raises
    ------
    InputError
        For no tasks, things that are none, other inputs, two of one name, and weights as
        :func:`shares_of` does.
    """
    if not tasks:
        raise InputError("task is an empty list; give at least one adaptik.Task")
    for task in tasks:
        if not isinstance(task, Task) or isinstance(task, Joint):
            raise InputError(f"task must hold adaptik.Tasks, got {type(task).__name__}")
    names = [task.name for task in tasks]
    for task in tasks[1:]:
        if task.dimension != tasks[0].dimension:
            raise InputError(
                f"task: {task.name!r} has {task.dimension} features, {tasks[0].name!r} "
                f"{tasks[0].dimension}; all tasks of a stage share one input space"
            )
    if len(set(names)) < len(names):
        raise InputError(f"task holds two tasks of one name, {names}; rename one")
    shares_of(tasks, weights)
    return tasks[0] if len(tasks) == 1 else Joint(tuple(tasks))


def shares_of(tasks: Sequence[Task], weights: Sequence[float] | None) -> tuple[float, ...]:
    """Weights of tasks in the loss of a stage, which sum to 1; by default as the samples.

    Raises
    ------
    InputError
        Where there is not one for each task, for one that is no finite number >= 0, and where all
        are 0.

    Examples
    --------
    >>> few, many = Task([[1.0]], [1], name="few"), Task([[1.0], [2.0], [3.0]], [1, 2, 3])
    >>> shares_of([few, many], None), shares_of([few, many], [3, 1])
    ((0.25, 0.75), (0.75, 0.25))
    """
    given = [task.n_train for task in tasks] if weights is None else weights
    if isinstance(given, str | Mapping) or np.ndim(given) != 1 or len(given) != len(tasks):
        raise InputError(
            f"weights must be a list of {len(tasks)} numbers, one for each task, got {weights!r}"
        )
    for weight in given:
        if isinstance(weight, bool) or not (isinstance(weight, Real) and 0 <= weight < np.inf):
            raise InputError(f"weights must be finite numbers >= 0, got {weight!r}")
    largest = float(max(given))
    if largest == 0:
        raise InputError("weights sum to zero, which trains nothing; give a task one > 0")
    relative = [float(weight) / largest for weight in given]
    return tuple(weight / sum(relative) for weight in relative)


def _stacked(inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Inputs of several tasks, with those that tasks share once, and the rows of each task."""
    places: dict[tuple[bytes, int], int] = {}
    kept, rows = [], []
    for X in inputs:
        seen: dict[bytes, int] = {}  # a task may hold an input several times, with other labels
        mine = []
        for x in X:
            key = x.tobytes()
            seen[key] = seen.get(key, -1) + 1
            place = (key, seen[key])
            if place not in places:
                places[place] = len(kept)
                kept.append(x)
            mine.append(places[place])
        rows.append(np.array(mine))
    return np.stack(kept), tuple(rows)


def by_output(
    X: Float[np.ndarray, "samples D"],
    y: Float[np.ndarray, "samples outputs"],
    X_test: Float[np.ndarray, "tests D"] | None = None,
    y_test: Float[np.ndarray, "tests outputs"] | None = None,
    names: Sequence[str] | None = None,
) -> list[Task]:
    """One task for each column of labels, of the samples that have one: NaN stands for none.

    A stage on all of them learns every output from what is known of it. With default weights its
    loss is the mean over all labels that are there.

    Parameters
    ----------
    X, X_test
        Inputs.
    y, y_test
        Labels; columns may miss any of them, but not all training labels.
    names
        Of the tasks; by default ``"output 0"`` and so on.

    Raises
    ------
    InputError
        For arrays that do not fit together, and as :class:`Task` does.

    Examples
    --------
    >>> nan = float("nan")
    >>> first, second = by_output([[1.0], [2.0], [3.0]], [[1, nan], [2, 5], [nan, 7]])
    >>> first.X.ravel().tolist(), second.y.ravel().tolist(), second.name
    ([1.0, 2.0], [5.0, 7.0], 'output 1')
    """
    splits = {"": _labelled(X, y)}
    if (X_test is None) != (y_test is None):
        raise InputError("give both X_test and y_test, or neither")
    outputs = splits[""][1].shape[1]
    if X_test is not None and y_test is not None:
        splits["_test"] = _labelled(X_test, y_test, "_test")
        if splits["_test"][1].shape[1] != outputs:
            raise InputError(f"y_test must have the {outputs} columns of y")
    names = [f"output {c}" for c in range(outputs)] if names is None else list(names)
    if len(names) != outputs:
        raise InputError(f"names must be {outputs}, one for each output, got {len(names)}")
    found = []
    for c, name in enumerate(names):
        data = {}
        for split, (inputs, labels) in splits.items():
            there = ~np.isnan(labels[:, c])
            if there.any():
                data |= {f"X{split}": inputs[there], f"y{split}": labels[there, c]}
        if "X" not in data:
            raise InputError(f"y: output {name!r} has no label; leave it out")
        found.append(Task(name=name, **data))
    return found


def _labelled(X, y, split: str = "") -> tuple[np.ndarray, np.ndarray]:
    inputs, labels = np.asarray(X, float), np.asarray(y, float)
    if inputs.ndim != 2 or labels.ndim != 2 or len(inputs) != len(labels):
        raise InputError(
            f"X{split} and y{split} must have shapes (samples, D) and (samples, outputs), got "
            f"{inputs.shape} and {labels.shape}"
        )
    return inputs, labels
