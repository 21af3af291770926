"""Finite-width networks, trained: the check of the limits that shares no code with them."""

from .convolution import ConvolutionalNetwork
from .langevin import sample_posterior
from .mup import Member, Network, NetworkState, Term, Weights
from .train import train

__all__ = [
    "ConvolutionalNetwork",
    "Member",
    "Network",
    "NetworkState",
    "Term",
    "Weights",
    "sample_posterior",
    "train",
]
