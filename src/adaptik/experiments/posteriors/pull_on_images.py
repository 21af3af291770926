"""Appendix B on images: the pull turns the kernel from scratch into the source's kernel."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ...display.plots.style import look
from .. import curves
from ..both import of_size
from ..finding import cases, configuration, decode, listed
from ..images.pairs import Images
from ..verdict import Claim, ratio_over_draws, sides
from . import elastic_pull


@dataclass(frozen=True, kw_only=True)
class Config(Images, elastic_pull.Config):
    """Images and richness.

    Attributes
    ----------
    richness
        Of both stages.
    """

    data: str = "fashion-mnist"
    n_source: int = 20
    n_target: tuple[int, ...] = (4, 12)
    n_test: int = 100
    richness: float = 1.0


PRESETS = {
    "quick": Config(),
    "full": Config(**elastic_pull.PAPER, n_source=100, n_target=(4, 10, 20, 50), n_test=1000),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """What :func:`.elastic_pull.pulled` gives, with the axis ``draw``."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the images."""
    c = decode(Config, config)
    source, target = c.load(c.seed + draw)
    targets = [of_size(target, count) for count in c.n_target]
    return elastic_pull.pulled(source, targets, c.richness, c, draw)


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against the pull, and where the kernel lies between scratch and source."""
    c = configuration(dataset, Config)
    figure, (left, right) = curves.panels(2, width=5.2)
    curves.family(left, dataset, "loss", "n_target")
    last = dataset.isel(n_target=-1)
    curves.series(right, last, "source_kernel", **look(2), label="of the source stage")
    curves.series(right, last, "scratch_kernel", **look(3), label="without a pull")
    for ax in (left, right):
        curves.pull_axis(ax, c.elastic)
    left.set(ylabel="target test loss", title=f"{c.title}, γ = {c.richness:g}")
    right.set(ylabel="cosine of centred feature kernels")
    right.set_title(f"The target's kernel, P₂ = {c.n_target[-1]}")
    curves.beside(left, "samples P₂")
    curves.beside(right, "with the kernel")
    return figure


def caption(c: Config) -> str:
    return (
        f"{c.classes} as ±1 regression; P₁ = {c.n_source}, P₂ = {listed(c.n_target)}, {c.n_test} "
        f"test images; both stages of richness γ = {c.richness:g}, {c.pull}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Which kernel the strongest pull ends at, and whether it helps at few samples."""
    c = configuration(dataset, Config)
    few, ends = c.n_target[0], (c.elastic[0], c.elastic[-1])
    last = 1 - dataset.isel(n_target=-1)[["theory_source_kernel", "network_source_kernel"]]
    apart = [sides(last, "source_kernel", elastic=delta) for delta in ends]
    losses = [sides(dataset, "loss", n_target=few, elastic=delta) for delta in ends]
    return (
        ratio_over_draws(
            f"from δ = {ends[0]:g} to {ends[1]:g} the kernel closes most of its distance to the "
            "source's (share of 1 - cosine)",
            *apart,
            bound=0.5,
        ),
        ratio_over_draws(f"at P₂ = {few} the strongest pull lowers the target loss", *losses),
    )
