"""Activations phi and their derivatives, by name or from any elementwise JAX function.

Names: ``linear``, ``relu``, ``erf``, ``tanh``, ``gelu``, ``softplus``, ``hermite(k)`` and
``polynomial(c0, c1, ...)``. What is known about their Gaussian averages lives in
:mod:`adaptik.gaussian`.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf as _erf
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from .errors import InputError

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
    """

    name: str
    phi: Elementwise
    derivative: Elementwise
    degree: int | None = None

    def __call__(self, h: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.phi(h)


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
    return _polynomial(
        coefficients, f"polynomial({', '.join(repr(float(c)) for c in coefficients)})"
    )


def hermite(degree: int) -> Activation:
    """The normalised Hermite polynomial He_k(h)/sqrt(k!), of unit variance for h ~ N(0, 1).

    Examples
    --------
    >>> round(float(hermite(2)(2.0)), 4)
    2.1213
    """
    if not 0 <= degree <= 20 or degree != int(degree):
        raise InputError(f"hermite: degree must be an integer from 0 to 20, got {degree}")
    series = np.zeros(degree + 1)
    series[degree] = 1 / math.sqrt(math.factorial(degree))
    return _polynomial(np.polynomial.hermite_e.herme2poly(series).tolist(), f"hermite({degree})")


def _polynomial(coefficients: Sequence[float], name: str) -> Activation:
    ascending = tuple(float(c) for c in coefficients)
    slopes = tuple(k * c for k, c in enumerate(ascending))[1:] or (0.0,)

    def horner(series):
        def evaluate(h):
            h = jnp.asarray(h)
            total = jnp.full_like(h, series[-1])
            for c in reversed(series[:-1]):
                total = total * h + c
            return total

        return evaluate

    return Activation(name, horner(ascending), horner(slopes), degree=len(ascending) - 1)


def _gelu(h):
    return h * ndtr(h)


def _gelu_slope(h):
    return ndtr(h) + h * jnp.exp(-0.5 * h * h) / math.sqrt(2 * math.pi)


_NAMED = {
    a.name: a
    for a in (
        Activation("linear", lambda h: h, jnp.ones_like, degree=1),
        Activation("relu", jax.nn.relu, lambda h: jnp.where(h > 0, 1, 0).astype(h.dtype)),
        Activation("erf", _erf, lambda h: 2 / math.sqrt(math.pi) * jnp.exp(-h * h)),
        Activation("tanh", jnp.tanh, lambda h: 1 - jnp.tanh(h) ** 2),
        Activation("gelu", _gelu, _gelu_slope),
        Activation("softplus", jax.nn.softplus, jax.nn.sigmoid),
    )
}
_FAMILIES = {"hermite": hermite, "polynomial": polynomial}
_CALL = re.compile(r"(hermite|polynomial)\(([^()]*)\)")


def names() -> list[str]:
    """The names that :func:`get` accepts."""
    return [*_NAMED, "hermite(k)", "polynomial(c0, c1, ...)"]


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
    if activation in _NAMED:
        return _NAMED[activation]
    family = _CALL.fullmatch(activation.replace(" ", "")) if isinstance(activation, str) else None
    if family:
        try:
            numbers = [float(n) for n in family[2].split(",")]
            if family[1] == "polynomial":
                return polynomial(*numbers)
            if len(numbers) == 1 and numbers[0].is_integer():
                return hermite(int(numbers[0]))
        except ValueError as bad:
            raise InputError(f"activation {activation!r}: {bad}") from None
    raise InputError(
        f"unknown activation {activation!r}; use one of {', '.join(names())}, "
        "or pass an elementwise JAX function"
    )
