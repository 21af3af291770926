"""Checks of arguments that work for numbers, arrays and traced values alike."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

RULES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "alignment": (lambda x: abs(x) <= 1, "between -1 and 1"),
    "noise_alignment": (lambda x: abs(x) <= 1, "between -1 and 1"),
    "nu_source": (lambda x: x > 0, "above 0 (samples per input dimension)"),
    "nu_target": (lambda x: x > 0, "above 0 (samples per input dimension)"),
    "richness": (lambda x: (x >= 0) & (x < np.inf), "finite and >= 0"),
    "q": (lambda x: x >= 0, ">= 0 (squared norm of the source predictor)"),
    "source_noise": (lambda x: (x >= 0) & (x < np.inf), "finite and >= 0 (a variance)"),
    "target_noise": (lambda x: (x >= 0) & (x < np.inf), "finite and >= 0 (a variance)"),
}
CHOICES = {"finetune": ("readout", "all"), "head": ("fresh", "kept"), "depth": range(1, 9)}


def closed_form(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a formula, broadcast its arguments and refuse values outside its domain.

    Concrete arguments are checked, computed in double precision and returned as numpy values.
    With traced arguments, under ``jax.jit`` or ``jax.grad``, values outside the domain give NaN.
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
        numbers = {name: given[name] for name in given if name in RULES}
        choices = {name: given[name] for name in chosen}
        if any(isinstance(value, Tracer) for value in numbers.values()):
            values = {name: jnp.asarray(v, float) for name, v in numbers.items()}
            valid = jnp.asarray(True)
            for name, value in values.items():
                valid = valid & RULES[name][0](value)
            valid = valid & _within_unit_length(values)
            out = compiled(**values, **choices)
            return jax.tree.map(lambda leaf: jnp.where(valid, leaf, jnp.nan), out)
        values = {name: np.asarray(v, float) for name, v in numbers.items()}
        for name, value in values.items():
            wrong = ~np.asarray(RULES[name][0](value))
            if wrong.any():
                raise InputError(f"{name} must be {RULES[name][1]}, got {value[wrong].flat[0]:g}")
        if given.get("depth", 1) > 1 and np.isfinite(values.get("nu_source", np.inf)).any():
            raise InputError(
                "nu_source must be infinite for depth > 1: with limited source data the kernels of "
                "deep networks have more than one spike; solve them with adaptik.DeepLinear"
            )
        if not np.all(_within_unit_length(values)):
            raise InputError(
                "alignment**2 + noise_alignment**2 must be at most 1: both are components of one "
                "unit vector along orthogonal directions"
            )
        try:
            np.broadcast_shapes(*(v.shape for v in values.values()))
        except ValueError as error:
            shapes = {name: v.shape for name, v in values.items() if v.shape}
            raise InputError(f"shapes do not broadcast: {shapes}") from error
        with jax.enable_x64(True):
            return jax.tree.map(lambda leaf: np.asarray(leaf)[()], compiled(**values, **choices))

    return call


def _within_unit_length(values: dict[str, Any]):
    if "alignment" not in values or "noise_alignment" not in values:
        return np.True_
    return values["alignment"] ** 2 + values["noise_alignment"] ** 2 <= 1 + 1e-6
