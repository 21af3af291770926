"""Beyond the paper: how many directions a target stage on images needs, against its richness."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ...tasks.low_rank import LowRank
from ...tasks.stages import Stage
from .. import few
from ..both import PAPER, Accuracy, Both, named, stacked
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim
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
        along = LowRank(max(1, round(share * target.dimension)), seed=c.seed + draw)
        first = Stage(source, c.source_richness, duration=c.duration)
        then = Stage(target, richness, duration=c.duration, rank=along)
        return named(Both.run([first, then], c, draw, record=2).final(target), "loss")

    found = {
        gamma: stacked("share", {s: after(gamma, s) for s in c.share})
        for gamma in c.target_richness
    }
    return stacked("target_richness", found)


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss against the share of directions, a line for each richness of the target stage."""
    title = configuration(dataset, Config).title
    label = "share of directions r/D of the target stage"
    return few.against_directions(dataset, "share", label, title)


def caption(c: Config) -> str:
    return (
        f"{c.classes} as ±1 regression; source stage of richness γ₁ = {c.source_richness:g} on "
        f"P₁ = {c.n_source} images, then a target stage with a fresh readout on P₂ = {c.n_target}, "
        f"of γ₂ = {listed(c.target_richness)}, whose first layer moves along a share r/D = "
        f"{listed(c.share)} of directions, other ones in every draw, D being the dimension that "
        f"all images span; both for t = {c.duration:g}; {c.n_test} test images; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """A fifth or less of the directions against all."""
    shares = dataset.share.values
    fifth = float(shares[shares <= 0.2].max())
    return few.costs(
        dataset, dict(share=fifth), dict(share=shares[-1]), f"{fifth:.0%} of directions"
    )
