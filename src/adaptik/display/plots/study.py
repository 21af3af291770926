"""Pictures: from a transfer study or a labelled data set to matplotlib axes; never solves.

Figures are built without pyplot, so they need no display and keep no global state. Theory is
drawn as lines, networks as open markers; bands and error bars are one standard error.
"""

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...solution.estimate import rounded
from .axes import (
    by_mode,
    column,
    dot,
    finite,
    is_number,
    known,
    loss_axis,
    mode_label,
    number,
    richness_axis,
)
from .drawn import curve, drawn, networks, points, remember
from .learning import learning_curves
from .style import GREY, MARKERS, OKABE_ITO, STYLE, look

if TYPE_CHECKING:
    import xarray as xr

    from ...transfer.study import Row, TransferStudy


def figures(study: "TransferStudy") -> dict[str, Figure]:
    """All pictures that a study has data for.

    Among ``learning_curves``, ``loss_against_richness``, ``kernels``, ``alignment`` and
    ``forgetting``, in this order.
    """
    found: dict[str, Figure] = {}
    with mpl.rc_context(STYLE):
        if study.curves:
            found["learning_curves"] = learning_curves(study)
        if study.rows:
            found["loss_against_richness"] = _with_legend(loss_against_richness, study.rows)
        if study.kernels:
            found["kernels"] = kernels(study.kernels, study.config.get("kernel_richness"))
        if any(study.alignments.values()):
            found["alignment"] = _with_legend(alignment, study.alignments)
        if any(is_number(r.source_loss_before, r.source_loss_after) for r in study.rows):
            found["forgetting"] = _with_legend(forgetting, study.rows)
    return found


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
                name = f"loss on {task}"
                curve(ax, time, mean, error, series=name, color=colour, label=name)
        for start in time[1:][np.diff(stage) > 0]:
            ax.axvline(start, color="0.8", linewidth=1, zorder=0)
        ax.set(xlabel="training time t", ylabel=f"{split} loss")
        if ax.lines:
            ax.legend()
    return ax


def loss_against_richness(rows: Sequence["Row"], ax: Axes) -> Axes:
    """Target test loss against source richness, one series for each mode; scratch is horizontal."""
    series = by_mode(r for r in rows if r.mode != "scratch" and r.source_richness is not None)
    for i, (label, members) in enumerate(series.items()):
        members = sorted(members, key=lambda r: r.source_richness)  # pyright: ignore[reportArgumentType]
        x = column(members, "source_richness")
        y, se = column(members, "test_loss"), column(members, "test_loss_se")
        sampling = column(members, "sampling_se")
        band = ax.fill_between(
            x, y - sampling, y + sampling, color=look(i)["color"], alpha=0.1, linewidth=0
        )
        said = [_in_words(row) for row in members]
        points(ax, x, y, se, **look(i), linestyle="-", label=label, also=[band], values=said)
        network, error = (column(members, f"network_test_loss{end}") for end in ("", "_se"))
        networks(ax, x, network, error, series=label, **look(i), markersize=9)
    richness = known(r.source_richness for r in rows)
    scratch = [r for r in rows if r.mode == "scratch" and is_number(r.test_loss)]
    scratch.sort(key=lambda r: number(r.target_richness, -1))
    styles = zip(cycle(("--", ":", "-.")), cycle(MARKERS), strict=False)
    for style, row in zip(styles, scratch, strict=False):
        _scratch(ax, row, style, richness)
    richness_axis(ax, richness)
    loss_axis(ax, finite([column(rows, "test_loss"), column(rows, "network_test_loss")]))
    ax.set_ylabel("target test loss")
    return ax


