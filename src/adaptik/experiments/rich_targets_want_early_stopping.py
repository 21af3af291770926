"""Paper figure 4: jointly rich stages on images have an optimal stopping time."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from . import curves
from .finding import cases, configuration, decode
from .jointly_rich_images import FULL, Config, runs
from .verdict import Claim, over_draws

PRESETS = {
    "quick": Config(),
    "full": Config(
        **FULL, target_richness=(0.25, 0.5, 1.0, 2.0, 4.0, 8.0), target_duration=3000.0,
    ),
}  # fmt: skip


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_target`` (draw, richness, time, replicate) and ``network_target``."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the images."""
    c = decode(Config, config)
    found = []
    for _, target, both in runs(c, draw, record=17):
        found.append(both.over_time(target=target))
    return xr.concat(found, "richness").assign_coords(richness=list(c.target_richness))


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss over time, one curve for each richness; the best time is marked."""
    config = configuration(dataset, Config)
    figure, (ax,) = curves.panels(1, width=6.2)
    colours = curves.shades(len(config.target_richness))
    for i, (gamma, colour) in enumerate(zip(config.target_richness, colours, strict=True)):
        one = dataset.sel(richness=gamma)
        curves.series(
            ax, dataset.time.values, one.theory_target, one.network_target, color=colour,
            marker=curves.look(i)["marker"], label=f"γ₂ = {gamma:g}",
        )  # fmt: skip
        mean = one.theory_target.mean(("draw", "replicate"))
        best = int(mean.values.argmin())
        ax.plot(
            dataset.time.values[best], float(mean[best]), marker="*", color=colour, markersize=14,
            linestyle="", markeredgecolor="black", zorder=4,
        )  # fmt: skip
    ax.plot([], [], marker="*", color="0.5", markersize=12, linestyle="", label="lowest loss")
    curves.time_axis(ax, config.target_duration)
    ax.set_ylabel("target test loss")
    ax.set_title(f"{config.data} {config.source_classes} → {config.target_classes}, jointly rich")
    curves.beside(ax, "target richness")
    curves.note(figure)
    return figure


def caption(config: Config) -> str:
    c = config
    return (
        f"{c.data}, classes {c.source_classes} → {c.target_classes} as ±1 regression, P₁ = "
        f"{c.n_source}, P₂ = {c.n_target}, {c.n_test} test images; source stage γ₁ = "
        f"{c.source_richness:g} for t₁ = {c.source_duration:g}, target stage with a fresh head, "
        f"γ₂ = {', '.join(f'{g:g}' for g in c.target_richness)}, to t₂ = {c.target_duration:g}; "
        f"{c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The rise from the best time, chosen on the other draws, to the end."""
    config = configuration(dataset, Config)
    rises = {g: _rises(dataset.sel(richness=g)) for g in config.target_richness}
    mild, rich = config.target_richness[0], config.target_richness[-1]
    more = [a - b for a, b in zip(rises[rich], rises[mild], strict=True)]
    return (
        over_draws(
            f"at γ₂ = {rich:g} the loss rises from its best time to the end",
            *rises[rich], bound=0.005,
        ),
        over_draws(f"it rises more at γ₂ = {rich:g} than at γ₂ = {mild:g}", *more),
    )  # fmt: skip


def _rises(one: xr.Dataset) -> list[np.ndarray]:
    """Relative rises for every draw, at times chosen on the theory's other draws."""
    theory = one.theory_target.mean("replicate").values
    network = one.network_target.mean("seed").values
    draws = len(theory)
    others = [np.delete(theory, d, 0) if draws > 1 else theory for d in range(draws)]
    best = [int(o.mean(0).argmin()) for o in others]
    return [
        np.array([side[d, -1] / side[d, b] - 1 for d, b in enumerate(best)])
        for side in (theory, network)
    ]
