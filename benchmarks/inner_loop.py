"""Arithmetic of one exponential step against the machine's matrix products, and how time grows.

    python benchmarks/inner_loop.py

A step is that of the two-layer limit on random inputs, in single precision, compiled and timed
alone (median of 7). Its matrix products are counted: with R replicates, M particles, P samples and
k coordinates, 4 R M P^2 for the kernels and 2 R M P k for each product with the samples, of which
there are 7, or 14 where coordinates are not dual (D < P). The rate of the machine is that of a
product of two 4096 x 4096 matrices. Growth: times at two sizes, as exponents.
"""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import adaptik as ak
from adaptik.limits import run as stepped
from adaptik.mathematics.stepping import Exponential

FIELDS = 7  # products with the samples: 3 of fields, 3 of readings, 1 of the error
PUSHES = 7  # and, where coordinates are not dual: 3 of fields, 4 of spreads


def median(function, *inputs, times: int = 7) -> float:
    """Seconds of a call."""
    function = eqx.filter_jit(function)
    jax.block_until_ready(function(*inputs))
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        jax.block_until_ready(function(*inputs))
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def caught(samples: int, dimension: int, particles: int, replicates: int):
    """Flow and start that ``solve`` uses."""
    rng, found = np.random.default_rng(0), {}
    task = ak.Task(
        rng.standard_normal((samples, dimension)), rng.choice([-1.0, 1.0], samples), name="random"
    )
    original = stepped.integrate

    def watching(flow, y0, record, solver, **options):
        found.update(flow=flow, y0=y0)
        return original(flow, y0, record, solver, **options)

    stepped.integrate = watching
    try:
        limit = ak.TwoLayer("relu", particles=particles, replicates=replicates)
        ak.solve([ak.Stage(task, 1.0, duration=0.01)], limit, record=2)
    finally:
        stepped.integrate = original
    return found["flow"], found["y0"]


def step_seconds(samples: int, dimension: int, particles: int, replicates: int = 2):
    """Seconds of a step, of its eigendecompositions, and operations of its matrix products."""
    flow, y0 = caught(samples, dimension, particles, replicates)
    solver = Exponential()
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        y = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), y0)

        def step(flow, y):
            return solver.step(None, jnp.asarray(0.0), jnp.asarray(0.1), y, flow, None, False)[:2]

        seconds = median(step, flow, y)
        square = np.random.default_rng(0).standard_normal((replicates, samples, 2 * samples))
        decomposing = median(jnp.linalg.eigh, jnp.asarray(square @ square.transpose(0, 2, 1), "f"))
    k = y0.w.shape[-1]
    products = FIELDS if flow.anchors.coordinates.start is not None else FIELDS + PUSHES
    operations = replicates * particles * (products * 2 * samples * k + 4 * samples**2)
    return seconds, decomposing, operations


def main() -> None:
    square = jnp.asarray(np.random.default_rng(0).standard_normal((4096, 4096)), "f")
    with jax.default_matmul_precision("highest"):  # as in a step
        peak = 2 * 4096**3 / median(jnp.matmul, square, square)
    print(f"product of two 4096 x 4096 matrices: {peak / 1e9:.0f} GFLOP/s")
    print("  P    D  particles   step (s)  eigh (s)   GFLOP/s of products  share of the machine")
    times = {}
    for size in (
        (200, 784, 1024), (200, 784, 2048), (200, 784, 4096), (400, 784, 4096), (400, 784, 8192),
        (800, 784, 4096), (200, 20, 4096), (400, 20, 4096),
    ):  # fmt: skip
        seconds, decomposing, operations = step_seconds(*size)
        times[size] = seconds
        rate = operations / seconds
        print(
            f"{size[0]:4d} {size[1]:4d} {size[2]:9d} {seconds:10.3f} {decomposing:9.3f}"
            f" {rate / 1e9:20.0f} {100 * rate / peak:20.0f} %",
            flush=True,
        )
    print("exponents of the time of a step:")
    for what, small, large in (
        ("particles, at P = 200", (200, 784, 1024), (200, 784, 4096)),
        ("particles, at P = 400", (400, 784, 4096), (400, 784, 8192)),
        ("P, at 4096 particles, independent samples", (200, 784, 4096), (800, 784, 4096)),
        ("P, at 4096 particles, D = 20", (200, 20, 4096), (400, 20, 4096)),
        ("D, at P = 400", (400, 20, 4096), (400, 784, 4096)),
    ):
        ratio = max(b / a for a, b in zip(small, large, strict=True))
        exponent = np.log(times[large] / times[small]) / np.log(ratio)
        print(f"  {what}: {exponent:.2f}")


if __name__ == "__main__":
    main()
