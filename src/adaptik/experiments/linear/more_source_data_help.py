"""Paper figure 1b: with limited source data the target loss falls with their number."""

import xarray as xr

from ..verdict import Claim
from . import closed_forms
from .closed_forms import agreement, caption, compute, draw

__all__ = ["PRESETS", "agreement", "caption", "check", "compute", "draw"]

PRESETS = closed_forms.presets("fig1b")


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The loss falls with the source samples; whether few of them hurt."""
    found = closed_forms.panel(dataset, 0)
    monotone = float(found.value.diff("nu_source").max())
    harm = float((found.value / found.baseline - 1).max())
    return (
        closed_forms.fall(
            "the target loss falls from ν₁ = 0.1 to ν₁ = 1",
            found,
            {"nu_source": 0.1},
            {"nu_source": 1.0},
        ),
        Claim(
            "it falls with ν₁ at every number of target samples (largest step)",
            monotone,
            0.0,
            bound=1e-9,
            sense=-1,
            unit="",
        ),
        Claim(
            "limited source data hurt somewhere with a fresh head, as summaries of the paper say "
            "(largest rise above the loss without pretraining, more than 0.1 %)",
            harm,
            0.0,
            bound=1e-3,
        ),
    )
