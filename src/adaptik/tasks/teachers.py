"""Teacher tasks with known structure: pairs of linear, single-index and multi-index functions."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..system.errors import InputError, require_integers, require_one_of
from .base import Task

LINKS = ("sum", "product")
Link = str | Callable[[Float[np.ndarray, "n k"]], Float[np.ndarray, " n"]]


def linear_pair(
    alignment: float,
    *,
    n_source: int,
    n_target: int,
    dimension: int = 100,
    n_test: int = 1000,
    source_noise: float = 0.0,
    target_noise: float = 0.0,
    spectrum: Float[np.ndarray, " D"] | None = None,
    seed: int = 0,
) -> tuple[Task, Task]:
    """Two linear teachers ``y = beta.x/sqrt(D)`` with overlap ``alignment``.

    Parameters
    ----------
    alignment
        ``beta_s.beta_t/D`` in [-1, 1]; both teachers have ``|beta|^2 = D``.
    n_source, n_target, n_test
        Numbers of samples; source and target samples are independent.
    dimension
        Input dimension D.
    source_noise, target_noise
        Variances of Gaussian label noise on the training labels (test labels are clean).
    spectrum
        Eigenvalues of the input covariance, length D, rescaled to mean 1; default isotropic.
        Teachers are rescaled to unit output variance.
    seed
        Fixes teachers, inputs and noise.

    Examples
    --------
    >>> source, target = linear_pair(0.8, n_source=50, n_target=20, dimension=30)
    >>> source.X.shape, target.X_test.shape
    ((50, 30), (1000, 30))
    """
    links = (lambda u: u, lambda u: u)
    names = ("linear source", "linear target")
    samples, noises = (n_source, n_target), (source_noise, target_noise)
    return _pair(links, names, alignment, samples, n_test, noises, dimension, spectrum, seed)


def hermite_pair(
    source_degree: int,
    target_degree: int,
    alignment: float,
    *,
    n_source: int,
    n_target: int,
    dimension: int = 20,
    n_test: int = 1000,
    source_noise: float = 0.0,
    target_noise: float = 0.0,
    spectrum: Float[np.ndarray, " D"] | None = None,
    seed: int = 0,
) -> tuple[Task, Task]:
    """Two single-index teachers ``y = He_k(u)/sqrt(k!)``, ``u = beta.x/|beta|`` of unit variance.

    Parameters are those of :func:`linear_pair`; ``source_degree`` and ``target_degree`` are the
    degrees k of the two Hermite polynomials (probabilists' convention).

    Examples
    --------
    >>> source, target = hermite_pair(1, 2, 1.0, n_source=50, n_target=20, n_test=4000)
    >>> bool(abs(target.y_test.var() - 1) < 0.2)
    True
    """
    require_integers(1, source_degree=source_degree, target_degree=target_degree)
    links = (_hermite(source_degree), _hermite(target_degree))
    names = (f"He{source_degree} source", f"He{target_degree} target")
    samples, noises = (n_source, n_target), (source_noise, target_noise)
    return _pair(links, names, alignment, samples, n_test, noises, dimension, spectrum, seed)


class Directions(NamedTuple):
    """What the teachers of a multi-index pair look at: orthonormal rows, ``(k, D)`` each.

    Attributes
    ----------
    shared
        Seen by source and target.
    source, target
        Seen by one of them alone.

    Examples
    --------
    >>> directions = multi_index_pair(1, 2, 0, n_source=5, n_target=5, dimension=8).directions
    >>> [len(part) for part in directions]
    [1, 2, 0]
    """

    shared: Float[np.ndarray, "k D"]
    source: Float[np.ndarray, "k D"]
    target: Float[np.ndarray, "k D"]


class MultiIndexPair(NamedTuple):
    """Two multi-index teachers, and the directions that they look at.

    Attributes
    ----------
    source, target
        The tasks.
    directions
        Shared and private ones.

    Examples
    --------
    >>> pair = multi_index_pair(1, 1, 1, n_source=5, n_target=4, dimension=8)
    >>> pair.source.n_train, pair.target.n_train
    (5, 4)
    """

    source: Task
    target: Task
    directions: Directions


def multi_index_pair(
    shared: int,
    source_only: int,
    target_only: int,
    *,
    n_source: int,
    n_target: int,
    link: Link = "sum",
    target_link: Link | None = None,
    degree: int = 2,
    dimension: int = 20,
    n_test: int = 1000,
    source_noise: float = 0.0,
    target_noise: float = 0.0,
    seed: int = 0,
) -> MultiIndexPair:
    """Two functions of several projections ``u_j = beta_j.x``, some of which they share.

    Inputs are standard Gaussian, directions orthonormal and random, so that all u_j are independent
    standard Gaussians. A source that was learned richly brings features along the shared
    directions: with ``link="sum"`` the coefficients of predictions on ``He_k(u_j)`` say which of
    the target's directions they help.

    Parameters
    ----------
    shared, source_only, target_only
        Numbers of directions: seen by both, by the source alone, by the target alone. Either task
        sees at least one, and all of them fit into the ``dimension``.
    n_source, n_target, n_test
        Numbers of samples; source and target samples are independent.
    link
        ``"sum"``, ``sum_j He_k(u_j)/sqrt(k! K)`` over the K directions of a task, or ``"product"``,
        ``prod_j He_k(u_j)/sqrt(k!)`` (probabilists' polynomials), both of mean 0 and variance 1; or
        a function of projections ``(n, K)``, shared directions first, that gives ``n`` labels.
    target_link
        The target's, if another.
    degree
        k of the Hermite polynomials of named links.
    dimension
        Input dimension D.
    source_noise, target_noise
        Variances of Gaussian label noise on the training labels (test labels are clean).
    seed
        Fixes directions, inputs and noise. Source and target do not depend on each other's
        numbers of samples beyond the order in which they are drawn: the source comes first.

    Raises
    ------
    InputError
        For numbers out of range, unknown links, and functions that give no label for each input.

    Examples
    --------
    >>> source, target, directions = multi_index_pair(1, 1, 1, n_source=50, n_target=20)
    >>> u = target.X_test @ np.concatenate([directions.shared, directions.target]).T
    >>> features = (u**2 - 1) / 2**0.5
    >>> np.linalg.lstsq(features, target.y_test[:, 0], rcond=None)[0].round(4).tolist()
    [0.7071, 0.7071]
    """
    require_integers(0, shared=shared, source_only=source_only, target_only=target_only)
    require_integers(1, degree=degree, dimension=dimension)
    samples, noises = (n_source, n_target), (source_noise, target_noise)
    _check(samples, n_test, noises)
    for name, own in (("source_only", source_only), ("target_only", target_only)):
        if shared + own < 1:
            raise InputError(
                f"shared=0 and {name}=0 leave this task no direction; give at least one"
            )
    count = shared + source_only + target_only
    if count > dimension:
        raise InputError(
            f"dimension={dimension} holds no {count} orthogonal directions; give at least {count}"
        )
    links = [
        _link(name, given, degree)
        for name, given in (("link", link), ("target_link", target_link or link))
    ]
    rng = np.random.default_rng(seed)
    rows = np.linalg.qr(rng.standard_normal((dimension, count)))[0].T
    directions = Directions(*np.split(rows, [shared, shared + source_only]))
    seen = [np.concatenate([directions.shared, own]) for own in directions[1:]]
    names = ("multi-index source", "multi-index target")
    source, target = (
        _task(rng, lambda X, f=f, beta=beta: f(X @ beta.T), noise, (n, n_test), dimension, name)
        for f, beta, noise, n, name in zip(links, seen, noises, samples, names, strict=True)
    )
    return MultiIndexPair(source, target, directions)


def _link(name: str, given: Link, degree: int) -> Callable[[np.ndarray], np.ndarray]:
    """The function of projections, ``(n, K)`` to ``(n,)``."""
    if callable(given):

        def checked(u: np.ndarray) -> np.ndarray:
            y = np.asarray(given(u), float)
            if y.shape != (len(u),):
                raise InputError(
                    f"{name} gave labels of shape {y.shape} for projections of shape {u.shape}; "
                    f"it must give one label an input, shape ({len(u)},)"
                )
            return y

        return checked
    require_one_of(LINKS, **{name: given})
    polynomial = _hermite(degree)
    if given == "product":
        return lambda u: np.prod(polynomial(u), axis=1)
    return lambda u: polynomial(u).sum(1) / math.sqrt(u.shape[1])


def _hermite(degree: int) -> Callable[[np.ndarray], np.ndarray]:
    series = np.zeros(degree + 1)
    series[degree] = 1 / math.sqrt(math.factorial(degree))
    return lambda u: np.polynomial.hermite_e.hermeval(u, series)


def _pair(
    links, names, alignment, samples, n_test, noises, dimension, spectrum, seed
) -> tuple[Task, Task]:
    """Pairs are of the source and the target."""
    if not -1 <= alignment <= 1:
        raise InputError(f"alignment must lie in [-1, 1], got {alignment}")
    require_integers(2, dimension=dimension)
    _check(samples, n_test, noises)
    scales = _scales(spectrum, dimension)
    rng = np.random.default_rng(seed)
    shared, other = np.linalg.qr(rng.standard_normal((dimension, 2)))[0].T
    directions = (shared, alignment * shared + math.sqrt(1 - alignment**2) * other)
    tasks = []
    for direction, link, noise, n, name in zip(
        directions, links, noises, samples, names, strict=True
    ):
        unit = direction / np.linalg.norm(direction * scales)

        def teacher(X, link=link, unit=unit):
            return link(X @ unit)

        tasks.append(_task(rng, teacher, noise, (n, n_test), dimension, name, scales))
    return tasks[0], tasks[1]


def _check(samples: tuple[int, int], n_test: int, noises: tuple[float, float]) -> None:
    require_integers(1, n_source=samples[0], n_target=samples[1], n_test=n_test)
    for name, noise in zip(("source_noise", "target_noise"), noises, strict=True):
        if not noise >= 0:
            raise InputError(f"{name} is a variance and must be >= 0, got {noise}")


def _task(rng, teacher, noise, sizes, dimension, name, scales: np.ndarray | float = 1.0) -> Task:
    """Gaussian inputs, of which ``teacher`` gives the labels; ``sizes`` are of train and test."""
    X, X_test = (rng.standard_normal((m, dimension)) * scales for m in sizes)
    y = teacher(X) + math.sqrt(noise) * rng.standard_normal(sizes[0])
    return Task(X, y, X_test, teacher(X_test), name=name)


def _scales(spectrum, dimension: int) -> np.ndarray:
    if spectrum is None:
        return np.ones(dimension)
    spectrum = np.asarray(spectrum, float)
    if spectrum.shape != (dimension,):
        raise InputError(f"spectrum must have shape ({dimension},), got {spectrum.shape}")
    if not (spectrum >= 0).all() or not spectrum.any() or not np.isfinite(spectrum).all():
        raise InputError("spectrum must be finite, non-negative and not zero everywhere")
    return np.sqrt(spectrum / spectrum.mean())
