"""Beyond the paper: which layers of a deep network to keep for a related task.

Layers above k and the readout are drawn anew; layers up to k stay as the source left them, or go
on training. The paper names the question as open.
"""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ...limits import Ensemble
from ...networks import Network
from ...tasks.stages import Stage
from .. import curves
from ..both import Accuracy, Both, named, stacked
from ..finding import cases, configuration, decode
from ..verdict import Claim, gains_of_best, means, over_draws, ratio_over_draws, sides
from .pairs import Images

WAYS = ("frozen", "trained on")


@dataclass(frozen=True, kw_only=True)
class Config(Images, Accuracy):
    """Images, depth and richness.

    Attributes
    ----------
    depth
        Hidden layers L.
    source_richness, target_richness, duration
        gamma_1, gamma_2, and the time of either stage.
    """

    data: str = "digits"
    n_target: int = 6
    depth: int = 3
    source_richness: float = 2.0
    target_richness: float = 1.0
    duration: float = 10.0
    particles: int = 192
    width: int = 384
    draws: int = 4
    seed: int = 10

    @property
    def limit(self) -> Ensemble:
        return Ensemble(
            self.depth, self.activation, width=self.particles, replicates=self.replicates, tol=3e-3
        )

    @property
    def network(self) -> Network:
        return Network(self.width, self.activation, self.depth, tol=3e-3)

    @property
    def accuracy(self) -> str:
        return (
            f"{self.activation} networks with {self.depth} hidden layers; theory: "
            f"{self.replicates} replicates of dense ensembles of width {self.particles}; networks: "
            f"width {self.width}, {self.networks} for each of {self.draws} draws of the data; "
            f"seed {self.seed}"
        )


PRESETS = {
    "quick": Config(),
    "full": Config(
        particles=1024,
        replicates=8,
        width=4096,
        networks=5,
        draws=10,
        n_source=200,
        n_test=1000,
        duration=50.0,
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, way, kept, replicate) and ``network_loss``."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the images."""
    c = decode(Config, config)
    source, target = c.load(c.seed + draw)
    first = Stage(source, c.source_richness, duration=c.duration)
    before = Both.run([first], c, draw, observe=[target], record=2)

    def after(kept: int, frozen: int) -> xr.Dataset:
        stage = Stage(
            target,
            c.target_richness,
            duration=c.duration,
            fresh_above=kept,
            trains="readout" if frozen == c.depth else frozen,
        )
        return named(Both.run([stage], c, draw, after=before, record=2).final(target), "loss")

    scratch, kept = after(0, 0), range(1, c.depth + 1)
    frozen = stacked("kept", {0: scratch} | {k: after(k, k) for k in kept})
    trained = stacked("kept", {0: scratch} | {k: after(k, 0) for k in kept})
    return stacked("way", dict(zip(WAYS, (frozen, trained), strict=True)))


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss against the number of layers kept."""
    c = configuration(dataset, Config)
    figure, (ax,) = curves.panels(width=6.4)
    curves.family(ax, dataset, "loss", "way", dashed=WAYS[1:])
    ax.set(xlabel="hidden layers kept (0: from scratch)", ylabel="target test loss")
    ax.set(xticks=dataset.kept.values, title=f"{c.title}, L = {c.depth}")
    curves.beside(ax, "kept layers")
    return figure


def caption(c: Config) -> str:
    return (
        f"{c.classes} as ±1 regression; source stage of richness γ₁ = {c.source_richness:g} on "
        f"P₁ = {c.n_source} images, then target stage of richness γ₂ = {c.target_richness:g} on "
        f"P₂ = {c.n_target}, both for t = {c.duration:g}; layers above the kept ones and the "
        f"readout drawn anew; {c.n_test} test images; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """All layers kept against none; frozen ones, their best number chosen on other draws."""
    trained = dataset.sel(way="trained on")
    none, all_ = (sides(trained.isel(kept=end), "loss") for end in (0, -1))
    frozen = means(dataset, "loss", way="frozen")
    statement = "keeping all layers, trained on, beats starting anew"
    return (
        ratio_over_draws(statement, none, all_),
        over_draws("the best number of frozen layers beats none", *gains_of_best(frozen, 0)),
        over_draws("it beats all", *gains_of_best(frozen, -1)),
    )
