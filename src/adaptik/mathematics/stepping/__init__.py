"""Time stepping of gradient flows: the loop, and two solvers for diffrax."""

from .chebyshev import Chebyshev
from .exponential import AbstractLinearisation, Exponential, Linearised, LinearisedFlow
from .flow import HORIZON, AbstractFlow, Integration, integrate, outcome

__all__ = [
    "HORIZON",
    "AbstractFlow",
    "AbstractLinearisation",
    "Chebyshev",
    "Exponential",
    "Integration",
    "Linearised",
    "LinearisedFlow",
    "integrate",
    "outcome",
]
