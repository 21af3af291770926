"""Paper figure 3a: an easy polynomial learned first helps on a hard one."""

import xarray as xr

from ..verdict import Claim
from . import two_stages
from .two_stages import caption, compute, draw

__all__ = ["PRESETS", "caption", "check", "compute", "draw"]

PRESETS = two_stages.presets(1, 2)


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The final loss falls, and the source is forgotten."""
    return (
        two_stages.gain(dataset, "pretraining lowers the final target loss"),
        two_stages.forgetting(dataset),
    )
