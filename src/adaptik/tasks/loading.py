"""Named data sets and files to tasks, alone or as a source and a target that do not leak."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..system.errors import InputError
from . import files, images, labels, tables
from .base import Task
from .labels import Kind
from .tables import FORMATS, Table


def load(
    dataset: str | Path,
    classes: Sequence[int] | None = None,
    *,
    n_train: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    kind: Kind | None = None,
) -> Task:
    """A task from a named image data set or a file, its inputs standardised by itself.

    Parameters
    ----------
    dataset
        ``"digits"``, ``"fashion-mnist"``, ``"cifar10"``, or the path of an ``.npz`` archive (keys
        ``X``, ``y``, optionally ``X_test``, ``y_test`` and ``columns``) or of a table: ``.csv``
        and ``.tsv`` of any separator, ``.parquet``, ``.feather``, ``.arrow``. A table's label is
        the column called ``label``, else the last one; features are sorted by name
        (``task.features``).
    classes
        For images: the first named class is -1 and the second +1; three or more are one-hot.
    n_train, n_test
        Samples to keep, balanced over classes; default 200 (or fewer if there are fewer) and all,
        at most 1000.
    seed
        Fixes which samples are kept.
    kind
        Whether a file's labels are ``"classes"`` or ``"numbers"``; by default their values decide
        (:mod:`adaptik.tasks.labels`), and ``task.notes`` says what was assumed.

    Raises
    ------
    InputError, DatasetNotFoundError

    Examples
    --------
    >>> task = load("digits", classes=(3, 5), n_train=40)
    >>> task.X.shape, task.name
    ((40, 64), 'digits:3,5')
    """
    (task,) = _read([(dataset, classes, n_train)], n_test, seed, kind)
    return standardise_pair(task, task)[0]


def load_pair(
    source: str,
    target: str,
    *,
    n_source: int | None = None,
    n_target: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    kind: Kind | None = None,
) -> tuple[Task, Task]:
    """A source and a target given as ``"digits:3,5"`` or file paths, on one common scale.

    Both are standardised with the source's training statistics. No sample is in the source's
    training set and in the target's training or test set; image classes that both tasks share
    are split between them, and rows of user files that would leak are removed from the source.

    Columns are matched by name, whatever their order. Both files together decide whether labels
    are classes or numbers, unless ``kind`` says it; class names that both have keep the source's
    code. ``notes`` of the tasks say what was assumed.

    Raises
    ------
    InputError
        For columns that only one side has, and as :func:`load`.

    Examples
    --------
    >>> source, target = load_pair("digits:0,1", "digits:0,9", n_source=60, n_target=20)
    >>> source.n_train, target.n_train
    (60, 20)
    """
    wanted = [(*_parse(spec), n) for spec, n in ((source, n_source), (target, n_target))]
    first, second = _read(wanted, n_test, seed, kind)
    if first.name == second.name:
        second = replace(second, name=f"{second.name} (target)")
    if first.dimension != second.dimension:
        raise InputError(
            f"source {first.name!r} has {first.dimension} features and target {second.name!r} "
            f"{second.dimension}; both must have the same inputs"
        )
    second = second.with_codes_of(first.classes)
    return standardise_pair(_without_rows_of(first, second), second)


Wanted = tuple[str | Path, Sequence[int] | None, int | None]  # data set, its classes, n_train


def _read(wanted: Sequence[Wanted], n_test: int | None, seed: int, kind: str | None) -> list[Task]:
    """Tasks that belong together, inputs as they stand in the files."""
    labels.checked_kind(kind)
    for dataset, classes, n_train in wanted:
        _check(dataset, classes, n_train, n_test, kind)
    read = {i: tables.read(w[0]) for i, w in enumerate(wanted) if not _is_image_set(w[0])}
    if len(read) > 1:
        tables.refuse_unmatched(read[0], read[1])
    elif len(wanted) > 1:
        for table in read.values():
            _refuse_names(table)
    kinds = dict(zip(read, labels.decide([t.labels for t in read.values()], kind), strict=True))
    used: dict[str, np.ndarray] = {}
    tasks = [
        files.of_table(read[i], kinds[i], n_train, n_test, seed)
        if i in read
        else _raw(dataset, classes, n_train, n_test, seed, used)
        for i, (dataset, classes, n_train) in enumerate(wanted)
    ]
    if read and kind is None:
        assumed = labels.note([t.labels for t in read.values()], list(kinds.values()))
        tasks[-1] = tasks[-1].with_note(assumed)
    return tasks


def _is_image_set(dataset: str | Path) -> bool:
    return str(dataset) in images.DATASETS


def _refuse_names(table: Table) -> None:
    if table.columns:
        raise InputError(
            f"{table.name} names its columns and images do not, so that they cannot be matched; "
            "save the pixels as an .npz archive without 'columns'"
        )


def _check(dataset, classes, n_train, n_test, kind) -> None:
    for name, count in (("n_train", n_train), ("n_test", n_test)):
        if count is not None and count < 1:
            raise InputError(f"{name} must be at least 1, got {count}")
    if _is_image_set(dataset):
        if kind == "numbers":
            raise InputError(f"kind='numbers' is for files; labels of {dataset} are classes")
        return
    if Path(dataset).suffix.lower() not in FORMATS:
        raise InputError(
            f"unknown data set {str(dataset)[:80]!r}; use {', '.join(images.DATASETS)} with "
            f"classes, such as digits:3,5, or the path of a file ({', '.join(FORMATS)})"
        )
    if classes is not None:
        raise InputError("classes apply to named data sets; a file's labels name its own")


def _parse(spec: str) -> tuple[str, tuple[int, ...] | None]:
    name, _, classes = str(spec).partition(":")
    if name not in images.DATASETS:
        return str(spec), None
    try:
        return name, tuple(int(c) for c in classes.split(","))
    except ValueError:
        raise InputError(f"{spec!r}: name the classes, for example {name}:0,1") from None


def _raw(dataset, classes, n_train, n_test, seed, used) -> Task:
    """A task of images, pixels as they are."""
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
    gone = files.repeated(source.X, [X for X in (target.X, target.X_test) if X is not None])
    if not gone.any():
        return source
    if gone.all():
        raise InputError(
            f"every training row of source {source.name!r} is also in target {target.name!r}; "
            "give a source with data of its own"
        )
    kept = replace(source, X=source.X[~gone], y=source.y[~gone])
    return kept.with_note(
        f"{source.name}: {int(gone.sum())} of {source.n_train} training rows were left out, which "
        f"also stand in {target.name}"
    )


def standardise_pair(source: Task, target: Task) -> tuple[Task, Task]:
    """Centre both by the source's mean and scale to mean ``|x|^2 = D`` on the source.

    Image data (all features on one scale) keep their relative pixel variances; data whose
    feature scales differ by more than 100 are divided by the source's standard deviations.
    Features that do not vary in the source are dropped to zero in that case.

    Examples
    --------
    >>> source = Task([[1.0, 0.0], [3.0, 0.0], [2.0, 3.0]], [-1, 1, 1], name="source")
    >>> target = Task([[2.0, 1.0], [4.0, 1.0]], [-1, 1], name="target")
    >>> source, target = standardise_pair(source, target)
    >>> source.X.mean(0).round(6).tolist(), float(np.mean(source.X**2).round(6))
    ([0.0, 0.0], 1.0)
    >>> target.X.mean(0).round(3).tolist()  # by the source's mean and scale
    [0.866, 0.0]
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
