"""Paper figure 2c: the gain from rich source features fades as target images become many."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from . import curves
from .finding import configuration
from .image_fine_tuning import FULL, Config, caption, compute, loss
from .verdict import Claim, over_draws

__all__ = ["PRESETS", "caption", "check", "compute", "draw"]

PRESETS = {
    "quick": Config(richness=(0.0, 0.5, 1.0, 2.0, 4.0)),
    "full": Config(**FULL, richness=(0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)),
}


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against source richness, one curve for each number of target samples."""
    config = configuration(dataset, Config)
    figure, (ax,) = curves.panels(1, width=6.2)
    for i, (count, colour) in enumerate(
        zip(config.n_target, curves.shades(len(config.n_target)), strict=True)
    ):
        one = dataset.sel(n_target=count)
        curves.series(
            ax, config.richness, one.theory_loss, one.network_loss, color=colour,
            marker=curves.look(i)["marker"], label=f"P₂ = {count}",
        )  # fmt: skip
    ax.set_xscale("symlog", linthresh=min(g for g in config.richness if g > 0))
    ax.set_xticks(config.richness, [f"{g:g}" for g in config.richness])
    ax.minorticks_off()
    ax.set(
        xlabel="source richness γ₁", ylabel="target test loss",
        title=f"{config.data} {config.source_classes} → {config.target_classes}, readout",
    )  # fmt: skip
    ax.set_ylim(bottom=0)
    curves.beside(ax, "target samples")
    curves.note(figure)
    return figure


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The fall of the loss with richness at few minus that at many target images."""
    config = configuration(dataset, Config)
    lazy, rich = config.richness[0], config.richness[-1]
    few, many = config.n_target[0], config.n_target[-1]
    falls = {}
    for count in (few, many):
        pairs = zip(loss(dataset, lazy, count), loss(dataset, rich, count), strict=True)
        falls[count] = [_fall(a, b) for a, b in pairs]
    return (
        over_draws(
            f"the loss falls more with richness (γ₁ = {lazy:g} to {rich:g}) at P₂ = {few} than at "
            f"P₂ = {many} (difference of the falls)",
            *(a - b for a, b in zip(falls[few], falls[many], strict=True)), unit="",
        ),
    )  # fmt: skip


def _fall(lazy: xr.DataArray, rich: xr.DataArray) -> np.ndarray:
    over = [d for d in lazy.dims if d != "draw"]
    return (lazy.mean(over) - rich.mean(over)).values
