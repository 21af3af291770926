"""Beyond the paper: does long pretraining slow a low-rank target stage?

Found for single-index models trained online (arXiv 2602.02855), even for aligned tasks.
"""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ...tasks.low_rank import LowRank
from ...tasks.stages import Stage
from .. import curves
from ..both import PAPER, Accuracy, Both, named, stacked
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, gains_of_best, means, over_draws
from .pairs import Teachers, switched


@dataclass(frozen=True, kw_only=True)
class Config(Teachers, Accuracy):
    """Teachers, samples and times.

    Attributes
    ----------
    degree
        Of both teachers.
    richness
        gamma of both stages.
    switch
        Values of t1, increasing.
    duration
        Of the target stage: short, so that its speed counts.
    rank
        Directions r of the low-rank target stage.
    """

    degree: int = 2
    alignment: float = 0.8
    dimension: int = 8
    n_source: int = 300
    n_target: int = 100
    richness: float = 2.0
    switch: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0, 300.0)
    duration: float = 3.0
    rank: int = 2
    draws: int = 6


PRESETS = {
    "quick": Config(),
    "full": Config(
        **PAPER,
        dimension=20,
        n_source=400,
        n_target=200,
        n_test=2000,
        switch=(1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, of, switch, replicate) and ``network_loss``."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw; the source stage goes on from one switch time to the next."""
    c = decode(Config, config)
    source, target = c.pair(c.degree, c.degree, c.seed + draw)
    few = LowRank(c.rank, seed=c.seed + draw)
    ranks: dict[str, LowRank | None] = {f"rank {c.rank}": few, "all directions": None}
    found = {name: {} for name in ranks}
    for time, before in switched(source, c.richness, c.switch, c, draw, target):
        for name, rank in ranks.items():
            then = Stage(target, c.richness, duration=c.duration, head="kept", rank=rank)
            both = Both.run([then], c, draw, after=before, record=2)
            found[name][time] = named(both.final(target), "loss")
    return stacked("of", {name: stacked("switch", at) for name, at in found.items()})


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss after a short stage, against the time of the source stage."""
    c = configuration(dataset, Config)
    figure, (ax,) = curves.panels(width=6.2)
    curves.family(ax, dataset, "loss", "of")
    ax.set(xscale="log", xlabel="time of the source stage t₁")
    ax.set(ylabel=f"target test loss after t₂ = {c.duration:g}")
    ax.set_title(f"He{c.degree} → He{c.degree}, alignment {c.alignment:g}")
    ax.set_ylim(bottom=0)
    curves.beside(ax, "target stage")
    return figure


def caption(c: Config) -> str:
    return (
        f"Single-index teachers He{c.degree} → He{c.degree}, alignment {c.alignment:g}, D = "
        f"{c.dimension}, P₁ = {c.n_source}, P₂ = {c.n_target}, {c.n_test} test samples; rich "
        f"stages, γ = {c.richness:g}: the source for t₁ = {listed(c.switch)}, then the target with "
        f"its readout kept for t₂ = {c.duration:g}, along r = {c.rank} directions or all; "
        f"{c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The best source time, chosen on other draws, against the longest, for both stages."""
    low, full = (means(dataset, "loss", of=name) for name in dataset.of.values)
    longest = float(dataset.switch[-1])
    gains = gains_of_best(low, -1)
    more = [a - b for a, b in zip(gains, gains_of_best(full, -1), strict=True)]
    return (
        over_draws(f"a low-rank stage is faster after the best t₁ than after {longest:g}", *gains),
        over_draws("it loses more by long pretraining than a full stage", *more),
    )