def _scratch(ax: Axes, row: "Row", style: tuple[str, str], richness: Sequence[float]) -> None:
    """A line over all of the axis, networks as a marker at its right edge."""
    label = mode_label("scratch", row.target_richness)
    line = ax.axhline(row.test_loss, color=GREY, linestyle=style[0], label=label, zorder=1)
    at = [""] * len(richness)
    remember(
        ax,
        label,
        "theory",
        [line],
        (richness, [row.test_loss] * len(at)),
        [_in_words(row)] * len(at),
        at,
    )
    if is_number(row.network_test_loss):
        loss, error = [row.network_test_loss], [number(row.network_test_loss_se)]
        where: dict[str, Any] = dict(transform=ax.get_yaxis_transform(), clip_on=False)
        mark: dict[str, Any] = dict(color=GREY, marker=style[1], markersize=7)
        networks(ax, [1.02], loss, error, series=label, at=[""], **mark, **where)


def _in_words(row: "Row") -> str:
    """Loss with the error of solver and test set, and accuracy."""
    error = np.hypot(number(row.test_loss_se, 0.0), number(row.sampling_se, 0.0))
    said = rounded(row.test_loss, float(error))
    return said if not is_number(row.accuracy) else f"{said}; accuracy {row.accuracy:.1%}"


def kernels(matrices: dict[str, np.ndarray], richness: float | None = None) -> Figure:
    """Heat maps of the target's training kernels before and after, on one colour scale.

    Parameters
    ----------
    matrices
        ``"lazy"`` and ``"adapted"``, each ``(n, n)`` with samples sorted by class.
    richness
        Source richness of the adapted kernel, for its title.
    """
    of = "" if not is_number(richness) else f" (γ₁ = {richness:g})"
    titles = {"lazy": "lazy kernel, before", "adapted": f"adapted kernel, after{of}"}
    values = finite(matrices.values())
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
    for i, (label, found) in enumerate(curves.items()):
        if not found:
            continue
        x = np.array(sorted(found), float)
        y, se = np.array([found[r] for r in x], float).T
        everything.extend(x)
        points(ax, x, y, se, **look(i), linestyle="-", label=label)
    richness_axis(ax, everything)
    ax.set_ylabel("centred kernel alignment")
    return ax


def forgetting(rows: Sequence["Row"], ax: Axes) -> Axes:
    """Source test loss against source richness: before the target stage, and after each kind."""
    shown = [r for r in rows if is_number(r.source_loss_before, r.source_loss_after)]
    before = {r.source_richness: r.source_loss_before for r in shown}
    x = np.array(sorted(before), float)  # pyright: ignore[reportArgumentType]
    grey: dict[str, Any] = dict(color=GREY, marker="x", linestyle="--")
    none = np.full(len(x), np.nan)
    points(ax, x, np.array([before[g] for g in x], float), none, **grey, label="before the target")
    for i, (label, members) in enumerate(by_mode(shown).items()):
        members = sorted(members, key=lambda r: r.source_richness)
        x, y = column(members, "source_richness"), column(members, "source_loss_after")
        style: dict[str, Any] = dict(linestyle="-", label=f"after {label}")
        points(ax, x, y, np.full(len(x), np.nan), **look(i), **style)
    richness_axis(ax, (r.source_richness for r in shown))
    loss_axis(ax, finite(column(shown, f"source_loss_{end}") for end in ("before", "after")))
    ax.set_ylabel("source test loss")
    return ax


def single(draw: Callable[[Any, Axes], Axes], data: Any, size=(5.4, 3.6)) -> Figure:
    """A figure of one picture without a legend."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(data, figure.add_subplot())
    return figure


def _with_legend(draw: Callable[[Any, Axes], Axes], data: Any) -> Figure:
    figure = single(draw, data, (7.2, 4.2))
    ax = figure.axes[0]
    handles, labels = ax.get_legend_handles_labels()
    if any(series.kind == "network" and np.isfinite(series.y).any() for series in drawn(ax)):
        handles.append(dot())
        labels.append("finite network")
    if handles:
        figure.legend(handles, labels, loc="outside right upper")
    return figure
