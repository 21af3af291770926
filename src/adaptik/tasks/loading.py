"""Named data sets and files to tasks, alone or as a source and a target that do not leak."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from . import files, images
from .base import Task


def load(
    dataset: str | Path,
    classes: Sequence[int] | None = None,
    *,
    n_train: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
) -> Task:
    """A task from a named image data set or a ``.npz`` / ``.csv`` file, standardised by itself.

    Parameters
    ----------
    dataset
        ``"digits"``, ``"fashion-mnist"``, ``"cifar10"``, or a path.
    classes
        For images: the first named class is -1 and the second +1; three or more are one-hot.
    n_train, n_test
        Samples to keep, balanced over classes; default 200 (or fewer if there are fewer) and all,
        at most 1000.
    seed
        Fixes which samples are kept.

    Raises
    ------
    InputError, DatasetNotFoundError

    Examples
    --------
    >>> task = load("digits", classes=(3, 5), n_train=40)
    >>> task.X.shape, task.name
    ((40, 64), 'digits:3,5')
    """
    task = _raw(dataset, classes, n_train, n_test, seed, {})
    return standardise_pair(task, task)[0]


def load_pair(
    source: str,
    target: str,
    *,
    n_source: int | None = None,
    n_target: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
) -> tuple[Task, Task]:
    """A source and a target given as ``"digits:3,5"`` or file paths, on one common scale.

    Both are standardised with the source's training statistics. No sample is in the source's
    training set and in the target's training or test set; image classes that both tasks share
    are split between them, and rows of user files that would leak are removed from the source.

    Examples
    --------
    >>> source, target = load_pair("digits:0,1", "digits:0,9", n_source=60, n_target=20)
    >>> source.n_train, target.n_train
    (60, 20)
    """
    used: dict[str, np.ndarray] = {}
    pair = [
        _raw(*_parse(spec), n, n_test, seed, used)
        for spec, n in ((source, n_source), (target, n_target))
    ]
    first, second = pair
    if first.name == second.name:
        pair[1] = second = Task(
            second.X, second.y, second.X_test, second.y_test, f"{second.name} (target)",
            second.classes,
        )  # fmt: skip
    if first.dimension != second.dimension:
        raise InputError(
            f"source {first.name!r} has {first.dimension} features and target {second.name!r} "
            f"{second.dimension}; both must have the same inputs"
        )
    return standardise_pair(_without_rows_of(first, second), second)


def _parse(spec: str) -> tuple[str, tuple[int, ...] | None]:
    name, _, classes = str(spec).partition(":")
    if name not in images.DATASETS:
        return str(spec), None
    try:
        return name, tuple(int(c) for c in classes.split(","))
    except ValueError:
        raise InputError(f"{spec!r}: name the classes, for example {name}:0,1") from None


def _raw(dataset, classes, n_train, n_test, seed, used) -> Task:
    for name, count in (("n_train", n_train), ("n_test", n_test)):
        if count is not None and count < 1:
            raise InputError(f"{name} must be at least 1, got {count}")
    if str(dataset) not in images.DATASETS:
        if Path(dataset).suffix not in (".npz", ".csv"):
            raise InputError(
                f"unknown data set {str(dataset)!r}; use {', '.join(images.DATASETS)} with "
                "classes, such as digits:3,5, or the path of a .npz or .csv file"
            )
        if classes is not None:
            raise InputError("classes apply to named data sets; a file's labels name its own")
        return files.read(dataset, n_train, n_test, seed)
    if classes is None or len(classes) < 2 or len(set(classes)) < len(classes):
        raise InputError(f"{dataset}: name at least two different classes, got {classes}")
    data = images.read(str(dataset))
    known = set(np.unique(data.train_labels).tolist())
    if not set(classes) <= known:
        raise InputError(f"{dataset}: unknown classes {sorted(set(classes) - known)}; has 0 to 9")
    name = f"{dataset}:{','.join(str(c) for c in classes)}"
    rng = np.random.default_rng(seed)
    taken = used.setdefault(str(dataset), np.zeros(len(data.train_labels), bool))
    default = min(200, int(np.isin(data.train_labels, classes).sum()))
    train = _choose(data.train_labels, classes, n_train or default, rng, taken, name)
    available = int(np.isin(data.test_labels, classes).sum())
    fresh = np.zeros(len(data.test_labels), bool)
    test = _choose(
        data.test_labels, classes, n_test or min(1000, available), rng, fresh, name, trim=True
    )
    return Task(
        data.train_images[train],
        _encode(data.train_labels[train], classes),
        data.test_images[test],
        _encode(data.test_labels[test], classes),
        name=name,
        classes=tuple(str(c) for c in classes),
    )


def _choose(labels, classes, n, rng, taken, name, trim=False) -> np.ndarray:
    """Row numbers, balanced over classes, of untaken samples; marks them as taken."""
    if n < len(classes):
        raise InputError(f"{name}: {n} samples cannot cover {len(classes)} classes")
    rows = []
    for k, label in enumerate(classes):
        wanted = n // len(classes) + (k < n % len(classes))
        free = rng.permutation(np.flatnonzero((labels == label) & ~taken))
        if len(free) < wanted and not trim:
            raise InputError(
                f"{name}: asked for {wanted} training samples of class {label}, only "
                f"{len(free)} are free; ask for fewer"
            )
        rows.append(free[:wanted])
    chosen = rng.permutation(np.concatenate(rows))
    taken[chosen] = True
    return chosen


def _encode(labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    if len(classes) == 2:
        return np.where(labels == classes[1], 1.0, -1.0)
    return (labels[:, None] == np.asarray(classes)).astype(float)


def _without_rows_of(source: Task, target: Task) -> Task:
    """The source without training rows that appear in the target's data."""
    held = {row.tobytes() for X in (target.X, target.X_test) if X is not None for row in X}
    keep = np.array([row.tobytes() not in held for row in source.X])
    if keep.all():
        return source
    if not keep.any():
        raise InputError(
            f"every training row of source {source.name!r} is also in target {target.name!r}; "
            "give a source with data of its own"
        )
    return Task(
        source.X[keep], source.y[keep], source.X_test, source.y_test, source.name, source.classes
    )


def standardise_pair(source: Task, target: Task) -> tuple[Task, Task]:
    """Centre both by the source's mean and scale to mean ``|x|^2 = D`` on the source.

    Image data (all features on one scale) keep their relative pixel variances; data whose
    feature scales differ by more than 100 are divided by the source's standard deviations.
    Features that do not vary in the source are dropped to zero in that case.
    """
    mean, spread = source.X.mean(0), source.X.std(0)
    varying = spread[spread > 0]
    if len(varying) == 0:
        raise InputError(f"task {source.name!r}: all training inputs are identical")
    ranges = np.ptp(source.X, axis=0)
    ranges = ranges[ranges > 0]
    if ranges.max() > 100 * ranges.min() and not _is_pixels(source.X):
        weights = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
    else:
        weights = np.ones_like(spread)
    rms = np.sqrt(np.mean(((source.X - mean) * weights) ** 2))

    def rescale(task: Task) -> Task:
        factor = weights / rms
        X_test = None if task.X_test is None else (task.X_test - mean) * factor
        return replace(task, X=(task.X - mean) * factor, X_test=X_test)

    return rescale(source), rescale(target)


def _is_pixels(X: np.ndarray) -> bool:
    return bool((X >= 0).all() and (np.round(X) == X).all() and X.max() <= 255)
