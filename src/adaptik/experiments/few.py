"""What findings on low-rank target stages share: losses against the number of directions."""

from collections.abc import Mapping

import xarray as xr
from matplotlib.figure import Figure

from . import curves
from .verdict import Claim, means, over_draws, ratio_over_draws, sides


def against_directions(dataset: xr.Dataset, over: str, label: str, title: str) -> Figure:
    """Target loss against the levels of ``over``, a line for each richness of the target stage."""
    figure, (ax,) = curves.panels(width=6.2)
    curves.family(ax, dataset, "loss", "target_richness", lambda v: f"γ₂ = {v:g}", ordered=True)
    ax.set_xscale("log")
    curves.ticks(ax, dataset[over].values.tolist())
    ax.set(xlabel=label, ylabel="target test loss", title=title)
    ax.set_ylim(bottom=0)
    curves.beside(ax, "target richness")
    return figure


def costs(dataset: xr.Dataset, few: Mapping, all_: Mapping, words: str) -> tuple[Claim, ...]:
    """Few directions against all of them, at the largest richness and against no richness.

    ``few`` and ``all_`` are the two points on the axis of directions, ``words`` the first.
    """
    lazy, rich = (dataset.isel(target_richness=end) for end in (0, -1))

    def excess(of: xr.Dataset) -> list:
        above, below = (means(of, "loss", **at) for at in (few, all_))
        return [a / b - 1 for a, b in zip(above, below, strict=True)]

    more = [a - b for a, b in zip(excess(rich), excess(lazy), strict=True)]
    richest = float(rich.target_richness)
    return (
        ratio_over_draws(
            f"at γ₂ = {richest:g} all directions end below {words}",
            sides(rich, "loss", **few),
            sides(rich, "loss", **all_),
        ),
        over_draws(f"{words} cost more, of the full stage's loss, than when lazy", *more),
    )
