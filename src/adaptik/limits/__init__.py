"""Infinite-width limits, one physics a file."""

from .base import Limit, Request
from .bayesian.limit import Bayesian
from .bayesian.linear import BayesianLinear
from .deep.ensemble import Ensemble
from .deep.limit import Deep
from .deep.reveal import Reveal
from .linear.deep import DeepLinear
from .linear.two_layer import Linear
from .two_layer.collapse import collapse_richness
from .two_layer.limit import TwoLayer

__all__ = [
    "Bayesian",
    "BayesianLinear",
    "Deep",
    "DeepLinear",
    "Ensemble",
    "Limit",
    "Linear",
    "Request",
    "Reveal",
    "TwoLayer",
    "collapse_richness",
]
