"""What adaptik raises when a request cannot be met: each message names argument and cure."""

import math
from numbers import Integral, Real


class InputError(ValueError):
    """A value, shape or combination that has no meaning; raised before any computation.

    Examples
    --------
    >>> import adaptik as ak
    >>> ak.TwoLayer("relu", replicates=0)
    Traceback (most recent call last):
    ...
    adaptik.InputError: replicates must be an integer >= 1, got 0
    """

    __module__ = "adaptik"  # whence users import it; tracebacks name it


class MemoryLimitError(InputError):
    """The request would need more memory than the machine has; raised before allocation.

    Examples
    --------
    >>> import adaptik as ak
    >>> issubclass(ak.MemoryLimitError, ak.InputError)  # one ``except`` catches both
    True
    """

    __module__ = "adaptik"


class DatasetNotFoundError(InputError):
    """A named data set is not on this machine; the message says the ways to get it.

    Examples
    --------
    >>> import adaptik as ak
    >>> issubclass(ak.DatasetNotFoundError, ak.InputError)
    True
    """

    __module__ = "adaptik"


def require_integers(least: int, **values: object) -> None:
    """Refuse named values that are no integers of at least ``least``."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise InputError(f"{name} must be an integer >= {least}, got {value!r}")


def require_at_least_zero(**values: object) -> None:
    """Refuse named values that are no finite numbers >= 0."""
    for name, value in values.items():
        if not (isinstance(value, Real) and 0 <= float(value) < math.inf):
            raise InputError(f"{name} must be a finite number >= 0, got {value!r}")


def require_above_zero(**values: object) -> None:
    """Refuse named values that are no finite numbers > 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not (isinstance(value, Real) and 0 < float(value) < math.inf):
            raise InputError(f"{name} must be a finite number > 0, got {value!r}")


def require_between(low: float, high: float, **values: object) -> None:
    """Refuse named values that are no numbers above ``low`` and below ``high``."""
    for name, value in values.items():
        if not (isinstance(value, int | float) and low < value < high):
            raise InputError(f"{name} must lie between {low:g} and {high:g}, got {value!r}")


def require_one_of(allowed: tuple[str, ...], **values: object) -> None:
    """Refuse named values that are none of those allowed."""
    for name, value in values.items():
        if value not in allowed:
            either = " or ".join(map(repr, allowed))
            raise InputError(f"{name} must be {either}, got {value!r}")
