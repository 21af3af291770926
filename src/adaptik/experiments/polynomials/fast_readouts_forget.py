"""Beyond the paper: how the readout's rate decides what a target stage forgets."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ...tasks.stages import Stage
from .. import curves
from ..both import PAPER, Accuracy, Both, named, stacked
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, ratio_over_draws, sides
from .pairs import Teachers


@dataclass(frozen=True, kw_only=True)
class Config(Teachers, Accuracy):
    """Teachers He2 -> He2, and rates.

    Attributes
    ----------
    richness
        gamma of both stages.
    source_duration
        Of the source stage; the target stage ends when it has learned its samples.
    loss_tol
        Training loss below which that is, once it hardly falls any more.
    rate
        Levels of eta in the target stage.
    """

    alignment: float = 0.8
    dimension: int = 8
    n_source: int = 200
    n_target: int = 80
    richness: float = 2.0
    source_duration: float = 100.0
    loss_tol: float = 0.05
    rate: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    draws: int = 5


PRESETS = {
    "quick": Config(),
    "full": Config(
        **PAPER, dimension=20, n_source=400, n_target=60, n_test=2000, source_duration=200.0
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_source``, ``theory_target`` (draw, rate, replicate) at the end, and networks."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the data."""
    c = decode(Config, config)
    source, target = c.pair(2, 2, c.seed + draw)
    first = Stage(source, c.richness, duration=c.source_duration)
    before = Both.run([first], c, draw, observe=[target], record=2)

    def after(rate: float) -> xr.Dataset:
        stage = Stage(target, c.richness, loss_tol=c.loss_tol, head="kept", head_rate=rate)
        both = Both.run([stage], c, draw, after=before, record=2)
        return xr.merge([named(both.final(source), "source"), named(both.final(target), "target")])

    return stacked("rate", {rate: after(rate) for rate in c.rate})


def draw(dataset: xr.Dataset) -> Figure:
    """Losses on both tasks once the target is learned, against the readout's rate."""
    c = configuration(dataset, Config)
    figure, axes = curves.panels(2, width=3.6)
    for i, (ax, what) in enumerate(zip(axes, ("source", "target"), strict=True)):
        curves.series(ax, dataset, what, **curves.look(i), label=what)
        ax.set_xscale("log")
        curves.ticks(ax, c.rate)
        ax.set(xlabel="rate of the readout η", ylabel=f"{what} test loss", title=what)
        ax.set_ylim(bottom=0)
    return figure


def caption(c: Config) -> str:
    return (
        f"Single-index teachers He2 → He2, alignment {c.alignment:g}, D = {c.dimension}, P₁ = "
        f"{c.n_source}, P₂ = {c.n_target}, {c.n_test} test samples; rich stages, γ = "
        f"{c.richness:g}: the source for t = {c.source_duration:g}, then the target with the "
        f"readout kept and its rate η = {listed(c.rate)} times that of the features, until its "
        f"training loss is at most {c.loss_tol:g} and falls by at most 1e-6 per unit time, both "
        f"in units of the labels; networks for the times of the theory; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The slowest readout against the fastest, on both tasks, once the target is learned."""
    ends = dataset["rate"].values[[0, -1]]
    claims = []
    for what, verb in (
        ("source", "forgets less than"),
        ("target", "learns the target better than"),
    ):
        slow, fast = (sides(dataset, what, rate=rate) for rate in ends)
        words = f"a readout of rate {ends[0]:g} {verb} one of rate {ends[1]:g}"
        claims.append(ratio_over_draws(words, fast, slow))
    return tuple(claims)
