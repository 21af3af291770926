"""Appendix B on polynomials: the pull needs related teachers and rich features."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ...tasks import hermite_pair
from .. import curves
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, ratio_over_draws, sides
from . import elastic_pull


@dataclass(frozen=True, kw_only=True)
class Config(elastic_pull.Config):
    """Degrees, overlaps, samples and richness.

    Attributes
    ----------
    source_degree, target_degree, alignment, dimension
        Of the teachers, their overlaps, and D.
    n_source, n_target, n_test
        P1, P2 and test samples.
    richness
        Of both stages.
    """

    # Even and bounded: laws of ReLU neurons condense on directions that particles do not find.
    activation: str = "cos(1)"
    temperature: float = 0.1
    elastic: tuple[float, ...] = (0.0, 1.0, 10.0, 100.0)
    source_degree: int = 2
    target_degree: int = 2
    alignment: tuple[float, ...] = (0.0, 0.95)
    dimension: int = 4
    n_source: int = 30
    n_target: int = 12
    n_test: int = 300
    richness: tuple[float, ...] = (1.0,)


PRESETS = {
    "quick": Config(),
    "full": Config(
        **elastic_pull.PAPER,
        alignment=(0.0, 0.5, 0.8, 0.95),
        dimension=12,
        n_source=150,
        n_target=40,
        n_test=2000,
        richness=(0.5, 1.0),
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, alignment, richness, elastic, replicate) and ``network_loss``."""
    axes: dict[str, Any] = dict(alignment=config.alignment, richness=config.richness)
    return cases(case, {"draw": range(config.draws)} | axes, config, **sweep)


def case(config: str, draw: int, alignment: float, richness: float) -> xr.Dataset:
    """One draw of the data at one overlap and richness."""
    c = decode(Config, config)
    source, target = hermite_pair(
        c.source_degree,
        c.target_degree,
        alignment,
        n_source=c.n_source,
        n_target=c.n_target,
        dimension=c.dimension,
        n_test=c.n_test,
        seed=c.seed + draw,
    )
    found = elastic_pull.pulled(source, [target], richness, c, draw).isel(n_target=0, drop=True)
    return found[["theory_loss", "network_loss"]]


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against the pull, a panel for every richness."""
    c = configuration(dataset, Config)
    columns = len(c.richness)
    figure, axes = curves.panels(columns, width=max(4.2, 6.5 / columns), sharey=True)
    for ax, richness in zip(axes, c.richness, strict=True):
        one = dataset.sel(richness=richness)
        curves.family(ax, one, "loss", "alignment", "{:g}".format)
        curves.pull_axis(ax, c.elastic)
        ax.set_title(f"He{c.source_degree} → He{c.target_degree}, γ = {richness:g}")
    axes[0].set_ylabel("target test loss")
    curves.beside(axes[-1], "alignment α")
    return figure


def caption(c: Config) -> str:
    return (
        f"Single-index teachers He{c.source_degree} → He{c.target_degree}, overlap α = "
        f"{listed(c.alignment)}, D = {c.dimension}, P₁ = {c.n_source}, P₂ = {c.n_target}, "
        f"{c.n_test} test samples; both stages of richness γ = {listed(c.richness)}, {c.pull}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The strongest pull against none, for related and unrelated teachers, at most richness."""
    c = configuration(dataset, Config)
    low, high, rich = c.alignment[0], c.alignment[-1], c.richness[-1]
    at = dataset.sel(richness=rich)
    free, pulled = (sides(at, "loss", alignment=high, elastic=c.elastic[end]) for end in (0, -1))
    unrelated = sides(at, "loss", alignment=low, elastic=c.elastic[-1])
    return (
        ratio_over_draws(
            f"at γ = {rich:g} and α = {high:g} the strongest pull lowers the target loss",
            free,
            pulled,
        ),
        ratio_over_draws(
            f"at α = {low:g} it does so less (fall above that at α = {high:g})",
            pulled,
            unrelated,
            sense=-1,
        ),
    )
