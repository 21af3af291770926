"""Beyond the figures: readouts on a polynomial after much, little and over-rich source data."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ...tasks import hermite_pair
from ...tasks.stages import Stage
from .. import curves
from ..both import PAPER, Accuracy, Both, fine_tuned
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, ratio_over_draws, sides

SOURCES = ("none (lazy features)", "abundant", "limited", "limited, over-rich")


@dataclass(frozen=True, kw_only=True)
class Config(Accuracy):
    """Degrees, samples and richness.

    Attributes
    ----------
    degree, alignment, dimension
        Of both teachers, their overlap, and D.
    abundant, limited
        Numbers of source samples P1.
    n_target, n_test
        Values of P2 (smaller ones are subsets), test samples.
    richness, over_rich
        gamma_1, and that of the over-rich source stage.
    duration
        Of the source stage.
    """

    degree: int = 2
    alignment: float = 0.9
    dimension: int = 12
    abundant: int = 120
    limited: int = 30
    n_target: tuple[int, ...] = (4, 12, 40)
    n_test: int = 300
    richness: float = 2.0
    over_rich: float = 8.0
    duration: float = 100.0
    draws: int = 8


PRESETS = {
    "quick": Config(),
    "full": Config(
        **PAPER,
        dimension=20,
        abundant=1000,
        limited=60,
        n_target=(5, 10, 20, 50, 100, 200, 400),
        n_test=2000,
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, source, n_target, replicate) and ``network_loss``."""
    axes = {"draw": range(config.draws), "source": SOURCES}
    return cases(case, axes, config, **sweep)


def case(config: str, draw: int, source: str) -> xr.Dataset:
    """One draw of the data and one kind of source."""
    c = decode(Config, config)
    n_source = c.abundant if source == "abundant" else c.limited
    pretraining, target = hermite_pair(
        c.degree,
        c.degree,
        c.alignment,
        n_source=n_source,
        n_target=max(c.n_target),
        dimension=c.dimension,
        n_test=c.n_test,
        seed=c.seed + draw,
    )
    gamma = {SOURCES[0]: 0.0, SOURCES[3]: c.over_rich}.get(source, c.richness)
    first = Stage(pretraining, gamma, duration=c.duration)
    before = Both.run([first], c, draw, observe=[target], record=2) if gamma > 0 else None
    return fine_tuned(target, c.n_target, c, draw, after=before)


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against target samples, one curve for each kind of source."""
    c = configuration(dataset, Config)
    figure, (ax,) = curves.panels(width=6.4)
    curves.family(ax, dataset, "loss", "source", dashed=SOURCES[:1])
    curves.samples_axis(ax, c.n_target)
    ax.set_title(f"He{c.degree} → He{c.degree}, alignment {c.alignment:g}, readout")
    curves.beside(ax, "source data")
    return figure


def caption(c: Config) -> str:
    return (
        f"Single-index teachers He{c.degree} → He{c.degree}, alignment {c.alignment:g}, D = "
        f"{c.dimension}; source stage with P₁ = {c.abundant} (abundant) or {c.limited} (limited) "
        f"samples at γ₁ = {c.richness:g}, over-rich at γ₁ = {c.over_rich:g}, for "
        f"t₁ = {c.duration:g}; then a fresh readout on frozen features, P₂ = "
        f"{listed(c.n_target)}; {c.n_test} test samples; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Abundant against lazy and limited source data, and over-rich against rich."""
    few = configuration(dataset, Config).n_target[1]
    lazy, abundant, limited, over = (
        sides(dataset, "loss", source=source, n_target=few) for source in SOURCES
    )
    return (
        ratio_over_draws(f"at P₂ = {few} abundant source data lower the loss", lazy, abundant),
        ratio_over_draws("they do so more than limited source data", limited, abundant),
        ratio_over_draws(
            "an over-rich source stage on limited data raises the loss above that of a rich one "
            "(the fall is negative)",
            limited,
            over,
            sense=-1,
        ),
    )
