"""Paper figure 4: jointly rich stages on images have an optimal stopping time."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ...display.plots.style import shades
from .. import curves
from ..both import stacked
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, at_best, means, over_draws
from . import jointly_rich
from .architecture import Seen
from .jointly_rich import FULL, runs


@dataclass(frozen=True, kw_only=True)
class Config(jointly_rich.Config, Seen):
    """As of all jointly rich stages, of dense networks or convolutions."""


PRESETS = {
    "quick": Config(),
    "full": Config(
        **FULL,
        target_richness=(0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
        target_duration=3000.0,
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_target`` (draw, richness, time, replicate) and ``network_target``."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the images."""
    c = decode(Config, config)
    found = {
        gamma: both.over_time(target=target) for gamma, _, target, both in runs(c, draw, record=17)
    }
    return stacked("richness", found)


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss over time, one curve for each richness; the best time is marked."""
    c = configuration(dataset, Config)
    figure, (ax,) = curves.panels(width=6.2)
    curves.family(ax, dataset, "target", "richness", "γ₂ = {:g}".format, ordered=True)
    star: dict[str, Any] = dict(marker="*", linestyle="")
    colours = shades(len(c.target_richness))
    for gamma, colour in zip(c.target_richness, colours, strict=True):
        mean = dataset.theory_target.sel(richness=gamma).mean(("draw", "replicate"))
        best = mean.isel(time=int(mean.values.argmin()))
        at = float(best.time), float(best)
        ax.plot(*at, color=colour, markersize=14, markeredgecolor="black", zorder=4, **star)
    ax.plot([], [], color="0.5", markersize=12, label="lowest loss", **star)
    curves.time_axis(ax, c.target_duration)
    ax.set(ylabel="target test loss", title=f"{c.title}, jointly rich")
    curves.beside(ax, "target richness")
    return figure


def caption(c: Config) -> str:
    return (
        f"{c.classes} as ±1 regression, P₁ = {c.n_source}, P₂ = {c.n_target}, {c.n_test} test "
        f"images; source stage γ₁ = {c.source_richness:g} for t₁ = {c.source_duration:g}, target "
        f"stage with a fresh head, γ₂ = {listed(c.target_richness)}, to t₂ = "
        f"{c.target_duration:g}; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The rise from the best time, chosen on the other draws, to the end."""
    richness = configuration(dataset, Config).target_richness
    mild, rich = richness[0], richness[-1]
    losses = {gamma: means(dataset, "target", richness=gamma) for gamma in (mild, rich)}
    rises = {
        gamma: [side[:, -1] / low - 1 for side, low in zip(each, at_best(*each), strict=True)]
        for gamma, each in losses.items()
    }
    more = [a - b for a, b in zip(rises[rich], rises[mild], strict=True)]
    rise = f"at γ₂ = {rich:g} the loss rises from its best time to the end"
    return (
        over_draws(rise, *rises[rich], bound=0.005),
        over_draws(f"it rises more at γ₂ = {rich:g} than at γ₂ = {mild:g}", *more),
    )
