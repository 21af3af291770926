"""Kernels that do not move: NNGP and NTK of infinitely wide networks (theory section 4).

With hidden layers l = 1 .. L, weight variance s_w, bias variance s_b (zero-mean Gaussians, biases
in every layer, the head included), phi and phi' averaged over centred Gaussians of covariance K:

    K_0 = s_w x.x'/D + s_b,   K_l = s_w E[phi phi] + s_b          (over K_{l-1})
    T_0 = K_0,                T_l = K_l + s_w E[phi' phi'] T_{l-1}

K_L is the covariance of the outputs at initialisation (NNGP): the kernel of a network that trains
its readout alone. T_L is the NTK in NTK parameterisation, the kernel of all weights. For
s_w = 1, s_b = 0 they are Phi_L and sum_l G_{l+1} Phi_l of the theory.

Gram matrices are evaluated by NumPy in float64, tile by tile on all cores within the memory of the
result. :func:`propagate` is the recursion itself, which JAX can trace and differentiate.
"""

import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from ..mathematics import activations, gaussian
from ..mathematics.activations import Activation, Elementwise
from ..system.errors import InputError, require_at_least_zero
from ..system.memory import require

TILE = 384  # rows and columns worked on at once: temporaries stay in the cache


class LazyKernels(NamedTuple):
    """Both kernels of one network.

    Attributes
    ----------
    nngp
        K_L: what the readout contributes to the NTK.
    ntk
        T_L.

    Examples
    --------
    >>> both = kernels(np.eye(2), depth=1, activation="linear")
    >>> both.nngp.tolist(), both.ntk.tolist(), both.features.tolist()
    ([[0.5, 0.0], [0.0, 0.5]], [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.0], [0.0, 0.5]])
    """

    nngp: Float[np.ndarray, "n m"]
    ntk: Float[np.ndarray, "n m"]

    @property
    def features(self) -> Float[np.ndarray, "n m"]:
        """T_L - K_L: what all layers below the readout contribute to the NTK."""
        return self.ntk - self.nngp


def nngp(
    X: Float[np.ndarray, "n D"],
    X2: Float[np.ndarray, "m D"] | None = None,
    *,
    depth: int,
    activation: str | Activation | Elementwise,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    progress: bool = False,
) -> Float[np.ndarray, "n m"]:
    """Covariance of the outputs of an infinitely wide network at initialisation (NNGP kernel).

    Parameters
    ----------
    X, X2
        Inputs; ``X2=None`` is ``X`` itself and gives an exactly symmetric matrix.
    depth
        Number of hidden layers L >= 1.
    activation
        A name, an :class:`adaptik.activations.Activation`, or an elementwise JAX function.
    weight_variance, bias_variance
        s_w >= 0 and s_b >= 0 of every layer.
    progress
        Show a progress bar.

    Returns
    -------
    ndarray
        Float64; positive semi-definite to rounding where ``X2`` is None.

    Raises
    ------
    InputError
        For inputs that are no finite matrices with one number of columns, depth < 1, negative
        variances, or an unknown activation.
    MemoryLimitError
        If the result would not fit.

    Examples
    --------
    >>> X = np.array([[1.0, 1.0], [1.0, -1.0]])
    >>> nngp(X, depth=2, activation="relu", weight_variance=2.0).round(4).tolist()
    [[2.0, 0.9875], [0.9875, 2.0]]
    """
    return _gram(X, X2, depth, activation, weight_variance, bias_variance, progress, (0,))[0]


def ntk(
    X: Float[np.ndarray, "n D"],
    X2: Float[np.ndarray, "m D"] | None = None,
    *,
    depth: int,
    activation: str | Activation | Elementwise,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    progress: bool = False,
) -> Float[np.ndarray, "n m"]:
    """Neural tangent kernel of an infinitely wide network, all layers and the head included.

    Parameters, result and errors as for :func:`nngp`.

    Examples
    --------
    >>> X = np.array([[1.0, 1.0], [1.0, -1.0]])
    >>> ntk(X, depth=1, activation="linear").tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """
    return _gram(X, X2, depth, activation, weight_variance, bias_variance, progress, (1,))[0]


