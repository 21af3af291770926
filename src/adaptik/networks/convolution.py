"""A convolutional network of finite width: filters that see every patch, and one readout.

    h_q = W_0 x_q / sqrt(d),    raw(x) = head^T (pooled phi(h_q)) / N

with all weights N(0, 1) at the start. An image is given as its Q patches one after the other, a row
of Q d numbers, so that everything which trains dense networks trains these. A head ``(N, C)`` reads
the average over patches, a head ``(N, H, C)`` the sums over Q/H patches each, over sqrt(Q).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..mathematics import activations
from ..mathematics.activations import Activation, Elementwise
from ..mathematics.biases import NONE
from ..system.errors import (
    InputError,
    require_above_zero,
    require_between,
    require_integers,
    require_one_of,
)
from ..system.registry import register
from ..tasks import Task

Pooling = Literal["average", "root", "none"]


@register
@dataclass(frozen=True)
class Windows:
    """Cuts images into patches; what the numbers mean is told at :class:`ConvolutionalNetwork`.

    Examples
    --------
    >>> windows = Windows((2, 3, 1), (2, 2), (1, 1), 0)
    >>> windows.of(np.arange(6.0)[None]).tolist()
    [[0.0, 1.0, 3.0, 4.0, 1.0, 2.0, 4.0, 5.0]]
    """

    image: tuple[int, int, int]
    patch: tuple[int, int]
    stride: tuple[int, int]
    padding: int

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Upper left corners of all patches in the padded image."""
        down, across = (
            range(0, n + 2 * self.padding - size + 1, step)
            for n, size, step in zip(self.image[:2], self.patch, self.stride, strict=True)
        )
        return [(i, j) for i in down for j in across]

    def of(self, X: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n Qd"]:
        """The patches of every image in one row."""
        p, (height, width) = self.padding, self.patch
        images = np.pad(np.reshape(X, (-1, *self.image)), ((0, 0), (p, p), (p, p), (0, 0)))
        parts = [
            images[:, i : i + height, j : j + width].reshape(len(X), -1) for i, j in self.corners
        ]
        return np.concatenate(parts, axis=1)

    def seen(self, task: Task) -> Task:
        """The task with the patches of its images in their place."""
        return task.seen_through(self.of)


@dataclass(frozen=True)
class ConvolutionalNetwork:
    """A network of finite width with one convolutional hidden layer, to train.

    Attributes
    ----------
    width
        Filters N.
    activation
        Name, :class:`adaptik.activations.Activation`, or elementwise JAX function.
    patch, stride
        Height and width of the patches, and steps between them: one number or two.
    pooling
        ``"average"`` over patches, ``"root"`` (their sum over sqrt(Q)), or ``"none"``: a readout
        for every patch, over sqrt(Q).
    image
        Height, width and, if there are several, channels of the inputs, channels last; ``None``
        takes a square of one or three channels.
    padding
        Pixels of zeros on every side.
    dtype, tol, scale
        As for :class:`adaptik.Network`.

    Raises
    ------
    InputError
        For values out of range; in :func:`adaptik.train` for inputs that are no such images.

    Examples
    --------
    >>> ConvolutionalNetwork(64, "tanh", patch=3, image=(8, 8)).fitted(64).windows.image
    (8, 8, 1)
    """

    width: int
    activation: Activation | Elementwise | str = "relu"
    patch: int | tuple[int, int] = 5
    stride: int | tuple[int, int] = 1
    pooling: Pooling = "average"
    image: tuple[int, ...] | None = None
    padding: int = 0
    dtype: str = "float32"
    tol: float = 1e-3
    scale: float = 1.0

    depth = 1
    biases = NONE  # none

    def __post_init__(self):
        object.__setattr__(self, "activation", activations.get(self.activation))
        require_integers(1, width=self.width)
        require_integers(0, padding=self.padding)
        require_one_of(("average", "root", "none"), pooling=self.pooling)
        require_one_of(("float32", "float64"), dtype=self.dtype)
        require_between(0, 1, tol=self.tol)
        require_above_zero(scale=self.scale)
        object.__setattr__(self, "scale", float(self.scale))
        for name in ("patch", "stride"):
            both = _two(name, getattr(self, name))
            require_integers(1, **{name: both[0]})
            require_integers(1, **{name: both[1]})
            object.__setattr__(self, name, both)
        if self.image is not None:
            self._check_image(self.image)

    def _check_image(self, image: tuple[int, ...]) -> None:
        if not isinstance(image, tuple | list) or len(image) not in (2, 3):
            raise InputError(f"image must have 2 or 3 numbers, got {image!r}")
        object.__setattr__(self, "image", tuple(image))
        for value in image:
            require_integers(1, image=value)
        for size, pixels in zip(self._pair("patch"), image, strict=False):
            if size > pixels + 2 * self.padding:
                raise InputError(
                    f"patch={self.patch!r} is larger than the image {image} with "
                    f"padding={self.padding}; give a smaller patch"
                )

    def fitted(self, dimension: int) -> "ConvolutionalNetwork":
        """The network with the shape of images that are rows of ``dimension`` numbers.

        Raises
        ------
        InputError
            If they are no images of the shape given, or no square.
        """
        if self.image is not None:
            if math.prod(self.image) != dimension:
                raise InputError(
                    f"image={self.image} has {math.prod(self.image)} numbers, inputs have "
                    f"{dimension}; give the height, width and channels of the inputs"
                )
            return self
        for channels in (1, 3):
            side = round(math.sqrt(dimension / channels))
            if channels * side**2 == dimension:
                return replace(self, image=(side, side, channels))
        raise InputError(
            f"image=None takes squares of one or three channels, which {dimension} numbers are "
            "not; give image=(height, width, channels)"
        )

    @property
    def windows(self) -> Windows:
        """How images are cut, once their shape is known."""
        assert self.image is not None
        height, width, channels = (*self.image, 1)[:3]
        patch, stride = self._pair("patch"), self._pair("stride")
        return Windows((height, width, channels), patch, stride, self.padding)

    def _pair(self, name: str) -> tuple[int, int]:
        return _two(name, getattr(self, name))

    @property
    def phi(self) -> Activation:
        """The activation, resolved."""
        assert isinstance(self.activation, Activation)  # __post_init__ has seen to it
        return self.activation

    def describe(self) -> dict[str, Any]:
        """The fields as plain values."""
        names = ("width", "patch", "stride", "pooling", "image", "padding", "dtype", "tol")
        fields = {name: getattr(self, name) for name in names}
        listed = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
        return listed | dict(activation=self.phi.name, depth=1, scale=self.scale)

    def initial_hidden(self, dimension: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Normal filters ``(N, d)``."""
        windows = self.windows
        size = math.prod(windows.patch) * windows.image[2]
        return (self._normal(rng, size, self.scale),)

    def initial_head(
        self, outputs: int, rng: np.random.Generator, scale: float = 1.0
    ) -> np.ndarray:
        """A normal head: ``(N, C)``, or ``(N, H, C)`` where it reads sums."""
        heads = len(self.windows.corners) if self.pooling == "none" else 1
        head = self._normal(rng, heads * outputs, scale)
        return head if self.pooling == "average" else head.reshape(self.width, heads, outputs)

    def _normal(self, rng: np.random.Generator, columns: int, scale: float) -> np.ndarray:
        return (scale * rng.standard_normal((self.width, columns))).astype(self.dtype)


def _two(name: str, given: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width."""
    if not isinstance(given, tuple | list):
        return given, given
    if len(given) != 2:
        raise InputError(f"{name} must be one number or two, got {given!r}")
    return given[0], given[1]


def is_convolutional(layers: Sequence[Array | np.ndarray], X: Array | np.ndarray) -> bool:
    """Whether inputs are several patches for the first layer, or its readout one of sums."""
    numbers, seen = X.shape[1], layers[0].shape[1]
    return layers[-1].ndim == 3 or (numbers > seen and numbers % seen == 0)


def preactivations(filters: Float[Array, "N d"], X: Float[Array, "n Qd"]) -> Float[Array, "n Q N"]:
    """Of every patch."""
    return patches(filters, X) @ filters.T / math.sqrt(filters.shape[1])


def patches(filters: Float[Array, "N d"], X: Float[Array, "n Qd"]) -> Float[Array, "n Q d"]:
    return X.reshape(len(X), -1, filters.shape[1])


def pooled(fields: Float[Array, "n Q N"], head: Array) -> Float[Array, "n H N"]:
    """What a readout sees of phi at every patch."""
    n, count, width = fields.shape
    if head.ndim == 2:
        return jnp.mean(fields, axis=1, keepdims=True)
    heads = head.shape[1]
    return jnp.sum(fields.reshape(n, heads, count // heads, width), axis=2) / math.sqrt(count)


def raw(layers: tuple[Array, ...], X: Float[Array, "n Qd"], phi: Elementwise):
    """The predictor of richness 1 before centring, shape ``(n, C)``."""
    filters, head = layers
    seen = pooled(phi(preactivations(filters, X)), head)
    return jnp.einsum("nhN,Nhc->nc", seen, by_patch(head)) / len(head)


def by_patch(head: Array) -> Float[Array, "N H C"]:
    return head if head.ndim == 3 else head[:, None]


def features_and_gradients(layers, X, activation: Activation):
    """Features ``(n, H N)``, and gradients of N raw by W_0, ``(n, C, N, d)``, and by a bias of h.

    The latter are ``(n, C, N)``.
    """
    filters, head = layers
    h, x = preactivations(filters, X), patches(filters, X) / math.sqrt(filters.shape[1])
    features = pooled(activation.phi(h), head).reshape(len(X), -1)
    count, z = h.shape[1], by_patch(head)
    scale = 1 / count if head.ndim == 2 else 1 / math.sqrt(count)
    z = jnp.repeat(z, count // z.shape[1], axis=1)  # of every patch
    g = scale * jnp.einsum("nqN,Nqc->ncqN", activation.derivative(h), z)
    return features, jnp.einsum("ncqN,nqd->ncNd", g, x), jnp.sum(g, axis=2)


def kernel(layers, X, X2, kind: str, activation: Activation, layer: int = 0):
    """As :func:`adaptik.networks.mup.empirical_kernel`; "gradient" is that of a filter's bias."""
    width, outputs = len(layers[-1]), layers[-1].shape[-1]
    phi_a, by_weights_a, by_bias_a = features_and_gradients(layers, X, activation)
    phi_b, by_weights_b, by_bias_b = features_and_gradients(layers, X2, activation)
    feature = phi_a @ phi_b.T / width
    if kind == "feature":
        return feature
    if kind == "gradient":
        return jnp.einsum("ncN,mdN->ncmd", by_bias_a, by_bias_b) / width
    readout = feature[:, None, :, None] * jnp.eye(outputs)[:, None, :]
    if layer:  # the filters stay
        return readout
    return readout + jnp.einsum("ncNk,mdNk->ncmd", by_weights_a, by_weights_b) / width


def feature_sum(layers, X, dual: Float[Array, "n C"], activation: Activation) -> Array:
    """sum_mu features(x_mu) c_mu, shaped as the head."""
    filters, head = layers
    seen = pooled(activation.phi(preactivations(filters, X)), head)
    return jnp.einsum("nhN,nc->Nhc", seen, dual).reshape(head.shape)
