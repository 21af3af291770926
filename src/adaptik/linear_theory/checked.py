"""Checks of arguments that work for numbers, arrays and traced values alike."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..system.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

_VARIANCE = (lambda x: (x >= 0) & (x < np.inf), "finite and >= 0 (a variance)")
_RIDGE = (lambda x: (x >= 0) & (x < np.inf), "finite and >= 0")
_COORDINATE = (lambda x: abs(x) <= 1, "between -1 and 1")
_DENSITY = (lambda x: x > 0, "above 0 (samples per input dimension)")
_SAMPLES = (lambda x: x > 0, "above 0 (a number of samples)")
# Dimensions that belong to one value of an argument; those before them broadcast.
CORES = {"coefficients": 2, "alignments": 1, "start": 1}
RULES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "alignment": _COORDINATE,
    "noise_alignment": _COORDINATE,
    "nu_source": _DENSITY,
    "nu_target": _DENSITY,
    "n_source": _SAMPLES,
    "n_target": _SAMPLES,
    "richness": (lambda x: (x >= 0) & (x < np.inf), "finite and >= 0"),
    "q": (lambda x: x >= 0, ">= 0 (squared norm of the source predictor)"),
    "source_noise": _VARIANCE,
    "target_noise": _VARIANCE,
    "ridge": _RIDGE,
    "source_ridge": _RIDGE,
    "target_ridge": _RIDGE,
    "time": (lambda x: (x > 0) & (x < np.inf), "above 0 and finite; None trains to the end"),
    "source_time": (lambda x: (x > 0) & (x < np.inf), "above 0 and finite"),
    "coefficients": (
        lambda C: _leaves_a_kernel(C),
        "symmetric with eigenvalues above -1 (I + C is that of a kernel)",
    ),
    "alignments": (
        lambda a: (a**2).sum(-1) <= 1 + 1e-6,
        "components of one unit vector, their squares summing to at most 1",
    ),
}
ARRAYS = ("source_spectrum", "target_spectrum", "source_teacher", "target_teacher")
CHOICES = {
    "finetune": ("readout", "all"),
    "head": ("fresh", "kept"),
    "scale": ("identity", "spike"),
    "depth": range(1, 9),
}


def closed_form(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a formula, broadcast its arguments and refuse values outside its domain.

    Concrete arguments are checked, computed in double precision and returned as numpy values.
    With traced arguments, under ``jax.jit`` or ``jax.grad``, values outside the domain give NaN.
    Spectra and teachers (``ARRAYS``) have dimensions of their own and do not broadcast.
    """
    signature = inspect.signature(function)
    chosen = [name for name in signature.parameters if name in CHOICES]
    compiled = jax.jit(function, static_argnames=chosen)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        for name in chosen:
            if given[name] not in CHOICES[name]:
                raise InputError(f"{name}={given[name]!r} is unknown; use one of {CHOICES[name]}")
        choices = {name: given[name] for name in chosen}
        absent = {name: None for name in given if name not in choices and given[name] is None}
        numbers = {n: given[n] for n in given if n not in choices and n not in absent}
        traced = any(isinstance(value, Tracer) for value in numbers.values())
        if traced:
            values = {name: jnp.asarray(v, float) for name, v in numbers.items()}
            _check_shapes(values)
            valid = _within_unit_length(values)
            for name, value in values.items():
                valid = valid & (RULES[name][0](value) if name in RULES else _usable(name, value))
            out = compiled(**values, **absent, **choices)
            return jax.tree.map(lambda leaf: jnp.where(valid, leaf, jnp.nan), out)
        values = checked(numbers)
        if given.get("depth", 1) > 1 and np.isfinite(values.get("nu_source", np.inf)).any():
            raise InputError(
                "nu_source must be infinite for depth > 1: with limited source data the kernels of "
                "deep networks have more than one spike; solve them with adaptik.DeepLinear"
            )
        with jax.enable_x64(True):
            out = compiled(**values, **absent, **choices)
            return jax.tree.map(lambda leaf: np.asarray(leaf)[()], out)

    return call


def checked(values: dict[str, Any]) -> dict[str, np.ndarray]:
    """Concrete arguments by name as arrays, refused where outside their domain."""
    values = {name: _numeric(name, v) for name, v in values.items()}
    _check_shapes(values)
    for name, value in values.items():
        _check_values(name, value)
    if not np.all(_within_unit_length(values)):
        raise InputError(
            "alignment**2 + noise_alignment**2 must be at most 1: both are components of one "
            "unit vector along orthogonal directions"
        )
    return values