def kernels(
    X: Float[np.ndarray, "n D"],
    X2: Float[np.ndarray, "m D"] | None = None,
    *,
    depth: int,
    activation: str | Activation | Elementwise,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    progress: bool = False,
) -> LazyKernels:
    """:func:`nngp` and :func:`ntk` in one pass, the split of the NTK into readout and features.

    Examples
    --------
    >>> both = kernels(np.eye(2), depth=1, activation="relu")
    >>> both.features.tolist()  # E[phi' phi'] x.x'/D
    [[0.25, 0.0], [0.0, 0.25]]
    """
    both = _gram(X, X2, depth, activation, weight_variance, bias_variance, progress, (0, 1))
    return LazyKernels(*both)


def two_layer(
    activation: Activation,
    k11: Float[np.ndarray, " n"],
    k12: Float[np.ndarray, "n m"],
    k22: Float[np.ndarray, " m"],
) -> tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n m"]]:
    """Feature kernel Phi = E phi phi' and gradient kernel G = E phi' phi' for h ~ GP(0, K_x).

    Parameters
    ----------
    k11, k12, k22
        Input kernel ``x.x'/D``: the diagonals for both sets of inputs, and the cross block.

    Returns
    -------
    Phi, G
        Float64; the lazy NTK is ``Phi + G * k12`` (theory section 4 with L = 1).

    Examples
    --------
    >>> from adaptik import activations
    >>> K = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> Phi, G = two_layer(activations.get("relu"), np.diag(K), K, np.diag(K))
    >>> np.diag(Phi).round(9).tolist(), np.diag(G).round(6).tolist()
    ([0.5, 0.5], [0.5, 0.5])
    """
    feature, gradient = np.empty(k12.shape), np.empty(k12.shape)
    first, second = (gaussian.Marginal.of(activation, k) for k in (k11, k22))

    def fill(tile):
        one, two = first[tile[0], None], second[None, tile[1]]
        feature[tile] = one.product(k12[tile], two)
        gradient[tile] = one.derivative_product(k12[tile], two)

    _on_all_cores(fill, _tiles(*k12.shape), total=0)
    return feature, gradient


def propagate(
    activation: Activation,
    k11: Float[Array | np.ndarray, "..."],
    k12: Float[Array | np.ndarray, "..."],
    k22: Float[Array | np.ndarray, "..."],
    *,
    depth: int,
    weight_variance: float | Array = 1.0,
    bias_variance: float | Array = 0.0,
) -> tuple[Float[Array | np.ndarray, "..."], Float[Array | np.ndarray, "..."]]:
    """NNGP and NTK from the input kernel: the recursion for arrays that broadcast.

    Parameters
    ----------
    k11, k12, k22
        x.x'/D of each input with itself, and of the pairs: shapes ``(n, 1)``, ``(n, m)`` and
        ``(1, m)`` for a Gram matrix. NumPy arrays are evaluated; JAX arrays can be traced,
        compiled and differentiated, also with respect to the variances.

    Returns
    -------
    nngp, ntk

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> def kernel(weight_variance):
    ...     one = jnp.asarray(1.0)
    ...     return propagate(activations.get("linear"), one, one, one, depth=2,
    ...                      weight_variance=weight_variance)[1]
    >>> float(jax.grad(kernel)(1.0))  # T_2 = 3 s_w^3
    9.0
    """
    k11, k12, k22 = (weight_variance * k + bias_variance for k in (k11, k12, k22))
    tangent = k12
    for _ in range(depth):
        slopes = gaussian.derivative_product(activation, k11, k12, k22)
        k12 = weight_variance * gaussian.product(activation, k11, k12, k22) + bias_variance
        tangent = k12 + weight_variance * slopes * tangent
        k11, k22 = (
            weight_variance * gaussian.product(activation, k, k, k) + bias_variance
            for k in (k11, k22)
        )
    return k12, tangent


@np.errstate(over="ignore", invalid="ignore")  # reported at the end
def _marginals(activation, variance, depth, s_w, s_b) -> list[gaussian.Marginal]:
    """Of every layer, from the input kernel of single inputs."""
    layers = []
    for _ in range(depth):
        variance = s_w * (layers[-1].second if layers else variance) + s_b
        layers.append(gaussian.Marginal.of(activation, variance))
    return layers


