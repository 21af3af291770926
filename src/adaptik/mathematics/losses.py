"""Losses: value, error signal and curvature as functions of predictions and labels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..system.devices import on_device
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


@partial(jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["loss", "heads"])
@dataclass(frozen=True)
class Objective:
    """What a stage descends: the mean over its samples of a loss, summed over heads.

    Attributes
    ----------
    loss
        Of one sample and one head.
    heads
        Outputs of every head; empty where all outputs are of one.
    weights
        Of every sample and output, the same for the outputs of a head; ``None`` for 1.

    Examples
    --------
    >>> once = np.array([[1.0, 0.0], [0.0, 4.0]])  # each output is known of one sample
    >>> objective = Objective(get("squared"), heads=(1, 1), weights=once)
    >>> f, y = np.array([[3.0, -9.0], [-9.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> objective.signal(f, y).tolist(), objective.by_part(f, y).tolist()
    ([[-2.0, 0.0], [0.0, 4.0]], [2.0, 2.0])
    >>> objective.units(y).tolist(), objective.rate_factor
    ([0.5, 8.0], 2.0)
    >>> objective.curvature_root(f, y)[1].tolist()
    [[0.0, 0.0], [0.0, 2.0]]
    >>> objective.rows(1, 1).weights.tolist()
    [[0.0, 4.0]]
    """

    loss: Loss
    heads: tuple[int, ...] = ()
    weights: Float[Array | np.ndarray, "samples outputs"] | None = None

    @property
    def rate_factor(self) -> float:
        """As that of the loss."""
        return self.loss.rate_factor

    def _cuts(self, outputs: int) -> list[slice]:
        ends = np.cumsum(self.heads or (outputs,)).tolist()
        return [slice(*cut) for cut in zip([0, *ends[:-1]], ends, strict=True)]

    def signal(self, f: Predictions, y: Labels) -> Predictions:
        """Minus the gradient of the weighted loss of every sample."""
        if self.weights is None:
            return self.loss.signal(f, y)
        parts = [self.loss.signal(f[..., c], y[..., c]) for c in self._cuts(f.shape[-1])]
        return self.weights * jnp.concatenate(parts, axis=-1)

    def by_part(self, f: Predictions, y: Labels) -> Float[Array, " parts"]:
        """Means of the parts of all heads' losses over members and samples."""
        if self.weights is None:
            return self.loss.by_part(f, y)
        found = []
        for c in self._cuts(f.shape[-1]):
            weights = self.weights[:, c]
            if self.loss.parts is None:
                parts = weights[:, :1] * self.loss.value(f[..., c], y[..., c])[..., None]
            else:
                parts = weights * self.loss.parts(f[..., c], y[..., c])
            found.append(jnp.mean(parts, axis=tuple(range(parts.ndim - 1))))
        return jnp.concatenate(found)

    def units(self, y: Labels) -> Float[Array | np.ndarray, " parts"]:
        """What each part is counted in when convergence is judged (:meth:`Loss.units`)."""
        if self.weights is None:
            return self.loss.units(y)
        xp = np if isinstance(y, np.ndarray) else jnp
        if self.loss.parts is None:
            return xp.ones(len(self.heads))
        return self.loss.units(xp.sqrt(xp.asarray(self.weights)) * y)

    def curvature_root(
        self, f: Predictions, y: Labels
    ) -> Float[Array, "*members samples outputs outputs"]:
        """Factor R with R R^T the Hessian of the weighted loss of every sample in f."""
        if self.weights is None:
            return self.loss.curvature_root(f, y)
        cuts, outputs = self._cuts(f.shape[-1]), f.shape[-1]
        blocks = []
        for c in cuts:
            root = self.loss.curvature_root(f[..., c], y[..., c])
            room = [(0, 0)] * (root.ndim - 1) + [(c.start, outputs - c.stop)]
            blocks.append(jnp.pad(root, room))
        return jnp.sqrt(self.weights)[..., None] * jnp.concatenate(blocks, axis=-2)

    def rows(self, start: Any, size: int) -> "Objective":
        """Of ``size`` samples from ``start`` on."""
        if self.weights is None:
            return self
        return replace(self, weights=jax.lax.dynamic_slice_in_dim(self.weights, start, size))

    def placed(self) -> "Objective":
        """With weights where flows compute."""
        if self.weights is None:
            return self
        return replace(self, weights=on_device(self.weights, float))


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
