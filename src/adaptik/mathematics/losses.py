"""Losses: value, error signal and curvature as functions of predictions and labels."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..system.errors import InputError

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
    parts
        What ``value`` is the sum of, shape ``(*members, samples, parts)``, one part for each
        output; ``None`` where outputs have no losses of their own.
    """

    name: str
    value: Callable[[Predictions, Labels], Float[Array, "*members samples"]]
    signal: Callable[[Predictions, Labels], Predictions]
    rate_factor: float
    curvature_root: Callable[
        [Predictions, Labels], Float[Array, "*members samples outputs outputs"]
    ]
    reaches_minimum: bool
    parts: Callable[[Predictions, Labels], Float[Array, "*members samples parts"]] | None = None

    def __reduce__(self):  # its functions cannot be pickled
        return get, (self.name,)

    def by_part(self, f: Predictions, y: Labels) -> Float[Array, " parts"]:
        """Means of the parts over members and samples."""
        parts = self.value(f, y)[..., None] if self.parts is None else self.parts(f, y)
        return jnp.mean(parts, axis=tuple(range(parts.ndim - 1)))

    def units(self, y: Labels) -> Float[Array | np.ndarray, " parts"]:
        """What each part of the loss is counted in when convergence is judged.

        For squared error the mean square of the output's labels (of all, where it has none but
        zeros); 1 for labels that name classes.

        Examples
        --------
        >>> get("squared").units(np.array([[1.0, 0.0], [-1.0, 4.0]])).tolist()
        [1.0, 8.0]
        """
        xp = np if isinstance(y, np.ndarray) else jnp
        if self.name != "squared":
            return xp.ones(1)
        squares = xp.mean(xp.square(y), axis=0)
        every = xp.sum(squares)
        return xp.where(squares > 0, squares, xp.where(every > 0, every, 1.0))


def relative_residual(residual: Labels, y: Labels) -> float:
    """Root mean square of what is left of the labels y, of the output where it is worst.

    Each output counts in the unit of its own labels (:meth:`Loss.units`).

    Examples
    --------
    >>> relative_residual(np.array([[0.5, 0.0], [0.0, 1e-3]]), np.array([[5.0, 2e-3], [0.0, 0.0]]))
    0.5
    """
    squares = np.mean(np.square(residual), axis=0) / SQUARED.units(np.asarray(y))
    return float(np.sqrt(squares.max()))


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
    parts=lambda f, y: jnp.square(y - f),
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
