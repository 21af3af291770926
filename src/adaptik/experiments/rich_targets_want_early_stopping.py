"""Paper figure 4: jointly rich stages on images have an optimal stopping time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ..stages import Stage
from . import curves, image_pairs
from .both import Accuracy, Both, named
from .finding import cases, configuration, decode
from .verdict import Claim, over_draws


@dataclass(frozen=True, kw_only=True)
class Config(Accuracy):
    """Classes, samples, richness and times.

    Attributes
    ----------
    data, source_classes, target_classes, n_source, n_target, n_test
        Images of both tasks; class pairs as text.
    source_richness, target_richness
        gamma_1, and values of gamma_2.
    source_duration, target_duration
        Times of gradient flow.
    """

    data: str = "cifar10"
    source_classes: str = "1,2"
    target_classes: str = "8,9"
    n_source: int = 50
    n_target: int = 50
    n_test: int = 200
    source_richness: float = 2.0
    target_richness: tuple[float, ...] = (0.5, 2.0, 8.0)
    source_duration: float = 50.0
    target_duration: float = 100.0
    replicates: int = 3
    width: int = 1024
    draws: int = 5


PRESETS = {
    "quick": Config(),
    "full": Config(
        n_source=1000, n_target=200, n_test=2000, target_richness=(0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
        particles=8192, replicates=8, width=20_000, networks=5, draws=10, target_duration=3000.0,
    ),
}  # fmt: skip


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_target`` (draw, richness, time, replicate) and ``network_target``."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the images."""
    c = decode(Config, config)
    source, target = image_pairs.load(c, c.n_target, draw)
    first = Stage(source, c.source_richness, duration=c.source_duration)
    before = Both.run([first], c, draw, observe=[target], record=2)
    found = []
    for gamma in c.target_richness:
        last = Stage(target, gamma, duration=c.target_duration)
        both = Both.run([last], c, draw, after=before, record=17)
        kept = np.flatnonzero(both.times >= 1e-3 * c.target_duration)
        losses = named(both.losses(target), "target").assign_coords(time=both.times)
        found.append(losses.isel(time=kept))
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
