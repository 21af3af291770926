"""Direct simulation of what the closed forms predict: finite samples, exact linear algebra.

Nothing is shared with the formulas but the kernel ``I + chi n n^T`` that a source stage leaves
(theory sections 3.1 and 3.2): samples are drawn, the source is fitted, the target stage is solved.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float

from ..system.errors import InputError
from ..system.memory import require
from .checked import checked
from .source_stage import Finetune, Head

MODES: tuple[tuple[Finetune, Head], ...] = (
    ("readout", "fresh"),
    ("readout", "kept"),
    ("all", "fresh"),
    ("all", "kept"),
)


@dataclass(frozen=True)
class Draws:
    """Results of independent draws of source and target samples.

    Attributes
    ----------
    loss
        Excess target loss after pretraining, shape ``(draws, modes)``.
    baseline
        The same without pretraining (``chi = 0``, start at 0), shape ``(draws,)``.
    spike_alone
        Loss of the best multiple of the learned direction n on the target's population, shape
        ``(draws,)``.
    kernel
        ``|beta_hat|^2``, ``n.beta_s/|beta_s|`` and the norm of n's remainder, shape ``(draws, 3)``.
    """

    loss: Float[np.ndarray, "draws modes"]
    baseline: Float[np.ndarray, " draws"]
    spike_alone: Float[np.ndarray, " draws"]
    kernel: Float[np.ndarray, "draws 3"]


def simulate(
    source_spectrum: np.ndarray,
    target_spectrum: np.ndarray,
    source_teacher: Float[np.ndarray, " D"],
    target_teacher: Float[np.ndarray, " D"] | Callable[[np.ndarray], np.ndarray],
    n_source: float,
    n_target: int,
    richness: float,
    *,
    source_ridge: float = 0.0,
    target_ridge: float = 0.0,
    source_noise: float = 0.0,
    target_noise: float = 0.0,
    time: float | None = None,
    modes: tuple[tuple[Finetune, Head], ...] = MODES,
    draws: int = 20,
    seed: int = 0,
) -> Draws:
    """Draw Gaussian samples and solve both stages; arguments as in :func:`spectral_transfer_loss`.

    Parameters
    ----------
    target_teacher
        A vector, or a function that makes it from the learned source predictor.
    n_source, n_target
        Numbers of samples (``n_source`` may be infinite).
    modes
        Pairs ``(finetune, head)`` for which the target stage is solved on the same samples.
    draws, seed
        Number of independent draws, and what fixes them.

    Examples
    --------
    >>> ones, teacher = np.ones(50), np.eye(50)[0]
    >>> simulate(ones, ones, teacher, teacher, np.inf, 20, 1.0, draws=3).loss.shape
    (3, 4)
    """
    numbers: dict[str, Any] = dict(
        source_spectrum=source_spectrum,
        target_spectrum=target_spectrum,
        source_teacher=source_teacher,
        n_source=n_source,
        n_target=n_target,
        richness=richness,
        source_ridge=source_ridge,
        target_ridge=target_ridge,
        source_noise=source_noise,
        target_noise=target_noise,
    )
    if time is not None:
        numbers["time"] = time
    if not callable(target_teacher):
        numbers["target_teacher"] = target_teacher
    checked(numbers)
    if draws < 1 or seed < 0 or n_target < 1 or n_source < 1:
        raise InputError("draws, n_source and n_target must be at least 1 and seed >= 0")
    samples = max(float(n_target), n_source if np.isfinite(n_source) else 0.0)
    needed = 8 * samples * (4 * np.size(target_spectrum) + 2 * samples)
    require(math.ceil(needed), "this simulation", "take fewer samples or a smaller dimension")
    rng = np.random.default_rng(seed)
    source = Inputs(source_spectrum)
    second = _Target(
        Inputs(target_spectrum), n_target, richness, target_ridge, target_noise, time, modes
    )
    bs = np.asarray(source_teacher, float)
    rows = []
    for _ in range(draws):
        if np.isfinite(n_source):
            X, y = source.labelled(rng, round(n_source), bs, source_noise)
            learned = _fit(X, y, source_ridge, None, source)
        else:
            learned = source.project(bs)
        bt = target_teacher(learned) if callable(target_teacher) else np.asarray(target_teacher)
        q = learned @ learned
        n = learned / np.sqrt(q) if q > 0 else learned
        aligned = n @ bs / np.linalg.norm(bs)
        remainder = np.linalg.norm(n - aligned * bs / np.linalg.norm(bs))
        rows.append((*second.losses(rng, learned, n, bt), (q, aligned, remainder)))
    return Draws(*(np.array(column) for column in zip(*rows, strict=True)))


@dataclass(frozen=True)
class _Target:
    """The target stage of :func:`simulate`."""

    inputs: "Inputs"
    samples: int
    richness: float
    ridge: float
    noise: float
    time: float | None
    modes: tuple[tuple[Finetune, Head], ...]

    def losses(self, rng: np.random.Generator, learned, n, teacher):
        """Losses of all modes on one draw, without pretraining, and of the spike alone."""
        X, y = self.inputs.labelled(rng, self.samples, teacher, self.noise)
        a = math.sqrt(1 + self.richness**2 * (learned @ learned))
        gram, along = X @ X.T, X @ n

        def loss(chi, factor, start):
            stop = None if self.time is None else self.time * factor
            residual = y - X @ start
            w = _fit(X, residual, self.ridge / factor, stop, self.inputs, chi, n, gram, along)
            return self.inputs.quadratic(start + w - teacher)

        pretrained = [
            loss(*_kernel(a, finetune, head), learned if head == "kept" else 0 * learned)
            for finetune, head in self.modes
        ]
        best = self.inputs.quadratic(n, teacher) / self.inputs.quadratic(n)
        alone = self.inputs.quadratic(teacher - best * n)
        return pretrained, loss(0.0, 1.0, 0 * learned), alone


def simulate_isotropic(
    alignment: float,
    nu_target: float,
    richness: float,
    *,
    nu_source: float = np.inf,
    noise_alignment: float = 0.0,
    source_noise: float = 0.0,
    target_noise: float = 0.0,
    ridge: float = 0.0,
    time: float | None = None,
    dimension: int = 600,
    modes: tuple[tuple[Finetune, Head], ...] = MODES,
    draws: int = 20,
    seed: int = 0,
) -> Draws:
    """:func:`simulate` with the arguments of :func:`regularised_transfer_loss`.

    ``dimension`` is D; sample numbers are rounded. The target teacher has exactly the overlaps
    asked for with the source teacher and with the rest of the learned predictor, if there is one.

    Examples
    --------
    >>> simulate_isotropic(0.5, 0.4, 1.0, nu_source=0.5, dimension=50, draws=2).baseline.shape
    (2,)
    """
    checked(dict(alignment=alignment, noise_alignment=noise_alignment, nu_target=nu_target))
    D = dimension
    bs, other = np.eye(D)[:2]

    def target_teacher(learned: np.ndarray) -> np.ndarray:
        if noise_alignment == 0:
            return alignment * bs + np.sqrt(1 - alignment**2) * other
        off = learned - (learned @ bs) * bs
        off = off / np.linalg.norm(off)
        rest = other - (other @ off) * off
        size = np.sqrt(max(1 - alignment**2 - noise_alignment**2, 0.0))
        return alignment * bs + noise_alignment * off + size * rest / np.linalg.norm(rest)

    return simulate(
        np.ones(D),
        np.ones(D),
        bs,
        target_teacher,
        nu_source * D,
        round(nu_target * D),
        richness,
        target_ridge=ridge,
        source_noise=source_noise,
        target_noise=target_noise,
        time=time,
        modes=modes,
        draws=draws,
        seed=seed,
    )


def simulate_spikes(
    coefficients: Float[ArrayLike, "k k"],
    alignments: Float[ArrayLike, " k"],
    nu_target: float,
    *,
    start: Float[ArrayLike, " k"] | None = None,
    target_noise: float = 0.0,
    dimension: int = 600,
    draws: int = 20,
    seed: int = 0,
) -> Float[np.ndarray, " draws"]:
    """Losses of finite samples with a planted kernel; arguments as in :func:`spike_loss`.

    Parameters
    ----------
    dimension
        D; at least one more than there are directions. The number of samples is rounded.
    draws, seed
        Number of independent draws, and what fixes them: the samples are the same for every C.

    Returns
    -------
    array
        Excess target loss of every draw.

    Raises
    ------
    InputError
        As :func:`spike_loss`, and for too few dimensions, draws or samples.

    Examples
    --------
    >>> from adaptik.linear_theory import spike_loss
    >>> loss = simulate_spikes([[2.0]], [1.0], 0.5, dimension=200, draws=20)
    >>> bool(abs(loss.mean() - spike_loss([[2.0]], [1.0], 0.5)) < 0.02)
    True
    """
    names: dict[str, Any] = dict(coefficients=coefficients, alignments=alignments)
    names |= dict(nu_target=nu_target, target_noise=target_noise)
    values = checked(names if start is None else names | dict(start=start))
    C, a = values["coefficients"], values["alignments"]
    if C.ndim != 2 or a.ndim != 1:
        raise InputError("coefficients must be one matrix and alignments one vector to simulate")
    k, D, P = len(a), dimension, round(nu_target * dimension)
    if k >= D or P < 1 or draws < 1 or seed < 0:
        raise InputError(
            f"dimension must be above {k} directions, draws and rounded samples at least 1, seed "
            f">= 0; got dimension={D}, {P} samples, draws={draws}, seed={seed}"
        )
    teacher, first = np.zeros(D), np.zeros(D)
    teacher[:k], teacher[k] = a, math.sqrt(max(1 - a @ a, 0.0))
    first[:k] = values.get("start", 0.0)
    rng, inputs, losses = np.random.default_rng(seed), Inputs(np.ones(D)), []
    for _ in range(draws):
        X, y = inputs.labelled(rng, P, teacher, target_noise)
        spread = X.copy()  # X (I + U C U^T)
        spread[:, :k] += X[:, :k] @ C
        y = y - X @ first
        w = spread.T @ np.linalg.solve(X @ spread.T, y) if P < D else inputs.least_squares(X, y)
        losses.append(inputs.quadratic(first + w - teacher))
    return np.array(losses)


class Inputs:
    """Gaussian inputs with eigenvalues or a covariance matrix ``spectrum``."""

    def __init__(self, spectrum: np.ndarray):
        self.S = np.asarray(spectrum, float)
        if self.S.ndim == 1:
            self.root, nonzero = np.sqrt(self.S), self.S > 0
            self.range = None if nonzero.all() else np.eye(len(self.S))[:, nonzero]
        else:
            values, vectors = np.linalg.eigh(self.S)
            nonzero = values > len(values) * np.finfo(float).eps * values[-1]
            self.root = (vectors * np.sqrt(np.where(nonzero, values, 0))) @ vectors.T
            self.range = None if nonzero.all() else vectors[:, nonzero]
        self.rank = int(nonzero.sum())

    def draw(self, rng: np.random.Generator, samples: int) -> Float[np.ndarray, "P D"]:
        Z = rng.standard_normal((samples, len(self.S)))
        return Z * self.root if self.S.ndim == 1 else Z @ self.root

    def labelled(
        self, rng: np.random.Generator, samples: int, teacher: Float[np.ndarray, " D"], noise: float
    ) -> tuple[Float[np.ndarray, "P D"], Float[np.ndarray, " P"]]:
        """Inputs, and a linear teacher's labels with noise of this variance."""
        X = self.draw(rng, samples)
        return X, X @ teacher + np.sqrt(noise) * rng.standard_normal(len(X))

    def project(self, w: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
        """The part of ``w`` along directions with variance."""
        return w if self.range is None else self.range @ (self.range.T @ w)

    def least_squares(self, X: Float[np.ndarray, "P D"], y: np.ndarray) -> np.ndarray:
        """Weights of least norm where there are at least as many samples as directions."""
        if self.range is None:
            return np.linalg.solve(X.T @ X, X.T @ y)
        Z = X @ self.range
        return self.range @ np.linalg.solve(Z.T @ Z, Z.T @ y)

    def quadratic(self, u: np.ndarray, w: np.ndarray | None = None) -> float:
        w = u if w is None else w
        return float(u @ (self.S * w if self.S.ndim == 1 else self.S @ w))


def _kernel(a: float, finetune: str, head: str) -> tuple[float, float]:
    """Spike and prefactor of the table in theory section 3.2."""
    if finetune == "readout":
        return a - 1, 1.0
    return ((a - 1) / 2, 2.0) if head == "fresh" else ((a - 1) / (a + 1), 1 + a)


def _fit(X, y, ridge, time, inputs, chi=0.0, n=None, gram=None, along=None):
    """Weights M X^T a, M = I + chi n n^T, of ridge regression or of gradient flow from 0."""
    P, D = X.shape
    gram = X @ X.T if gram is None else gram
    if n is None or along is None:
        n, along = np.zeros(D), np.zeros(P)
    if ridge == 0 and time is None and inputs.rank <= P:
        return inputs.least_squares(X, y)  # on inputs that occur, whatever the kernel
    K = gram + chi * np.outer(along, along) + D * ridge * np.eye(P)
    if time is None:
        dual = np.linalg.solve(K, y)
    else:
        values, vectors = np.linalg.eigh(K)
        rates = np.maximum(values, 1e-12) / P  # K/D over P samples, for a time of D * time
        dual = vectors @ (-np.expm1(-rates * time) / (rates * P) * (vectors.T @ y))
    w = X.T @ dual
    return w + chi * (n @ w) * n
