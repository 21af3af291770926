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

from .errors import InputError


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
    adaptik.errors.InputError: Point.place must be tuple[float, ...], got str
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


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if origin is tuple:
        return isinstance(value, tuple) and _items_fit(value, inner)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, inner[0]) and _fits(item, inner[1]) for key, item in value.items()
        )
    if origin is list:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if origin is Callable or hint is Callable:
        return callable(value)
    return _is_one(value, hint)


def _items_fit(value: tuple, hints: tuple) -> bool:
    if len(hints) == 2 and hints[1] is Ellipsis:
        return all(_fits(item, hints[0]) for item in value)
    return len(value) == len(hints) and all(map(_fits, value, hints))


def _is_one(value: Any, hint: Any) -> bool:
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
        return any(isinstance(value, meant.dtype[kind, meant.dim_str]) for kind in kinds)
    return isinstance(value, (hint, np.ndarray) if hint is jax.Array else hint)


def _words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray | jax.Array):
        return f"an array of {value.dtype} of shape {value.shape}"
    return type(value).__name__
