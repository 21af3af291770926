"""Theory as lines with bands, networks as open markers, and what a page has to know of them.

Pages switch series off and read out points; a figure alone does not say what its lines are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ...solution.estimate import rounded


@dataclass(frozen=True)
class Drawn:
    """One series of some axes.

    Attributes
    ----------
    series
        Its name in the legend.
    kind
        ``"theory"``, ``"network"`` or ``""``.
    line
        Whose colour, dashes and marker the legend shows.
    artists
        All that belongs to it.
    x, y
        Its points, in the coordinates of ``line``.
    said
        What is read out at each of them: where, and the value.
    """

    series: str
    kind: str
    line: Line2D
    artists: tuple[Artist, ...]
    x: np.ndarray
    y: np.ndarray
    said: tuple[tuple[str, str], ...]


_DRAWN: WeakKeyDictionary[Axes, list[Drawn]] = WeakKeyDictionary()


def drawn(ax: Axes) -> list[Drawn]:
    """What was drawn into some axes, in its order."""
    return _DRAWN.get(ax, [])


def remember(
    ax: Axes,
    series: str,
    kind: str,
    artists: Iterable[Artist],
    points: tuple[Sequence[float], Sequence[float]],
    values: Sequence[str],
    at: Sequence[str] | None = None,
) -> None:
    """Keep a series; ``values`` and ``at`` are what its points say, y and x in words."""
    artists = tuple(artists)
    (line,) = [a for a in artists if isinstance(a, Line2D)][:1]
    x, y = (np.asarray(p, float) for p in points)
    places = [f"{value:.3g}" for value in x] if at is None else at
    said = tuple(zip(places, values, strict=True))
    _DRAWN.setdefault(ax, []).append(Drawn(series, kind, line, artists, x, y, said))


def curve(ax: Axes, x, y, error, *, series: str = "", **style: Any) -> None:
    """A line of theory with a band of one standard error."""
    (line,) = ax.plot(x, y, linewidth=1.6, **style)
    band = ax.fill_between(x, y - error, y + error, color=style["color"], alpha=0.25, linewidth=0)
    remember(ax, series, "theory", [line, band], (x, y), _values(y, error))


def points(
    ax: Axes,
    x,
    y,
    error,
    *,
    kind: str = "theory",
    also: Sequence[Artist] = (),
    values: Sequence[str] | None = None,
    **style: Any,
) -> None:
    """Theory at a few places, joined by a line, a series called as its label.

    ``also`` belongs to it; ``values`` are read out in place of y.
    """
    container = ax.errorbar(x, y, _bars(error), capsize=2, markersize=5, linewidth=1.5, **style)
    said = _values(y, error) if values is None else values
    artists = [*container.get_children(), *also]
    remember(ax, style["label"], kind, artists, (x, y), said)


def networks(ax: Axes, x, y, error, *, series: str = "", at=None, **style: Any) -> None:
    """Finite networks as open markers."""
    container = ax.errorbar(
        x,
        y,
        _bars(error),
        linestyle="",
        markerfacecolor="none",
        capsize=2,
        elinewidth=1,
        zorder=3,
        **style,
    )
    remember(ax, series, "network", container.get_children(), (x, y), _values(y, error), at)


def _values(y, error) -> list[str]:
    return [rounded(v, e) for v, e in zip(y, np.broadcast_to(error, np.shape(y)), strict=True)]


def _bars(error: Any) -> np.ndarray:
    """Unknown standard errors draw no bar."""
    return np.nan_to_num(np.asarray(error, float), nan=0.0, posinf=0.0)
