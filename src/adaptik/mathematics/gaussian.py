"""Averages of activations over Gaussians: smoothing along one direction, and pair products.

Closed forms for linear, ReLU and leaky ReLU, erf, GELU, sin, cos, exp and polynomials of any
degree. Pair products of every other activation (tanh, softplus, SiLU, your own) are Mehler series,
see :mod:`adaptik.mathematics.mehler` for their error; smoothing takes the trapezium rule, with
errors (of tanh and of its derivative) of 5e-9 at spread 1 and 2e-6 at spread 1.4. Polynomials are
exact.

Pair products follow their input: NumPy arrays are evaluated at once by NumPy, JAX arrays can be
traced, compiled and differentiated. Derivatives with respect to k12 at parallel inputs, infinite
for the product of ReLU slopes, are 0 there.
"""

import math
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from . import mehler
from .activations import Activation, Elementwise

SMOOTHING_NODES = 32
SMOOTHING_STEP = 0.4
PARALLEL = 4  # machine epsilons between a cosine and 1 that are rounding errors


def _rule(activation: Activation) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights to smooth with: Gauss-Hermite for polynomials, which it integrates exactly.

    For other analytic functions the trapezium rule is far more accurate: its error falls
    exponentially with the distance of singularities from the real axis over the step.
    """
    if activation.degree is not None:
        x, weights = np.polynomial.hermite_e.hermegauss(activation.degree // 2 + 1)
    else:
        x = SMOOTHING_STEP * (np.arange(SMOOTHING_NODES) - (SMOOTHING_NODES - 1) / 2)
        weights = np.exp(-(x**2) / 2)
    return x, weights / weights.sum()


def _density(x):
    return jnp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _average_along(function: Elementwise, mean, spread, rule: tuple[np.ndarray, np.ndarray]):
    x, weights = rule
    total = jnp.zeros(jnp.broadcast_shapes(jnp.shape(mean), jnp.shape(spread)), mean.dtype)
    for node, weight in zip(x.tolist(), weights.tolist(), strict=True):
        total = total + weight * function(mean + node * spread)
    return total


def smoothed(
    activation: Activation, mean: Float[Array, "..."], spread: Float[Array, "..."]
) -> Float[Array, "..."]:
    """E[phi(mean + spread xi)] for xi ~ N(0, 1), broadcasting ``mean`` and ``spread`` >= 0.

    Examples
    --------
    >>> from adaptik import activations
    >>> relu = activations.get("relu")
    >>> round(float(smoothed(relu, jnp.asarray(0.0), jnp.asarray(1.0))), 5)  # 1/sqrt(2 pi)
    0.39894
    """
    match activation.family, activation.parameters:
        case "polynomial", (constant, slope):
            return constant + slope * mean + 0 * spread
        case "leaky_relu", (slope,):
            ratio = mean / jnp.maximum(spread, 1e-30)
            exact = mean * ndtr(ratio) + spread * _density(ratio)
            kinked = jnp.where(spread > 0, exact, jax.nn.relu(mean))
            return slope * mean + (1 - slope) * kinked if slope else kinked
        case "erf", _:
            return jax.scipy.special.erf(mean / jnp.sqrt(1 + 2 * spread**2))
        case "gelu", _:
            width = jnp.sqrt(1 + spread**2)
            return mean * ndtr(mean / width) + spread**2 / width * _density(mean / width)
        case "sin", (a,):
            return jnp.sin(a * mean) * jnp.exp(-0.5 * (a * spread) ** 2)
        case "cos", (a,):
            return jnp.cos(a * mean) * jnp.exp(-0.5 * (a * spread) ** 2)
        case "exp", (a,):
            return jnp.exp(a * mean + 0.5 * (a * spread) ** 2)
    return _average_along(activation.phi, mean, spread, _rule(activation))


def smoothed_derivative(
    activation: Activation, mean: Float[Array, "..."], spread: Float[Array, "..."]
) -> Float[Array, "..."]:
    """E[phi'(mean + spread xi)] for xi ~ N(0, 1); see :func:`smoothed`."""
    match activation.family, activation.parameters:
        case "polynomial", (_, slope):
            return slope + 0 * mean + 0 * spread
        case "leaky_relu", (slope,):
            step = ndtr(mean / jnp.maximum(spread, 1e-30))
            step = jnp.where(spread > 0, step, jnp.where(mean > 0, 1.0, 0.0)).astype(mean.dtype)
            return slope + (1 - slope) * step if slope else step
        case "erf", _:
            width2 = 1 + 2 * spread**2
            return 2 / jnp.sqrt(math.pi * width2) * jnp.exp(-(mean**2) / width2)
        case "gelu", _:
            width = jnp.sqrt(1 + spread**2)
            ratio = mean / width
            return ndtr(ratio) + ratio / width**2 * _density(ratio)
        case "sin", (a,):
            return a * jnp.cos(a * mean) * jnp.exp(-0.5 * (a * spread) ** 2)
        case "cos", (a,):
            return -a * jnp.sin(a * mean) * jnp.exp(-0.5 * (a * spread) ** 2)
        case "exp", (a,):
            return a * jnp.exp(a * mean + 0.5 * (a * spread) ** 2)
    return _average_along(activation.derivative, mean, spread, _rule(activation))


def product(
    activation: Activation,
    k11: Float[Array | np.ndarray, "..."],
    k12: Float[Array | np.ndarray, "..."],
    k22: Float[Array | np.ndarray, "..."],
) -> Float[Array | np.ndarray, "..."]:
    """E[phi(u) phi(v)] for centred Gaussian u, v with variances k11, k22 and covariance k12.

    The three broadcast; a Gram matrix takes variances of shapes ``(n, 1)`` and ``(1, m)``.

    Examples
    --------
    >>> from adaptik import activations
    >>> one = jnp.asarray(1.0)
    >>> float(product(activations.get("relu"), one, one, one))
    0.5
    """
    xp = _namespace(k11, k12, k22)
    match activation.family, activation.parameters:
        case (("polynomial" | "hermite"), _):
            return _polynomial_product(activation, k11, k12, k22, 0)
        case "leaky_relu", (slope,):
            scale, cosine, sine, angle = _arc_cosine(xp, k11, k12, k22)
            kinked = scale / (2 * math.pi) * (sine + (math.pi - angle) * cosine)
            return slope * k12 + (1 - slope) ** 2 * kinked if slope else kinked
        case "erf", _:
            root = xp.sqrt(_noisy_determinant(xp, 2 * k11, 2 * k12, 2 * k22))
            return 2 / math.pi * xp.arctan2(2 * k12, root)
        case "gelu", _:
            return _gelu(xp, k11, k12, k22)[0]
        case "sin", (a,):
            return _waves(xp, a, k11, k12, k22)[0]
        case "cos", (a,):
            return _waves(xp, a, k11, k12, k22)[1]
        case "exp", (a,):
            return xp.exp(a * a * (0.5 * (k11 + k22) + k12))
    return mehler.product(activation.phi, k11, k12, k22)


def derivative_product(
    activation: Activation,
    k11: Float[Array | np.ndarray, "..."],
    k12: Float[Array | np.ndarray, "..."],
    k22: Float[Array | np.ndarray, "..."],
) -> Float[Array | np.ndarray, "..."]:
    """E[phi'(u) phi'(v)], which is d E[phi(u) phi(v)]/d k12 (Price); see :func:`product`."""
    xp = _namespace(k11, k12, k22)
    match activation.family, activation.parameters:
        case (("polynomial" | "hermite"), _):
            return _polynomial_product(activation, k11, k12, k22, 1)
        case "leaky_relu", (slope,):
            overlap = (math.pi - _arc_cosine(xp, k11, k12, k22)[3]) / (2 * math.pi)
            return slope + (1 - slope) ** 2 * overlap if slope else overlap
        case "erf", _:
            root = xp.sqrt(_noisy_determinant(xp, 2 * k11, 2 * k12, 2 * k22))
            return 4 / math.pi / root
        case "gelu", _:
            return _gelu(xp, k11, k12, k22)[1]
        case "sin", (a,):
            return a * a * _waves(xp, a, k11, k12, k22)[1]
        case "cos", (a,):
            return a * a * _waves(xp, a, k11, k12, k22)[0]
        case "exp", (a,):
            return a * a * xp.exp(a * a * (0.5 * (k11 + k22) + k12))
    return mehler.product(activation.derivative, k11, k12, k22)


@dataclass(frozen=True, eq=False)
class Marginal:
    """What pair products need to know of single inputs, computed once for a whole Gram matrix.

    Attributes
    ----------
    activation
        phi.
    variance
        Of the inputs, shape ``(n,)`` or broadcastable to a block of the Gram matrix.
    value, slope
        Series of phi and phi' where there is no closed form.
    """

    activation: Activation
    variance: Float[np.ndarray, "..."]
    value: mehler.Side | None = None
    slope: mehler.Side | None = None

    @classmethod
    def of(cls, activation: Activation, variance: Float[np.ndarray, " n"]) -> "Marginal":
        if activation.family:
            return cls(activation, variance)
        sides = (mehler.side(f, variance) for f in (activation.phi, activation.derivative))
        return cls(activation, variance, *sides)

    def __getitem__(self, index) -> "Marginal":
        value, slope = (s if s is None else s[index] for s in (self.value, self.slope))
        return Marginal(self.activation, self.variance[index], value, slope)

    @property
    def second(self) -> Float[np.ndarray, "..."]:
        """E[phi(u)^2]."""
        if self.value is not None:
            return self.value.second
        found = product(self.activation, self.variance, self.variance, self.variance)
        return np.asarray(found)

    def product(self, k12: Float[np.ndarray, "..."], other: "Marginal") -> np.ndarray:
        """E[phi(u) phi(v)]."""
        if self.value is None or other.value is None:
            found = product(self.activation, self.variance, k12, other.variance)
            return np.asarray(found)
        return mehler.combine(self.activation.phi, self.value, k12, other.value)

    def derivative_product(self, k12: Float[np.ndarray, "..."], other: "Marginal") -> np.ndarray:
        """E[phi'(u) phi'(v)]."""
        if self.slope is None or other.slope is None:
            found = derivative_product(self.activation, self.variance, k12, other.variance)
            return np.asarray(found)
        return mehler.combine(self.activation.derivative, self.slope, k12, other.slope)


def _namespace(*arrays):
    return jnp if any(isinstance(a, jax.Array) for a in arrays) else np


def _scale(xp, k11, k22):
    """Whether both variances are positive, and sqrt(k11 k22) with 1 for those that are not."""
    positive1, positive2 = k11 > 0, k22 > 0
    scale = xp.sqrt(xp.where(positive1, k11, 1)) * xp.sqrt(xp.where(positive2, k22, 1))
    return positive1 & positive2, scale


def _arc_cosine(xp, k11, k12, k22):
    """sqrt(k11 k22), and cosine, sine and angle between u and v.

    Within rounding of parallel the angle is 0: the sine would be 1e-8 of noise. The inner
    ``where`` keeps gradients finite there.
    """
    positive, scale = _scale(xp, k11, k22)
    cosine = mehler.clipped(xp, xp.where(positive, k12 / scale, 0), -1, 1)
    between = xp.abs(cosine) < 1 - PARALLEL * xp.finfo(cosine.dtype).eps
    inside = xp.where(between, cosine, 0)
    sine = xp.where(between, xp.sqrt((1 - inside) * (1 + inside)), 0)
    angle = xp.where(between, xp.arccos(inside), xp.where(cosine > 0, 0, math.pi))
    return xp.where(positive, scale, 0), cosine, sine, angle.astype(cosine.dtype)


def _at_least_zero(xp, x):
    return mehler.clipped(xp, x, 0, math.inf)


def _determinant(xp, k11, k12, k22):
    """k11 k22 - k12^2 >= 0, without overflow of the rounding errors of two large numbers."""
    positive, scale = _scale(xp, k11, k22)
    return xp.where(positive, _at_least_zero(xp, (scale - k12) * (scale + k12)), 0)


def _noisy_determinant(xp, k11, k12, k22):
    """Determinant of the covariance of u, v with independent noise of variance 1 added to both."""
    return 1 + k11 + k22 + _determinant(xp, k11, k12, k22)


def _gelu(xp, k11, k12, k22):
    """E[u v Phi(u) Phi(v)] and its derivative by k12.

    Stein's identity turns it into derivatives of the orthant probability F = E[Phi(u) Phi(v)]
    with respect to the covariance.
    """
    squared = _noisy_determinant(xp, k11, k12, k22)
    root = xp.sqrt(squared)
    orthant = 0.25 + xp.arctan2(k12, root) / (2 * math.pi)
    inverse = 1 / (1 + k11) + 1 / (1 + k22)
    rest = _determinant(xp, k11, k12, k22) + k12 * k12 * inverse
    product = k12 * orthant + rest / (2 * math.pi * root)
    return product, orthant + k12 / (2 * math.pi * root) * (2 * inverse - 1 + rest / squared)


def _waves(xp, a: float, k11, k12, k22):
    """E[sin(a u) sin(a v)] and E[cos(a u) cos(a v)], from the smaller variance of u +- v."""
    sign = xp.where(k12 >= 0, 1, -1)
    overlap = sign * k12
    common = 0.5 * xp.exp(-0.5 * a * a * _at_least_zero(xp, k11 + k22 - 2 * overlap))
    faded = -2 * a * a * overlap
    return -sign * common * xp.expm1(faded), common * (1 + xp.exp(faded))


@cache
def _hermite_weights(family: str, parameters: tuple[float, ...]) -> list[list[float]]:
    """Coefficients in powers of (v - shift) of E[phi^(k)(u)]/sqrt(k!), u ~ N(0, v), for all k.

    The shift is 1 for Hermite polynomials (most coefficients then vanish identically), 0 else.
    """
    degree = int(parameters[0]) if family == "hermite" else len(parameters) - 1
    factorial = math.factorial
    rows = []
    for k in range(degree + 1):
        row = []
        for m in range((degree - k) // 2 + 1):
            odd = factorial(2 * m) // (2**m * factorial(m))  # (2m - 1)!!
            falling = factorial(2 * m + k) // factorial(2 * m)
            if family == "hermite":
                leading = falling / math.sqrt(factorial(degree)) if 2 * m + k == degree else 0.0
            else:
                leading = parameters[2 * m + k] * falling
            row.append(leading * odd / math.sqrt(factorial(k)))
        rows.append(row)
    return rows


def _polynomial_product(activation: Activation, k11, k12, k22, order: int):
    """sum_k k12^k E[phi^(k)(u)] E[phi^(k)(v)]/k!, differentiated ``order`` times by k12."""
    shift = 1.0 if activation.family == "hermite" else 0.0
    rows = _hermite_weights(activation.family, activation.parameters)

    def mean(row, variance):
        total = row[-1] + 0 * variance
        for weight in reversed(row[:-1]):
            total = total * (variance - shift) + weight
        return total

    total = 0 * (k11 + k12 + k22)
    for k in range(len(rows) - 1, order - 1, -1):
        factor = k if order else 1
        total = total * k12 + factor * mean(rows[k], k11) * mean(rows[k], k22)
    return total
