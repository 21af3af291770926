"""Readout fine-tuning on image classes: target loss over target samples and source richness."""

from dataclasses import dataclass
from typing import Any

import xarray as xr

from ..tasks.stages import Stage
from . import image_pairs
from .both import PAPER, Accuracy, Both, fine_tuned
from .finding import cases, decode


@dataclass(frozen=True, kw_only=True)
class Config(Accuracy):
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
        Values of gamma_1; 0 is no feature learning.
    duration
        Of the source stage.
    """

    data: str = "cifar10"
    source_classes: str = "0,1"
    target_classes: str = "0,9"
    n_source: int = 50
    n_target: tuple[int, ...] = (4, 12, 40)
    n_test: int = 200
    richness: tuple[float, ...] = (0.0, 1.0, 4.0)
    duration: float = 50.0
    draws: int = 4


FULL: dict[str, Any] = dict(
    **PAPER, n_source=600, n_target=(4, 10, 20, 50, 100, 200, 500), n_test=2000, duration=500.0,
)  # fmt: skip


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, richness, n_target, replicate) and ``network_loss``."""
    axes = {"draw": range(config.draws), "richness": config.richness}
    return cases(case, axes, config, **sweep)


def case(config: str, draw: int, richness: float) -> xr.Dataset:
    """One draw of the images and one richness of the source stage."""
    c = decode(Config, config)
    source, target = image_pairs.load(c, max(c.n_target), draw)
    stage = Stage(source, richness, duration=c.duration)
    before = Both.run([stage], c, draw, observe=[target], record=2) if richness > 0 else None
    return fine_tuned(target, c.n_target, c, draw, after=before)


def caption(config: Config) -> str:
    c = config
    return (
        f"{c.data}, classes {c.source_classes} → {c.target_classes} as ±1 regression; source "
        f"stage of richness γ₁ = {', '.join(f'{g:g}' for g in c.richness)} on P₁ = {c.n_source} "
        f"images for t₁ = {c.duration:g}, then a fresh readout on frozen features, P₂ = "
        f"{', '.join(map(str, c.n_target))}; {c.n_test} test images; {c.accuracy}."
    )


def loss(dataset: xr.Dataset, richness: float, n_target: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Losses of theory and networks at one point."""
    at = dataset.sel(richness=richness, n_target=n_target)
    return at.theory_loss, at.network_loss
