"""Time stepping of gradient flows: the loop, and two solvers for diffrax."""

from .chebyshev import Chebyshev
from .exponential import AbstractLinearisation, Exponential, LinearisedFlow
from .flow import HORIZON, AbstractFlow, Rest, Trajectory, integrate, outcome

__all__ = [
    "HORIZON",
    "AbstractFlow",
    "AbstractLinearisation",
    "Chebyshev",
    "Exponential",
    "LinearisedFlow",
    "Rest",
    "Trajectory",
    "integrate",
    "outcome",
]
