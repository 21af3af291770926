"""Paper figure 2c: the gain from rich source features fades as target images become many."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from .. import curves
from ..finding import configuration
from ..verdict import Claim, means, over_draws
from .fine_tuning import FULL, Config, caption, compute

__all__ = ["PRESETS", "caption", "check", "compute", "draw"]

PRESETS = {
    "quick": Config(richness=(0.0, 0.5, 1.0, 2.0, 4.0)),
    "full": Config(**FULL, richness=(0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)),
}


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against source richness, one curve for each number of target samples."""
    c = configuration(dataset, Config)
    figure, (ax,) = curves.panels(width=6.2)
    curves.family(ax, dataset, "loss", "n_target", "P₂ = {}".format, ordered=True)
    curves.richness_axis(ax, c.richness)
    ax.set_title(f"{c.title}, readout")
    curves.beside(ax, "target samples")
    return figure


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The fall of the loss with richness at few minus that at many target images."""
    c = configuration(dataset, Config)
    lazy, rich = c.richness[0], c.richness[-1]
    few, many = c.n_target[0], c.n_target[-1]

    def falls(count: int) -> list[np.ndarray]:
        ends = (means(dataset, "loss", richness=g, n_target=count) for g in (lazy, rich))
        return [above - below for above, below in zip(*ends, strict=True)]

    return (
        over_draws(
            f"the loss falls more with richness (γ₁ = {lazy:g} to {rich:g}) at P₂ = {few} than at "
            f"P₂ = {many} (difference of the falls)",
            *(a - b for a, b in zip(falls(few), falls(many), strict=True)),
            unit="",
        ),
    )
