"""Pictures of the linear theory: maps with the boundary of negative transfer, and curves."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...linear_theory.diagram import QUANTITIES, SHOWN, Axis, Diagram
from .style import GREY, MARKERS, OKABE_ITO, STYLE, shades

if TYPE_CHECKING:
    import xarray as xr

OPEN: dict[str, Any] = {"linestyle": "", "markerfacecolor": "white"}  # simulated points


def phase_map(diagram: Diagram, dataset: "xr.Dataset") -> Figure:
    """The map, the boundary of negative transfer, and simulated points next to the theory."""
    with mpl.rc_context(STYLE):
        checked = dataset.sizes["check"] > 0
        figure = Figure(figsize=(9.6 if checked else 5.8, 4.3), layout="constrained")
        axes = figure.subplots(1, 2 if checked else 1, squeeze=False, width_ratios=None)[0]
        ax, x, y = axes[0], diagram.x.values, diagram.y.values
        value = dataset.value.values
        norm, colours, extend = colours_of(diagram, value)
        image = ax.pcolormesh(
            x, y, value, norm=norm, cmap=colours, shading="nearest", rasterized=True
        )
        figure.colorbar(image, ax=ax, label=SHOWN[diagram.quantity], extend=extend)
        harm = dataset.loss.values - dataset.baseline.values
        harm = np.where(np.abs(harm) < 1e-9, np.nan, harm)  # nothing changes there
        handles = []
        if diagram.quantity != "over_rich" and np.nanmin(harm) < 0 < np.nanmax(harm):
            ax.contour(x, y, harm, levels=[0.0], colors="black", linewidths=1.8)
            handles.append(
                Line2D([], [], color="black", linewidth=1.8, label="boundary of negative transfer")
            )
        _axis(ax, diagram.x, "x")
        _axis(ax, diagram.y, "y")
        ax.set_title(_settings(diagram), fontsize=8.5)
        if checked:
            ax.scatter(
                dataset.check_x,
                dataset.check_y,
                c=dataset.simulated,
                norm=norm,
                cmap=colours,
                edgecolors="black",
                s=46,
                zorder=4,
                clip_on=False,
            )
            handles.append(
                Line2D(
                    [],
                    [],
                    color="white",
                    marker="o",
                    markeredgecolor="black",
                    linestyle="",
                    label=f"simulated, D = {diagram.dimension}",
                )
            )
            _against_theory(axes[1], diagram, dataset)
        if handles:
            figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return figure


def phase_curves(title: str, panels: Sequence[Diagram], datasets: "Sequence[xr.Dataset]") -> Figure:
    """Lines of theory over every panel's x, one for each value of its y, and simulated points."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6 * len(panels), 3.9), layout="constrained")
        figure.suptitle(title, fontsize=11)
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for ax, panel, dataset in zip(axes, panels, datasets, strict=True):
            symbol, words, _ = QUANTITIES[panel.y.name]
            levels = panel.y.values
            for i, (level, shade) in enumerate(zip(levels, shades(len(levels)), strict=True)):
                ax.plot(panel.x.values, dataset.value.values[i], color=shade, linewidth=1.8)
                here = dataset.isel(check=dataset.check_y.values == level)
                ax.errorbar(
                    here.check_x,
                    here.simulated,
                    here.standard_error,
                    color=shade,
                    marker=MARKERS[i],
                    markersize=5,
                    capsize=2,
                    zorder=3,
                    label=f"{symbol} = {level:g}",
                    **OPEN,
                )
            if panel.x.name == "nu_target" and panel.quantity == "loss":
                ax.plot(
                    panel.x.values,
                    dataset.baseline.values[0],
                    color=GREY,
                    linestyle="--",
                    zorder=2.5,
                    label="no pretraining",
                )
            _axis(ax, panel.x, "x")
            ax.set_ylim(bottom=min(0.0, float(dataset.value.min())))
            ax.legend(title=words, loc="center left", bbox_to_anchor=(1.0, 0.5))
            ax.set_title(_settings(panel), fontsize=8.5)
        axes[0].set_ylabel(SHOWN[panels[0].quantity])
        figure.supxlabel(
            f"lines: theory; markers: mean ± s.e. of {datasets[0].attrs['draws']} simulations, "
            f"D = {panels[0].dimension}",
            fontsize=8.5,
        )
    return figure


def _against_theory(ax: Axes, diagram: Diagram, dataset: "xr.Dataset") -> None:
    theory, simulated = dataset.theory.values, dataset.simulated.values
    error = dataset.standard_error.values
    shown = np.concatenate([theory, simulated - error, simulated + error])
    low, high = _ends(shown[np.isfinite(shown)])
    pad = 0.06 * (high - low) or 0.1
    ends = np.array([low - pad, high + pad])
    ax.plot(ends, ends, color=GREY, linewidth=1, label="equal")
    ax.errorbar(
        theory,
        simulated,
        error,
        color=OKABE_ITO[1],
        marker="o",
        markersize=6,
        capsize=3,
        label=f"mean ± s.e. of {dataset.attrs['draws']} draws",
        **OPEN,
    )
    ax.set(xlim=ends, ylim=ends, xlabel="theory", ylabel="simulation", aspect="equal")
    ax.set_title(SHOWN[diagram.quantity], fontsize=9)
    ax.legend(loc="upper left")


def _ends(finite: np.ndarray) -> tuple[float, float]:
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def colours_of(diagram: Diagram, value: np.ndarray):
    """Diverging around 0 where the sign says whether pretraining helps; blue is help."""
    finite = value[np.isfinite(value)]
    if diagram.quantity in ("gain", "change"):
        low, high = _ends(finite)
        size = min(1.0, max(abs(low), abs(high))) or 1.0
        below, above = low < -size, high > size
        extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
        colours = "RdBu" if diagram.quantity == "gain" else "RdBu_r"
        return TwoSlopeNorm(0.0, -size, size), colours, extend[int(below), int(above)]
    low, largest = _ends(finite)
    high = float(np.quantile(finite, 0.98)) if finite.size else largest
    high = max(high, low + 1e-9 * max(1.0, abs(low)))
    return Normalize(low, high), "viridis", "max" if largest > high else "neither"


def _axis(ax: Axes, axis: Axis, which: str) -> None:
    values = axis.values
    steps = np.diff(values)
    if len(values) > 2 and values[0] > 0 and steps[-1] > 2 * steps[0]:
        (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    (ax.set_xlabel if which == "x" else ax.set_ylabel)(axis.label)


def _settings(diagram: Diagram) -> str:
    """What is fixed, in symbols; defaults that switch something off are left out."""
    if diagram.quantity == "over_rich":
        named = [n for n in ("alignment", "noise_alignment", "nu_source")]
    else:
        named = list(QUANTITIES)
    parts = []
    for name in named:
        symbol, _, default = QUANTITIES[name]
        value = diagram.at(None, None)[name]
        off = name not in ("alignment", "nu_target", "richness", "nu_source")
        if name in (diagram.x.name, diagram.y.name) or value is None:
            continue
        if not (off and value == default):
            parts.append(f"{symbol} = {'∞' if value == np.inf else f'{value:g}'}")
    if diagram.quantity != "over_rich":
        parts.append(f"{diagram.head} head, {diagram.finetune}")
    return ", ".join(parts)
