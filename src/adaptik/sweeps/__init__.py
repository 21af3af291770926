"""Sweeps: a function over a grid of named axes, into a store that survives crashes."""

from .grid import Grid
from .run import sweep
from .store import Store, load

__all__ = ["Grid", "Store", "load", "sweep"]