def _gram(X, X2, depth, activation, s_w, s_b, progress, kinds) -> list[np.ndarray]:
    X = _inputs("X", X)
    other = X if X2 is None else _inputs("X2", X2)
    if X.shape[1] != other.shape[1]:
        raise InputError(f"X has {X.shape[1]} features and X2 {other.shape[1]}; both need the same")
    if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or depth < 1:
        raise InputError(f"depth must be an integer >= 1 (hidden layers), got {depth!r}")
    require_at_least_zero(weight_variance=s_w, bias_variance=s_b)
    phi, symmetric, shape = activations.get(activation), X2 is None, (len(X), len(other))
    require(
        8 * (len(kinds) * math.prod(shape) + 20 * TILE**2 * _cores()),
        f"a Gram matrix of {shape[0]} x {shape[1]}",
        "ask for fewer rows at once",
    )
    results = [np.empty(shape) for _ in kinds]
    overlap = np.matmul(X, other.T, out=results[0])
    overlap /= X.shape[1]
    k11, k22 = (np.einsum("nd,nd->n", x, x) / X.shape[1] for x in (X, other))
    if symmetric:
        np.fill_diagonal(overlap, k11)  # so that an input is exactly parallel to itself
    first = _marginals(phi, k11, depth, s_w, s_b)
    second = first if symmetric else _marginals(phi, k22, depth, s_w, s_b)

    @np.errstate(over="ignore", invalid="ignore")
    def fill(tile):
        k12 = tangent = s_w * overlap[tile] + s_b
        for one, two in zip(first, second, strict=True):
            one, two = one[tile[0], None], two[None, tile[1]]
            slopes = one.derivative_product(k12, two) if 1 in kinds else 0.0
            k12 = s_w * one.product(k12, two) + s_b
            tangent = k12 + s_w * slopes * tangent
        for result, kind in zip(results, kinds, strict=True):
            result[tile] = (k12, tangent)[kind]

    tiles = list(_tiles(*shape, upper=symmetric))
    _on_all_cores(fill, tiles, total=len(tiles) if progress else 0)
    for result in results:
        if symmetric:
            _mirror(result)
        if not np.isfinite(np.sum(result)):
            raise InputError(
                f"the kernel overflows at depth {depth} with {phi.name}; scale the inputs or lower "
                "weight_variance"
            )
    return results


def _inputs(name: str, X) -> np.ndarray:
    X = np.asarray(X, float)
    if X.ndim != 2 or X.size == 0:
        raise InputError(f"{name} must have shape (samples, features), got {X.shape}")
    if not np.isfinite(X).all():
        raise InputError(f"{name} has NaN or infinite entries; remove or impute them")
    return X


def _edges(n: int) -> np.ndarray:
    return np.linspace(0, n, -(-n // TILE) + 1).astype(int)


def _tiles(n: int, m: int, upper: bool = False) -> Iterator[tuple[slice, slice]]:
    """Tiles of a matrix; of a square one those that reach the diagonal from above."""
    rows, columns = _edges(n), _edges(m)
    for i in range(len(rows) - 1):
        for j in range(i if upper else 0, len(columns) - 1):
            yield slice(rows[i], rows[i + 1]), slice(columns[j], columns[j + 1])


def _mirror(gram: np.ndarray) -> None:
    for rows, columns in _tiles(*gram.shape, upper=True):
        tile = gram[rows, columns]
        gram[columns, rows] = (tile + tile.T) / 2 if rows == columns else tile.T
        # Diagonal tiles are symmetric up to rounding only.


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_all_cores(fill, tiles: Iterable, total: int) -> None:
    """Run ``fill`` on every tile in threads (NumPy frees the interpreter); a bar if total > 0."""
    with ThreadPoolExecutor(max_workers=_cores()) as pool:
        done = pool.map(fill, tiles)
        if total:
            from rich.progress import track

            done = track(done, "Gram matrix", total=total)
        for _ in done:
            pass
