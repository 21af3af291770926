"""Paper figure 1c: in the over-rich limit only the overlap with the learned direction counts."""

import xarray as xr

from ..verdict import Claim
from . import closed_forms
from .closed_forms import agreement, caption, compute, draw

__all__ = ["PRESETS", "agreement", "caption", "check", "compute", "draw"]

PRESETS = closed_forms.presets("fig1c")


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The loss is one minus the squared overlap, whatever the number of target samples."""
    signal, noise = (closed_forms.panel(dataset, i) for i in (0, 1))
    return (
        closed_forms.fall(
            "the loss falls with the source samples where the teachers are aligned (α = 0.9)",
            signal,
            {"alignment": 0.9, "nu_source": 0.05},
            {"alignment": 0.9, "nu_source": 0.95},
        ),
        closed_forms.fall(
            "an aligned noise direction (α_g = 0.8) lowers the loss of few source samples",
            noise,
            {"noise_alignment": 0.0, "nu_source": 0.05},
            {"noise_alignment": 0.8, "nu_source": 0.05},
        ),
        closed_forms.fall(
            "an opposed one (α_g = -0.6) raises it at ν₁ = 0.4 (the fall is negative)",
            noise,
            {"noise_alignment": 0.0, "nu_source": 0.4},
            {"noise_alignment": -0.6, "nu_source": 0.4},
            sense=-1,
        ),
    )
