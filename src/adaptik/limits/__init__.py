"""Infinite-width limits, one physics a file."""

from .base import AbstractLimit
from .bayesian.limit import Bayesian
from .bayesian.linear import BayesianLinear
from .convolutional.limit import Convolutional
from .deep.ensemble import Ensemble
from .deep.limit import Deep
from .deep.reveal import Reveal
from .linear.deep import DeepLinear
from .linear.two_layer import Linear
from .two_layer.collapse import collapse_richness
from .two_layer.limit import TwoLayer

Limit = AbstractLimit  # its earlier name

__all__ = [
    "AbstractLimit",
    "Bayesian",
    "BayesianLinear",
    "Convolutional",
    "Deep",
    "DeepLinear",
    "Ensemble",
    "Limit",
    "Linear",
    "Reveal",
    "TwoLayer",
    "collapse_richness",
]
