"""Theory as lines and networks as points, from data sets with draws and members."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..display.plots.style import GREY, STYLE, look, shades
from .verdict import sides

LEGEND = "lines: theory (bands: s.e. over draws); markers: mean network (bars: s.e. over seeds)"


def panels(columns: int = 1, *, width: float = 4.2, height: float = 3.6, **options) -> Any:
    """A figure and its axes in one row, in the style of all figures, with small print below."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False, **options)[0]
    note(figure)
    return figure, axes


def note(figure: Figure, text: str = LEGEND) -> None:
    """Small print under the figure."""
    figure.supxlabel(text, fontsize=8, color=GREY)


def family(
    ax: Axes,
    dataset: xr.Dataset,
    what: str,
    over: str,
    label: Callable[[Any], str] = str,
    *,
    ordered: bool = False,
    dashed: Sequence[Any] = (),
    first: int = 0,
) -> None:
    """One :func:`series` for each level of the dimension ``over``.

    ``label`` puts a level into words. ``ordered`` levels have shades of one scale, others colours
    that are told apart, from number ``first`` on; ``dashed`` names levels that others are compared
    with.
    """
    levels = dataset[over].values.tolist()
    for i, (level, shade) in enumerate(zip(levels, shades(len(levels)), strict=True)):
        style = look(first + i) | ({"color": shade} if ordered else {})
        style["linestyle"] = "--" if level in dashed else "-"
        series(ax, dataset.sel({over: level}), what, label=label(level), **style)


def series(
    ax: Axes,
    dataset: xr.Dataset,
    what: str,
    *,
    color: Any,
    marker: str,
    label: str,
    linestyle: str = "-",
) -> None:
    """One line with its points, over the one dimension that is no draw and no member.

    The band is the standard error over draws, which theory and networks share; bars are that of
    the seeds alone.
    """
    theory, network = sides(dataset, what)
    (axis,) = set(theory.dims) - {"draw", "replicate"}
    x = dataset[axis].values.astype(float)
    per_draw = theory.mean("replicate")
    mean = per_draw.mean("draw").values
    ax.plot(x, mean, color=color, linestyle=linestyle, linewidth=1.7)
    draws = per_draw.sizes["draw"]
    if draws > 1:
        band = per_draw.std("draw", ddof=1).values / np.sqrt(draws)
        ax.fill_between(x, mean - band, mean + band, color=color, alpha=0.15, linewidth=0)
    members = network.sizes["seed"]
    error = np.sqrt((network.var("seed", ddof=1) / members).sum("draw").values) / draws
    points: dict[str, Any] = dict(color=color, marker=marker, markersize=5, markerfacecolor="white")
    ax.errorbar(
        x,
        network.mean(("draw", "seed")).values,
        error,
        linestyle="",
        capsize=2,
        elinewidth=1,
        zorder=3,
        **points,
    )
    ax.plot([], [], linestyle=linestyle, label=label, **points)


def beside(ax: Axes, title: str, of: Axes | None = None) -> None:
    """The legend, of ``ax`` or of other axes, to the right of ``ax``."""
    handles = (of or ax).get_legend_handles_labels()
    ax.legend(*handles, title=title, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def ticks(ax: Axes, values: Sequence[float]) -> None:
    """A tick at every value of the horizontal axis and nowhere else."""
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.minorticks_off()


def samples_axis(ax: Axes, counts: Sequence[int]) -> None:
    """Numbers of target samples, each with its tick, and losses from 0."""
    ax.set_xscale("log")
    ticks(ax, counts)
    ax.set(xlabel="target training samples P₂", ylabel="target test loss")
    ax.set_ylim(bottom=0)


def time_axis(ax: Axes, duration: float) -> None:
    """Logarithmic time that leaves out what precedes any change."""
    ax.set_xscale("log")
    ax.set_xlim(duration * 1e-3, duration * 1.15)
    ax.set_xlabel("time since the stage's start t")


def richness_axis(ax: Axes, values: Sequence[float]) -> None:
    """Richness of a source with 0 at the left, and losses from 0."""
    ax.set_xscale("symlog", linthresh=min(value for value in values if value > 0))
    ticks(ax, values)
    ax.set(xlabel="source richness γ₁", ylabel="target test loss")
    ax.set_ylim(bottom=0)


def pull_axis(ax: Axes, values: Sequence[float]) -> None:
    """Elastic couplings with none at the left: linear below the smallest pull, then logarithmic."""
    smallest = min(value for value in values if value > 0)
    ax.set_xscale("symlog", linthresh=smallest, linscale=0.5)
    ticks(ax, values)
    ax.set_xlim(-0.2 * smallest, 1.5 * max(values))
    ax.set_xlabel("elastic coupling δ")
