"""Which time stepper is cheaper for a flow, and why."""

import math
from typing import NamedTuple

from ..deflation import COORDINATES, DIRECTIONS
from .chebyshev import Chebyshev
from .exponential import Exponential

# Samples x outputs whose matrix is decomposed in every step; beyond, its leading part is, where a
# flow knows that (flows of particles do).
EXPONENTIAL_UP_TO = 800
# Operations of a pass over one number, and of eigendecompositions in units of P^3, beside products.
# Large ones run faster: from 200 to 800 samples their time grows like P^2.
PASS, EIGH, LARGE = 27, 60, 200
# Evaluations of the flow by Chebyshev steps for one exponential step, at a tolerance of 5e-3, on
# images, where one eigenvalue holds 0.4 of K_x's trace. Their number grows as its square root.
EVALUATIONS, STIFF = 10, 0.4
CLEARLY = 1.3  # by how much Chebyshev steps must be cheaper: stiffness makes them dearer


class Chosen(NamedTuple):
    """A time stepper, and why."""

    solver: Exponential | Chebyshev
    reason: str = ""
    deflated: bool = False  # exponential steps are exact for the leading part of the kernel

    @property
    def decomposes(self) -> bool:
        """Whether steps decompose all of the kernel."""
        return isinstance(self.solver, Exponential) and not self.deflated

    @property
    def method(self) -> str:
        name = type(self.solver).__name__.lower()
        return f"{name} ({self.reason})" if self.reason else name


def stepper_for(modes: int, coordinates: int, particles: int, tol: float, leading: float) -> Chosen:
    """The cheaper time stepper for a flow of particles that knows its stiff part.

    Parameters
    ----------
    modes
        Samples times outputs: the size of what is decomposed, and of a particle's fields.
    coordinates
        Numbers that move in a particle's weights.
    particles
        Of a replicate.
    tol
        Of a step: Chebyshev steps are of order 2, exponential ones of order 3.
    leading
        Share of the largest eigenvalue in the trace of K_x: Chebyshev steps resolve it.
    """
    fields, deflated = particles * modes, modes > EXPONENTIAL_UP_TO
    exponential = fields * (28 * coordinates + 18 * PASS)
    if deflated:
        exponential += fields * 4 * DIRECTIONS * min(COORDINATES, coordinates)
    else:
        exponential += EIGH * modes**3 / max(1.0, modes / LARGE) + fields * 4 * modes
    evaluations = EVALUATIONS * max(1.0, (5e-3 / tol) ** (1 / 6))
    evaluations *= math.sqrt(min(1.0, max(0.25, leading / STIFF)))
    chebyshev = evaluations * fields * (4 * coordinates + 6 * PASS)
    ratio = exponential / chebyshev
    if ratio > CLEARLY:
        return Chosen(Chebyshev(), f"explicit steps cost about 1/{ratio:.1f} of exponential ones")
    reason = f"explicit steps would cost about {1 / ratio:.1f} times as much"
    part = "for the leading part of the kernel; " if deflated else ""
    return Chosen(Exponential(), part + reason, deflated)


def by_size(modes: int) -> Chosen:
    """The time stepper for a flow whose evaluations cost little beside decompositions."""
    reason = f"{modes} samples x outputs, exponential up to {EXPONENTIAL_UP_TO}"
    return Chosen(Exponential() if modes <= EXPONENTIAL_UP_TO else Chebyshev(), reason)
