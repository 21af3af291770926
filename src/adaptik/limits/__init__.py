"""Infinite-width limits, one physics a file."""

from .base import Limit, Request
from .linear import Linear
from .two_layer import TwoLayer

__all__ = ["Limit", "Linear", "Request", "TwoLayer"]
