"""User data from .npz and .csv files. Nothing here loads pickles."""

import csv
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import InputError
from .base import Task


def encode_labels(labels: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class labels to -1/+1 (two classes) or one-hot (more); other numbers are regression.

    Text is always a class. Integers are classes when there are at most 20 distinct ones.
    """
    distinct = np.unique(labels)
    is_text = labels.dtype.kind in "US"
    is_integer = not is_text and np.all(np.floor(labels.astype(float)) == labels)
    is_integer = is_integer and np.isfinite(distinct).all()
    if labels.ndim > 1 or not (is_text or (is_integer and len(distinct) <= 20)):
        return labels, ()
    classes = tuple(str(c) if is_text else f"{int(c)}" for c in distinct)
    if len(distinct) < 2:
        raise InputError(f"{name}: labels hold a single class {classes}; give at least two")
    if len(distinct) == 2:
        return np.where(labels == distinct[1], 1.0, -1.0), classes
    return (labels[:, None] == distinct).astype(float), classes


def read(path: str | Path, n_train: int | None, n_test: int | None, seed: int) -> Task:
    """A task from ``.npz`` (keys X, y and optionally X_test, y_test) or ``.csv``.

    A CSV has a header row; the label is the column called ``label``, else the last one. Where
    the file has no test data, ``n_test`` rows (default a fifth) are held out at random.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    if path.suffix not in (".npz", ".csv"):
        raise InputError(f"{path}: unsupported format {path.suffix!r}; use .npz or .csv")
    X, y, X_test, y_test = _npz(path) if path.suffix == ".npz" else (*_csv(path), None, None)
    rng = np.random.default_rng(seed)
    labels = y if y_test is None else np.concatenate([y, y_test])
    encoded, classes = encode_labels(labels, str(path))
    y, y_test = encoded[: len(y)], None if y_test is None else encoded[len(y) :]
    order = rng.permutation(len(X))
    if X_test is None:
        held_out = len(X) // 5 if n_test is None else n_test
        if not 1 <= held_out < len(X):
            raise InputError(
                f"{path}: n_test={held_out} of {len(X)} rows leaves nothing to train on"
            )
        test, order = order[:held_out], order[held_out:]
        X_test, y_test = X[test], y[test]
    elif n_test is not None:
        keep = rng.permutation(len(X_test))[:n_test]
        X_test, y_test = X_test[keep], y_test[keep]  # pyright: ignore[reportOptionalSubscript]
    if n_train is not None and n_train > len(order):
        raise InputError(f"{path}: n_train={n_train} but only {len(order)} training rows")
    order = order[:n_train]
    return Task(X[order], y[order], X_test, y_test, name=path.stem, classes=classes)


def _npz(path: Path):
    if not zipfile.is_zipfile(path):  # numpy would take it for a single array or a pickle
        raise InputError(f"{path} is not a readable .npz archive; write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except ValueError as failure:
        raise InputError(f"{path}: cannot be read without pickles ({failure})") from None
    except (zipfile.BadZipFile, EOFError, zlib.error) as failure:
        raise InputError(f"{path} is damaged ({failure}); write it again") from None
    missing = [key for key in ("X", "y") if key not in arrays]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; keys are X, y, X_test, y_test")
    if ("X_test" in arrays) != ("y_test" in arrays):
        raise InputError(f"{path}: give both X_test and y_test, or neither")
    if arrays["X"].ndim < 2 or len(arrays["X"]) != len(arrays["y"]):
        raise InputError(
            f"{path}: X {arrays['X'].shape} and y {arrays['y'].shape} must be (samples, ...)"
        )
    flat = {k: v.reshape(len(v), -1) if k.startswith("X") else v for k, v in arrays.items()}
    return flat["X"], flat["y"], flat.get("X_test"), flat.get("y_test")


def _csv(path: Path):
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets add a BOM
            rows = [row for row in csv.reader(stream) if row]
    except (UnicodeDecodeError, csv.Error) as failure:
        raise InputError(f"{path}: not a UTF-8 CSV file ({failure})") from None
    if len(rows) < 3:
        raise InputError(f"{path}: needs a header row and at least two samples")
    header, body = rows[0], rows[1:]
    ragged = [i + 2 for i, row in enumerate(body) if len(row) != len(header)]
    if ragged:
        raise InputError(f"{path}: line {ragged[0]} does not have {len(header)} columns")
    column = header.index("label") if "label" in header else len(header) - 1
    table = np.array(body)
    features = np.delete(table, column, axis=1)
    try:
        X = features.astype(float)
    except ValueError as failure:
        raise InputError(f"{path}: features must be numeric ({failure})") from None
    try:
        return X, table[:, column].astype(float)
    except ValueError:
        return X, table[:, column]
