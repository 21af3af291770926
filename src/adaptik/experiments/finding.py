"""What every module of a finding offers, and how its cases are computed."""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import xarray as xr

from .. import sweeps
from ..sweeps.grid import Value
from ..sweeps.store import FAILED
from .verdict import Claim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

C = TypeVar("C")


class Finding(Protocol):
    """The module of one experiment."""

    PRESETS: Mapping[str, Any]
    """``"quick"`` and ``"full"``: frozen dataclasses of everything that determines the result."""

    def compute(self, config: Any, /, **sweep: Any) -> xr.Dataset:
        """Theory and networks; ``sweep`` is passed to :func:`cases`."""
        ...

    def draw(self, dataset: xr.Dataset) -> "Figure":
        """The figure, from the data set alone."""
        ...

    def caption(self, config: Any, /) -> str:
        """What the figure shows, with every parameter."""
        ...

    def check(self, dataset: xr.Dataset) -> tuple[Claim, ...]:
        """The claims, tested on the data set alone."""
        ...


class CaseFailed(RuntimeError):
    """A case of an experiment raised an error; finished ones are kept in the store."""


def decode(cls: type[C], text: str) -> C:
    """The configuration that was written as JSON.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Config:
    ...     richness: tuple[float, ...]
    >>> decode(Config, '{"richness": [0, 1]}')
    Config(richness=(0, 1))
    """
    given = json.loads(text)
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


def configuration(dataset: xr.Dataset, cls: type[C]) -> C:
    """The configuration that a data set was computed with."""
    return decode(cls, dataset.attrs["configuration"])


def listed(values: Iterable[float]) -> str:
    """Numbers as captions write them.

    Examples
    --------
    >>> listed((0.0, 0.5, 20))
    '0, 0.5, 20'
    """
    return ", ".join(f"{value:g}" for value in values)


def cases(
    case: Callable[..., xr.Dataset],
    grid: Mapping[str, Sequence[Value]],
    config: Any,
    *,
    store: Path | None = None,
    executor: str = "serial",
    workers: int | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> xr.Dataset:
    """Sweep ``case(config=..., **axes)`` over ``grid``; what ``store`` has is not computed again.

    Parameters
    ----------
    case
        A function of an importable module; takes the configuration as JSON.
    grid, store, executor, workers, progress
        As in :func:`adaptik.sweeps.sweep`; without a store nothing is kept.

    Returns
    -------
    xr.Dataset
        Axes of the grid first; the attribute ``configuration`` is the JSON text.

    Raises
    ------
    CaseFailed
        If a case raised.
    """
    text = json.dumps(asdict(config))
    with tempfile.TemporaryDirectory() as scratch:
        data = sweeps.sweep(
            case,
            grid,
            store=store or Path(scratch, "cases"),
            fixed={"config": text},
            executor=executor,
            workers=workers,
            retry_failed=True,
            progress=progress,
        )
    if (data.status == FAILED).any():
        first = next(error for error in data.error.values.ravel() if error)
        raise CaseFailed(f"{int((data.status == FAILED).sum())} cases failed; first: {first}")
    data = data.drop_vars(["status", "error"])
    data.attrs["configuration"] = text
    return data


def in_parts(
    config: Any,
    parts: Mapping[str, tuple[Callable[..., xr.Dataset], Mapping[str, Sequence[Value]]]],
    *,
    store: Path | None = None,
    **sweep: Any,
) -> xr.Dataset:
    """:func:`cases` over several grids, each with a function and a store of its own, in one."""
    found = []
    for what, (case, grid) in parts.items():
        at = None if store is None else store.with_name(f"{store.name}-{what}")
        found.append(cases(case, grid, config, store=at, **sweep))
    seconds = sum(float(part.seconds.sum()) for part in found)
    merged = xr.merge([part.drop_vars("seconds") for part in found])
    return merged.assign(seconds=seconds).assign_attrs(found[0].attrs)
