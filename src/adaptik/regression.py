"""What a predictor learns on a fixed Gram matrix: exact gradient flow in time. NumPy, float64.

The predictor is f(x, t) = exp(-decay t) f_0(x) + sum_mu K(x, x_mu) c_mu(t) with dual
coefficients c; for squared loss their flow is solved in the eigenbasis of K, for any other
loss by an implicit integrator. Nothing here knows where the Gram matrix came from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp
from scipy.optimize import root_scalar

from .losses import Loss
from .solution import Outcome


@dataclass(frozen=True)
class SquaredFlow:
    """Gradient flow of the squared loss on a fixed kernel, solved in closed form.

    Attributes
    ----------
    eigenvalues, eigenvectors
        Of the Gram matrix over all samples and outputs, shapes ``(n,)`` and ``(n, n)``, divided
        by the number of samples: rates of the flow. Those below ``n eps`` times the largest
        count as zero, and their dual coefficients stay zero (the ridgeless solution of least
        norm).
    labels, start
        y and f_0 in the eigenbasis, shape ``(n,)``.
    samples
        Number of samples P (``n`` is P times the number of outputs).
    decay
        Weight decay lambda.
    """

    eigenvalues: Float[np.ndarray, " n"]
    eigenvectors: Float[np.ndarray, "n n"]
    labels: Float[np.ndarray, " n"]
    start: Float[np.ndarray, " n"]
    samples: int
    decay: float = 0.0

    @classmethod
    def on(
        cls,
        gram: Float[np.ndarray, "n n"],
        labels: Float[np.ndarray, "P C"],
        start: Float[np.ndarray, "P C"],
        decay: float = 0.0,
    ) -> "SquaredFlow":
        """The flow on a symmetric Gram matrix over (sample, output) pairs, outputs fastest."""
        values, vectors = np.linalg.eigh((gram + gram.T) / 2)
        values[values < len(values) * np.finfo(float).eps * values.max()] = 0.0
        y, f = vectors.T @ labels.ravel(), vectors.T @ start.ravel()
        return cls(values / len(labels), vectors, y, f, len(labels), decay)

    def _dual_modes(self, t: float) -> np.ndarray:
        rates = self.eigenvalues
        total = rates + self.decay
        fit = np.where(total > 0, -np.expm1(-_times(total, t)) / np.where(total > 0, total, 1), 0)
        fade = math.exp(-self.decay * t) if self.decay else 1.0
        pull = fade * np.where(
            rates > 0, -np.expm1(-_times(rates, t)) / np.where(rates > 0, rates, 1), 0
        )
        return np.where(rates > 0, (self.labels * fit - self.start * pull) / self.samples, 0.0)

    def dual(self, t: float) -> Float[np.ndarray, " n"]:
        """Dual coefficients c at time ``t`` (``inf`` allowed)."""
        return self.eigenvectors @ self._dual_modes(t)

    def loss_and_rate(self, t: float) -> tuple[float, float]:
        """Mean squared error on the samples at ``t`` and its rate of decrease."""
        fade = math.exp(-self.decay * t) if self.decay else 1.0
        modes = self._dual_modes(t)
        kernel = self.eigenvalues * self.samples
        residual = self.labels - fade * self.start - kernel * modes
        motion = -self.decay * (fade * self.start + kernel * modes)
        motion = motion + kernel * residual / self.samples
        loss = float(residual @ residual) / self.samples
        return loss, 2 * float(residual @ motion) / self.samples


def _times(rates: np.ndarray, t: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.where(rates > 0, rates * t, 0.0)


class _Flow(Protocol):
    def loss_and_rate(self, t: float) -> tuple[float, float]: ...


def settling_time(
    flows: Sequence[_Flow], loss_tol: float, rate_tol: float, stall: float, horizon: float
) -> tuple[float, Outcome]:
    """When the mean loss over ``flows`` meets its tolerances, or has stalled above them.

    The stage stalls when its loss falls by less than ``stall`` per unit time.
    """

    def at(t):
        pairs = np.array([flow.loss_and_rate(t) for flow in flows])
        return pairs.mean(0)

    def excess(t):
        loss, rate = at(t)
        settled = max(loss / loss_tol if loss_tol < math.inf else 0.0, abs(rate) / rate_tol)
        return math.log(max(min(settled, abs(rate) / stall), 1e-300))

    grid = np.geomspace(1e-6, horizon, 19 * 12 + 1)
    before = 0.0
    for t in grid:
        if excess(t) <= 0:
            end = float(t) if before == 0 else _crossing(excess, before, float(t))
            while excess(end) > 0:
                end *= 1 + 1e-9
            loss, _ = at(end)
            return end, Outcome.CONVERGED if loss <= loss_tol * (1 + 1e-6) else Outcome.STALLED
        before = float(t)
    return horizon, Outcome.OUT_OF_STEPS


def _crossing(function: Callable[[float], float], low: float, high: float) -> float:
    return root_scalar(function, bracket=(low, high), method="brentq", rtol=1e-10).root


def dual_flow(
    gram: Float[np.ndarray, "n n"],
    labels: Float[np.ndarray, "P C"],
    start: Float[np.ndarray, "P C"],
    loss: Loss,
    decay: float,
    times: Float[np.ndarray, " T"],
) -> Float[np.ndarray, "T n"]:
    """Dual coefficients of gradient flow of any loss on a fixed kernel, by implicit BDF steps.

    NaN at times that the steps did not reach.
    """
    shape, samples = labels.shape, len(labels)

    def predictor(t, c):
        return (math.exp(-decay * t) * start.ravel() + gram @ c).reshape(shape)

    def slope(t, c):
        return np.asarray(loss.signal(predictor(t, c), labels)).ravel() / samples - decay * c

    def jacobian(t, c):
        root = np.asarray(loss.curvature_root(predictor(t, c), labels))
        hessian = np.einsum("pab,pcb->pac", root, root)
        rows = np.einsum("pac,pcn->pan", hessian, gram.reshape(*shape, -1)).reshape(gram.shape)
        return -rows / samples - decay * np.eye(len(c))

    # The tolerances are beyond single precision, which the loss would fall back to.
    with jax.enable_x64(True):
        done = solve_ivp(
            slope, (0.0, float(times[-1])), np.zeros(labels.size), method="BDF", t_eval=times,
            jac=jacobian, rtol=1e-7, atol=1e-10,
        )  # fmt: skip
    path = np.full((len(times), labels.size), np.nan)
    path[: done.y.shape[1]] = done.y.T
    return path
