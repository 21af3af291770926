"""Stages of training: one (``stage``), several tasks in one (``joint``), several in order."""

from .checks import check_elastic_flow, check_posterior, check_sequence
from .heads import in_heads
from .joint import Joint
from .stage import LOSS_TOL, RATE_TOL, TARGET_MODES, Stage, target_stage

__all__ = [
    "LOSS_TOL",
    "RATE_TOL",
    "TARGET_MODES",
    "Joint",
    "Stage",
    "check_elastic_flow",
    "check_posterior",
    "check_sequence",
    "in_heads",
    "target_stage",
]
