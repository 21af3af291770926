"""Paper figure 2a: the target loss falls with the richness of the source stage."""

import xarray as xr

from ..verdict import Claim
from . import closed_forms
from .closed_forms import agreement, caption, compute, draw

__all__ = ["PRESETS", "agreement", "caption", "check", "compute", "draw"]

PRESETS = closed_forms.presets("fig2a", networks=5)


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The loss falls with richness; whether a finite richness is best with limited source data."""
    abundant, limited = (closed_forms.panel(dataset, i) for i in (0, 1))
    optimum = float((limited.value.isel(richness=-1) / limited.value.min("richness") - 1).max())
    return (
        closed_forms.fall(
            "after abundant source data the loss falls from γ₁ = 0.1 to γ₁ = 100",
            abundant,
            {"richness": 0.1},
            {"richness": 100.0},
        ),
        closed_forms.fall(
            "after limited source data (ν₁ = 0.4), too",
            limited,
            {"richness": 0.1},
            {"richness": 100.0},
        ),
        Claim(
            "with limited source data a finite γ₁ is best, as summaries of the paper say (largest "
            "rise from the minimum to γ₁ = 100, more than 0.1 %)",
            optimum,
            0.0,
            bound=1e-3,
        ),
    )
