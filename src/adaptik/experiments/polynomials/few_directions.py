"""Beyond the paper: how many directions a target stage needs, against its richness."""

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
from .pairs import Teachers


@dataclass(frozen=True, kw_only=True)
class Config(Teachers, Accuracy):
    """Teachers He1 -> He2, ranks and richness.

    Attributes
    ----------
    source_richness, target_richness
        gamma_1, and levels of gamma_2.
    duration
        Of either stage.
    rank
        Directions r of the target stage, the last of them D: the full stage.
    """

    alignment: float = 0.8
    source_richness: float = 1.0
    target_richness: tuple[float, ...] = (0.0, 0.5, 2.0)
    duration: float = 60.0
    rank: tuple[int, ...] = (1, 2, 3, 6, 12)
    draws: int = 5


PRESETS = {
    "quick": Config(),
    "full": Config(
        **PAPER,
        dimension=20,
        n_source=400,
        n_target=200,
        n_test=2000,
        duration=200.0,
        rank=(1, 2, 3, 5, 10, 15, 20),
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, target_richness, rank, replicate) and ``network_loss``."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the data and of the directions."""
    c = decode(Config, config)
    source, target = c.pair(1, 2, c.seed + draw)
    first = Stage(source, c.source_richness, duration=c.duration)
    before = Both.run([first], c, draw, observe=[target], record=2)

    def after(richness: float, rank: int) -> xr.Dataset:
        along = LowRank(rank, seed=c.seed + draw)
        stage = Stage(target, richness, duration=c.duration, rank=along)
        return named(Both.run([stage], c, draw, after=before, record=2).final(target), "loss")

    found = {
        gamma: stacked("rank", {r: after(gamma, r) for r in c.rank}) for gamma in c.target_richness
    }
    return stacked("target_richness", found)


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss against the rank, a line for each richness of the target stage."""
    label = f"directions r of the target stage (D = {configuration(dataset, Config).dimension})"
    return few.against_directions(dataset, "rank", label, "He1 → He2 along few directions")


def caption(c: Config) -> str:
    return (
        f"Single-index teachers He1 → He2, alignment {c.alignment:g}, D = {c.dimension}; source "
        f"stage of richness γ₁ = {c.source_richness:g} on P₁ = {c.n_source} samples, then a target "
        f"stage with a fresh readout on P₂ = {c.n_target}, of γ₂ = {listed(c.target_richness)}, "
        f"whose first layer moves along r = {listed(c.rank)} directions, other ones in every draw; "
        f"both for t = {c.duration:g}; {c.n_test} test samples; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """A quarter of the directions against all."""
    ranks = dataset["rank"].values
    quarter = int(ranks[ranks <= ranks[-1] / 4].max())
    return few.costs(
        dataset, dict(rank=quarter), dict(rank=int(ranks[-1])), f"{quarter} directions"
    )
