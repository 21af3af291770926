"""Paper figure 3b: a hard polynomial learned first does not help on an easy one."""

import xarray as xr

from ..verdict import Claim
from . import two_stages
from .two_stages import caption, compute, draw

__all__ = ["PRESETS", "caption", "check", "compute", "draw"]

PRESETS = two_stages.presets(5, 2)
NEGLIGIBLE = 0.1


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The final loss falls by less than 10 %, or rises."""
    gain = two_stages.gain(
        dataset,
        f"pretraining lowers the final target loss by less than {NEGLIGIBLE:.0%}",
        bound=NEGLIGIBLE,
        sense=-1,
    )
    return (gain, two_stages.forgetting(dataset))
