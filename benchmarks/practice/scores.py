"""Scores of a representation for a labelled target, each from its paper.

All take ``F``, features of the target's training samples, shape ``(n, width)``, or a Gram matrix
``K``, shape ``(n, n)``, and labels ``y`` of -1 and +1; larger means easier to learn. None sees a
test sample.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from sklearn.covariance import ledoit_wolf_shrinkage

from adaptik.kernels.regression import GramRegression

Features = Float[np.ndarray, "n width"]
Gram = Float[np.ndarray, "n n"]
Labels = Float[np.ndarray, " n"]


def logme(F: Features, y: Labels) -> float:
    """Log evidence a sample of Bayesian linear regression, mean over one-hot labels.

    You, Liu, Wang and Long (2021), "LogME", algorithm 1: prior precision alpha and noise
    precision beta are fixed points of evidence maximisation.
    """
    n, width = F.shape
    U, s, _ = np.linalg.svd(F, full_matrices=False)
    return float(np.mean([_evidence(U, s, np.asarray(y == c, float), n, width) for c in (-1, 1)]))


def _evidence(U, s, y, n: int, width: int) -> float:
    squares, projected = s**2, U.T @ y
    outside = max(float(y @ y - projected @ projected), 0.0)
    alpha = beta = 1.0
    for _ in range(200):
        scale = alpha + beta * squares
        gamma = float((beta * squares / scale).sum())
        m2 = float((beta**2 * squares * projected**2 / scale**2).sum())
        residual = outside + float((alpha**2 * projected**2 / scale**2).sum())
        before = alpha / beta
        alpha, beta = gamma / max(m2, 1e-12), (n - gamma) / max(residual, 1e-12)
        if abs(alpha / beta - before) <= 1e-6 * before:
            break
    scale = alpha + beta * squares
    m2 = float((beta**2 * squares * projected**2 / scale**2).sum())
    residual = outside + float((alpha**2 * projected**2 / scale**2).sum())
    logdet = float(np.log(scale).sum()) + (width - len(s)) * np.log(alpha)
    log_evidence = n * np.log(beta) + width * np.log(alpha) - n * np.log(2 * np.pi)
    return (log_evidence - beta * residual - alpha * m2 - logdet) / (2 * n)


def leep(probabilities: Float[np.ndarray, "n classes"], y: Labels) -> float:
    """Log expected empirical prediction, from the source network's own probabilities.

    Nguyen, Hassner, Seeger and Archambeau (2020), "LEEP", equations 1 to 3.
    """
    joint = np.stack([probabilities[y == c].sum(0) for c in (-1, 1)]) / len(y)
    given = joint / joint.sum(0)
    expected = probabilities @ given.T
    return float(np.log(expected[np.arange(len(y)), (y > 0).astype(int)]).mean())


def nce(z: np.ndarray, y: Labels) -> float:
    """Negative conditional entropy -H(Y | Z) of the labels given the source's answers ``z``.

    Tran, Nguyen and Hassner (2019), "Transferability and hardness of supervised classification".
    """
    total = 0.0
    for answer in np.unique(z):
        for label in (-1, 1):
            joint = np.mean((z == answer) & (y == label))
            if joint > 0:
                total += joint * np.log(joint / np.mean(z == answer))
    return float(total)


def h_score(F: Features, y: Labels) -> float:
    """tr(cov(F)^-1 cov(E[F | y])), the covariance shrunk as Ledoit and Wolf do.

    Bao et al. (2019), "An information-theoretic approach to transferability"; shrunk after
    Ibrahim, Ponomareva and Mazumder (2021), "Newer is not always better", as without it
    every representation wider than the samples are many has the same score.
    """
    centred = F - F.mean(0)
    n, width = F.shape
    shrinkage = ledoit_wolf_shrinkage(centred, assume_centered=True)
    noise = shrinkage * (centred**2).sum() / (n * width)
    means = np.stack([centred[y == c].mean(0) for c in (-1, 1)])
    weights = np.array([np.mean(y == c) for c in (-1, 1)])
    # (a X'X/n + b I)^-1 by the Gram matrix: there are fewer samples than features.
    a = (1 - shrinkage) / n
    inner = means @ centred.T
    inverse = np.linalg.solve(noise * np.eye(n) + a * centred @ centred.T, inner.T)
    quadratic = (np.sum(means**2, 1) - a * np.sum(inner * inverse.T, 1)) / noise
    return float(weights @ quadratic * (1 - shrinkage))


def transrate(F: Features, y: Labels, eps: float = 1e-4) -> float:
    """Coding rate of the features less that within classes.

    Huang et al. (2022), "Frustratingly easy transferability estimation", equation 6, on
    centred features of trace 1 as in the authors' code.
    """
    Z = F - F.mean(0)
    Z = Z / np.sqrt((Z**2).sum())

    def rate(part: np.ndarray) -> float:
        gram = part @ part.T / (len(part) * eps)
        return 0.5 * float(np.linalg.slogdet(np.eye(len(part)) + gram)[1])

    within = sum(np.mean(y == c) * rate(Z[y == c]) for c in (-1, 1))
    return rate(Z) - float(within)


def alignment(K: Gram, y: Labels) -> float:
    """Centred alignment of a Gram matrix with that of the labels.

    Cortes, Mohri and Rostamizadeh (2012), "Algorithms for learning kernels based on centered
    alignment"; for K = F F' it is the linear CKA of features and labels.
    """
    centred = K - K.mean(0) - K.mean(1)[:, None] + K.mean()
    labels = y - y.mean()
    return float(labels @ centred @ labels / (np.linalg.norm(centred) * (labels @ labels)))


def linear_probe(F: Features, y: Labels) -> float:
    """Accuracy at samples left out of a linear classifier on standardised features.

    Least squares with a ridge of the mean eigenvalue, whose leave-one-out has a closed form.
    """
    spread = F.std(0)
    F = (F - F.mean(0)) / np.where(spread > 0, spread, 1.0)
    K = F @ F.T
    left_out = y - GramRegression.on(K, y, ridge=ridge_of(K)).leave_one_out()[:, 0]
    return float(np.mean(left_out * y > 0))


def ridge_of(K: Gram) -> float:
    """The mean eigenvalue of a Gram matrix: a ridge in units of the kernel."""
    return float(np.trace(K)) / len(K)


def leave_one_out(K: Gram, y: Labels, ridge: float = 1.0) -> float:
    """Minus the mean squared error of kernel ridge regression at samples left out.

    ``ridge`` is in mean eigenvalues of ``K``.
    """
    fit = GramRegression.on(K, y, ridge=ridge * ridge_of(K))
    return -float(np.mean(fit.leave_one_out() ** 2))


def chosen_leave_one_out(K: Gram, y: Labels) -> float:
    """:func:`leave_one_out` at the best of nine ridges between 0.01 and 100 mean eigenvalues."""
    fit = GramRegression.on(K, y)
    ridges = ridge_of(K) * np.geomspace(1e-2, 1e2, 9)
    return max(-float(np.mean(replace(fit, ridge=r).leave_one_out() ** 2)) for r in ridges)


def evidence(K: Gram, y: Labels) -> float:
    """Log evidence a sample of a Gaussian process with kernel s (K + r I), s and r at its maximum.

    The scale s has a closed form; r is searched between 1e-3 and 1e3 mean eigenvalues.
    """
    values, vectors = np.linalg.eigh((K + K.T) / 2 / ridge_of(K))
    values, squares = np.maximum(values, 0.0), (vectors.T @ y) ** 2

    def minus(log_ridge: float) -> float:
        scale = values + np.exp(log_ridge)
        return 0.5 * float(np.log(np.mean(squares / scale)) + np.mean(np.log(scale)))

    best = minimize_scalar(minus, bounds=np.log([1e-3, 1e3]), method="bounded")
    return -float(best.fun) - 0.5 * float(np.log(2 * np.pi) + 1)
