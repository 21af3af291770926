"""Appendix B on images: the pull turns the kernel from scratch into the source's kernel."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from . import curves, elastic_pull, image_pairs
from .both import of_size
from .finding import cases, configuration, decode
from .verdict import Claim, ratio_over_draws


@dataclass(frozen=True, kw_only=True)
class Config(elastic_pull.Config):
    """Classes, samples and richness.

    Attributes
    ----------
    data
        Data set of the images.
    source_classes, target_classes
        Two each, as text; a shared class is split between the tasks.
    n_source, n_target, n_test
        P1, the values of P2 (smaller ones are subsets), test samples.
    richness
        Of both stages.
    """

    data: str = "fashion-mnist"
    source_classes: str = "0,1"
    target_classes: str = "0,9"
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
    source, target = image_pairs.load(c, max(c.n_target), draw)
    targets = [of_size(target, count) for count in c.n_target]
    return elastic_pull.pulled(source, targets, c.richness, c, draw)


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against the pull, and where the kernel lies between scratch and source."""
    config = configuration(dataset, Config)
    figure, (left, right) = curves.panels(2, width=5.2)
    for i, count in enumerate(config.n_target):
        one = dataset.sel(n_target=count)
        curves.series(
            left, config.elastic, one.theory_loss, one.network_loss, **curves.look(i),
            label=f"{count}",
        )  # fmt: skip
    last = dataset.isel(n_target=-1)
    words = (("source", "of the source stage"), ("scratch", "without a pull"))
    for i, (what, label) in enumerate(words):
        curves.series(
            right, config.elastic, last[f"theory_{what}_kernel"], last[f"network_{what}_kernel"],
            **curves.look(i + 2), label=label,
        )  # fmt: skip
    for ax in (left, right):
        curves.pull_axis(ax, config.elastic)
    left.set(ylabel="target test loss", title=f"{config.data} {config.source_classes} → "
             f"{config.target_classes}, γ = {config.richness:g}")  # fmt: skip
    right.set(
        ylabel="cosine of centred feature kernels",
        title=f"The target's kernel, P₂ = {config.n_target[-1]}",
    )
    curves.beside(left, "samples P₂")
    curves.beside(right, "with the kernel")
    curves.note(figure)
    return figure


def caption(config: Config) -> str:
    c = config
    return (
        f"{c.data}, classes {c.source_classes} → {c.target_classes} as ±1 regression; P₁ = "
        f"{c.n_source}, P₂ = {', '.join(map(str, c.n_target))}, {c.n_test} test images; both "
        f"stages of richness γ = {c.richness:g}, the target stage with a pull δ = "
        f"{', '.join(f'{d:g}' for d in c.elastic)} towards a sample of the source's posterior; "
        f"{c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Which kernel the strongest pull ends at, and whether it helps at few samples."""
    config = configuration(dataset, Config)
    few, many = config.n_target[0], config.n_target[-1]
    free, strong = config.elastic[0], config.elastic[-1]

    def at(what: str, count: int, elastic: float) -> tuple[xr.DataArray, xr.DataArray]:
        one = dataset.sel(n_target=count, elastic=elastic)
        return one[f"theory_{what}"], one[f"network_{what}"]

    def apart(what: str, count: int, elastic: float) -> tuple[xr.DataArray, xr.DataArray]:
        theory, network = at(what, count, elastic)
        return 1 - theory, 1 - network

    return (
        ratio_over_draws(
            f"from δ = {free:g} to {strong:g} the kernel closes most of its distance to the "
            "source's (share of 1 - cosine)",
            apart("source_kernel", many, free), apart("source_kernel", many, strong), bound=0.5,
        ),
        ratio_over_draws(
            f"at P₂ = {few} the strongest pull lowers the target loss",
            at("loss", few, free), at("loss", few, strong),
        ),
    )  # fmt: skip
