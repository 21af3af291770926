"""Findings and sweeps as data: claims with their numbers, and curves over any axis."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ... import sweeps
from ...solution.estimate import rounded
from ...sweeps.grid import level_label
from ...sweeps.store import DONE, summary
from ...system.errors import InputError

WORDS = {"reproduced": "✓ yes", "differs": "✗ no", "not reproduced": "? undecided"}
MEAN = "mean"  # over an axis, in place of one of its levels
CURVES = 8  # in one picture, at most


@dataclass(frozen=True)
class FindingFolder:
    """What ``adaptik reproduce`` left.

    Attributes
    ----------
    title, claim, word, caption
        Name and figure, what is claimed, the verdict's word, and what the picture shows.
    claims
        A line for each claim: statement, answer, and its numbers.
    agreement
        Of theory and networks, in sentences.
    picture
        A PNG, empty if it is missing.
    config
        As in ``config.json``.
    """

    title: str
    claim: str
    word: str
    caption: str
    claims: pd.DataFrame
    agreement: tuple[str, ...]
    picture: bytes
    config: dict[str, Any]


def read_finding(folder: str | Path) -> FindingFolder:
    """Read a folder of ``adaptik reproduce``.

    Raises
    ------
    InputError
        If it is damaged.
    """
    folder = Path(folder)
    try:
        said = json.loads((folder / "verdict.json").read_bytes())
        config = dict(json.loads((folder / "config.json").read_bytes()))
        title = str(said["experiment"]).replace("_", " ")
        if said["figure"]:
            title = f"{said['figure']}: {title}"
        claims = pd.DataFrame(
            [
                (c["statement"], WORDS.get(c["verdict"], c["verdict"]), *_numbers(c))
                for c in said["claims"]
            ],
            columns=["claim", "holds", "theory", "networks or simulations"],
        )
        both = said["agreement"]
        agreement = (str(both["sentence"]), *map(str, both["outliers"]))
        picture = folder / f"{said['experiment']}.png"
        shown = picture.read_bytes() if picture.exists() else b""
        claim, verdict, caption = (str(said[name]) for name in ("claim", "verdict", "caption"))
        return FindingFolder(title, claim, verdict, caption, claims, agreement, shown, config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"the finding in {str(folder)!r} is damaged ({what}); reproduce it again"
        ) from error


def _numbers(claim: dict[str, Any]) -> tuple[str, str]:
    """Value and error of both sides, rounded by the error."""
    sides = (
        (claim["value"], claim["standard_error"]),
        (claim["network"], claim["network_standard_error"]),
    )
    unit = claim["unit"].strip()
    return tuple("" if v is None else rounded(v, e, unit=unit) for v, e in sides)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's store.

    Attributes
    ----------
    data
        Numbers over the grid's axes, and axes of their own; NaN where a case is missing.
    said
        How many cases are done.
    whole
        Whether all are.
    """

    data: xr.Dataset
    said: str
    whole: bool

    def numbers(self) -> list[str]:
        """Results that can be drawn, those of a case first."""
        names = [str(n) for n, v in self.data.data_vars.items() if v.dtype.kind in "fiub"]
        return sorted((n for n in names if n != "status"), key=lambda n: n == "seconds")


def read_sweep(folder: str | Path) -> SweepFolder:
    """Read the store of a sweep, finished or not.

    Raises
    ------
    InputError
        If it is damaged.
    """
    data = sweeps.load(folder)
    missing = data.status != DONE
    numbers = {n: v for n, v in data.data_vars.items() if v.dtype.kind in "fiu" and n != "status"}
    known = {n: v.astype(float).where(~missing) for n, v in numbers.items()}
    return SweepFolder(data.assign(known), summary(data), not missing.any())


def axes(variable: xr.DataArray) -> list[str]:
    """Axes with more than one level, the longest of numbers first."""
    names = [str(d) for d in variable.dims if variable.sizes[d] > 1]

    def rank(name: str) -> tuple[bool, int]:
        return levels(variable, name).dtype.kind not in "fiu", -variable.sizes[name]

    return sorted(names, key=rank)


def levels(variable: xr.DataArray, axis: str) -> np.ndarray:
    """Values along an axis; places where it has none."""
    if axis in variable.coords:
        return variable[axis].values
    return np.arange(variable.sizes[axis])


@dataclass(frozen=True)
class Line:
    """A curve of a sweep: means over averaged axes and their standard errors."""

    label: str
    x: np.ndarray
    mean: np.ndarray
    error: np.ndarray


def lines(
    variable: xr.DataArray, x: str, colour: str | None, at: dict[str, int | str]
) -> list[Line]:
    """Curves of a result over one axis, one for each level of another.

    Parameters
    ----------
    variable
        A result.
    x, colour
        Axes.
    at
        For every other axis the place of a level, or ``"mean"``.

    Returns
    -------
    list of Line
        At most :data:`CURVES`, evenly picked.
    """
    fixed = {a: i for a, i in at.items() if i != MEAN and a in variable.dims}
    chosen = variable.isel(fixed)
    averaged = [d for d in chosen.dims if d not in (x, colour)]
    count = chosen.notnull().sum(averaged)
    mean = chosen.mean(averaged)
    error = chosen.std(averaged, ddof=1) / np.sqrt(count) if averaged else mean * np.nan
    error = error.where(count > 1)
    if colour is None:
        return [Line("", levels(variable, x), mean.values, error.values)]
    named = levels(variable, colour)
    picked = np.unique(np.linspace(0, len(named) - 1, CURVES).round().astype(int))
    return [
        Line(
            f"{colour} = {level_label(named[i])}",
            levels(variable, x),
            mean.isel({colour: i}).values,
            error.isel({colour: i}).values,
        )
        for i in picked
    ]
