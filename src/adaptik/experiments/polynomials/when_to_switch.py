"""Beyond the paper: how long should a noisy source be trained before the switch to the target?"""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ...display.plots.style import look
from ...tasks.stages import target_stage
from .. import curves
from ..both import PAPER, Accuracy, Both, named, stacked
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, gains_of_best, means, over_draws
from .pairs import Teachers, switched


@dataclass(frozen=True, kw_only=True)
class Config(Teachers, Accuracy):
    """Degrees, samples, noise, richness and switch times.

    Attributes
    ----------
    degree
        Of both teachers.
    source_noise
        Variance of the source's label noise.
    richness
        gamma_1.
    switch
        Values of t1, increasing; the first is (nearly) no source stage.
    """

    degree: int = 2
    dimension: int = 8
    source_noise: float = 1.0
    n_target: int = 20
    n_test: int = 300
    richness: float = 2.0
    switch: tuple[float, ...] = (0.1, 3.0, 10.0, 30.0, 100.0)
    draws: int = 8


PRESETS = {
    "quick": Config(),
    "full": Config(
        **PAPER,
        dimension=20,
        n_source=400,
        n_target=60,
        n_test=2000,
        switch=(0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 40.0, 70.0, 100.0, 200.0, 400.0, 1000.0),
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_target`` (draw, switch, replicate), ``theory_source`` at the switch, networks."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the data; the source stage goes on from one switch time to the next."""
    c = decode(Config, config)
    source, target = c.pair(c.degree, c.degree, c.seed + draw, source_noise=c.source_noise)
    found = {}
    for time, before in switched(source, c.richness, c.switch, c, draw, target):
        after = Both.run([target_stage(target, "readout")], c, draw, after=before, record=2)
        losses = named(before.final(source), "source"), named(after.final(target), "target")
        found[time] = xr.merge(losses)
    return stacked("switch", found)


def draw(dataset: xr.Dataset) -> Figure:
    """Final target loss and the source loss at the switch, against the switch time."""
    c = configuration(dataset, Config)
    figure, (ax,) = curves.panels(width=6.4)
    at_end = dict(label="target, at its end", linestyle="-")
    at_switch = dict(label="source, at the switch", linestyle="--")
    curves.series(ax, dataset, "target", **look(0), **at_end)
    curves.series(ax, dataset, "source", **look(1), **at_switch)
    ax.set(xscale="log", xlabel="switch time t₁", ylabel="test loss")
    ax.set_title(f"He{c.degree} → He{c.degree}, source noise σ₁² = {c.source_noise:g}")
    curves.beside(ax, "test loss")
    return figure


def caption(c: Config) -> str:
    return (
        f"Single-index teachers He{c.degree} → He{c.degree}, alignment {c.alignment:g}, D = "
        f"{c.dimension}, P₁ = {c.n_source} with label noise σ₁² = {c.source_noise:g}, P₂ = "
        f"{c.n_target}, {c.n_test} clean test samples; source stage of richness γ₁ = "
        f"{c.richness:g} for t₁ = {listed(c.switch)}, then a fresh readout on "
        f"frozen features; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The best switch time, chosen on the theory's other draws, against both ends."""
    losses = means(dataset, "target")
    shortest, longest = dataset.switch.values[[0, -1]]
    return (
        over_draws(f"the best switch time beats t₁ = {shortest:g}", *gains_of_best(losses, 0)),
        over_draws(f"it beats t₁ = {longest:g}", *gains_of_best(losses, -1)),
    )
