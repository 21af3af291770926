"""Paper figure 2b: on few target images, richer source features give a lower loss."""

import xarray as xr
from matplotlib.figure import Figure

from . import curves
from .finding import configuration
from .image_fine_tuning import FULL, Config, caption, compute, loss
from .verdict import Claim, ratio_over_draws

__all__ = ["PRESETS", "caption", "check", "compute", "draw"]

PRESETS = {"quick": Config(), "full": Config(**FULL, richness=(0.0, 0.5, 1.0, 2.0, 4.0, 8.0))}


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against target samples, one curve for each richness."""
    config = configuration(dataset, Config)
    figure, (ax,) = curves.panels(1, width=6.2)
    colours = curves.shades(len(config.richness))
    for i, (gamma, colour) in enumerate(zip(config.richness, colours, strict=True)):
        one = dataset.sel(richness=gamma)
        label = f"γ₁ = {gamma:g}" + (" (lazy)" if gamma == 0 else "")
        curves.series(
            ax, config.n_target, one.theory_loss, one.network_loss, color=colour,
            marker=curves.look(i)["marker"], label=label,
        )  # fmt: skip
    curves.samples_axis(ax, config.n_target)
    ax.set_title(f"{config.data} {config.source_classes} → {config.target_classes}, readout")
    curves.beside(ax, "source richness")
    curves.note(figure)
    return figure


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The richest source against a lazy one at the smallest number of target images."""
    config = configuration(dataset, Config)
    few, lazy, rich = config.n_target[0], config.richness[0], config.richness[-1]
    return (
        ratio_over_draws(
            f"at P₂ = {few} a rich source (γ₁ = {rich:g}) lowers the target loss",
            loss(dataset, lazy, few), loss(dataset, rich, few),
        ),
    )  # fmt: skip
