"""Particles: samples of the single-neuron law of (h, z), drawn so that few are needed.

Scrambled Sobol points (readout first, then span coordinates by decreasing kernel weight), exact
second moments, and antithetic readouts: particles come as (w, z) and (w, -z), so that the
predictor is exactly zero when a head is fresh (theory section 2, point 2). Where there are enough
of them, at least 4 rank, weights are mirrored too: (w, +-z) and (-w, +-z), which removes the
sampling error of everything odd in w.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri
from scipy.stats import qmc

from ..registry import register

Sampling = Literal["quasi", "iid"]


@register
@dataclass(frozen=True, eq=False)
class Particles:
    """The joint law of first-layer weights and readouts at one time.

    Attributes
    ----------
    w
        First-layer weights in span coordinates, shape ``(replicates, particles, rank)``.
    z
        Readouts, shape ``(replicates, particles, outputs)``.
    shrink
        Factor by which weight decay has scaled the weights orthogonal to the span.
    initial_features, initial_head
        Whether w, and whether z, still follow their initial Gaussian law, independent of the
        other; kernels are then analytic.
    """

    w: Float[np.ndarray, "replicates particles rank"]
    z: Float[np.ndarray, "replicates particles outputs"]
    shrink: float = 1.0
    initial_features: bool = True
    initial_head: bool = True


def initial(
    rng: np.random.Generator, replicates: int, particles: int, rank: int, outputs: int,
    sampling: Sampling, dtype: str,
) -> Particles:  # fmt: skip
    """Particles at initialisation: w ~ N(0, I), z ~ N(0, 1), replicates independent."""
    if sampling == "iid":
        w = rng.standard_normal((replicates, particles, rank))
        z = rng.standard_normal((replicates, particles, outputs))
        return Particles(w.astype(dtype), z.astype(dtype))
    half = particles // 2
    mirrored = half % 2 == 0 and half // 2 >= max(rank, 2)
    drawn = half // 2 if mirrored else half
    w, z = np.empty((replicates, half, rank)), np.empty((replicates, half, outputs))
    for r in range(replicates):
        sample = _sobol_normal(rng, drawn, outputs + rank)
        readout, weights = _unit_moments(sample[:, :outputs]), sample[:, outputs:]
        if mirrored:
            weights = _whiten(weights)
            z[r], w[r] = np.concatenate([readout, readout]), np.concatenate([weights, -weights])
        else:
            z[r], w[r] = readout, _whiten(weights - weights.mean(0))
    return Particles(
        np.concatenate([w, w], axis=1).astype(dtype), np.concatenate([z, -z], axis=1).astype(dtype)
    )


def fresh_head(
    rng: np.random.Generator, particles: Particles, outputs: int, sampling: Sampling
) -> Particles:
    """New readouts independent of the features.

    Once features have moved, the members of an antithetic pair differ: every particle is then
    split into (w, z) and (w, -z), which doubles their number.
    """
    w = np.asarray(particles.w)
    replicates, count, _ = w.shape
    if sampling == "iid":
        z = rng.standard_normal((replicates, count, outputs))
        return replace(particles, z=z.astype(w.dtype), initial_head=True)
    half = count // 2 if particles.initial_features else count
    # A random order makes the new readouts independent of what the old ones did to w.
    z = np.stack([
        rng.permutation(_unit_moments(_sobol_normal(rng, half, outputs)))
        for _ in range(replicates)
    ])  # fmt: skip
    w = w if particles.initial_features else np.concatenate([w, w], axis=1)
    z = np.concatenate([z, -z], axis=1).astype(w.dtype)
    return replace(particles, w=w, z=z, initial_head=True)


def _sobol_normal(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    engine = qmc.Sobol(dimension, scramble=True, rng=rng)
    uniform = engine.random_base2(max(1, int(np.ceil(np.log2(count)))))[:count]
    return ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))


def _whiten(sample: np.ndarray) -> np.ndarray:
    """The nearest sample with unit second moments; needs as many rows as columns."""
    left, _, right = np.linalg.svd(sample, full_matrices=False)
    return np.sqrt(len(sample)) * left @ right


def _unit_moments(z: np.ndarray) -> np.ndarray:
    """Unit second moments; with few samples only as many directions as they can hold."""
    if len(z) > z.shape[1]:
        return _whiten(z - z.mean(0))
    return z * np.sqrt(z.size / np.sum(z**2))
