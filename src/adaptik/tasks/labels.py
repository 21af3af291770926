"""Whether labels are classes or numbers, and how classes are coded.

The rules look at values, never at how many rows there are:

1. Text and categories are classes.
2. Numbers of which any is not whole, or lies outside -1 to 19, are numbers.
3. Whole numbers from -1 to 19, booleans (0 and 1) and one-hot rows are numbers beside a table
   whose labels are numbers by rule 2, else classes.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..system.errors import InputError

Kind = Literal["classes", "numbers"]
LEAST, MOST = -1, 19
MISSING = frozenset(
    ("", "na", "n/a", "nan", "-nan", "null", "none", "<na>", "#n/a", "#na", "nat", "?")
)
_WORDS = {"true": 1.0, "false": 0.0}
# 450,000 and $1.5 and 20 %: text that a person would read as a number.
_NUMBER_LIKE = re.compile(r"[\s$€£¥+-]*\d[\d.,'\s]*[%$€£¥\s]*")


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels as a file holds them.

    Attributes
    ----------
    values
        Numbers, shape ``(samples,)`` or ``(samples, outputs)``, or text ``(samples,)``.
    name
        Of the file, for messages.
    place
        Where a sample stands in it.
    stated
        Whether the file says that they are classes: a categorical column.
    column
        Name of their column, where it has one.
    """

    values: np.ndarray
    name: str
    place: Callable[[int], str]
    stated: bool = False
    column: str = ""

    @property
    def is_text(self) -> bool:
        return self.values.dtype.kind == "U"

    def fail(self, row: int, why: str):
        raise InputError(f"{self.name}: label {self.values[row]!s:.40} at {self.place(row)} {why}")


def of_array(raw: Any, name: str, place: Callable[[int], str], stated: bool = False) -> Labels:
    """Labels of an array: ``(n, 1)`` means ``(n,)``, and text of numbers means the numbers.

    Raises
    ------
    InputError
        For missing or infinite values, with the first's place, and for shapes that are no labels.
    """
    values = np.asarray(raw)
    if values.ndim > 1 and values.size == len(values):
        values = values.reshape(len(values))
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.dtype.kind in "US"):
        raise InputError(
            f"{name}: labels y have shape {values.shape}; they must be (samples,), or numbers "
            "(samples, outputs)"
        )
    if values.dtype.kind == "b":
        values = values.astype(float)
    if values.dtype.kind in "US":
        values = _from_text(values, name, place)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(1)))
        raise InputError(
            f"{name}: y has NaN or infinite values, the first at {place(row)}; missing labels must "
            "be removed or filled"
        )
    return Labels(values, name, place, stated)


def _from_text(values: np.ndarray, name: str, place: Callable[[int], str]) -> np.ndarray:
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{name}: labels y are text that is not UTF-8") from None
    values = np.char.strip(values)
    lower = np.char.lower(values)
    missing = np.flatnonzero(np.isin(lower, list(MISSING)))
    if len(missing):
        first = int(missing[0])
        raise InputError(
            f"{name}: the label at {place(first)} is missing ({str(values[first])!r}), "
            f"as are {len(missing)} in all; remove or fill it (NaN, or an empty cell, is no class)"
        )
    if np.isin(lower, list(_WORDS)).all():
        return (lower == "true").astype(float)
    try:
        return values.astype(float)
    except ValueError:
        return values


def sure(labels: Labels) -> Kind | None:
    """What labels are whatever stands beside them; None where rule 3 decides."""
    if labels.is_text or labels.stated:
        return "classes"
    values = labels.values
    if values.ndim == 2:
        return None if _is_one_hot(values) else "numbers"
    whole = (np.floor(values) == values) & (values >= LEAST) & (values <= MOST)
    return None if whole.all() else "numbers"


def _is_one_hot(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all())


def decide(sides: Sequence[Labels], kind: str | None = None) -> list[Kind]:
    """What the labels of tables that belong together are.

    Raises
    ------
    InputError
        For an unknown kind, and text that may be numbers badly written.

    Examples
    --------
    >>> codes, prices = (of_array(y, "t", str) for y in ([0, 1, 2], [0.5, 3.0, 7.2]))
    >>> decide([codes]), decide([codes, prices]), decide([prices], "classes")
    (['classes'], ['numbers', 'numbers'], ['classes'])
    """
    known_kind = checked_kind(kind)
    if known_kind is not None:
        return [known_kind for _ in sides]
    for labels in sides:
        if labels.is_text and not labels.stated:
            _refuse_spoilt_numbers(labels)
    found: list[Kind | None] = [sure(labels) for labels in sides]
    other: Kind = "classes" if "classes" in found or "numbers" not in found else "numbers"
    return [known or other for known in found]


