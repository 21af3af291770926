"""Beyond the paper: how long should a noisy source be trained before the switch to the target?"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ...display.plots.style import look
from ...tasks import hermite_pair
from ...tasks.stages import Stage, target_stage
from .. import curves
from ..both import PAPER, Accuracy, Both, named, stacked
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, gains_of_best, means, over_draws


@dataclass(frozen=True, kw_only=True)
class Config(Accuracy):
    """Degrees, samples, noise, richness and switch times.

    Attributes
    ----------
    degree, alignment, dimension
        Of both teachers, their overlap, and D.
    n_source, source_noise, n_target, n_test
        Numbers of samples and the variance of the source's label noise.
    richness
        gamma_1.
    switch
        Values of t1, increasing; the first is (nearly) no source stage.
    """

    degree: int = 2
    alignment: float = 1.0
    dimension: int = 8
    n_source: int = 60
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
    source, target = hermite_pair(
        c.degree,
        c.degree,
        c.alignment,
        n_source=c.n_source,
        n_target=c.n_target,
        dimension=c.dimension,
        n_test=c.n_test,
        source_noise=c.source_noise,
        seed=c.seed + draw,
    )
    before, found = None, {}
    for time, length in zip(c.switch, np.diff((0.0, *c.switch)), strict=True):
        head: Literal["fresh", "kept"] = "fresh" if before is None else "kept"
        stage = Stage(source, c.richness, duration=float(length), head=head)
        before = Both.run([stage], c, draw, after=before, observe=[target], record=2)
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
