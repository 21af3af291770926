"""What weights of a network make of inputs: fields, predictor and kernels (see :mod:`.mup`)."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..mathematics.activations import Activation, Elementwise
from ..mathematics.biases import NONE
from . import convolution
from .convolution import is_convolutional

# W_0 (N, D), W_1 .. W_{L-1} (N, N), head (N, C); with biases one column, or row, more
Layers = tuple[Array, ...]


def preactivations(
    hidden: Layers, X: Float[Array, "n D"], phi: Elementwise, biases: tuple[float, float] = NONE
) -> list[Array]:
    """h_1 .. h_L, each of shape ``(n, N)``; ``hidden`` is all layers but the head."""
    h, below = [], X
    for W in hidden:
        count = below.shape[1]
        h.append(below @ W[:, :count].T / math.sqrt(count))
        if biases[0]:
            h[-1] = h[-1] + biases[0] * W[:, count]
        below = phi(h[-1])
    return h


def read_out(
    phi: Float[Array, "n N"], head: Float[Array, "N+ C"], biases: tuple[float, float]
) -> Float[Array, "n C"]:
    """head^T phi / N, and what the readout's bias adds."""
    width = phi.shape[1]
    found = phi @ head[:width] / width
    return found + biases[1] / math.sqrt(width) * head[width] if biases[1] else found


def raw(
    layers: Layers, X: Float[Array, "n D"], phi: Elementwise, biases: tuple[float, float] = NONE
) -> Float[Array, "n C"]:
    """The predictor of richness 1 before centring."""
    if is_convolutional(layers, X):
        return convolution.raw(layers, X, phi)
    *hidden, head = layers
    return read_out(phi(preactivations(tuple(hidden), X, phi, biases)[-1]), head, biases)


def tangent(
    layers: Layers,
    direction: Layers,
    X: Float[Array, "n D"],
    phi: Elementwise,
    biases: tuple[float, float] = NONE,
) -> Float[Array, "n C"]:
    """Derivative of :func:`raw` as the weights move along ``direction``."""
    return jax.jvp(lambda w: raw(w, X, phi, biases), (layers,), (direction,))[1]


def only_above(frozen: int, layers: Layers) -> Layers:
    """Zeros in the place of the first ``frozen`` layers."""
    return (*(jnp.zeros_like(W) for W in layers[:frozen]), *layers[frozen:])


def _double(layers):
    return tuple(jnp.asarray(w, jnp.float64) for w in layers)


@partial(jax.jit, static_argnums=(3, 4))
def term_of(layers, direction, X, activation: Activation, biases: tuple[float, float]):
    if direction:
        return tangent(_double(layers), _double(direction), X, activation.phi, biases)
    return raw(_double(layers), X, activation.phi, biases)


@partial(jax.jit, static_argnums=(2, 3))
def last(hidden, X, activation: Activation, biases: tuple[float, float]):
    if is_convolutional(hidden, X):
        (filters,) = _double(hidden)
        return convolution.preactivations(filters, X).reshape(len(X), -1)
    return preactivations(_double(hidden), X, activation.phi, biases)[-1]


@partial(jax.jit, static_argnums=(3, 4, 5, 6))
def kernel(layers, X, X2, kind: str, activation: Activation, layer: int, biases):
    layers = _double(layers)
    if is_convolutional(layers, X):
        return convolution.kernel(layers, X, X2, kind, activation, layer)
    width, outputs = len(layers[0]), layers[-1].shape[1]
    (phi_a, g_a), (phi_b, g_b) = (_fields(layers, x, activation, biases) for x in (X, X2))
    if kind == "feature":
        return phi_a[layer - 1] @ phi_b[layer - 1].T / width
    gradients = [jnp.einsum("ncN,mdN->ncmd", a, b) / width for a, b in zip(g_a, g_b, strict=True)]
    if kind == "gradient":
        return gradients[layer - 1]
    below = [X @ X2.T / X.shape[1], *[a @ b.T / width for a, b in zip(phi_a, phi_b, strict=True)]]
    hidden, readout = (b**2 for b in biases)
    ntk = (below[-1] + readout)[:, None, :, None] * jnp.eye(outputs)[:, None, :]
    for gradient, feature in list(zip(gradients, below[:-1], strict=True))[layer:]:
        ntk = ntk + gradient * (feature + hidden)[:, None, :, None]
    return ntk


def _fields(layers, X, activation: Activation, biases: tuple[float, float]):
    """phi(h_l), each ``(n, N)``, and gradient fields g_l = phi'(h_l) z_l, each ``(n, C, N)``."""
    *hidden, head = layers
    h = preactivations(tuple(hidden), X, activation.phi, biases)
    width = len(hidden[0])
    z = head[:width].T[None]
    gradients = []
    for level in reversed(range(len(hidden))):
        g = activation.derivative(h[level])[:, None, :] * z
        gradients.insert(0, g)
        z = g @ hidden[level][:, :width] / math.sqrt(width) if level else z
    return [activation.phi(x) for x in h], gradients
