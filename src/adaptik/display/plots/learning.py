"""Learning curves of a study: losses on both tasks while each stage trains."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from .axes import by_mode, dot, finite, loss_axis, richness_colours
from .drawn import curve, networks
from .style import GREY, STYLE

if TYPE_CHECKING:
    from ...transfer.recorded import Curve
    from ...transfer.study import TransferStudy

TIME = "time since the stage's start t"


def learning_curves(study: "TransferStudy") -> Figure:
    """Losses on both tasks (rows) against time, in the source and the target stage (columns)."""
    tasks = [t for t in ("source", "target") if any(c.task == t for c in study.curves)]
    panels = _panels(study.curves)
    figure = Figure(figsize=(2.9 * len(panels) + 2.2, 2.6 * len(tasks) + 0.5), layout="constrained")
    grid = figure.subplots(len(tasks), len(panels), sharey="row", sharex="col", squeeze=False)
    colours = richness_colours(c.source_richness for c in study.curves)
    for axes, task in zip(grid, tasks, strict=True):
        for ax, (_, members) in zip(axes, panels, strict=True):
            _panel(ax, [c for c in members if c.task == task], colours)
        axes[0].set_ylabel(f"{task} test loss")
        loss_axis(axes[0], finite(c.loss[1:] for c in study.curves if c.task == task))
    for ax, (title, _) in zip(grid[0], panels, strict=True):
        ax.set_title(title)
    for ax in grid[-1]:
        ax.set_xlabel(TIME)
    for upper, lower in zip(grid[0], grid[-1], strict=True):
        if not lower.axison:  # an empty panel leaves its axis to the one above
            upper.set_xlabel(lower.get_xlabel())
            upper.tick_params(labelbottom=True)
    _curve_legend(figure, study.curves, colours)
    return figure


def learning_panels(study: "TransferStudy", task: str) -> list[Figure]:
    """The row of :func:`learning_curves` of one task, each panel a figure without a legend."""
    colours = richness_colours(c.source_richness for c in study.curves)
    shown = finite(c.loss[1:] for c in study.curves if c.task == task)
    figures = []
    with mpl.rc_context(STYLE):
        for title, members in _panels(study.curves):
            own = [c for c in members if c.task == task]
            if not own:
                continue
            figure = Figure(figsize=(3.9, 2.8), layout="constrained")
            ax = figure.add_subplot()
            _panel(ax, own, colours)
            loss_axis(ax, shown)
            ax.set(title=title, xlabel=TIME, ylabel=f"{task} test loss")
            figures.append(figure)
    if figures:  # one scale for all of them
        limits = np.array([figure.axes[0].get_ylim() for figure in figures])
        for figure in figures:
            figure.axes[0].set_ylim(limits[:, 0].min(), limits[:, 1].max())
    return figures


def _panel(ax: Axes, curves: Sequence["Curve"], colours: dict[float | None, Any]) -> None:
    for one in curves:
        _curve(ax, one, colours)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=6))
    if not curves:
        ax.set_axis_off()


def _panels(curves: Sequence["Curve"]) -> list[tuple[str, list["Curve"]]]:
    """Titles and curves: the source stage, then each way to train on the target."""
    source = {}
    for c in curves:  # one source stage serves several modes
        if c.stage == "source":
            source.setdefault((c.origin, c.source_richness, c.task), c)
    target = [c for c in curves if c.stage == "target"]
    scratch = [c for c in target if c.mode == "scratch"]
    panels = [("source stage", list(source.values()))] if source else []
    used: set[int] = set()
    for label, members in by_mode(c for c in target if c.mode != "scratch").items():
        own = [c for c in scratch if c.target_richness == members[0].target_richness]
        beside = own or scratch
        used.update(map(id, beside))
        panels.append((f"target stage: {label}", [*beside, *members]))
    rest = [c for c in scratch if id(c) not in used]
    return [*panels, *([("target stage: scratch", rest)] if rest else [])]


def _curve(ax: Axes, one: "Curve", colours: dict[float | None, Any]) -> None:
    time, loss, error = (np.asarray(a, float) for a in (one.times, one.loss, one.standard_error))
    keep = (time > 0) & np.isfinite(time) & np.isfinite(loss)
    if not keep.any():
        return
    time, loss, error = time[keep], loss[keep], error[keep]
    pretrained = one.stage == "source" or one.mode != "scratch"
    colour = colours.get(one.source_richness, GREY) if pretrained else GREY
    series = f"γ₁ = {one.source_richness:g}" if pretrained else "scratch"
    if one.origin == "theory":
        # Scratch lies on top: it equals pretraining where the source stage changes nothing.
        line = {"linestyle": "-"} if pretrained else {"linestyle": "--", "zorder": 2.5}
        curve(ax, time, loss, error, series=series, color=colour, **line)
        return
    positions = np.geomspace(time[0], time[-1], 12)
    at = np.unique([np.abs(np.log(time / p)).argmin() for p in positions])
    look: dict[str, Any] = dict(color=colour, marker="o", markersize=4.5)
    networks(ax, time[at], loss[at], error[at], series=series, **look)


def _curve_legend(figure: Figure, curves, colours) -> None:
    entries: list[tuple[Line2D, str]] = [
        (Line2D([], [], color=colour, linewidth=2), f"γ₁ = {richness:g}")
        for richness, colour in colours.items()
    ]
    if any(c.mode == "scratch" and c.stage == "target" for c in curves):
        entries.append((Line2D([], [], color=GREY, linestyle="--"), "scratch"))
    origins = {c.origin for c in curves}
    if "theory" in origins:
        entries.append((Line2D([], [], color="0.2", linewidth=1.6), "infinite width"))
    if "network" in origins:
        entries.append((dot(), "finite network"))
    handles, labels = zip(*entries, strict=True)
    figure.legend(handles, labels, loc="outside right upper", title="source richness")
