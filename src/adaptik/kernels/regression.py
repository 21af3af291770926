"""What a predictor learns on a fixed Gram matrix. NumPy, float64.

:class:`GramRegression` answers for samples whose outputs share one kernel: ridge and ridgeless
regression, gradient flow in time from any predictor, Gaussian-process variances, leave-one-out
errors. :class:`SquaredFlow` and :func:`dual_flow` serve stages: weight decay, kernels that couple
outputs, other losses. With an adaptive kernel (``Solution.kernel``) this is fine-tuning in the
limit: the predictor is f(x, t) = exp(-decay t) f_0(x) + sum_mu K(x, x_mu) c_mu(t). Nothing here
knows where the Gram matrix came from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp
from scipy.optimize import root_scalar

from ..mathematics.losses import Loss, Objective
from ..solution import Outcome
from ..system.errors import InputError, require_at_least_zero

__all__ = ["GramRegression", "dual_flow", "dual_of"]


def spectral_cut(eigenvalues: Float[np.ndarray, " n"]) -> float:
    """Eigenvalues of a Gram matrix at or below n eps max|eigenvalue| are rounding errors."""
    return len(eigenvalues) * np.finfo(float).eps * float(np.abs(eigenvalues).max())


@dataclass(frozen=True, eq=False)
class GramRegression:
    """Regression with a fixed kernel, from one eigendecomposition of its Gram matrix.

    Made by :meth:`on`. The ridge enters as K + ridge I. Eigenvalues up to :func:`spectral_cut`
    count as zero: the solution has no part along them (with ridge 0 the least-norm solution), and
    time does not move it.

    Attributes
    ----------
    eigenvalues, eigenvectors
        Of the Gram matrix, ascending, shapes ``(P,)`` and ``(P, P)``; cut ones are 0.
    residual
        Labels minus the start, in the eigenbasis, shape ``(P, C)``.
    start
        f_0 on the samples, shape ``(P, C)``.
    ridge
        Of the kernel, >= 0.

    Examples
    --------
    >>> fit = GramRegression.on(2.0 * np.eye(2), np.array([1.0, -1.0]), ridge=2.0)
    >>> fit.predict(np.array([[2.0, 0.0]])).tolist()
    [[0.5]]
    >>> fit.predict(np.array([[2.0, 0.0]]), time=0.0).tolist()
    [[0.0]]
    >>> fit.dual().tolist(), fit.leave_one_out().tolist()
    ([[0.25], [-0.25]], [[1.0], [-1.0]])
    >>> fit.variance(np.array([[2.0, 0.0]]), np.array([2.0])).tolist()
    [1.0]
    """

    eigenvalues: Float[np.ndarray, " P"]
    eigenvectors: Float[np.ndarray, "P P"]
    residual: Float[np.ndarray, "P C"]
    start: Float[np.ndarray, "P C"]
    ridge: float = 0.0

    @classmethod
    def on(
        cls,
        gram: Float[np.ndarray, "P P"],
        y: Float[np.ndarray, "P C"] | Float[np.ndarray, " P"],
        *,
        ridge: float = 0.0,
        start: Float[np.ndarray, "P C"] | Float[np.ndarray, " P"] | None = None,
    ) -> "GramRegression":
        """Decompose a Gram matrix.

        Parameters
        ----------
        gram
            Symmetric positive semi-definite.
        y
            Labels; several outputs are independent regressions.
        ridge
            Added to the diagonal.
        start
            Predictor f_0 on the samples before training (a kept head); 0 by default.

        Raises
        ------
        InputError
            For shapes that do not fit, NaN or infinite entries, a matrix that is not symmetric or
            has eigenvalues clearly below zero, or a negative ridge.
        """
        gram, y = _finite_array("gram", gram), _matrix("y", y)
        if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or len(gram) == 0:
            raise InputError(f"gram must have shape (samples, samples), got {gram.shape}")
        if len(y) != len(gram):
            raise InputError(f"y has {len(y)} samples, gram {len(gram)}; they must be the same")
        f0 = np.zeros_like(y) if start is None else _matrix("start", start)
        if f0.shape != y.shape:
            raise InputError(f"start must have the shape of y, {y.shape}, got {f0.shape}")
        require_at_least_zero(ridge=ridge)
        size = np.abs(gram).max()
        if np.abs(gram - gram.T).max() > 1e-8 * size:
            raise InputError("gram is not symmetric; pass K(X, X) of the training samples")
        values, vectors = np.linalg.eigh((gram + gram.T) / 2)
        if values[0] < -1e-6 * size * len(gram):
            raise InputError(
                f"gram has an eigenvalue {values[0]:.3g} below zero; it is no kernel's Gram matrix"
            )
        values[values <= spectral_cut(values)] = 0.0
        return cls(values, vectors, vectors.T @ (y - f0), f0, float(ridge))

    def _filter(self, time: float) -> Float[np.ndarray, " P"]:
        """1/(lambda + ridge) learned up to ``time``, per mode; 0 where the kernel is blind."""
        seen = self.eigenvalues > 0
        total = np.where(seen, self.eigenvalues + self.ridge, 1.0)
        return np.where(seen, -np.expm1(-total * (time / len(total))) / total, 0.0)

    def dual(self, time: float = math.inf) -> Float[np.ndarray, "P C"]:
        """Coefficients c of f(x) = f_0(x) + sum_mu K(x, x_mu) c_mu.

        At ``time`` infinite (K + ridge)^-1 (y - f_0); before, those of gradient flow on
        sum_mu (y - f)^2/(2P) + ridge |f - f_0|_K^2/(2P) (theory section 4).
        """
        if not (isinstance(time, Real) and float(time) >= 0):
            raise InputError(f"time must be >= 0 (inf: the end of training), got {time!r}")
        return self.eigenvectors @ (self._filter(float(time))[:, None] * self.residual)

    def predict(
        self,
        cross: Float[np.ndarray, "n P"],
        *,
        time: float = math.inf,
        start: Float[np.ndarray, "n C"] | None = None,
    ) -> Float[np.ndarray, "n C"]:
        """Predictor at new inputs from their kernel with the samples.

        Parameters
        ----------
        cross
            K(x, x_mu).
        time
            Of gradient flow; infinite is (ridge or ridgeless) regression, and the posterior mean
            of a Gaussian process with noise variance ``ridge``.
        start
            f_0 at the new inputs, needed if the samples had one.
        """
        cross = self._cross(cross)
        learned = cross @ self.dual(time)
        if start is None:
            if self.start.any():
                raise InputError("start: give f_0 at the new inputs, as on the samples")
            return learned
        start = _matrix("start", start)
        if start.shape != learned.shape:
            raise InputError(f"start must have shape {learned.shape}, got {start.shape}")
        return start + learned

    def variance(
        self, cross: Float[np.ndarray, "n P"], diagonal: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Posterior variance of a Gaussian process: K(x, x) - k(x) (K + ridge)^-1 k(x)^T.

        The noise variance ``ridge`` is not included. For predictors of infinitely wide networks
        this is a heuristic: their own posterior variance is of order 1/width.
        """
        modes = self._cross(cross) @ self.eigenvectors
        diagonal = _finite_array("diagonal", diagonal)
        if diagonal.shape != (len(modes),):
            raise InputError(f"diagonal must have shape ({len(modes)},), got {diagonal.shape}")
        return np.maximum(diagonal - modes**2 @ self._filter(math.inf), 0.0)

    def leave_one_out(self) -> Float[np.ndarray, "P C"]:
        """y_mu minus the prediction at x_mu of a fit (time infinite) without sample mu.

        Valid only where kernel and start never saw the labels (readout or lazy training): a
        kernel that adapted to them has seen the sample left out; choose by refits there.
        """
        seen = self.eigenvalues > 0
        squares = self.eigenvectors**2
        inverse = np.where(seen, 1 / np.where(seen, self.eigenvalues + self.ridge, 1.0), 0.0)
        if self.ridge > 0:
            inverse = np.where(seen, inverse, 1 / self.ridge)
        leverage = squares @ inverse
        leverage = np.where(leverage > 0, leverage, 1.0)  # 0 for a sample of zero kernel, see below
        residuals = self.eigenvectors @ (inverse[:, None] * self.residual) / leverage[:, None]
        if self.ridge > 0 or seen.all():
            return residuals
        # For ridge -> 0 the blind directions dominate, of every sample that has a part along them.
        blind = squares @ ~seen
        limit = self.eigenvectors @ (~seen[:, None] * self.residual)
        some = blind > len(blind) * np.finfo(float).eps
        return np.where(some[:, None], limit / np.where(some, blind, 1.0)[:, None], residuals)

    def _cross(self, cross) -> np.ndarray:
        cross = _finite_array("cross", cross)
        if cross.ndim != 2 or cross.shape[1] != len(self.eigenvalues):
            raise InputError(
                f"cross must have shape (n, {len(self.eigenvalues)}), got {cross.shape}"
            )
        return cross


