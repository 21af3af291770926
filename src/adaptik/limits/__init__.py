"""Infinite-width limits, one physics a file."""

from .base import Limit, Request
from .two_layer import TwoLayer

__all__ = ["Limit", "Request", "TwoLayer"]
