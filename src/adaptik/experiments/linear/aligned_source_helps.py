"""Paper figure 1a: abundant source data help the more, the better the teachers are aligned."""

import xarray as xr

from ..verdict import Claim
from . import closed_forms
from .closed_forms import agreement, caption, compute, draw

__all__ = ["PRESETS", "agreement", "caption", "check", "compute", "draw"]

PRESETS = closed_forms.presets("fig1a")


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The loss falls with the alignment; an orthogonal source does nothing."""
    found = closed_forms.panel(dataset, 0)
    monotone = float(found.value.diff("alignment").max())
    none = float(abs(found.value.sel(alignment=0.0) - found.baseline.sel(alignment=0.0)).max())
    return (
        closed_forms.fall(
            "the target loss falls from alignment 0 to 1",
            found,
            {"alignment": 0.0},
            {"alignment": 1.0},
        ),
        Claim(
            "it falls with the alignment at every number of target samples (largest step)",
            monotone,
            0.0,
            bound=1e-9,
            sense=-1,
            unit="",
        ),
        Claim(
            "an orthogonal source changes nothing (largest change of the loss)",
            none,
            0.0,
            bound=1e-9,
            sense=-1,
            unit="",
        ),
    )
