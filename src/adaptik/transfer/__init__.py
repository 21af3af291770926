"""The question "does pretraining help?" as one computation, and one case of it."""

from .comparison import run
from .point import transfer_point
from .study import TransferConfig, TransferStudy

__all__ = ["TransferConfig", "TransferStudy", "run", "transfer_point"]
