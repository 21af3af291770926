"""Closed forms of transfer in linear networks (theory sections 3 and 5)."""

from .depth import layer_spikes
from .isotropic import (
    baseline_loss,
    effective_alignment,
    negative_transfer_boundary,
    over_rich_loss,
    spike,
    transfer_gain,
    transfer_loss,
)

__all__ = [
    "baseline_loss",
    "effective_alignment",
    "layer_spikes",
    "negative_transfer_boundary",
    "over_rich_loss",
    "spike",
    "transfer_gain",
    "transfer_loss",
]
