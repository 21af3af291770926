"""Named axes and the cases they span."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..system.errors import InputError

Value = bool | int | float | str
Index = tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """The product of named axes.

    Attributes
    ----------
    axes
        Name and values of every axis; the last one varies fastest.

    Examples
    --------
    >>> grid = Grid.of({"richness": [0.0, 1.0], "n_target": [10, 20, 40]})
    >>> grid.shape, grid.case((1, 2))
    ((2, 3), {'richness': 1.0, 'n_target': 40})
    >>> grid.names, grid.size, list(grid.indices())[:2]
    (('richness', 'n_target'), 6, [(0, 0), (0, 1)])
    """

    axes: tuple[tuple[str, tuple[Value, ...]], ...]

    @classmethod
    def of(cls, axes: "Grid | Mapping[str, Sequence[Value]]") -> "Grid":
        """Check axes: each needs a name and different values of one kind.

        Raises
        ------
        InputError
            For no axes, an empty or repeating one, or values that are no numbers, strings or
            booleans.
        """
        if isinstance(axes, Grid):
            return axes
        if not axes:
            raise InputError("grid has no axes; give at least one, such as {'richness': [0, 1]}")
        checked = []
        for name, values in axes.items():
            if not isinstance(name, str) or not name.isidentifier():
                raise InputError(f"axis {name!r} is no name; use letters, digits and underscores")
            if isinstance(values, str) or not np.iterable(values):
                raise InputError(f"axis {name!r} must be a list of values, got {values!r}")
            plain = tuple(v.item() if isinstance(v, np.generic) else v for v in values)
            if not plain:
                raise InputError(f"axis {name!r} is empty; give at least one value")
            kinds = {float if type(v) is int else type(v) for v in plain}
            if len(kinds) > 1 or not kinds <= {float, bool, str}:
                raise InputError(
                    f"axis {name!r} must hold numbers, or strings, or booleans, got {list(plain)}"
                )
            if any(isinstance(v, float) and math.isnan(v) for v in plain):
                raise InputError(f"axis {name!r} holds NaN; values must name cases")
            if len(set(plain)) < len(plain):
                raise InputError(f"axis {name!r} repeats a value: {list(plain)}")
            checked.append((name, plain))
        return cls(tuple(checked))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(values) for _, values in self.axes)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def indices(self) -> Iterator[Index]:
        """Positions of all cases."""
        return np.ndindex(*self.shape)

    def case(self, index: Index) -> dict[str, Any]:
        """The arguments of one case."""
        return {name: values[i] for (name, values), i in zip(self.axes, index, strict=True)}


def level_label(value: Any) -> str:
    """A value of an axis as a person reads it.

    Examples
    --------
    >>> level_label(np.float64(0.1 + 0.2)), level_label(np.str_("rich"))
    ('0.3', 'rich')
    """
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
