"""Closed forms of transfer in two-layer linear networks (theory section 3)."""

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
    "negative_transfer_boundary",
    "over_rich_loss",
    "spike",
    "transfer_gain",
    "transfer_loss",
]
