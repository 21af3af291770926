"""What one accelerator does with many samples of ten classes: the table of docs/notes/speed.md.

    python benchmarks/gpu.py [P ...]        # 1000 10000 60000; 200 1000 where JAX sees a CPU alone

Inputs are Gaussian in D = 784 dimensions with a spectrum that falls like 1/k, as that of images
does; labels are the largest of ten readouts of a random network. A row is one rich stage for a time
of 100 with 2 x 1024 particles, then a network of width 2048 for the same time. Rows go on while the
next one is expected to end within BUDGET seconds, at a cost in proportion to P.

- seconds: without compilation, which stands beside them. Each row compiles: shapes differ.
- products: operations of two evaluations of all fields and gradients a step (4 M P D each), per
  second, as a share of the rate of one large product in single precision.
- memory: predicted, and the largest that the device had in use, where it tells.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import adaptik as ak

DIMENSION, CLASSES, DURATION, RICHNESS = 784, 10, 100.0, 1.0
PARTICLES, REPLICATES, BUDGET = 1024, 2, 480
HEAD = "| samples | steps | seconds | compilation | products | memory (GiB) | network, seconds |"


def task_of(samples: int) -> ak.Task:
    rng = np.random.default_rng(0)
    spectrum = 1 / np.arange(1, DIMENSION + 1)
    X = rng.standard_normal((samples, DIMENSION)) * np.sqrt(spectrum / spectrum.mean())
    hidden = np.maximum(X @ rng.standard_normal((DIMENSION, 64)) / np.sqrt(DIMENSION), 0)
    chosen = np.argmax(hidden @ rng.standard_normal((64, CLASSES)), axis=1)
    return ak.Task(X, np.eye(CLASSES)[chosen] - 1 / CLASSES, name="synthetic")


def rate_of_products(size: int = 4096) -> float:
    """Operations a second of one product in single precision."""
    a = jnp.ones((size, size), "float32")
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
    product(a, a).block_until_ready()
    began = time.perf_counter()
    for _ in range(4):
        a = product(a, a) / size
    a.block_until_ready()
    return 8 * size**3 / (time.perf_counter() - began)


def row(samples: int, fastest: float) -> str:
    stage = ak.Stage(task_of(samples), RICHNESS, DURATION)
    limit = ak.TwoLayer("relu", particles=PARTICLES, replicates=REPLICATES)
    predicted = limit.predicted_bytes([stage], {stage.task.name: stage.task})
    cost = ak.solve([stage], limit).records[0].cost
    used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", np.nan)
    fields = 4 * PARTICLES * REPLICATES * samples * DIMENSION
    share = 2 * fields * (cost.steps + cost.rejected) / cost.run_seconds / fastest
    trained = ak.train([stage], ak.Network(PARTICLES * REPLICATES, "relu")).records[0].cost
    return (
        f"| {samples} | {cost.steps} | {cost.run_seconds:.3g} | {cost.compile_seconds:.3g} "
        f"| {100 * share:.0f} % | {predicted / 2**30:.2g}, {used / 2**30:.2g} "
        f"| {trained.run_seconds:.3g} |"
    )


def main(sizes: list[int]) -> None:
    began, device = time.perf_counter(), jax.devices()[0]
    default = [200, 1000] if device.platform == "cpu" else [1000, 10_000, 60_000]
    fastest = rate_of_products()
    print(f"{device.device_kind}, JAX {jax.__version__}: products at {fastest / 1e12:.3g} TFLOP/s")
    print(HEAD, "|---" * HEAD.count(" | ") + "|---|", sep="\n")
    last = None
    for samples in sizes or default:
        started = time.perf_counter()
        expected = 0.0 if last is None else last[1] * samples / last[0]
        if started - began + expected > BUDGET:
            print(f"| {samples} | not run: about {expected:.0f} s expected |")
            continue
        print(row(samples, fastest), flush=True)
        last = samples, time.perf_counter() - started


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]])
