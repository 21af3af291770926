"""Beyond the paper: which layers of a deep network to keep for a related task.

Layers above k and the readout are drawn anew; layers up to k stay as the source left them, or go
on training. The paper names the question as open.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ..limits import Ensemble
from ..networks import Network
from ..tasks.stages import Stage
from . import curves, image_pairs
from .both import Accuracy, Both, named
from .finding import cases, configuration, decode
from .verdict import Claim, over_draws, ratio_over_draws

WAYS = ("frozen", "trained on")


@dataclass(frozen=True, kw_only=True)
class Config(Accuracy):
    """Classes, samples, depth and richness.

    Attributes
    ----------
    data
        Data set of the images.
    source_classes, target_classes
        Two each, as text; a shared class is split between the tasks.
    n_source, n_target, n_test
        P1, P2, test samples.
    depth
        Hidden layers L.
    source_richness, target_richness, duration
        gamma_1, gamma_2, and the time of either stage.
    """

    data: str = "digits"
    source_classes: str = "0,1"
    target_classes: str = "0,9"
    n_source: int = 50
    n_target: int = 6
    n_test: int = 200
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
        particles=1024, replicates=8, width=4096, networks=5, draws=10, n_source=200, n_test=1000,
        duration=50.0,
    ),
}  # fmt: skip


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, way, kept, replicate) and ``network_loss``."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the images."""
    c = decode(Config, config)
    source, target = image_pairs.load(c, c.n_target, draw)
    first = Stage(source, c.source_richness, duration=c.duration)
    before = Both.run([first], c, draw, observe=[target], record=2)

    def after(kept: int, frozen: int) -> xr.Dataset:
        stage = Stage(
            target, c.target_richness, duration=c.duration, fresh_above=kept,
            trains="readout" if frozen == c.depth else frozen,
        )  # fmt: skip
        return named(Both.run([stage], c, draw, after=before, record=2).final(target), "loss")

    scratch, kept = after(0, 0), range(1, c.depth + 1)
    ways = [
        xr.concat([scratch, *(after(k, frozen * k) for k in kept)], "kept") for frozen in (1, 0)
    ]
    found = xr.concat(ways, "way").assign_coords(way=list(WAYS))
    return found.assign_coords(kept=list(range(c.depth + 1)))


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss against the number of layers kept."""
    config = configuration(dataset, Config)
    figure, (ax,) = curves.panels(1, width=6.4)
    for i, way in enumerate(WAYS):
        one = dataset.sel(way=way)
        curves.series(
            ax, dataset.kept.values, one.theory_loss, one.network_loss, **curves.look(i),
            label=way, linestyle="--" if i else "-",
        )  # fmt: skip
    classes = f"{config.source_classes} → {config.target_classes}"
    ax.set(
        xlabel="hidden layers kept (0: from scratch)", ylabel="target test loss",
        xticks=dataset.kept.values, title=f"{config.data} {classes}, L = {config.depth}",
    )  # fmt: skip
    curves.beside(ax, "kept layers")
    curves.note(figure)
    return figure


def caption(config: Config) -> str:
    c = config
    return (
        f"{c.data}, classes {c.source_classes} → {c.target_classes} as ±1 regression; source stage "
        f"of richness γ₁ = {c.source_richness:g} on P₁ = {c.n_source} images, then target stage of "
        f"richness γ₂ = {c.target_richness:g} on P₂ = {c.n_target}, both for t = {c.duration:g}; "
        f"layers above the kept ones and the readout drawn anew; {c.n_test} test images; "
        f"{c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """All layers kept against none; frozen ones, their best number chosen on other draws."""

    def loss(way: str, kept: int) -> tuple[xr.DataArray, xr.DataArray]:
        at = dataset.sel(way=way).isel(kept=kept)
        return at.theory_loss, at.network_loss

    frozen = dataset.sel(way="frozen").transpose("draw", "kept", ...)
    theory = frozen.theory_loss.mean("replicate").values
    network = frozen.network_loss.mean("seed").values
    draws = range(len(theory))
    best = [int(np.delete(theory, d, 0).mean(0).argmin()) for d in draws]

    def gains(end: int) -> list[np.ndarray]:
        return [
            np.array([1 - side[d, k] / side[d, end] for d, k in zip(draws, best, strict=True)])
            for side in (theory, network)
        ]

    return (
        ratio_over_draws(
            "keeping all layers, trained on, beats starting anew",
            loss("trained on", 0), loss("trained on", -1),
        ),
        over_draws("the best number of frozen layers beats none", *gains(0)),
        over_draws("it beats all", *gains(-1)),
    )  # fmt: skip