def checked_kind(kind: str | None) -> Kind | None:
    """``kind``, unless it is no kind of labels."""
    if kind is None or kind == "classes" or kind == "numbers":
        return kind
    raise InputError(f"kind must be 'classes' or 'numbers', got {kind!r}")


def _refuse_spoilt_numbers(labels: Labels) -> None:
    """Some labels are numbers and others text, or all are numbers with separators or units."""
    numeric = np.array([_as_number(v) is not None for v in labels.values])
    if numeric.any():
        labels.fail(
            int(np.argmin(numeric)),
            "is no number though others are; mend it, or say kind='classes' (--kind classes)",
        )
    likely = np.array([_NUMBER_LIKE.fullmatch(v) is not None for v in labels.values])
    if likely.any():
        labels.fail(
            int(np.argmax(likely)),
            "looks like a number with separators or a unit; write it like 1234.5, or say "
            "kind='classes' (--kind classes)",
        )


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def encode(labels: Labels, kind: Kind) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as a task takes them, and the names of classes in order of their codes.

    Numbers stay; two classes are -1 and +1 in sorted order, more are one-hot.
    """
    values = labels.values
    if kind == "numbers":
        if labels.is_text:
            numeric = [_as_number(v) is not None for v in values]
            labels.fail(int(np.argmin(numeric)), "is no number, but kind='numbers' asks for them")
        return values, ()
    if values.ndim == 2:
        if not _is_one_hot(values):
            raise InputError(
                f"{labels.name}: labels of shape {values.shape} are classes only if every row is "
                "one-hot (a single 1, else 0); kind='numbers' takes them as outputs"
            )
        values = values.argmax(1)
    distinct, codes = np.unique(values, return_inverse=True)
    classes = tuple(str(c) if labels.is_text else _named(float(c)) for c in distinct)
    if len(distinct) < 2:
        raise InputError(f"{labels.name}: labels hold a single class {classes}; give at least two")
    return coded(codes, len(distinct)), classes


def _named(value: float) -> str:
    return f"{int(value)}" if value == int(value) else repr(value)


def coded(codes: np.ndarray, count: int) -> np.ndarray:
    """Codes 0, 1, ... as -1 and +1 (two classes) or one-hot (more)."""
    return 2.0 * codes - 1 if count == 2 else np.eye(count)[codes]


def shared_order(names: Sequence, reference: Sequence) -> list[int]:
    """Positions of ``names`` in an order in which those of ``reference`` have their places there.

    Examples
    --------
    >>> shared_order(["good", "ugly"], ["bad", "good"]), shared_order(["a", "b", "c"], ["c", "d"])
    ([1, 0], [2, 0, 1])
    """
    place = {name: i for i, name in enumerate(reference)}
    order: list[int | None] = [None] * len(names)
    for i, name in enumerate(names):
        if place.get(name, len(names)) < len(names):
            order[place[name]] = i
    free = iter(i for i in range(len(names)) if i not in order)
    return [next(free) if i is None else i for i in order]


def encode_labels(labels: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """One table's labels by the rules: -1 and +1, one-hot, or unchanged numbers."""
    known = of_array(labels, name, lambda row: f"y[{row}]")
    return encode(known, *decide([known]))


def note(sides: Sequence[Labels], kinds: Sequence[Kind]) -> str:
    """One line that says what was assumed about labels that nobody spoke of.

    Examples
    --------
    >>> note([of_array([0.5, 3.0], "prices.csv", str)], ["numbers"])
    'labels of prices.csv are taken for numbers (not whole, or outside -1 to 19); --kind says it'
    """
    said = []
    for labels, kind in zip(sides, kinds, strict=True):
        known = sure(labels)
        if labels.is_text or labels.stated:
            why = "text" if labels.is_text else "a column of categories"
        elif known == "numbers":
            why = f"not whole, or outside {LEAST} to {MOST}"
        else:
            form = "one-hot" if labels.values.ndim == 2 else f"whole, {LEAST} to {MOST}"
            why = form if kind == "classes" else f"{form}, beside numbers"
        column = f", column {labels.column!r}," if labels.column else ""
        said.append(f"{labels.name}{column} are taken for {kind} ({why})")
    return f"labels of {' and of '.join(dict.fromkeys(said))}; --kind says it"
