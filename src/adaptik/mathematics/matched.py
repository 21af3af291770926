"""Hidden matrices of finite networks that send fields on as those of infinite networks do.

    W = F Q^T + S E^T + (1 - S S^T) W_random (1 - Q Q^T)

with Q and S orthonormal bases of features phi_l and gradients g_{l+1} on the samples, F and E fresh
points with exact second moments (theory section 5).
"""

import math

import jax
import numpy as np
from jaxtyping import Float

from ..system.devices import on_device
from . import sampling
from .activations import Activation

PART = 8  # a matrix is conditioned on at most width / PART directions of each kind


def basis_of(vectors: Float[np.ndarray, "N k"], most: int) -> Float[np.ndarray, "N q"]:
    """Directions, in the norm <x, x> = x.x/N, that hold most of ``vectors``."""
    left, values, _ = np.linalg.svd(vectors, full_matrices=False)
    count = min(most, int((values > 1e-3 * values[0]).sum()))
    return math.sqrt(len(vectors)) * left[:, :count]


def off(basis: Float[np.ndarray, "N q"], sample: Float[np.ndarray, "N k"]):
    """The sample orthogonal to ``basis`` (orthonormalised) with unit second moments."""
    q, _ = np.linalg.qr(basis)
    return sampling.whitened(sample - q @ (q.T @ sample))


def conditioned(
    rng: np.random.Generator,
    lowest: Float[np.ndarray, "N P"],
    met: Float[np.ndarray, "N r"],
    z: Float[np.ndarray, "N C"],
    count: int,
    activation: Activation,
    bias: float = 0.0,
) -> tuple[
    Float[np.ndarray, "count N N"],
    Float[np.ndarray, "N C"],
    list[Float[np.ndarray, "N _"]],
    Float[np.ndarray, "count N"],
]:
    """``count`` hidden matrices and a readout of one network, with exact moments of what they send.

    They stand above a layer with preactivations ``lowest``, whose neurons vary with ``met``. Also
    returned are what they send back to it, for every output, and biases of the matrices' neurons of
    standard deviation ``bias``.
    """
    width, most = len(z), max(1, len(z) // PART)

    def phi(h):
        return np.asarray(activation.phi(on_device(h)))

    def slope(h):
        return np.asarray(activation.derivative(on_device(h)))

    with jax.enable_x64(True):
        h, seen, known, biases = [lowest], [met], [], []
        for _ in range(count):
            features = phi(h[-1])
            Q = basis_of(features, most)
            directions = Q.shape[1] + (bias > 0)
            drawn = sampling.whitened(sampling.sobol_normal(rng, width, directions))
            drawn = drawn[rng.permutation(width)]
            F = drawn[:, : Q.shape[1]]
            biases.append(bias * drawn[:, -1] if bias else np.zeros(width))
            known.append((Q, F))
            h.append(F @ (Q.T @ features) / width + biases[-1][:, None])
            seen.append(drawn)
        top = basis_of(phi(h[-1]), most)
        head = off(top, z)
        back, U = [head[:, c : c + 1] for c in range(head.shape[1])], []
        for k in reversed(range(count)):
            g = np.concatenate([slope(h[k + 1]) * b for b in back], axis=1)
            S, (Q, F) = basis_of(g, most), known[k]
            used = np.concatenate([seen[k][:, : 2 * most], Q], axis=1)
            E = off(used, rng.permutation(sampling.sobol_normal(rng, width, S.shape[1])))
            rest = rng.standard_normal((width, width)) / math.sqrt(width)
            rest = rest - S @ (S.T @ rest) / width
            rest = rest - (rest @ Q) @ Q.T / width
            U.insert(0, (F @ Q.T + S @ E.T) / width + rest)
            sent = U[0].T @ g
            back = np.split(sent, len(back), axis=1)
    shape = count, width
    return np.reshape(U, (*shape, width)), head, back, np.reshape(biases, shape)


def refreshed(
    rng: np.random.Generator,
    hidden: Float[np.ndarray, "n N N"],
    h: list[Float[np.ndarray, "N P"]],
    back: list[Float[np.ndarray, "N _"]],
    activation: Activation,
) -> Float[np.ndarray, "n N N"]:
    """Trained matrices of one network as they send new gradients back.

    Gradients of a new readout are independent of all that was learned, and what infinite matrices
    return of them are fresh fields. Finite ones have been met along the samples' fields, which new
    gradients avoid: what they return is too small. Here it has exact second moments; what matrices
    do to the samples' features stays as it is.

    Parameters
    ----------
    hidden
        The matrices, from layer 1 to layer ``n + 1``.
    h
        Preactivations of layers 1 .. n + 1.
    back
        z of layer ``n + 1``, for every output.
    """
    width, most, U = h[0].shape[0], max(1, h[0].shape[0] // PART), list(hidden.astype(float))
    with jax.enable_x64(True):
        for k in reversed(range(len(U))):
            slope = np.asarray(activation.derivative(on_device(h[k + 1])))
            g = np.concatenate([slope * b for b in back], axis=1)
            S = basis_of(g, most)
            Q = basis_of(np.asarray(activation.phi(on_device(h[k]))), most)
            sent = U[k].T @ S
            met = Q.T @ sent / width  # of order 1/sqrt(N): kept, so that U Q stays
            used = np.concatenate([Q, basis_of(h[k], most)], axis=1)
            E = off(used, rng.permutation(sampling.sobol_normal(rng, width, S.shape[1])))
            values, vectors = np.linalg.eigh(np.eye(S.shape[1]) - met.T @ met)
            rest = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
            U[k] = U[k] + S @ (E @ rest + Q @ met - sent).T / width
            back = np.split(U[k].T @ g, len(back), axis=1)
    return np.reshape(U, hidden.shape)
