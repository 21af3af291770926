"""Runge-Kutta-Chebyshev steps for vector fields that no compiler can see into.

The scheme of :mod:`adaptik.mathematics.stepping.chebyshev` as one of SciPy's steppers: of order 2,
stable up to h |lambda| of about 0.65 s^2 with s evaluations. Where the slowest modes of a stage are
thousands of times slower than the fastest, it saves most of the evaluations of an ordinary
explicit pair.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.integrate import DenseOutput, OdeSolver
from scipy.interpolate import CubicHermiteSpline

MAX_STAGES = 500
DAMPING = 2 / 13

Slope = Callable[[float, Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]


class StabilisedChebyshev(OdeSolver):
    """The stepper.

    Parameters
    ----------
    fun, t0, y0, t_bound
        As for SciPy's other steppers.
    atol
        Error allowed in one step, as a length of y.
    first_step
        Size of the first step.
    nudge
        Length of the change of y by which the spectral radius is measured.
    """

    def __init__(
        self,
        fun: Slope,
        t0: float,
        y0: Float[np.ndarray, " n"],
        t_bound: float,
        *,
        atol: float,
        first_step: float,
        nudge: float,
    ):
        super().__init__(fun, t0, y0, t_bound, vectorized=False)
        self.atol, self.h, self.nudge = atol, first_step, nudge
        self.f = self.fun(t0, self.y)
        self.leading = self.f / max(float(np.linalg.norm(self.f)), 1e-300)
        self.radius, self.before = 0.0, (t0, self.y, self.f)
        self.accepted = self.rejected = 0
        for _ in range(6):
            self._measure()

    def _measure(self) -> None:
        """One power iteration on the Jacobian, by differences."""
        ahead = self.fun(self.t, self.y + self.nudge * self.leading)
        image = (ahead - self.fun(self.t, self.y)) / self.nudge
        self.radius = float(np.linalg.norm(image))
        self.leading = image / max(self.radius, 1e-300)

    def _step_impl(self):
        self._measure()
        while True:
            h = min(self.h, self.t_bound - self.t, 0.65 * MAX_STAGES**2 / (1.3 * self.radius))
            if h <= 1e-14 * max(abs(self.t), 1e-8):
                return False, self.TOO_SMALL_STEP
            stages = 2 + int(math.sqrt(1 + 1.54 * h * 1.2 * self.radius))
            y = chebyshev_step(self.fun, self.t, self.y, self.f, h, stages)
            f = self.fun(self.t + h, y)
            error = float(np.linalg.norm(0.8 * (self.y - y) + 0.4 * h * (self.f + f))) / self.atol
            factor = 0.8 * max(error, 1e-10) ** (-1 / 3) if np.isfinite(error) else 0.1
            self.h = h * min(5.0, max(0.1, factor))
            if error <= 1:
                break
            self.rejected += 1
        self.accepted += 1
        self.before = (self.t, self.y, self.f)
        self.t, self.y, self.f = self.t + h, y, f
        return True, None

    def _dense_output_impl(self):
        return _Hermite(*self.before, self.t, self.y, self.f)


class _Hermite(DenseOutput):
    """The cubic through values and slopes at both ends."""

    def __init__(self, t0, y0, f0, t1, y1, f1):
        super().__init__(t0, t1)
        self.cubic = CubicHermiteSpline([t0, t1], [y0, y1], [f0, f1])

    def _call_impl(self, t):
        return self.cubic(t)


def chebyshev_step(
    fun: Slope,
    t: float,
    y0: Float[np.ndarray, " n"],
    f0: Float[np.ndarray, " n"],
    h: float,
    stages: int,
) -> Float[np.ndarray, " n"]:
    """One step of ``stages`` >= 2 evaluations (Sommeijer, Shampine & Verwer 1998).

    Examples
    --------
    >>> y = chebyshev_step(lambda t, y: -y, 0.0, np.ones(1), -np.ones(1), 0.1, 4)
    >>> abs(float(y[0]) - math.exp(-0.1)) < 1e-4
    True
    """
    w0 = 1 + DAMPING / stages**2
    T, slopes, bends = [1.0, w0], [0.0, 1.0], [0.0, 0.0]  # Chebyshev polynomials and derivatives
    for j in range(2, stages + 1):
        T.append(2 * w0 * T[-1] - T[-2])
        slopes.append(2 * T[j - 1] + 2 * w0 * slopes[-1] - slopes[-2])
        bends.append(4 * slopes[j - 1] + 2 * w0 * bends[-1] - bends[-2])
    w1 = slopes[-1] / bends[-1]
    b = [bends[max(j, 2)] / slopes[max(j, 2)] ** 2 for j in range(stages + 1)]
    times = [0.0, b[1] * w1]
    before, last = y0, y0 + b[1] * w1 * h * f0
    for j in range(2, stages + 1):
        mu, nu = 2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2]
        push = 2 * b[j] * w1 / b[j - 1]
        pull = -(1 - b[j - 1] * T[j - 1]) * push
        f = fun(t + times[-1] * h, last)
        times.append(mu * times[-1] + nu * times[-2] + push + pull)
        before, last = (
            last,
            ((1 - mu - nu) * y0 + mu * last + nu * before + push * h * f + pull * h * f0),
        )
    return last
