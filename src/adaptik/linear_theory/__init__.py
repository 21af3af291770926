"""Closed forms of transfer in linear networks (theory sections 3 and 5)."""

from .depth import layer_spikes
from .free_spikes import spike_loss
from .from_data import LinearEstimate, LinearModel, estimate
from .isotropic import (
    KernelParts,
    baseline_loss,
    effective_alignment,
    kernel_parts,
    negative_transfer_boundary,
    over_rich_loss,
    spike,
    transfer_gain,
    transfer_loss,
)
from .regularised import regularised_transfer_loss
from .simulation import simulate, simulate_isotropic, simulate_spikes
from .spectral import spectral_transfer_loss
from .stopped import (
    Best,
    Stopped,
    best_source_ridge,
    best_source_time,
    stopped_source,
    stopped_transfer_loss,
)

__all__ = [
    "Best",
    "KernelParts",
    "LinearEstimate",
    "LinearModel",
    "Stopped",
    "baseline_loss",
    "best_source_ridge",
    "best_source_time",
    "effective_alignment",
    "estimate",
    "kernel_parts",
    "layer_spikes",
    "negative_transfer_boundary",
    "over_rich_loss",
    "regularised_transfer_loss",
    "simulate",
    "simulate_isotropic",
    "simulate_spikes",
    "spectral_transfer_loss",
    "spike",
    "spike_loss",
    "stopped_source",
    "stopped_transfer_loss",
    "transfer_gain",
    "transfer_loss",
]
