"""Paper figure 2a: the target loss falls with the richness of the source stage."""

import xarray as xr

from . import linear_curves
from .linear_curves import agreement, caption, compute, draw
from .verdict import Claim

__all__ = ["PRESETS", "agreement", "caption", "check", "compute", "draw"]

PRESETS = linear_curves.presets("fig2a", networks=5)


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The loss falls with richness; whether a finite richness is best with limited source data."""
    abundant, limited = (linear_curves.panel(dataset, i) for i in (0, 1))
    optimum = float((limited.value.isel(richness=-1) / limited.value.min("richness") - 1).max())
    return (
        linear_curves.fall(
            "after abundant source data the loss falls from γ₁ = 0.1 to γ₁ = 100", abundant,
            {"richness": 0.1}, {"richness": 100.0},
        ),
        linear_curves.fall(
            "after limited source data (ν₁ = 0.4), too", limited, {"richness": 0.1},
            {"richness": 100.0},
        ),
        Claim(
            "with limited source data a finite γ₁ is best, as summaries of the paper say (largest "
            "rise from the minimum to γ₁ = 100, more than 0.1 %)",
            optimum, 0.0, bound=1e-3,
        ),
    )  # fmt: skip
