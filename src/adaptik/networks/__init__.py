"""Finite-width networks, trained: the check of the limits that shares no code with them."""

from .langevin import sample_posterior
from .mup import Member, Network, NetworkState, Term, Weights
from .train import train

__all__ = ["Member", "Network", "NetworkState", "Term", "Weights", "sample_posterior", "train"]
