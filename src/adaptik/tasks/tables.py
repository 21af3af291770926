"""Tables of a user: .npz archives, and what pandas reads."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..system.errors import InputError
from . import archives
from .labels import MISSING, Labels, of_array
from .names import match

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".npz", ".csv", ".tsv", ".parquet", ".feather", ".arrow")
_ARRAYS = ("X", "y", "X_test", "y_test", "columns")
_SEPARATORS = (",", ";", "\t", "|", ":", r"\s+")
_SEPARATOR_NAMES = "comma, semicolon, tab, |, colon or spaces"


@dataclass(frozen=True, eq=False)
class Table:
    """What a file holds.

    Attributes
    ----------
    name
        The file's path.
    X, X_test
        Numbers, shape ``(samples, D)``; the second is None where the file has no test data.
    labels
        Of the training samples, then of the test samples.
    columns
        Names of the features, sorted, as are those of ``X``, so that their order in the file does
        not matter; empty where the file has none.
    """

    name: str
    X: np.ndarray
    labels: Labels
    X_test: np.ndarray | None = None
    columns: tuple[str, ...] = ()


def read(path: str | Path) -> Table:
    """Read a file of one of the ``FORMATS``.

    Raises
    ------
    InputError
        If there is no such file, or it is damaged, or holds something else.
    """
    path = Path(path)
    try:
        found = path.is_file()
    except OSError as failure:  # such as a name too long for the file system
        raise InputError(f"{str(path)[:80]}: no such file ({failure.strerror})") from None
    if not found:
        raise InputError(f"no such file: {path}")
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path}: unsupported format {suffix!r}; use {', '.join(FORMATS)}")
    if suffix == ".npz":
        return _archive(path)
    return _text(path) if suffix in (".csv", ".tsv") else _columnar(path, suffix)


# -- archives --------------------------------------------------------------------------------


def _archive(path: Path) -> Table:
    arrays = archives.read(path, _ARRAYS)
    missing = [key for key in ("X", "y") if key not in arrays]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; keys are X, y, X_test, y_test")
    if ("X_test" in arrays) != ("y_test" in arrays):
        raise InputError(f"{path}: give both X_test and y_test, or neither")
    X, X_test = (_inputs(path, arrays, key) for key in ("X", "X_test"))
    assert X is not None
    if X_test is not None and X_test.shape[1] != X.shape[1]:
        raise InputError(f"{path}: X has {X.shape[1]} features, X_test {X_test.shape[1]}")
    columns = tuple(str(c) for c in arrays.get("columns", np.array([], str)).ravel())
    if columns and (len(columns) != X.shape[1] or len(set(columns)) < len(columns)):
        raise InputError(
            f"{path}: columns must be {X.shape[1]} different names, got {len(set(columns))}"
        )
    if columns:
        order = np.argsort(np.array(columns))
        columns, X = tuple(columns[i] for i in order), X[:, order]
        X_test = None if X_test is None else X_test[:, order]
    return Table(str(path), X, _joined(path, arrays), X_test, columns)


def _inputs(path: Path, arrays: dict[str, np.ndarray], key: str) -> np.ndarray | None:
    if key not in arrays:
        return None
    array, labels = arrays[key], arrays[key.replace("X", "y")]
    if array.ndim < 2 or len(array) != len(labels):
        raise InputError(
            f"{path}: {key} {array.shape} and {key.replace('X', 'y')} {labels.shape} must be "
            "(samples, ...)"
        )
    if array.dtype.kind in "US":
        raise InputError(f"{path}: {key} is text; inputs must be numbers")
    flat = array.reshape(len(array), -1).astype(float)
    bad = np.argwhere(~np.isfinite(flat))
    if len(bad):
        raise InputError(
            f"{path}: {key} has NaN or infinite values in {len(np.unique(bad[:, 0]))} rows, the "
            f"first at {key}[{bad[0, 0]}, {bad[0, 1]}]; remove or impute them"
        )
    return flat


def _joined(path: Path, arrays: dict[str, np.ndarray]) -> Labels:
    parts = [arrays[key] for key in ("y", "y_test") if key in arrays]
    flat = [part.reshape(len(part), -1) for part in parts]
    if len({part.shape[1] for part in flat}) > 1:
        raise InputError(f"{path}: y {parts[0].shape} and y_test {parts[1].shape} do not agree")
    n = len(parts[0])

    def place(row: int) -> str:
        return f"y[{row}]" if row < n else f"y_test[{row - n}]"

    joined = flat[0] if len(flat) == 1 else np.concatenate(flat)
    return of_array(joined, str(path), place)


# -- tables ----------------------------------------------------------------------------------


def _text(path: Path) -> Table:
    import pandas as pd

    options: dict[str, Any] = dict(
        header=None,
        dtype=str,
        keep_default_na=False,
        skipinitialspace=True,
        index_col=False,
        encoding=_encoding(path),
    )
    separator = ","
    try:
        separator = _separator(path, options)
        cells = pd.read_csv(path, sep=separator, **options)
    except UnicodeDecodeError as failure:
        raise InputError(f"{path}: not a UTF-8 CSV file ({failure})") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: needs a header row and at least two samples") from None
    except (pd.errors.ParserError, OSError, ValueError) as failure:
        _refuse_ragged(path, separator, options["encoding"])
        line = (str(failure).splitlines() or ["unknown"])[0]
        raise InputError(f"{path}: not a CSV file ({line})") from None
    header = [str(name).strip() for name in cells.iloc[0]]
    _check_header(path, header)
    body = cells.iloc[1:].reset_index(drop=True)
    body.columns = range(len(header))

    def place(row: int) -> str:
        return f"line {_refuse_ragged(path, separator, options['encoding'])[row + 1]}"

    return _of_frame(body, header, path, place)


def _encoding(path: Path) -> str:
    with path.open("rb") as stream:
        start = stream.read(2)
    # Spreadsheets start files with a byte order mark.
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _separator(path: Path, options: dict[str, Any]) -> str:
    """The separator that gives most columns and rows as long as the header."""
    import pandas as pd

    best, most = "", 1
    for separator in _SEPARATORS:
        try:
            head = pd.read_csv(path, sep=separator, nrows=20, **options)
        except pd.errors.EmptyDataError:
            raise
        except pd.errors.ParserError:  # rows longer than the first
            continue
        short = len(head) > 1 and (head.iloc[1:, -1] == "").all()
        if head.shape[1] > most and not short:
            best, most = separator, head.shape[1]
    if best:
        return best
    header = pd.read_csv(path, sep=",", nrows=1, **options)
    if header.shape[1] > 1:
        return ","
    raise InputError(
        f"{path}: has one column; a table needs features and a label, with a separator between "
        f"them ({_SEPARATOR_NAMES})"
    )


def _refuse_ragged(path: Path, separator: str, encoding: str) -> list[int]:
    """Lines at which records end; called where something is wrong, to say where."""
    lines, width = [], None
    try:
        with path.open(newline="", encoding=encoding) as stream:
            reader = csv.reader(
                stream, delimiter=" " if len(separator) > 1 else separator, skipinitialspace=True
            )
            for record in reader:
                if not record:
                    continue
                width = len(record) if width is None else width
                if len(record) != width and len(separator) == 1:
                    raise InputError(
                        f"{path}: line {reader.line_num} does not have {width} columns"
                    )
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as failure:
        raise InputError(f"{path}: not a CSV file ({failure})") from None
    return lines


def _check_header(path: Path, names: Sequence[str]) -> None:
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        numbers = []
    count = len(names)
    if numbers and numbers not in ([*range(count)], [*range(1, count + 1)]):
        raise InputError(
            f"{path}: the first row holds numbers ({', '.join(names[:3])}...); give a header row "
            "with the names of the columns"
        )
    for i, name in enumerate(names):
        if not name:
            raise InputError(
                f"{path}: column {i + 1} has no name; name it, or leave it out (pandas: "
                "to_csv(index=False))"
            )
        if name in names[:i]:
            raise InputError(f"{path}: two columns are called {name!r}; rename one")


def _columnar(path: Path, suffix: str) -> Table:
    import pandas as pd

    read_file = pd.read_parquet if suffix == ".parquet" else pd.read_feather
    try:
        frame = read_file(path)
    except ImportError:
        raise InputError(f"{path}: {suffix} files need pyarrow; pip install pyarrow") from None
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as failure:
        line = (str(failure).splitlines() or [type(failure).__name__])[0]
        raise InputError(f"{path}: not a readable {suffix} file ({line})") from None
    return _of_frame(frame, [str(c) for c in frame.columns], path, lambda row: f"row {row + 1}")


def _of_frame(
    frame: "pd.DataFrame", names: list[str], path: Path, place: Callable[[int], str]
) -> Table:
    """A table of columns; the label is called ``label``, else the last one."""
    if len(frame) < 2:
        raise InputError(f"{path}: needs a header row and at least two samples")
    if len(names) < 2:
        raise InputError(f"{path}: has {len(names)} columns; a table needs features and a label")
    at = names.index("label") if "label" in names else len(names) - 1

    def of(i: int) -> Callable[[int], str]:
        return lambda row: f"{place(row)}, column {names[i]!r}"

    features = sorted((i for i in range(len(names)) if i != at), key=names.__getitem__)
    X = np.column_stack([_numbers(frame.iloc[:, i], path, of(i)) for i in features])
    column, stated = frame.iloc[:, at], False
    if hasattr(column, "cat"):
        column, stated = _without_categories(column), True
    raw = column.to_numpy(float, na_value=np.nan) if _is_numeric(column) else _cells(column)
    labels = of_array(raw, str(path), of(at), stated)
    labels = replace(labels, column=names[at])
    return Table(str(path), X, labels, None, tuple(names[i] for i in features))


def _is_numeric(column: "pd.Series") -> bool:
    import pandas as pd

    kinds = pd.api.types
    return kinds.is_numeric_dtype(column.dtype) and not kinds.is_complex_dtype(column.dtype)


def _without_categories(column: "pd.Series") -> "pd.Series":
    return column.astype(column.cat.categories.dtype if not column.isna().any() else object)


def _cells(column: "pd.Series") -> np.ndarray:
    """Text of every cell, empty where it is missing."""
    missing = column.isna().to_numpy()
    cells = ["" if gone else str(v) for v, gone in zip(column, missing, strict=True)]
    return np.char.strip(np.array(cells, dtype=str))


def _numbers(column: "pd.Series", path: Path, place: Callable[[int], str]) -> np.ndarray:
    """A feature's numbers; what is none is refused with its place."""
    if hasattr(column, "cat"):
        column = _without_categories(column)
    if _is_numeric(column):
        values, cells = column.to_numpy(float, na_value=np.nan), None
    else:
        cells = _cells(column)
        values = np.array([_number(cell) for cell in cells])
    bad = np.flatnonzero(~np.isfinite(values))
    if not len(bad):
        return values
    row = int(bad[0])
    cell = str(column.iloc[row]) if cells is None else str(cells[row])
    if cell.lower() in MISSING:
        raise InputError(
            f"{path}: {place(row)} is missing ({cell!r}), as are {len(bad)} of this column; remove "
            "or fill NaN and empty cells"
        )
    raise InputError(
        f"{path}: {place(row)} holds {cell[:40]!r}, which is no finite number; features must be "
        "numeric, with a point for decimals"
    )


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return {"true": 1.0, "false": 0.0}.get(cell.lower(), np.nan)


# -- two tables ------------------------------------------------------------------------------


def refuse_unmatched(source: Table, target: Table) -> None:
    """Refuse tables whose columns do not have the same names.

    Raises
    ------
    InputError
        For columns that only one of them has, all of them named; where one has names and the
        other none; without names, for another number of columns.
    """
    if bool(source.columns) != bool(target.columns):
        named, bare = (source, target) if source.columns else (target, source)
        raise InputError(
            f"{named.name} names its columns and {bare.name} does not, so that they cannot be "
            "matched; use two tables, or give the archive a key 'columns' with the names"
        )
    if not source.columns:
        if source.X.shape[1] != target.X.shape[1]:
            raise InputError(
                f"source {source.name!r} has {source.X.shape[1]} features and target "
                f"{target.name!r} {target.X.shape[1]}; both must have the same inputs"
            )
        return
    sides = f"source {source.name}", f"target {target.name}"
    hint = " (the label is the column called 'label', else the last one)"
    match(source.columns, target.columns, *sides, hint)
