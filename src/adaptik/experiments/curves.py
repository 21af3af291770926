"""Theory as lines and networks as points, from data sets with draws and members."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..display.plots.study import GREY, MARKERS, OKABE_ITO, STYLE

LEGEND = "lines: theory (bands: s.e. over draws); markers: mean network (bars: s.e. over seeds)"


def panels(columns: int, *, width: float = 4.2, height: float = 3.6, **options) -> Any:
    """A figure and its axes in one row, in the style of all figures."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False, **options)[0]
    return figure, axes


def shades(count: int) -> list[Any]:
    """Colours for ordered levels."""
    return list(mpl.colormaps["viridis"](np.linspace(0.0, 0.85, count)))


def look(i: int) -> dict[str, Any]:
    """Colour and marker of an unordered series."""
    return {"color": OKABE_ITO[i % len(OKABE_ITO)], "marker": MARKERS[i % len(MARKERS)]}


def series(
    ax: Axes,
    x: Sequence[float] | np.ndarray,
    theory: xr.DataArray,
    network: xr.DataArray,
    *,
    color: Any,
    marker: str,
    label: str,
    linestyle: str = "-",
) -> None:
    """One line with its points.

    ``theory`` has dimensions ``draw``, ``replicate`` and one more, ``network`` has ``seed``
    instead. The band is the standard error over draws, which theory and networks share; bars are
    that of the seeds alone.
    """
    x = np.asarray(x, float)
    per_draw = theory.mean("replicate")
    mean = per_draw.mean("draw").values
    ax.plot(x, mean, color=color, linestyle=linestyle, linewidth=1.7)
    draws = per_draw.sizes["draw"]
    if draws > 1:
        band = per_draw.std("draw", ddof=1).values / np.sqrt(draws)
        ax.fill_between(x, mean - band, mean + band, color=color, alpha=0.15, linewidth=0)
    members = network.sizes["seed"]
    error = np.sqrt((network.var("seed", ddof=1) / members).sum("draw").values) / draws
    ax.errorbar(
        x, network.mean(("draw", "seed")).values, error, color=color, marker=marker,
        linestyle="", markersize=5, markerfacecolor="white", capsize=2, elinewidth=1, zorder=3,
    )  # fmt: skip
    ax.plot([], [], color=color, marker=marker, linestyle=linestyle, markerfacecolor="white",
            markersize=5, label=label)  # fmt: skip


def beside(ax: Axes, title: str, of: Axes | None = None) -> None:
    """The legend, of ``ax`` or of other axes, to the right of ``ax``."""
    handles = (of or ax).get_legend_handles_labels()
    ax.legend(*handles, title=title, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def note(figure: Figure, text: str = LEGEND) -> None:
    """Small print under the figure."""
    figure.supxlabel(text, fontsize=8, color=GREY)


def samples_axis(ax: Axes, counts: Sequence[int]) -> None:
    """Numbers of target samples, each with its tick, and losses from 0."""
    ax.set_xscale("log")
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.minorticks_off()
    ax.set(xlabel="target training samples P₂", ylabel="target test loss")
    ax.set_ylim(bottom=0)


def time_axis(ax: Axes, duration: float) -> None:
    """Logarithmic time that leaves out what precedes any change."""
    ax.set_xscale("log")
    ax.set_xlim(duration * 1e-3, duration * 1.15)
    ax.set_xlabel("time since the stage's start t")


def pull_axis(ax: Axes, values: Sequence[float]) -> None:
    """Elastic couplings with none at the left: linear below the smallest pull, then logarithmic."""
    smallest = min(value for value in values if value > 0)
    ax.set_xscale("symlog", linthresh=smallest, linscale=0.5)
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.minorticks_off()
    ax.set_xlim(-0.2 * smallest, 1.5 * max(values))
    ax.set_xlabel("elastic coupling δ")
