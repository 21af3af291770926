"""Which classes saved results may contain; depends on nothing, so that any layer can register."""

from dataclasses import is_dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")

CLASSES: dict[str, type] = {}


def register(cls: type[T]) -> type[T]:
    """Class decorator: allow instances of a frozen dataclass (or an Enum) in saved results.

    Loading a file builds registered classes only, from their fields, through their constructor.

    Parameters
    ----------
    cls
        A frozen dataclass or an Enum. Its ``__qualname__`` identifies it in files, so renaming
        the class makes old files unreadable.

    Returns
    -------
    type
        ``cls`` itself.

    Raises
    ------
    TypeError
        If ``cls`` is neither, or if another class of this name is registered.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @register
    ... @dataclass(frozen=True)
    ... class Rotation:
    ...     scale: float
    >>> CLASSES["Rotation"] is Rotation
    True
    """
    frozen = is_dataclass(cls) and cls.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
    if not (frozen or issubclass(cls, Enum)):
        raise TypeError(
            f"{cls.__qualname__} must be a frozen dataclass or an Enum to be registered"
        )
    other = CLASSES.get(cls.__qualname__, cls)
    if other.__module__ != cls.__module__:
        raise TypeError(
            f"{cls.__module__}.{cls.__qualname__} and {other.__module__}.{other.__qualname__} "
            "share a name; saved results could not tell them apart"
        )
    CLASSES[cls.__qualname__] = cls
    return cls
