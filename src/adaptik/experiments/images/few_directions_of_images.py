"""Beyond the paper: how many directions a target stage on images needs, against its richness."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ...tasks.low_rank import LowRank
from ...tasks.stages import Stage
from .. import curves
from ..both import PAPER, Accuracy, Both, named, stacked
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, means, over_draws, ratio_over_draws, sides
from .pairs import Images


@dataclass(frozen=True, kw_only=True)
class Config(Images, Accuracy):
    """Images, shares of directions, richness and times.

    Attributes
    ----------
    source_richness, target_richness
        gamma_1, and levels of gamma_2.
    duration
        Of either stage.
    share
        r/D of the target stage, increasing to 1: the full stage; at least one direction.
    """

    data: str = "digits"
    source_classes: str = "3,5"
    target_classes: str = "3,8"
    n_target: int = 20
    source_richness: float = 1.0
    target_richness: tuple[float, ...] = (0.0, 2.0)
    duration: float = 30.0
    share: tuple[float, ...] = (0.01, 0.05, 0.2, 0.5, 1.0)
    draws: int = 4


PRESETS = {
    "quick": Config(),
    "full": Config(**PAPER, n_source=200, n_target=100, n_test=1000, duration=100.0),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, target_richness, share, replicate) and ``network_loss``."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the images and of the directions, which leave the span of training images."""
    c = decode(Config, config)
    source, target = c.load(c.seed + draw)

    def after(richness: float, share: float) -> xr.Dataset:
        few = LowRank(max(1, round(share * target.dimension)), seed=c.seed + draw)
        first = Stage(source, c.source_richness, duration=c.duration)
        then = Stage(target, richness, duration=c.duration, rank=few)
        return named(Both.run([first, then], c, draw, record=2).final(target), "loss")

    found = {
        gamma: stacked("share", {s: after(gamma, s) for s in c.share})
        for gamma in c.target_richness
    }
    return stacked("target_richness", found)


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss against the share of directions, a line for each richness of the target stage."""
    c = configuration(dataset, Config)
    figure, (ax,) = curves.panels(width=6.2)
    curves.family(ax, dataset, "loss", "target_richness", lambda v: f"γ₂ = {v:g}", ordered=True)
    ax.set_xscale("log")
    curves.ticks(ax, c.share)
    ax.set(xlabel="share of directions r/D of the target stage", ylabel="target test loss")
    ax.set_title(c.title)
    ax.set_ylim(bottom=0)
    curves.beside(ax, "target richness")
    return figure


def caption(c: Config) -> str:
    return (
        f"{c.classes} as ±1 regression; source stage of richness γ₁ = {c.source_richness:g} on "
        f"P₁ = {c.n_source} images, then a target stage with a fresh readout on P₂ = {c.n_target}, "
        f"of γ₂ = {listed(c.target_richness)}, whose first layer moves along a share r/D = "
        f"{listed(c.share)} of directions, other ones in every draw, D being the dimension that "
        f"all images span; both for t = {c.duration:g}; {c.n_test} test images; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """A fifth or less of the directions against all, rich and lazy."""
    shares = dataset.share.values
    few = float(shares[shares <= 0.2].max())
    lazy, rich = (dataset.isel(target_richness=end) for end in (0, -1))
    low, full = (sides(rich, "loss", share=s) for s in (few, shares[-1]))

    def excess(of: xr.Dataset) -> list[np.ndarray]:
        along, over = (means(of, "loss", share=s) for s in (few, shares[-1]))
        return [a / b - 1 for a, b in zip(along, over, strict=True)]

    more = [a - b for a, b in zip(excess(rich), excess(lazy), strict=True)]
    return (
        ratio_over_draws(
            f"at γ₂ = {float(rich.target_richness):g} all directions end below {few:.0%} of them",
            low,
            full,
        ),
        over_draws(f"{few:.0%} of them cost more, of the full stage's loss, than when lazy", *more),
    )
