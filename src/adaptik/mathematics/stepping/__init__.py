"""Time stepping of gradient flows: the loop, and two solvers for diffrax."""

from .chebyshev import Chebyshev
from .exponential import AbstractLinearisation, Exponential, Linearised, LinearisedFlow, Node
from .flow import HORIZON, AbstractFlow, Integration, Progress, Rest, integrate, outcome

__all__ = [
    "HORIZON",
    "AbstractFlow",
    "AbstractLinearisation",
    "Chebyshev",
    "Exponential",
    "Integration",
    "Linearised",
    "LinearisedFlow",
    "Node",
    "Progress",
    "Rest",
    "integrate",
    "outcome",
]
