"""Paper figure 1c: in the over-rich limit only the overlap with the learned direction counts."""

import xarray as xr

from . import linear_curves
from .linear_curves import agreement, caption, compute, draw
from .verdict import Claim

__all__ = ["PRESETS", "agreement", "caption", "check", "compute", "draw"]

PRESETS = linear_curves.presets("fig1c")


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The loss is one minus the squared overlap, whatever the number of target samples."""
    signal, noise = (linear_curves.panel(dataset, i) for i in (0, 1))
    return (
        linear_curves.fall(
            "the loss falls with the source samples where the teachers are aligned (α = 0.9)",
            signal, {"alignment": 0.9, "nu_source": 0.05}, {"alignment": 0.9, "nu_source": 0.95},
        ),
        linear_curves.fall(
            "an aligned noise direction (α_g = 0.8) lowers the loss of few source samples",
            noise, {"noise_alignment": 0.0, "nu_source": 0.05},
            {"noise_alignment": 0.8, "nu_source": 0.05},
        ),
        linear_curves.fall(
            "an opposed one (α_g = -0.6) raises it at ν₁ = 0.4 (the fall is negative)",
            noise, {"noise_alignment": 0.0, "nu_source": 0.4},
            {"noise_alignment": -0.6, "nu_source": 0.4}, sense=-1,
        ),
    )  # fmt: skip
