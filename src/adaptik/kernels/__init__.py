"""Kernels that stay as they are: those of lazy networks, and regression on any Gram matrix."""

from . import lazy, regression

__all__ = ["lazy", "regression"]
