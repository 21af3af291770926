"""Paper figure 1a: abundant source data help the more, the better the teachers are aligned."""

import xarray as xr

from . import linear_curves
from .linear_curves import agreement, caption, compute, draw
from .verdict import Claim

__all__ = ["PRESETS", "agreement", "caption", "check", "compute", "draw"]

PRESETS = linear_curves.presets("fig1a")


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The loss falls with the alignment; an orthogonal source does nothing."""
    found = linear_curves.panel(dataset, 0)
    monotone = float(found.value.diff("alignment").max())
    none = float(abs(found.value.sel(alignment=0.0) - found.baseline.sel(alignment=0.0)).max())
    return (
        linear_curves.fall(
            "the target loss falls from alignment 0 to 1", found, {"alignment": 0.0},
            {"alignment": 1.0},
        ),
        Claim(
            "it falls with the alignment at every number of target samples (largest step)",
            monotone, 0.0, bound=1e-9, sense=-1, unit="",
        ),
        Claim(
            "an orthogonal source changes nothing (largest change of the loss)", none, 0.0,
            bound=1e-9, sense=-1, unit="",
        ),
    )  # fmt: skip
