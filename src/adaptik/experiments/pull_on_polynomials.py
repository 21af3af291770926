"""Appendix B on polynomials: the pull needs related teachers and rich features."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ..tasks import hermite_pair
from . import curves, elastic_pull
from .finding import cases, configuration, decode
from .verdict import Claim, ratio_over_draws


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
        **elastic_pull.PAPER, alignment=(0.0, 0.5, 0.8, 0.95), dimension=12, n_source=150,
        n_target=40, n_test=2000, richness=(0.5, 1.0),
    ),
}  # fmt: skip


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, alignment, richness, elastic, replicate) and ``network_loss``."""
    axes = {
        "draw": range(config.draws), "alignment": config.alignment, "richness": config.richness
    }  # fmt: skip
    return cases(case, axes, config, **sweep)


def case(config: str, draw: int, alignment: float, richness: float) -> xr.Dataset:
    """One draw of the data at one overlap and richness."""
    c = decode(Config, config)
    source, target = hermite_pair(
        c.source_degree, c.target_degree, alignment, n_source=c.n_source, n_target=c.n_target,
        dimension=c.dimension, n_test=c.n_test, seed=c.seed + draw,
    )  # fmt: skip
    found = elastic_pull.pulled(source, [target], richness, c, draw).isel(n_target=0, drop=True)
    return found[["theory_loss", "network_loss"]]


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against the pull, a panel for every richness."""
    config = configuration(dataset, Config)
    figure, axes = curves.panels(
        len(config.richness), width=max(4.2, 6.5 / len(config.richness)), sharey=True
    )
    for ax, richness in zip(axes, config.richness, strict=True):
        for i, alignment in enumerate(config.alignment):
            one = dataset.sel(richness=richness, alignment=alignment)
            curves.series(
                ax, config.elastic, one.theory_loss, one.network_loss, **curves.look(i),
                label=f"{alignment:g}",
            )  # fmt: skip
        curves.pull_axis(ax, config.elastic)
        degrees = f"He{config.source_degree} → He{config.target_degree}"
        ax.set_title(f"{degrees}, γ = {richness:g}")
    axes[0].set_ylabel("target test loss")
    curves.beside(axes[-1], "alignment α")
    curves.note(figure)
    return figure


def caption(config: Config) -> str:
    c = config
    return (
        f"Single-index teachers He{c.source_degree} → He{c.target_degree}, overlap α = "
        f"{', '.join(f'{a:g}' for a in c.alignment)}, D = {c.dimension}, P₁ = {c.n_source}, P₂ = "
        f"{c.n_target}, {c.n_test} test samples; both stages of richness γ = "
        f"{', '.join(f'{g:g}' for g in c.richness)}, the target stage with a pull δ = "
        f"{', '.join(f'{d:g}' for d in c.elastic)} towards a sample of the source's posterior; "
        f"{c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The strongest pull against none, for related and unrelated teachers, at most richness."""
    config = configuration(dataset, Config)
    low, high, rich = config.alignment[0], config.alignment[-1], config.richness[-1]
    free, strong = config.elastic[0], config.elastic[-1]

    def loss(alignment: float, elastic: float) -> tuple[xr.DataArray, xr.DataArray]:
        at = dataset.sel(alignment=alignment, richness=rich, elastic=elastic)
        return at.theory_loss, at.network_loss

    return (
        ratio_over_draws(
            f"at γ = {rich:g} and α = {high:g} the strongest pull lowers the target loss",
            loss(high, free), loss(high, strong),
        ),
        ratio_over_draws(
            f"at α = {low:g} it does so less (fall above that at α = {high:g})",
            loss(high, strong), loss(low, strong), sense=-1,
        ),
    )  # fmt: skip
