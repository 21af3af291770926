"""Networks as people train them: biases, Adam, minibatches, early stopping.

An MLP of two hidden layers and a small convolutional net, for two classes, trained from scratch,
by their head alone or in all weights from a source. A whole training is one compiled program per
network and number of samples; several run one after the other in one call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from .pairs import SIDE, D

Net = Literal["mlp", "conv"]
Mode = Literal["scratch", "head", "all"]
NETS: tuple[Net, ...] = ("mlp", "conv")
MODES: tuple[Mode, ...] = ("scratch", "head", "all")
Layers = list[tuple[Array | np.ndarray, Array | np.ndarray]]

# Inputs and outputs of every layer; a convolution takes the 9 pixels of a patch.
SHAPES: dict[Net, list[tuple[int, int]]] = {
    "mlp": [(D, 256), (256, 256), (256, 1)],
    "conv": [(9, 16), (144, 32), (512, 64), (64, 1)],
}


@dataclass(frozen=True)
class Schedule:
    """Minibatches of a training: the best of the validated epochs is kept.

    Attributes
    ----------
    batch
        Samples a step.
    epochs, steps
        How often the loss is validated, and steps between.
    validation
        Part of the samples that is set aside to choose the epoch, half of it of each label.
    """

    batch: int
    epochs: int
    steps: int
    validation: float = 0.2


SOURCE = Schedule(batch=32, epochs=20, steps=28, validation=0.1)
TARGET = {10: Schedule(4, 100, 2), 50: Schedule(10, 50, 4), 200: Schedule(32, 40, 5)}


def start(net: Net, rng: np.random.Generator) -> Layers:
    """Weights and biases uniform in +-1/sqrt(fan-in), as PyTorch starts its layers."""

    def uniform(fan_in: int, *shape: int) -> np.ndarray:
        return (rng.uniform(-1, 1, shape) / np.sqrt(fan_in)).astype(np.float32)

    return [(uniform(i, i, o), uniform(i, o)) for i, o in SHAPES[net]]


def features(net: Net, layers: Layers, X: Float[Array, "n D"]) -> Float[Array, "n width"]:
    """Last hidden layer, from all layers or all but the head."""
    hidden = layers[: len(SHAPES[net]) - 1]
    if net == "conv":
        X = X.reshape(-1, SIDE, SIDE, 1)
        for W, b in hidden[:2]:
            X = _pooled(jax.nn.relu(_patches(X) @ W + b))
        X, hidden = X.reshape(len(X), -1), hidden[2:]
    for W, b in hidden:
        X = jax.nn.relu(X @ W + b)
    return X


def _patches(X):
    """The 3 by 3 pixels around each, zeros outside: convolutions become products of matrices,
    which compiled programs on a CPU do 15 times as fast."""
    _, height, width, _ = X.shape
    X = jnp.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [X[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, -1)


def _pooled(X):
    n, height, width, channels = X.shape
    return X.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))


def _output(net: Net | None, layers: Layers, X):
    """Logit of +1; without a net the layers are a head on features."""
    W, b = layers[-1]
    return ((X if net is None else features(net, layers, X)) @ W + b)[:, 0]


def minibatches(rows: np.ndarray, schedule: Schedule, rng: np.random.Generator) -> np.ndarray:
    """Rows of every step, shape ``(epochs, steps, batch)``: one shuffled pass after the other."""
    needed = schedule.epochs * schedule.steps * schedule.batch
    whole = len(rows) // schedule.batch * schedule.batch  # a pass drops what fills no batch
    passes = [rng.permutation(rows)[:whole] for _ in range(-(-needed // whole))]
    shape = (schedule.epochs, schedule.steps, schedule.batch)
    return np.concatenate(passes)[:needed].reshape(shape)


def set_aside(samples: int, schedule: Schedule) -> int:
    """Samples of each label that choose the epoch."""
    return max(1, round(schedule.validation * samples / 2))


def split(y: np.ndarray, schedule: Schedule) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and to validate on: the last of each label are set aside."""
    aside = set_aside(len(y), schedule)
    last = [np.flatnonzero(y == label)[-aside:] for label in (-1, 1)]
    validated = np.sort(np.concatenate(last))
    return np.setdiff1d(np.arange(len(y)), validated), validated


@cache
def trainer(net: Net | None, rate: float) -> Callable:
    """The compiled training of several networks, one after the other.

    Takes stacks of layers, samples, labels, minibatches, validation samples, their labels and
    weights; returns the layers at the epochs of least validation loss. Without a net, samples are
    features and the layers are a head.
    """

    def loss(layers, X, y, weights):
        return jnp.sum(weights * jax.nn.softplus(-y * _output(net, layers, X))) / weights.sum()

    optimiser = optax.adam(rate)

    def one(problem):
        layers, X, y, batches, X_aside, y_aside, weights = problem

        def step(carry, rows):
            layers, state = carry
            slope = jax.grad(loss)(layers, X[rows], y[rows], jnp.ones(len(rows)))
            change, state = optimiser.update(slope, state)
            return (optax.apply_updates(layers, change), state), None

        def epoch(carry, batches):
            layers, state, best, least = carry
            (layers, state), _ = jax.lax.scan(step, (layers, state), batches)
            now = loss(layers, X_aside, y_aside, weights)
            best = jax.tree.map(lambda new, old: jnp.where(now < least, new, old), layers, best)
            return (layers, state, best, jnp.minimum(now, least)), None

        begin = (layers, optimiser.init(layers), layers, jnp.inf)
        return jax.lax.scan(epoch, begin, batches)[0][2]

    return jax.jit(lambda *stacks: jax.lax.map(one, stacks))


@cache
def counter(net: Net | None) -> Callable:
    """The compiled count of right answers of a stack of networks; rows labelled 0 do not count."""

    def one(problem):
        layers, X, y = problem
        return jnp.sum(y * _output(net, layers, X) > 0)

    return jax.jit(lambda *stacks: jax.lax.map(one, stacks))


@cache
def reader(net: Net) -> Callable:
    """The compiled features of one network, all layers or all but the head given."""
    return jax.jit(lambda layers, X: features(net, layers, X))
