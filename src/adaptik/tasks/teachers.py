"""Teacher tasks with known structure: pairs of linear and of Hermite single-index functions."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ..system.errors import InputError, require_integers
from .base import Task


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
    require_integers(1, n_source=samples[0], n_target=samples[1], n_test=n_test)
    for name, noise in zip(("source_noise", "target_noise"), noises, strict=True):
        if not noise >= 0:
            raise InputError(f"{name} is a variance and must be >= 0, got {noise}")
    scales = _scales(spectrum, dimension)
    rng = np.random.default_rng(seed)
    shared, other = np.linalg.qr(rng.standard_normal((dimension, 2)))[0].T
    directions = (shared, alignment * shared + math.sqrt(1 - alignment**2) * other)
    tasks = []
    for direction, link, noise, n, name in zip(
        directions, links, noises, samples, names, strict=True
    ):
        X, X_test = (rng.standard_normal((m, dimension)) * scales for m in (n, n_test))
        unit = direction / np.linalg.norm(direction * scales)
        y = link(X @ unit) + math.sqrt(noise) * rng.standard_normal(n)
        tasks.append(Task(X, y, X_test, link(X_test @ unit), name=name))
    return tasks[0], tasks[1]


def _scales(spectrum, dimension: int) -> np.ndarray:
    if spectrum is None:
        return np.ones(dimension)
    spectrum = np.asarray(spectrum, float)
    if spectrum.shape != (dimension,):
        raise InputError(f"spectrum must have shape ({dimension},), got {spectrum.shape}")
    if not (spectrum >= 0).all() or not spectrum.any() or not np.isfinite(spectrum).all():
        raise InputError("spectrum must be finite, non-negative and not zero everywhere")
    return np.sqrt(spectrum / spectrum.mean())
