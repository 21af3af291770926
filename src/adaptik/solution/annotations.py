"""Whether the fields of a dataclass hold what their annotations say."""

import types
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import jax
import numpy as np
from jaxtyping import AbstractArray, jaxtyped

from ..system.errors import InputError


def check_fields(value: Any) -> None:
    """Refuse a dataclass instance with a field of another type, or arrays of other shapes.

    Letters that the shapes of several fields share must stand for the same size in all of them.

    Raises
    ------
    InputError
        Naming class, field, and what it should hold.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Point:
    ...     place: tuple[float, ...]
    >>> check_fields(Point((1.0, 2.0)))
    >>> check_fields(Point("here"))
    Traceback (most recent call last):
        ...
    adaptik.InputError: Point.place must be tuple[float, ...], got str
    """
    hints = _hints(type(value))
    with jaxtyped("context"):
        for field in fields(value):
            held = getattr(value, field.name)
            if field.init and not _fits(held, hints.get(field.name, Any)):
                raise InputError(
                    f"{type(value).__name__}.{field.name} must be {_words(hints[field.name])}, "
                    f"got {_kind(held)}"
                )


@cache
def _hints(cls: type) -> Mapping[str, Any]:
    try:
        return get_type_hints(cls)
    except NameError:  # of a name that only type checkers know
        return {}


def _fits(value: Any, hint: Any, shared: bool = True) -> bool:
    """``shared`` is whether letters of shapes mean the same here as in other fields."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one, shared) for one in inner)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if origin in (tuple, list, dict):
        # Letters stand for one size in one item: layers have widths of their own.
        return isinstance(value, origin) and _items_fit(value, inner)
    if origin is Callable or hint is Callable:
        return callable(value)
    return _is_one(value, hint, shared)


def _items_fit(value: Any, hints: tuple) -> bool:
    if isinstance(value, dict):
        key, item = hints
        return all(_fits(k, key, False) and _fits(v, item, False) for k, v in value.items())
    if isinstance(value, list) or (len(hints) == 2 and hints[1] is Ellipsis):
        return all(_fits(item, hints[0], False) for item in value)
    return len(value) == len(hints) and all(
        _fits(item, hint, False) for item, hint in zip(value, hints, strict=True)
    )


def _is_one(value: Any, hint: Any, shared: bool) -> bool:
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):
        number = Integral if hint is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    if hint is Any or not isinstance(hint, type):
        return True
    if issubclass(hint, AbstractArray):  # files hold arrays of NumPy, whichever are meant
        meant: Any = hint
        kinds = (kind for kind in (np.ndarray, jax.Array) if isinstance(value, kind))
        sizes = " ".join(_axis(name, shared) for name in meant.dim_str.split())
        return any(isinstance(value, meant.dtype[kind, sizes]) for kind in kinds)
    return isinstance(value, (hint, np.ndarray) if hint is jax.Array else hint)


def _axis(name: str, shared: bool) -> str:
    """Of a shape; sums such as ``L-1`` are of letters that may not be there."""
    plain = name.isidentifier() and shared
    return name if plain or name.isdigit() or name.startswith(("*", "...")) else "_"


def _words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray | jax.Array):
        return f"an array of {value.dtype} of shape {value.shape}"
    return type(value).__name__