def _finite_array(name: str, values) -> np.ndarray:
    array = np.asarray(values, float)
    if not np.isfinite(array).all():
        raise InputError(f"{name} has NaN or infinite entries")
    return array


def _matrix(name: str, values) -> np.ndarray:
    array = _finite_array(name, values)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2:
        raise InputError(f"{name} must have shape (samples, outputs), got {array.shape}")
    return array


@dataclass(frozen=True)
class SquaredFlow:
    """Gradient flow of the squared loss on a fixed kernel, solved in closed form.

    Attributes
    ----------
    eigenvalues, eigenvectors
        Of the Gram matrix over all samples and outputs, shapes ``(n,)`` and ``(n, n)``, divided
        by the number of samples: rates of the flow. Those up to :func:`spectral_cut` count as
        zero, and their dual coefficients stay zero (the ridgeless solution of least
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
        values[values <= spectral_cut(values)] = 0.0
        y, f = vectors.T @ labels.ravel(), vectors.T @ start.ravel()
        return cls(values / len(labels), vectors, y, f, len(labels), decay)

    def _fade(self, t: Float[np.ndarray, "*T"]) -> Float[np.ndarray, "*T 1"]:
        return np.exp(-self.decay * t)[..., None] if self.decay else np.ones((*t.shape, 1))

    def _dual_modes(self, t: Float[np.ndarray, "*T"]) -> Float[np.ndarray, "*T n"]:
        rates = self.eigenvalues
        total = rates + self.decay
        fit = np.where(total > 0, -np.expm1(-_times(total, t)) / np.where(total > 0, total, 1), 0)
        pull = self._fade(t) * np.where(
            rates > 0, -np.expm1(-_times(rates, t)) / np.where(rates > 0, rates, 1), 0
        )
        return np.where(rates > 0, (self.labels * fit - self.start * pull) / self.samples, 0.0)

    def dual(self, t: float) -> Float[np.ndarray, " n"]:
        """Dual coefficients c at time ``t`` (``inf`` allowed)."""
        return self.eigenvectors @ self._dual_modes(np.asarray(t))

    # jaxtyping does not take NumPy's ArrayLike, a type alias since 2.5.
    def loss_and_rate(
        self, t: ArrayLike
    ) -> tuple[Float[np.ndarray, "*T"], Float[np.ndarray, "*T"]]:
        """Mean squared error on the samples at times ``t`` and its rates of decrease."""
        residual, motion = self._residual_and_motion(t)
        loss, rate = np.sum(residual**2, -1), 2 * np.sum(residual * motion, -1)
        return loss / self.samples, rate / self.samples

    def _residual_and_motion(self, t: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """y - f and df/dt in the eigenbasis, shape ``(*T, n)``."""
        t = np.asarray(t)
        held = self._fade(t) * self.start + self.eigenvalues * self.samples * self._dual_modes(t)
        residual = self.labels - held
        return residual, self.eigenvalues * residual - self.decay * held

    def parts(self, t: ArrayLike) -> Float[np.ndarray, "2 *T C"]:
        """As :meth:`loss_and_rate`, for every output."""
        if len(self.labels) == self.samples:
            return np.stack(self.loss_and_rate(t))[..., None]
        residual, motion = (
            (modes @ self.eigenvectors.T).reshape(*modes.shape[:-1], self.samples, -1)
            for modes in self._residual_and_motion(t)
        )
        return np.stack([np.mean(residual**2, axis=-2), 2 * np.mean(residual * motion, axis=-2)])


def _times(rates: np.ndarray, t: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.where(rates > 0, rates * t[..., None], 0.0)


@dataclass(frozen=True)
class Relative:
    """Flows as convergence is judged: by the output that has most left to learn, in its unit.

    Attributes
    ----------
    members
        For each member its flows, together of all outputs.
    units
        Mean square of the labels of every output (:meth:`adaptik.mathematics.losses.Loss.units`).
    """

    members: Sequence[Sequence[SquaredFlow]]
    units: Float[np.ndarray, " C"]

    def loss_and_rate(self, t: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """The largest of each over outputs, of means over members."""
        parts = [np.concatenate([f.parts(t) for f in flows], axis=-1) for flows in self.members]
        loss, rate = np.abs(np.mean(parts, axis=0) / self.units).max(-1)
        return loss, rate


def settling_time(
    flows: Sequence[SquaredFlow | Relative],
    loss_tol: float,
    rate_tol: float,
    stall: float,
    horizon: float,
) -> tuple[float, Outcome]:
    """When the mean loss over ``flows`` meets its tolerances, or has stalled above them.

    The stage stalls when its loss falls by less than ``stall`` per unit time.
    """

    def at(t):
        return np.mean([flow.loss_and_rate(t) for flow in flows], axis=0)

    def excess(t):
        loss, rate = at(t)
        settled = np.abs(rate) / rate_tol
        if loss_tol < math.inf:
            settled = np.maximum(settled, loss / loss_tol)
        return np.log(np.maximum(np.minimum(settled, np.abs(rate) / stall), 1e-300))

    grid = np.geomspace(1e-6, horizon, 19 * 12 + 1)
    met = np.flatnonzero(excess(grid) <= 0)
    if len(met) == 0:
        return horizon, Outcome.OUT_OF_STEPS
    first = met[0]
    end = float(grid[0])
    if first > 0:
        bracket = grid[first - 1], grid[first]
        end = root_scalar(excess, bracket=bracket, method="brentq", rtol=1e-10).root
    while excess(end) > 0:
        end *= 1 + 1e-9
    loss, _ = at(end)
    return end, Outcome.CONVERGED if loss <= loss_tol * (1 + 1e-6) else Outcome.STALLED


def dual_flow(
    gram: Float[np.ndarray, "n n"],
    labels: Float[np.ndarray, "P C"],
    start: Float[np.ndarray, "P C"],
    loss: Loss | Objective,
    decay: float,
    times: Float[np.ndarray, " T"],
) -> Float[np.ndarray, "T n"]:
    """Dual coefficients of gradient flow of any loss on a fixed kernel, by implicit BDF steps.

    NaN at times that the steps did not reach.

    Examples
    --------
    >>> from adaptik.mathematics.losses import LOGISTIC
    >>> labels = np.array([[1.0], [-1.0]])
    >>> times = np.array([0.0, 1.0])
    >>> path = dual_flow(np.eye(2), labels, np.zeros((2, 1)), LOGISTIC, 0.0, times)
    >>> path.round(2).tolist()  # the slope is 1/4 at first: half of it a sample, half a label
    [[0.0, 0.0], [0.24, -0.24]]
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
    # BDF subtracts from memory that it has not set yet, and never uses what that gives.
    with jax.enable_x64(True), np.errstate(invalid="ignore", over="ignore"):
        done = solve_ivp(
            slope,
            (0.0, float(times[-1])),
            np.zeros(labels.size),
            method="BDF",
            t_eval=times,
            jac=jacobian,
            rtol=1e-7,
            atol=1e-10,
        )
    path = np.full((len(times), labels.size), np.nan)
    path[: done.y.shape[1]] = done.y.T
    return path


def dual_of(
    phi: Float[np.ndarray, "M P"],
    weights: Float[np.ndarray, " M"],
    y: Float[np.ndarray, "P C"],
    ridge: float,
) -> Float[np.ndarray, "P C"]:
    """Dual coefficients (Phi + ridge)^-1 y on the kernel Phi of weighted features.

    Examples
    --------
    >>> dual_of(np.ones((2, 1)), np.array([0.5, 0.5]), np.array([[3.0]]), ridge=0.5)
    array([[2.]])
    """
    gram = (phi.T * weights) @ phi
    return np.linalg.solve(gram + ridge * np.eye(len(y)), y)
