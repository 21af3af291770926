"""Paper figure 2b: on few target images, richer source features give a lower loss."""

import xarray as xr
from matplotlib.figure import Figure

from .. import curves
from ..finding import configuration
from ..verdict import Claim, ratio_over_draws, sides
from .fine_tuning import FULL, Config, caption, compute

__all__ = ["PRESETS", "caption", "check", "compute", "draw"]

PRESETS = {"quick": Config(), "full": Config(**FULL, richness=(0.0, 0.5, 1.0, 2.0, 4.0, 8.0))}


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against target samples, one curve for each richness."""
    c = configuration(dataset, Config)
    figure, (ax,) = curves.panels(width=6.2)

    def label(gamma: float) -> str:
        return f"γ₁ = {gamma:g}" + (" (lazy)" if gamma == 0 else "")

    curves.family(ax, dataset, "loss", "richness", label, ordered=True)
    curves.samples_axis(ax, c.n_target)
    ax.set_title(f"{c.title}, readout")
    curves.beside(ax, "source richness")
    return figure


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The richest source against a lazy one at the smallest number of target images."""
    c = configuration(dataset, Config)
    few, ends = c.n_target[0], (c.richness[0], c.richness[-1])
    lazy, rich = (sides(dataset, "loss", richness=gamma, n_target=few) for gamma in ends)
    statement = f"at P₂ = {few} a rich source (γ₁ = {ends[1]:g}) lowers the target loss"
    return (ratio_over_draws(statement, lazy, rich),)
