"""Columns of two tables, matched by their names."""

from collections.abc import Sequence
from typing import Any

from ..system.errors import InputError


def column_names(X: Any) -> tuple[str, ...]:
    """Names of a DataFrame's columns; none for other arrays, or where names are not all text."""
    columns = getattr(X, "columns", None)
    names = [] if columns is None or callable(columns) else list(columns)
    return tuple(names) if all(isinstance(name, str) for name in names) else ()


def match(
    wanted: Sequence[str], given: Sequence[str], first: str, second: str, hint: str = ""
) -> list[int]:
    """Positions in ``given`` of the names ``wanted``.

    Raises
    ------
    InputError
        For names that only one side has, or that stand twice; it names them.

    Examples
    --------
    >>> match(["a", "b"], ["b", "a"], "source", "target")
    [1, 0]
    """
    for side, names in ((first, wanted), (second, given)):
        twice = [name for i, name in enumerate(names) if name in names[:i]]
        if twice:
            raise InputError(f"{side} has two columns called {_listed(twice[:1])}; rename one")
    lacking = [name for name in wanted if name not in given]
    extra = [name for name in given if name not in wanted]
    if lacking or extra:
        parts = [f"lacks {_listed(lacking)}"] if lacking else []
        parts += [f"has {_listed(extra)} besides"] if extra else []
        raise InputError(
            f"columns are matched by name: {second} {' and '.join(parts)}, compared with {first}; "
            f"give both the same columns{hint}"
        )
    place = {name: i for i, name in enumerate(given)}
    return [place[name] for name in wanted]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name)[:60] for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
