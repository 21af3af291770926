"""Axes, colours and words that pictures of studies share."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from .style import GREY, OKABE_ITO, shades

RICHNESS = "source richness γ₁"
_LOG_RANGE = 15.0  # ratio of largest to smallest loss from which its axis is logarithmic


def mode_label(mode: str, target_richness: float | None) -> str:
    """A mode and its target richness in words.

    Examples
    --------
    >>> mode_label("rich", 0.5), mode_label("readout", None)
    ('rich, γ₂ = 0.5', 'readout')
    """
    return mode if target_richness is None else f"{mode}, γ₂ = {target_richness:g}"


def dot(fill: str = "none") -> Line2D:
    """A marker for a legend."""
    return Line2D(
        [], [], color=GREY, marker="o", linestyle="", markerfacecolor=fill, markersize=6.5
    )


def loss_axis(ax: Axes, values: np.ndarray) -> None:
    """Logarithmic where positive losses span more than a decade."""
    if values.size and values.min() > 0 and values.max() / values.min() > _LOG_RANGE:
        ax.set_yscale("log")


def richness_axis(ax: Axes, richness: Iterable[float | None]) -> None:
    """Symmetric-logarithmic, so that 0 shows, with a tick at every richness that was used."""
    values = known(richness)
    positive = [v for v in values if v > 0]
    if len(values) > 1 and positive:
        ax.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
        left = -0.3 * positive[0] if values[0] == 0 else values[0] / 1.3
        ax.set_xlim(left, positive[-1] * 1.25)
    if 0 < len(values) <= 10:
        ax.set_xticks(values)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(RICHNESS)


def richness_colours(richness: Iterable[float | None]) -> dict[float | None, Any]:
    """A shade for each richness."""
    values = known(richness)
    if len(values) < 2:
        return {v: OKABE_ITO[0] for v in values}
    return dict(zip(values, shades(len(values)), strict=True))


def by_mode(items: Iterable[Any]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    order = ("scratch", "readout", "lazy", "rich")
    for item in sorted(items, key=lambda r: (order.index(r.mode), number(r.target_richness, -1))):
        groups.setdefault(mode_label(item.mode, item.target_richness), []).append(item)
    return groups


def figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def known(richness: Iterable[float | None]) -> list[float]:
    return sorted({float(r) for r in richness if r is not None and math.isfinite(r)})


def column(rows: Iterable[Any], name: str) -> np.ndarray:
    return np.array([number(getattr(r, name)) for r in rows], float)


def finite(arrays: Iterable[Any]) -> np.ndarray:
    flat = np.concatenate([np.ravel(np.asarray(a, float)) for a in arrays] or [np.empty(0)])
    return flat[np.isfinite(flat)]


def is_number(*values: Any) -> bool:
    return all(v is not None and math.isfinite(v) for v in values)


def number(value: float | None, missing: float = math.nan) -> float:
    return missing if value is None else float(value)
