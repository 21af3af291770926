"""Pictures: from a transfer study or a labelled data set to matplotlib axes; never solves.

Figures are built without pyplot, so they need no display and keep no global state. Theory is
drawn as lines, networks as open markers; bands and error bars are one standard error.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from .style import GREY, MARKERS, OKABE_ITO, STYLE, look, shades

if TYPE_CHECKING:
    import xarray as xr

    from ...transfer.study import Curve, Row, TransferStudy

RICHNESS = "source richness γ₁"
_LOG_RANGE = 15.0  # ratio of largest to smallest loss from which its axis is logarithmic


def figures(study: "TransferStudy") -> dict[str, Figure]:
    """All pictures that a study has data for.

    Among ``learning_curves``, ``loss_against_richness``, ``kernels``, ``alignment`` and
    ``forgetting``, in this order.
    """
    drawn: dict[str, Figure] = {}
    with mpl.rc_context(STYLE):
        if study.curves:
            drawn["learning_curves"] = learning_curves(study)
        if study.rows:
            drawn["loss_against_richness"] = _single(loss_against_richness, study.rows)
        if study.kernels:
            drawn["kernels"] = kernels(study.kernels, study.config.get("kernel_richness"))
        if any(study.alignments.values()):
            drawn["alignment"] = _single(alignment, study.alignments)
        if any(_is_number(r.source_loss_before, r.source_loss_after) for r in study.rows):
            drawn["forgetting"] = _single(forgetting, study.rows)
    return drawn


def mode_label(mode: str, target_richness: float | None) -> str:
    """A mode and its target richness in words.

    Examples
    --------
    >>> mode_label("rich", 0.5), mode_label("readout", None)
    ('rich, γ₂ = 0.5', 'readout')
    """
    return mode if target_richness is None else f"{mode}, γ₂ = {target_richness:g}"


def losses(dataset: "xr.Dataset", ax: Axes | None = None, split: str = "test") -> Axes:
    """Loss of every task over the total training time of a solution.

    Parameters
    ----------
    dataset
        From ``Solution.to_xarray()``.
    ax
        Where to draw; a new figure by default.
    split
        ``"train"`` or ``"test"``.
    """
    with mpl.rc_context(STYLE):
        ax = Figure(layout="constrained").add_subplot() if ax is None else ax
        chosen = dataset.sel(split=split)
        time, stage = chosen.total_time.values, chosen.stage.values
        for colour, task in zip(cycle(OKABE_ITO), chosen.task.values, strict=False):
            one = chosen.sel(task=task)
            mean, error = one.loss_mean.values, one.loss_standard_error.values
            if np.isfinite(mean).any():
                _theory(ax, time, mean, error, color=colour, label=f"loss on {task}")
        for start in time[1:][np.diff(stage) > 0]:
            ax.axvline(start, color="0.8", linewidth=1, zorder=0)
        ax.set(xlabel="training time t", ylabel=f"{split} loss")
        if ax.lines:
            ax.legend()
    return ax


def learning_curves(study: "TransferStudy") -> Figure:
    """Losses on both tasks (rows) against time, in the source and the target stage (columns)."""
    tasks = [t for t in ("source", "target") if any(c.task == t for c in study.curves)]
    panels = _panels(study.curves)
    figure = Figure(figsize=(2.9 * len(panels) + 2.2, 2.6 * len(tasks) + 0.5), layout="constrained")
    grid = figure.subplots(len(tasks), len(panels), sharey="row", sharex="col", squeeze=False)
    colours = _richness_colours(c.source_richness for c in study.curves)
    for axes, task in zip(grid, tasks, strict=True):
        for ax, (_, members) in zip(axes, panels, strict=True):
            shown = [c for c in members if c.task == task]
            for curve in shown:
                _curve(ax, curve, colours)
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(numticks=6))
            if ax is axes[0]:
                ax.set_ylabel(f"{task} test loss")
            if not shown:
                ax.set_axis_off()
        _loss_axis(axes[0], _values(c.loss[1:] for c in study.curves if c.task == task))
    for ax, (title, _) in zip(grid[0], panels, strict=True):
        ax.set_title(title)
    for ax in grid[-1]:
        ax.set_xlabel("time since the stage's start t")
    for upper, lower in zip(grid[0], grid[-1], strict=True):
        if not lower.axison:  # an empty panel leaves its axis to the one above
            upper.set_xlabel(lower.get_xlabel())
            upper.tick_params(labelbottom=True)
    _curve_legend(figure, study.curves, colours)
    return figure


def loss_against_richness(rows: Sequence["Row"], ax: Axes) -> Axes:
    """Target test loss against source richness, one series for each mode; scratch is horizontal."""
    series = _by_mode(r for r in rows if r.mode != "scratch" and r.source_richness is not None)
    for i, (label, members) in enumerate(series.items()):
        members = sorted(members, key=lambda r: r.source_richness)  # pyright: ignore[reportArgumentType]
        x = np.array([r.source_richness for r in members], float)
        y, se = _column(members, "test_loss"), _column(members, "test_loss_se")
        sampling = _column(members, "sampling_se")
        band = y - sampling, y + sampling
        ax.fill_between(x, *band, color=look(i)["color"], alpha=0.1, linewidth=0)
        _errorbar(ax, x, y, se, **look(i), linestyle="-", label=label)
        network, error = (_column(members, f"network_test_loss{end}") for end in ("", "_se"))
        _network(ax, x, network, error, **look(i), markersize=9)
    scratch = [r for r in rows if r.mode == "scratch" and _is_number(r.test_loss)]
    scratch.sort(key=lambda r: _number(r.target_richness, -1))
    styles = zip(cycle(("--", ":", "-.")), cycle(MARKERS), strict=False)
    for (style, marker), row in zip(styles, scratch, strict=False):
        label = mode_label("scratch", row.target_richness)
        ax.axhline(row.test_loss, color=GREY, linestyle=style, label=label, zorder=1)
        if _is_number(row.network_test_loss):
            _network(
                ax,
                [1.02],
                [row.network_test_loss],
                [_number(row.network_test_loss_se)],
                color=GREY,
                marker=marker,
                markersize=7,
                transform=ax.get_yaxis_transform(),
                clip_on=False,
            )
    _richness_axis(ax, [r.source_richness for r in rows])
    _loss_axis(ax, _values([_column(rows, "test_loss"), _column(rows, "network_test_loss")]))
    ax.set_ylabel("target test loss")
    handles, labels = ax.get_legend_handles_labels()
    if any(_is_number(r.network_test_loss) for r in rows):
        handles.append(_dot())
        labels.append("finite network")
    if handles:
        _figure_of(ax).legend(handles, labels, loc="outside right upper")
    return ax


def kernels(matrices: dict[str, np.ndarray], richness: float | None = None) -> Figure:
    """Heat maps of the target's training kernels before and after, on one colour scale.

    Parameters
    ----------
    matrices
        ``"lazy"`` and ``"adapted"``, each ``(n, n)`` with samples sorted by class.
    richness
        Source richness of the adapted kernel, for its title.
    """
    of = "" if not _is_number(richness) else f" (γ₁ = {richness:g})"
    titles = {"lazy": "lazy kernel, before", "adapted": f"adapted kernel, after{of}"}
    values = _values(matrices.values())
    low, high = np.percentile(values, [0.5, 99.5]) if values.size else (0.0, 1.0)
    limit = max(abs(low), abs(high))
    scale: dict[str, Any] = {"cmap": "viridis", "vmin": low, "vmax": high}
    if low < -0.1 * limit:
        scale = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    figure = Figure(figsize=(3.4 * len(matrices) + 1.4, 3.6), layout="constrained")
    grid = figure.subplots(1, len(matrices), squeeze=False)[0]
    image = None
    for ax, (name, matrix) in zip(grid, matrices.items(), strict=True):
        image = ax.imshow(matrix, interpolation="nearest", **scale)
        ax.set(title=titles.get(name, name), xlabel="sample, sorted by class")
        ax.spines[["top", "right"]].set_visible(True)
        ax.xaxis.get_major_locator().set_params(integer=True, nbins=5)
        ax.yaxis.get_major_locator().set_params(integer=True, nbins=5)
    grid[0].set_ylabel("sample, sorted by class")
    assert image is not None
    figure.colorbar(image, ax=list(grid), label="kernel K(x, x′)", shrink=0.85, extend="both")
    return figure


def alignment(curves: dict[str, dict[float, tuple[float, float]]], ax: Axes) -> Axes:
    """Centred kernel alignment with labels against source richness, one line for each kernel."""
    everything: list[float] = []
    for i, (label, points) in enumerate(curves.items()):
        if not points:
            continue
        x = np.array(sorted(points), float)
        y, se = np.array([points[r] for r in x], float).T
        everything.extend(x)
        _errorbar(ax, x, y, se, **look(i), linestyle="-", label=label)
    _richness_axis(ax, everything)
    ax.set_ylabel("centred kernel alignment")
    _figure_of(ax).legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=1)
    return ax


def forgetting(rows: Sequence["Row"], ax: Axes) -> Axes:
    """Source test loss before and after the target stage, one arrow for each row."""
    shown = [r for r in rows if _is_number(r.source_loss_before, r.source_loss_after)]
    shown.sort(key=lambda r: (r.mode, _number(r.target_richness), _number(r.source_richness)))
    colours = _richness_colours(r.source_richness for r in shown)
    for i, row in enumerate(shown):
        colour = colours.get(row.source_richness, GREY)
        before, after = float(row.source_loss_before), float(row.source_loss_after)  # pyright: ignore[reportArgumentType]
        ax.plot([before, after], [i, i], color=colour, linewidth=2, zorder=1)
        ax.plot(before, i, "o", color=colour, markerfacecolor="white", markersize=7)
        ax.plot(after, i, "o", color=colour, markersize=7)
    names = [f"{mode_label(r.mode, r.target_richness)};  γ₁ = {r.source_richness:g}" for r in shown]
    ax.set_yticks(range(len(shown)), names)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)
    ends = [_column(shown, "source_loss_before"), _column(shown, "source_loss_after")]
    _loss_axis(ax, _values(ends), which="x")
    ax.set_xlabel("source test loss")
    labels = ["before the target stage", "after it"]
    _figure_of(ax).legend([_dot(), _dot(GREY)], labels, loc="outside upper left", ncols=2)
    _figure_of(ax).set_size_inches(7.2, 1.4 + 0.3 * len(shown))
    return ax


def _single(draw, data) -> Figure:
    return _figure_of(draw(data, Figure(figsize=(7.2, 4.2), layout="constrained").add_subplot()))


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
    for label, members in _by_mode(c for c in target if c.mode != "scratch").items():
        own = [c for c in scratch if c.target_richness == members[0].target_richness]
        beside = own or scratch
        used.update(map(id, beside))
        panels.append((f"target stage: {label}", [*beside, *members]))
    rest = [c for c in scratch if id(c) not in used]
    return [*panels, *([("target stage: scratch", rest)] if rest else [])]


def _curve(ax: Axes, curve: "Curve", colours: dict[float | None, Any]) -> None:
    time, loss, error = (
        np.asarray(a, float) for a in (curve.times, curve.loss, curve.standard_error)
    )
    keep = (time > 0) & np.isfinite(time) & np.isfinite(loss)
    if not keep.any():
        return
    time, loss, error = time[keep], loss[keep], error[keep]
    pretrained = curve.stage == "source" or curve.mode != "scratch"
    colour = colours.get(curve.source_richness, GREY) if pretrained else GREY
    if curve.origin == "theory":
        # Scratch lies on top: it equals pretraining where the source stage changes nothing.
        line = {"linestyle": "-"} if pretrained else {"linestyle": "--", "zorder": 2.5}
        _theory(ax, time, loss, error, color=colour, **line)
        return
    positions = np.geomspace(time[0], time[-1], 12)
    at = np.unique([np.abs(np.log(time / p)).argmin() for p in positions])
    _network(ax, time[at], loss[at], error[at], color=colour, marker="o", markersize=4.5)


def _theory(ax: Axes, x, y, error, **style) -> None:
    ax.plot(x, y, linewidth=1.6, **style)
    ax.fill_between(x, y - error, y + error, color=style["color"], alpha=0.25, linewidth=0)


def _errorbar(ax: Axes, x, y, error, **style) -> None:
    ax.errorbar(x, y, _bars(error), capsize=2, markersize=5, linewidth=1.5, **style)


def _network(ax: Axes, x, y, error, **style) -> None:
    ax.errorbar(
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


def _bars(error: Any) -> np.ndarray:
    """Unknown standard errors draw no bar."""
    return np.nan_to_num(np.asarray(error, float), nan=0.0, posinf=0.0)


def _dot(fill: str = "none") -> Line2D:
    """A marker for a legend."""
    return Line2D(
        [], [], color=GREY, marker="o", linestyle="", markerfacecolor=fill, markersize=6.5
    )


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
        entries.append((_dot(), "finite network"))
    handles, labels = zip(*entries, strict=True)
    figure.legend(handles, labels, loc="outside right upper", title="source richness")


def _loss_axis(ax: Axes, values: np.ndarray, which: str = "y") -> None:
    """Logarithmic where positive losses span more than a decade."""
    if values.size and values.min() > 0 and values.max() / values.min() > _LOG_RANGE:
        (ax.set_yscale if which == "y" else ax.set_xscale)("log")


def _richness_axis(ax: Axes, richness: Iterable[float | None]) -> None:
    """Symmetric-logarithmic, so that 0 shows, with a tick at every richness that was used."""
    values = _known(richness)
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


def _richness_colours(richness: Iterable[float | None]) -> dict[float | None, Any]:
    values = _known(richness)
    if len(values) < 2:
        return {v: OKABE_ITO[0] for v in values}
    return dict(zip(values, shades(len(values)), strict=True))


def _by_mode(items: Iterable[Any]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    order = ("scratch", "readout", "lazy", "rich")
    for item in sorted(items, key=lambda r: (order.index(r.mode), _number(r.target_richness, -1))):
        groups.setdefault(mode_label(item.mode, item.target_richness), []).append(item)
    return groups


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def _known(richness: Iterable[float | None]) -> list[float]:
    return sorted({float(r) for r in richness if r is not None and math.isfinite(r)})


def _column(rows: Iterable[Any], name: str) -> np.ndarray:
    return np.array([_number(getattr(r, name)) for r in rows], float)


def _values(arrays: Iterable[Any]) -> np.ndarray:
    flat = np.concatenate([np.ravel(np.asarray(a, float)) for a in arrays] or [np.empty(0)])
    return flat[np.isfinite(flat)]


def _is_number(*values: Any) -> bool:
    return all(v is not None and math.isfinite(v) for v in values)


def _number(value: float | None, missing: float = math.nan) -> float:
    return missing if value is None else float(value)
