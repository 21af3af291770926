"""Infinite-width limits, one physics a file."""

from .base import Limit, Request
from .bayesian import Bayesian
from .bayesian_linear import BayesianLinear
from .collapse import collapse_richness
from .deep import Deep
from .deep_linear import DeepLinear
from .ensemble import Ensemble
from .linear import Linear
from .reveal import Reveal
from .two_layer import TwoLayer

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
