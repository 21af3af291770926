"""Activations phi and their derivatives, by name or from any elementwise JAX function.

Names: ``linear``, ``relu``, ``leaky_relu(slope)``, ``erf``, ``tanh``, ``sigmoid``, ``gelu``,
``silu``, ``softplus``, ``sin(a)``, ``cos(a)``, ``exp(a)``, ``hermite(k)`` and
``polynomial(c0, c1, ...)``. What is known about their Gaussian averages lives in
:mod:`adaptik.mathematics.gaussian`.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf as _erf
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from ..system import programs
from ..system.errors import InputError

Elementwise = Callable[[Float[Array, "..."]], Float[Array, "..."]]


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity phi with its derivative.

    Attributes
    ----------
    name
        Identifies the activation in messages and stored results.
    phi, derivative
        Elementwise functions on JAX arrays of any shape.
    degree
        Degree if phi is a polynomial (its Gaussian averages are then exact), else ``None``.
    family, parameters
        Which function this is where :mod:`adaptik.mathematics.gaussian` has closed forms of its
        averages; empty for any other, whatever its name.

    Examples
    --------
    >>> relu = get("relu")
    >>> float(relu(jnp.asarray(-2.0))), float(relu.derivative(jnp.asarray(3.0))), relu.has_kink
    (0.0, 1.0, True)
    """

    name: str
    phi: Elementwise
    derivative: Elementwise
    degree: int | None = None
    family: str = ""
    parameters: tuple[float, ...] = ()

    @property
    def has_kink(self) -> bool:
        """Whether phi is known to have one; it is at 0 then."""
        return self.family == "leaky_relu" and self.degree is None

    def __call__(self, h: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.phi(h)

    def __reduce__(self):
        # Functions of named activations cannot be pickled (as scikit-learn asks of estimators).
        try:
            named = _by_name(self.name.replace(" ", ""))
        except InputError:
            named = None
        if named is self:
            return _by_name, (self.name.replace(" ", ""),)
        return super().__reduce__()


def from_callable(phi: Elementwise, name: str | None = None) -> Activation:
    """Wrap an elementwise JAX function; its derivative is taken by automatic differentiation.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> swish = from_callable(lambda h: h / (1 + jnp.exp(-h)), name="swish")
    >>> float(swish.derivative(jnp.asarray(0.0)))
    0.5
    """

    def derivative(h):
        return jax.jvp(phi, (h,), (jnp.ones_like(h),))[1]

    return Activation(name or getattr(phi, "__name__", "callable"), phi, derivative)


def polynomial(*coefficients: float) -> Activation:
    """phi(h) = c0 + c1 h + c2 h^2 + ...

    Examples
    --------
    >>> float(polynomial(1.0, 0.0, 2.0)(3.0))
    19.0
    """
    if not coefficients or not all(np.isfinite(coefficients)):
        raise InputError("polynomial: give at least one finite coefficient, lowest degree first")
    ascending = tuple(float(c) for c in coefficients)
    phi, slope = _horner(ascending)
    name = f"polynomial({', '.join(map(repr, ascending))})"
    return Activation(name, phi, slope, len(ascending) - 1, "polynomial", ascending)


def hermite(degree: int) -> Activation:
    """The normalised Hermite polynomial He_k(h)/sqrt(k!), of unit variance for h ~ N(0, 1).

    Examples
    --------
    >>> round(float(hermite(2)(2.0)), 4)
    2.1213
    """
    if not 0 <= degree <= 20 or degree != int(degree):
        raise InputError(f"hermite: degree must be an integer from 0 to 20, got {degree}")
    series = np.zeros(int(degree) + 1)
    series[-1] = 1 / math.sqrt(math.factorial(int(degree)))
    phi, slope = _horner(np.polynomial.hermite_e.herme2poly(series).tolist())
    degree = int(degree)
    return Activation(f"hermite({degree})", phi, slope, degree, "hermite", (float(degree),))


def _horner(ascending: Sequence[float]) -> tuple[Elementwise, Elementwise]:
    """A polynomial and its derivative."""

    def evaluator(series):
        def evaluate(h):
            h = jnp.asarray(h)
            total = jnp.full_like(h, series[-1])
            for c in reversed(series[:-1]):
                total = total * h + c
            return total

        return evaluate

    slopes = [k * c for k, c in enumerate(ascending)][1:] or [0.0]
    return evaluator(ascending), evaluator(slopes)


def leaky_relu(slope: float = 0.01) -> Activation:
    """phi(h) = h for h > 0 and slope * h below; slope 0 is ``relu`` and -1 the absolute value.

    Examples
    --------
    >>> float(leaky_relu(-1.0)(jnp.asarray(-3.0)))
    3.0
    """
    slope = _finite("leaky_relu", "slope", slope)
    return Activation(
        f"leaky_relu({slope!r})",
        lambda h: jnp.where(h > 0, h, slope * h),
        lambda h: jnp.where(h > 0, 1, slope).astype(h.dtype),
        degree=1 if slope == 1 else None,
        family="leaky_relu",
        parameters=(slope,),
    )


def sin(frequency: float = 1.0) -> Activation:
    """phi(h) = sin(a h).

    Examples
    --------
    >>> sin(2.0).name
    'sin(2.0)'
    """
    a = _finite("sin", "frequency", frequency)
    phi, slope = (lambda h: jnp.sin(a * h)), (lambda h: a * jnp.cos(a * h))
    return Activation(f"sin({a!r})", phi, slope, None, "sin", (a,))


def cos(frequency: float = 1.0) -> Activation:
    """phi(h) = cos(a h).

    Examples
    --------
    >>> float(cos(2.0)(jnp.asarray(0.0)))
    1.0
    """
    a = _finite("cos", "frequency", frequency)
    phi, slope = (lambda h: jnp.cos(a * h)), (lambda h: -a * jnp.sin(a * h))
    return Activation(f"cos({a!r})", phi, slope, None, "cos", (a,))


def exp(rate: float = 1.0) -> Activation:
    """phi(h) = exp(a h).

    Examples
    --------
    >>> float(exp(0.5).derivative(jnp.asarray(0.0)))
    0.5
    """
    a = _finite("exp", "rate", rate)
    phi, slope = (lambda h: jnp.exp(a * h)), (lambda h: a * jnp.exp(a * h))
    return Activation(f"exp({a!r})", phi, slope, None, "exp", (a,))


def _finite(family: str, argument: str, value: float) -> float:
    if not (isinstance(value, Real) and math.isfinite(value)):
        raise InputError(f"{family}: {argument} must be a finite number, got {value!r}")
    return float(value)


def _gelu(h):
    return h * ndtr(h)


def _gelu_slope(h):
    return ndtr(h) + h * jnp.exp(-0.5 * h * h) / math.sqrt(2 * math.pi)


def _silu_slope(h):
    s = jax.nn.sigmoid(h)
    return s * (1 + h * (1 - s))


def _sigmoid_slope(h):
    s = jax.nn.sigmoid(h)
    return s * (1 - s)


def _relu_slope(h):
    return jnp.where(h > 0, 1, 0).astype(h.dtype)


def _erf_slope(h):
    return 2 / math.sqrt(math.pi) * jnp.exp(-h * h)


_NAMED = {
    a.name: a
    for a in (
        Activation("linear", lambda h: h, jnp.ones_like, 1, "polynomial", (0.0, 1.0)),
        Activation("relu", jax.nn.relu, _relu_slope, None, "leaky_relu", (0.0,)),
        Activation("erf", _erf, _erf_slope, None, "erf"),
        Activation("gelu", _gelu, _gelu_slope, None, "gelu"),
        Activation("tanh", jnp.tanh, lambda h: 1 - jnp.tanh(h) ** 2),
        Activation("sigmoid", jax.nn.sigmoid, _sigmoid_slope),
        Activation("silu", jax.nn.silu, _silu_slope),
        Activation("softplus", jax.nn.softplus, jax.nn.sigmoid),
    )
}
_FAMILIES = {
    "leaky_relu": (leaky_relu, "slope"),
    "sin": (sin, "a"),
    "cos": (cos, "a"),
    "exp": (exp, "a"),
    "hermite": (hermite, "k"),
    "polynomial": (polynomial, "c0, c1, ..."),
}
_OPTIONAL = ("leaky_relu", "sin", "cos", "exp")  # families whose parameter has a default
_CALL = re.compile(r"(\w+)\(([^()]*)\)")


def names() -> list[str]:
    """The names that :func:`get` accepts; a single parameter may be left out but for hermite.

    Examples
    --------
    >>> "relu" in names(), "hermite(k)" in names()
    (True, True)
    """
    return [*_NAMED, *(f"{family}({what})" for family, (_, what) in _FAMILIES.items())]


def get(activation: "str | Activation | Elementwise") -> Activation:
    """Resolve a name, an :class:`Activation`, or an elementwise JAX function.

    Raises
    ------
    InputError
        If the name is unknown.

    Examples
    --------
    >>> get("relu").name, get("hermite(3)").degree
    ('relu', 3)
    """
    if isinstance(activation, Activation):
        return activation
    if callable(activation):
        return from_callable(activation)
    found = _by_name(activation.replace(" ", "")) if isinstance(activation, str) else None
    if found is not None:
        return found
    raise InputError(
        f"unknown activation {activation!r}; use one of {', '.join(names())}, "
        "or pass an elementwise JAX function"
    )


REACH = 6.0  # standard deviations within which all sampled preactivations lie
NODES = 12.5  # ... of the quadrature that averages what has no closed form
TAME = ("linear", "relu", "erf", "gelu", "tanh", "sigmoid", "silu", "softplus")
TAME_FAMILIES = ("leaky_relu", "sin", "cos")  # grow no faster than their argument


def check_finite(activation: Activation, scale: float, depth: int = 1, dtype: str = "float32"):
    """Refuse an activation without finite values and slopes where networks start.

    Parameters
    ----------
    scale
        Largest standard deviation of first-layer preactivations, ``|x| / sqrt(D)``.
    depth
        Hidden layers; those of later ones follow from the layer before.
    dtype
        Precision in which it will be evaluated.

    Raises
    ------
    InputError
        If values, slopes or their squares are NaN or infinite within :data:`REACH` standard
        deviations of 0 (:data:`NODES` where quadrature averages it), or if it is no elementwise
        JAX function.

    Examples
    --------
    >>> check_finite(get("exp(3)"), 1.0)
    >>> check_finite(get("exp(3)"), 9.0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    adaptik.InputError: activation 'exp(3.0)' gives ...
    """
    known = activation.name in TAME or activation.family in TAME_FAMILIES
    if known and programs.name_of(activation.phi) and scale < 1e9:
        return
    for _ in range(depth):
        if not activation.family and activation.degree is None:  # averaged by quadrature
            _finite_within(activation, NODES, scale, "float64")
        h, values = _finite_within(activation, REACH, scale, dtype)
        weight = np.exp(-((h / scale) ** 2) / 2) if scale > 0 else np.ones_like(h)
        scale = float(np.sqrt(np.average(values.astype(float) ** 2, weights=weight)))


def _finite_within(
    activation: Activation, reach: float, scale: float, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """Preactivations up to ``reach`` standard deviations, and their finite values."""
    h = np.linspace(-reach, reach, 200) * scale  # 0 itself is never drawn
    with np.errstate(over="ignore"), jax.enable_x64(dtype == "float64"):
        values, slopes = _evaluated(activation, h.astype(dtype))
        bad = ~np.isfinite([values**2, slopes**2])
    if bad.any():
        which = int(not bad[0].any())
        at = np.flatnonzero(bad[which])[0]
        value, word = (values, slopes)[which][at], ("gives", "has the slope")[which]
        raise InputError(
            f"activation {activation.name!r} {word} {value:g} at h = {h[at]:.4g}; it and its "
            f"slope must be finite, squared too, for preactivations up to {reach:g} standard "
            f"deviations of {scale:.3g}: take another, or smaller inputs"
        )
    return h, values


def _evaluated(activation: Activation, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        pair = jax.jit(lambda h: (activation.phi(h), activation.derivative(h)))(h)
    except (TypeError, ValueError) as error:  # of NumPy or math functions, and of wrong shapes
        reason = str(error).splitlines()[0]
        raise InputError(
            f"activation {activation.name!r} is no elementwise JAX function ({reason}); write it "
            "with jax.numpy"
        ) from error
    for part in pair:
        if np.shape(part) != h.shape or not jnp.issubdtype(jnp.result_type(part), jnp.floating):
            raise InputError(
                f"activation {activation.name!r} is not elementwise: it makes {np.shape(part)} of "
                f"{jnp.result_type(part)} from {h.shape} of {h.dtype}"
            )
    values, slopes = (np.asarray(part) for part in pair)
    return values, slopes


@cache  # one object a name: compiled functions are kept by activation
def _by_name(name: str) -> Activation | None:
    found = _made(name)
    if found is not None:
        programs.name_function(found.phi, found.name)
        programs.name_function(found.derivative, f"{found.name}'")
    return found


def _made(name: str) -> Activation | None:
    if name in _NAMED:
        return _NAMED[name]
    if name in _OPTIONAL:
        return _FAMILIES[name][0]()
    call = _CALL.fullmatch(name)
    if call is None or call[1] not in _FAMILIES:
        return None
    try:
        return _FAMILIES[call[1]][0](*(float(n) for n in call[2].split(",")))
    except (ValueError, TypeError) as bad:  # InputError is a ValueError with its own cure
        raise InputError(f"activation {name!r}: {bad}") from None
