"""Losses: value, error signal and curvature as functions of predictions and labels."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .errors import InputError

Predictions = Float[Array | np.ndarray, "*members samples outputs"]
Labels = Float[Array | np.ndarray, "samples outputs"]


@dataclass(frozen=True)
class Loss:
    """A per-sample loss of predictions f given labels y, summed over outputs.

    Attributes
    ----------
    name
        ``"squared"`` or ``"logistic"``.
    value
        Reported loss per sample, shape ``(*members, samples)``; for squared error it is
        ``sum_c (y_c - f_c)^2``, without the 1/2 of the training objective.
    signal
        Minus the gradient of the training objective of one sample, ``y - f`` for squared error.
    rate_factor
        d(reported mean loss)/dt = -rate_factor * mean(signal . df/dt).
    curvature_root
        Factor R with R R^T the Hessian of the training objective in f, shape
        ``(*members, samples, outputs, outputs)``.
    reaches_minimum
        Whether gradient flow can converge (logistic loss on separable data never does).
    """

    name: str
    value: Callable[[Predictions, Labels], Float[Array, "*members samples"]]
    signal: Callable[[Predictions, Labels], Predictions]
    rate_factor: float
    curvature_root: Callable[
        [Predictions, Labels], Float[Array, "*members samples outputs outputs"]
    ]
    reaches_minimum: bool

    def __reduce__(self):  # its functions cannot be pickled
        return get, (self.name,)


def _identity_root(f, y):
    eye = jnp.eye(f.shape[-1], dtype=jnp.result_type(f))
    return jnp.broadcast_to(eye, (*f.shape, f.shape[-1]))


def _logistic_value(f, y):
    if f.shape[-1] == 1:
        return jax.nn.softplus(-y * f)[..., 0]
    return -jnp.sum(y * jax.nn.log_softmax(f, axis=-1), axis=-1)


def _logistic_signal(f, y):
    if f.shape[-1] == 1:
        return y * jax.nn.sigmoid(-y * f)
    return y - jax.nn.softmax(f, axis=-1)


def _logistic_root(f, y):
    if f.shape[-1] == 1:
        p = jax.nn.sigmoid(f)
        return jnp.sqrt(p * (1 - p))[..., None]
    p = jax.nn.softmax(f, axis=-1)  # (diag(sqrt p) - p sqrt p^T)(...)^T = diag(p) - p p^T
    return jnp.sqrt(p)[..., None, :] * (
        jnp.eye(f.shape[-1], dtype=jnp.result_type(f)) - p[..., :, None]
    )


SQUARED = Loss(
    "squared",
    value=lambda f, y: jnp.sum((y - f) ** 2, axis=-1),
    signal=lambda f, y: y - f,
    rate_factor=2.0,
    curvature_root=_identity_root,
    reaches_minimum=True,
)
LOGISTIC = Loss(
    "logistic",
    value=_logistic_value,
    signal=_logistic_signal,
    rate_factor=1.0,
    curvature_root=_logistic_root,
    reaches_minimum=False,
)
LOSSES = {loss.name: loss for loss in (SQUARED, LOGISTIC)}


def get(name: str) -> Loss:
    """The loss called ``name``.

    Examples
    --------
    >>> get("squared").rate_factor
    2.0
    """
    if name not in LOSSES:
        raise InputError(f"loss={name!r} is unknown; use one of {', '.join(LOSSES)}")
    return LOSSES[name]
