"""Readout fine-tuning on image classes: target loss over target samples and source richness."""

from dataclasses import dataclass
from typing import Any

import xarray as xr

from ...tasks.stages import Stage
from ..both import PAPER, Both, fine_tuned
from ..finding import cases, decode, listed
from .architecture import Seen


@dataclass(frozen=True, kw_only=True)
class Config(Seen):
    """Images, several numbers of target samples, and richness.

    Attributes
    ----------
    richness
        Values of gamma_1; 0 is no feature learning.
    duration
        Of the source stage.
    """

    n_target: tuple[int, ...] = (4, 12, 40)
    richness: tuple[float, ...] = (0.0, 1.0, 4.0)
    duration: float = 50.0
    draws: int = 4


FULL: dict[str, Any] = dict(
    **PAPER,
    n_source=600,
    n_target=(4, 10, 20, 50, 100, 200, 500),
    n_test=2000,
    duration=500.0,
)


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, richness, n_target, replicate) and ``network_loss``."""
    axes = {"draw": range(config.draws), "richness": config.richness}
    return cases(case, axes, config, **sweep)


def case(config: str, draw: int, richness: float) -> xr.Dataset:
    """One draw of the images and one richness of the source stage."""
    c = decode(Config, config)
    source, target = c.load(c.seed + draw)
    stage = Stage(source, richness, duration=c.duration)
    before = Both.run([stage], c, draw, observe=[target], record=2) if richness > 0 else None
    return fine_tuned(target, c.n_target, c, draw, after=before)


def caption(c: Config, what: str = "a fresh readout on frozen features") -> str:
    return (
        f"{c.classes} as ±1 regression; source stage of richness γ₁ = {listed(c.richness)} on "
        f"P₁ = {c.n_source} images for t₁ = {c.duration:g}, then {what}, P₂ = "
        f"{listed(c.n_target)}; {c.n_test} test images; {c.accuracy}."
    )
