"""Paper figure 3a: an easy polynomial learned first helps on a hard one."""

import xarray as xr

from . import polynomial_stages
from .polynomial_stages import caption, compute, draw
from .verdict import Claim

__all__ = ["PRESETS", "caption", "check", "compute", "draw"]

PRESETS = polynomial_stages.presets(1, 2)


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The final loss falls, and the source is forgotten."""
    return (
        polynomial_stages.gain(dataset, "pretraining lowers the final target loss"),
        polynomial_stages.forgetting(dataset),
    )
