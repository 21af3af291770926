"""Samples of neurons (w, z), standard Gaussian, drawn so that few are needed.

Scrambled Sobol points (readout first, then weights by decreasing importance), exact second moments
of weights and readouts together, and, where there are neurons enough, weights that are white given
the readout: <p(z) w> = 0 and <p(z) w w'> = <p(z)> I for p up to degree 2. Readouts have no
antithetic partners (theory section 2, point 2): the predictor at the start of a stage is subtracted
instead, and every neuron is a sample of its own.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.linalg import qr
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import ndtri
from scipy.stats import qmc
from threadpoolctl import ThreadpoolController

Sampling = Literal["quasi", "iid"]

ONE_THREAD = 2**18  # numbers in a matrix up to which products use one thread
DECAYED = 1e-6  # of the longest direction
WHITE_TOL = 1e-3  # of moments of weights given the readout; far below any sampling error


def neurons(
    rng: np.random.Generator,
    replicates: int,
    count: int,
    rank: int,
    outputs: int,
    sampling: Sampling = "quasi",
    dtype: str = "float64",
) -> tuple[Float[np.ndarray, "R M rank"], Float[np.ndarray, "R M C"]]:
    """Weights w ~ N(0, I) and readouts z ~ N(0, 1) of independent replicates."""
    w, z = np.empty((replicates, count, rank)), np.empty((replicates, count, outputs))
    with _threads_for(count * rank):
        for r in range(replicates):
            if sampling == "iid":
                z[r], w[r] = rng.standard_normal(z[r].shape), rng.standard_normal(w[r].shape)
            else:
                z[r], w[r] = _matched(sobol_normal(rng, count, outputs + rank), outputs)
    return w.astype(dtype), z.astype(dtype)


def readouts(
    rng: np.random.Generator, w: Float[np.ndarray, "R M rank"], outputs: int, sampling: Sampling
) -> Float[np.ndarray, "R M C"]:
    """New readouts, independent of the features and uncorrelated with the weights."""
    replicates, count, _ = w.shape
    z = rng.standard_normal((replicates, count, outputs))
    with _threads_for(w[0].size):
        for r in range(replicates if sampling == "quasi" else 0):
            # A random order makes new readouts independent of what the old ones did to w.
            z[r] = _off(w[r].astype(float), rng.permutation(sobol_normal(rng, count, outputs)))
    return z.astype(w.dtype)


def _threads_for(size: int) -> AbstractContextManager:
    """One BLAS thread for small matrices: several wait longer for each other than they work."""
    return _blas().limit(limits=1, user_api="blas") if size <= ONE_THREAD else nullcontext()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def sobol_normal(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    engine = qmc.Sobol(dimension, scramble=True, rng=rng)
    uniform = engine.random_base2(max(1, int(np.ceil(np.log2(count)))))[:count]
    return ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))


def whitened(sample: np.ndarray) -> np.ndarray:
    """The nearest sample with unit second moments; needs as many rows as columns."""
    left, _, right = np.linalg.svd(sample, full_matrices=False)
    return np.sqrt(len(sample)) * left @ right


def _matched(sample: np.ndarray, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Readouts and weights with the moments of independent Gaussians."""
    count, columns = sample.shape
    sample = whitened(sample - sample.mean(0) if count > columns else sample)
    z, w = sample[:, :outputs], sample[:, outputs:]
    # A quarter of the weights' freedom at most goes into their moments.
    if (outputs + 1) * (outputs + 2) // 2 * (w.shape[1] + 1) > count / 2:
        return z, w
    products = [z[:, i] * z[:, j] for i in range(outputs) for j in range(i + 1)]
    return z, _white_given(np.column_stack([np.ones(count), z, *products]), w)


def _white_given(powers: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The weights nearest w with <p w> = 0 and <p w w'> = <p> I for every column p of ``powers``.

    Gauss-Newton: the smallest change is w <- w + sum_p p A_p w with symmetric matrices A_p, found
    by conjugate gradients. Where it does not converge, w is returned as it came.
    """
    count, rank = w.shape
    gram, mean = powers.T @ powers / count, powers.mean(0)
    wanted = mean[:, None, None] * np.eye(rank)
    given = w

    def moments(u):
        return np.stack([(w.T * p) @ u / count for p in powers.T])

    def change(A):
        return sum(
            p[:, None] * (w @ a) for p, a in zip(powers.T, A.reshape(wanted.shape), strict=True)
        )

    def response(A):
        half = moments(change(A))
        return (half + half.transpose(0, 2, 1)).ravel()

    def precondition(R):
        return np.linalg.solve(2 * gram, R.reshape(len(gram), -1)).ravel()

    shape = (wanted.size, wanted.size)
    operator, inverse = (
        LinearOperator(shape, matvec=product)  # pyright: ignore[reportCallIssue]
        for product in (response, precondition)
    )
    for _ in range(12):
        w = w - powers @ np.linalg.solve(gram, powers.T @ w / count)
        gap = wanted - moments(w)
        if np.abs(gap).max() < WHITE_TOL:
            return whitened(w)
        A, _ = cg(operator, gap.ravel(), rtol=0.1, maxiter=50, M=inverse)
        w = w + change(A)
    return given


def _off(w: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Readouts with unit second moments, orthogonal to constants and to the columns of w.

    Directions of which weight decay has left next to nothing do not count: they are rounding.
    """
    columns = np.column_stack([w, np.ones(len(w))])
    columns = columns if len(w) >= columns.shape[1] + z.shape[1] else w
    factors: Any = qr(columns, mode="economic", pivoting=True)
    basis, triangle, _ = factors
    sizes = np.abs(np.diag(triangle))
    basis = basis[:, sizes > DECAYED * sizes[0]]
    return whitened(z - basis @ (basis.T @ z))


def independent(
    sample: Float[np.ndarray, "M n"],
    columns: Float[np.ndarray, "M m"],
    weights: Float[np.ndarray, " M"],
) -> Float[np.ndarray, "M n"]:
    """The sample without what it shares with ``columns``, and with unit second moments."""
    root = np.sqrt(weights)[:, None]
    basis, _ = np.linalg.qr(root * columns)
    rest = root * sample
    rest = rest - basis @ (basis.T @ rest)
    return np.linalg.solve(np.linalg.cholesky(rest.T @ rest), rest.T).T / root
