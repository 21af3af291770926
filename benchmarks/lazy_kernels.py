"""Time and memory of lazy Gram matrices against what they cannot do without.

    python benchmarks/lazy_kernels.py [samples]

Reference: the matrix product X X^T, plus the closed-form ReLU recursion in NumPy over the whole
matrix at once. Memory is the peak above the process with its inputs, in copies of the result.
"""

import resource
import sys
import time

import numpy as np

from adaptik.kernels import lazy as lazy_kernels

DEPTH, FEATURES = 3, 784


def seconds(function) -> float:
    best = np.inf
    for _ in range(2):
        began = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - began)
    return best


def passes(K: np.ndarray) -> np.ndarray:
    """The NTK of a ReLU network from x.x'/D, every pass over the whole matrix."""
    k = np.diag(K).copy()
    for layer in range(DEPTH):
        tangent = K if layer == 0 else tangent
        scale = np.sqrt(np.outer(k, k))
        cosine = np.clip(K / scale, -1, 1)
        slopes = (np.pi - np.arccos(cosine)) / (2 * np.pi)
        K = scale * (np.sqrt(1 - cosine**2) / (2 * np.pi) + slopes * cosine)
        tangent, k = K + slopes * tangent, k / 2
    return tangent


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    X = np.random.default_rng(0).normal(size=(n, FEATURES))
    np.matmul(X[:500], X[:500].T)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    K = lazy_kernels.ntk(X, depth=DEPTH, activation="relu")
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / K.nbytes
    ntk = seconds(lambda: lazy_kernels.ntk(X, depth=DEPTH, activation="relu"))
    nngp = seconds(lambda: lazy_kernels.nngp(X, depth=DEPTH, activation="relu"))
    gram = X @ X.T / FEATURES
    product, elementwise = seconds(lambda: X @ X.T), seconds(lambda: passes(gram))
    difference = np.abs(np.triu(passes(gram) - K, 1)).max()
    print(f"ReLU, {n} x {n}, D = {FEATURES}, depth {DEPTH}")
    print(f"ntk {ntk:.2f} s, nngp {nngp:.2f} s, peak {peak:.2f} copies of the result")
    print(f"matrix product {product:.2f} s, elementwise passes {elementwise:.2f} s")
    print(f"ratio ntk/(product + passes) {ntk / (product + elementwise):.2f}")
    print(f"largest difference off the diagonal {difference:.1e}")


if __name__ == "__main__":
    main()