def _numeric(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number or an array of them, got {value!r}") from None


def _check_shapes(values: dict[str, Any]) -> None:
    _check_cores({name: values[name].shape for name in CORES if name in values})
    numbers = {
        name: v.shape[: v.ndim - CORES.get(name, 0)]
        for name, v in values.items()
        if name not in ARRAYS
    }
    try:
        np.broadcast_shapes(*numbers.values())
    except ValueError as error:
        shapes = {name: shape for name, shape in numbers.items() if shape}
        raise InputError(f"shapes do not broadcast: {shapes}") from error
    dimension = values["target_spectrum"].shape[-1:] if "target_spectrum" in values else ()
    for name in ARRAYS:
        shape = values[name].shape if name in values else dimension
        allowed = (dimension, dimension * 2) if name.endswith("spectrum") else (dimension,)
        if name in values and (shape not in allowed or dimension in ((), (0,))):
            kinds = " or ".join(str(a) for a in allowed)
            raise InputError(
                f"{name} must have shape {kinds} like target_spectrum, got {shape}"
                if dimension
                else "target_spectrum must be eigenvalues (D,) or a covariance matrix (D, D)"
            )


def _check_cores(shapes: dict[str, tuple[int, ...]]) -> None:
    directions = shapes.get("coefficients", ())[-1:]
    for name, shape in shapes.items():
        count = CORES[name]
        if shape[-count:] != directions * count or directions in ((), (0,)):
            kind = "(..., k, k)" if count == 2 else "(..., k)"
            k = f" with k = {directions[0]} like coefficients" if count == 1 else ""
            raise InputError(f"{name} must have shape {kind}{k}, got {shape}")


def _check_values(name: str, value: np.ndarray) -> None:
    if name in RULES:
        wrong = ~np.asarray(RULES[name][0](value))
        if wrong.any():
            first = value[wrong][0]
            got = first.tolist() if name in CORES else f"{first:g}"
            raise InputError(f"{name} must be {RULES[name][1]}, got {got}")
    elif not np.isfinite(value).all():
        raise InputError(f"{name} must be finite; remove NaN and infinite entries")
    elif name.endswith("spectrum") and not _usable(name, value):
        if value.ndim == 1:
            found = f"a smallest of {value.min():g}, a largest of {value.max():g}"
        elif not _is_symmetric(value):
            found = "a matrix that is not symmetric"
        else:
            eigenvalues = np.linalg.eigvalsh(value)
            found = f"eigenvalues from {eigenvalues[0]:g} to {eigenvalues[-1]:g}"
        raise InputError(
            f"{name} must be eigenvalues >= 0, or a symmetric matrix with such eigenvalues, not "
            f"all 0; got {found}"
        )


def _usable(name: str, value):
    """Whether a spectrum or covariance is positive semi-definite and not 0, a teacher finite."""
    math = jnp if isinstance(value, jax.Array) else np
    finite = math.isfinite(value).all()
    if not name.endswith("spectrum"):
        return finite
    if value.ndim == 1:
        return finite & (value >= 0).all() & (value > 0).any()
    eigenvalues = math.linalg.eigvalsh(value)
    positive = eigenvalues[0] >= -1e-6 * abs(eigenvalues[-1])
    return finite & _is_symmetric(value) & positive & (eigenvalues[-1] > 0)


def _leaves_a_kernel(C):
    """Whether I + C is symmetric and positive, for every matrix of a stack."""
    math = jnp if isinstance(C, jax.Array) else np
    finite = math.all(math.isfinite(C), (-2, -1))
    C = math.where(finite[..., None, None], C, 0.0)
    skew = abs(C - C.swapaxes(-2, -1)).max((-2, -1))
    symmetric = skew <= 1e-6 * (1 + abs(C).max((-2, -1)))
    smallest = math.linalg.eigvalsh(C).min(-1)
    return finite & symmetric & (smallest > -1)


def _is_symmetric(value):
    return abs(value - value.T).max() <= 1e-6 * abs(value).max()


def _within_unit_length(values: dict[str, Any]):
    if "alignment" not in values or "noise_alignment" not in values:
        return np.True_
    return values["alignment"] ** 2 + values["noise_alignment"] ** 2 <= 1 + 1e-6
