"""Seconds and errors of one curve: the published recipe, training a wide network, adaptik.

    python benchmarks/speed.py [P ...]

A curve is one rich stage of gradient flow from initialisation for a time of 30, with predictions at
all test points. Every row is a process of its own; what is timed has run before, so compilation is
left out. Errors are root mean squares over test points of the difference to a reference with
4 x 16 384 particles.

- recipe: 10 000 i.i.d. neurons, 20 000 explicit Euler steps, all test points carried, single
  precision; seconds are those of 50 steps times 400, the error is that of i.i.d. samples alone
  (their readout at the start subtracted, which the recipe does not do).
- network: width 20 000, full-batch gradient descent at half the largest stable step at the
  start; seconds are those of 20 steps times their number over 20, the error is that of networks
  of width 1024 divided by sqrt(20 000/1024).
- adaptik: ``solve(tol=...)``, all replicates and all refinements included.
"""

import multiprocessing
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import adaptik as ak
from adaptik import lazy_kernels

DURATION, NEURONS, STEPS, WIDTH, SMALL = 30.0, 10_000, 20_000, 20_000, 1024


def task_of(name: str, samples: int, tests: int) -> ak.Task:
    if name == "fashion":
        options = dict(n_train=samples, n_test=tests, seed=0)
        return ak.tasks.load("fashion-mnist", classes=(0, 9), **options)
    _, task = ak.tasks.hermite_pair(
        1, 2, 1.0, n_source=1, n_target=samples, dimension=20, n_test=tests
    )
    return task


def timed(function, *inputs) -> float:
    """Seconds of a call after one that compiles."""
    jax.block_until_ready(function(*inputs))
    began = time.perf_counter()
    jax.block_until_ready(function(*inputs))
    return time.perf_counter() - began


def recipe(task, richness, jitted: bool):
    """Seconds of the whole run."""
    X, y = jnp.asarray(task.X, "f"), jnp.asarray(task.y[:, 0], "f")
    everything = jnp.concatenate([X, jnp.asarray(task.X_test, "f")])
    inputs = X @ everything.T / X.shape[1]
    rng, count = np.random.default_rng(0), len(X)
    w = jnp.asarray(rng.standard_normal((NEURONS, X.shape[1])), "f")
    h, z = w @ everything.T / np.sqrt(X.shape[1]), jnp.asarray(rng.standard_normal(NEURONS), "f")
    dt = DURATION / STEPS

    def step(_, state):
        h, z = state
        phi = jnp.maximum(h, 0)
        f = z @ phi / (richness * NEURONS)
        error = dt * richness * (y - f[:count]) / count
        g = z[:, None] * (h[:, :count] > 0)
        return h + (g * error) @ inputs, z + phi[:, :count] @ error

    def several(state, steps=50 if jitted else 5):
        if jitted:
            return jax.lax.fori_loop(0, steps, step, state)
        for _ in range(steps):
            state = step(0, state)
        return state

    return timed(jax.jit(several) if jitted else several, (h, z)) * STEPS / (50 if jitted else 5)


def network(task, richness):
    """Seconds of the whole run."""
    X, y = jnp.asarray(task.X, "f"), jnp.asarray(task.y[:, 0], "f")
    D, P = task.dimension, task.n_train
    rng = np.random.default_rng(0)
    W, v = (jnp.asarray(rng.standard_normal(s), "f") for s in ((WIDTH, D), WIDTH))
    kernel = lazy_kernels.ntk(task.X, depth=1, activation="relu")
    steps = int(np.ceil(DURATION * np.linalg.eigvalsh(kernel)[-1] / P))

    def loss(weights):
        W, v = weights
        f = jnp.maximum(X @ W.T / np.sqrt(D), 0) @ v / (richness * WIDTH)
        return 0.5 * jnp.mean((y - f) ** 2)

    def step(_, weights):
        rate = richness**2 * WIDTH * DURATION / steps
        return jax.tree.map(lambda w, g: w - rate * g, weights, jax.grad(loss)(weights))

    run = jax.jit(lambda weights: jax.lax.fori_loop(0, 20, step, weights))
    return timed(run, (W, v)) * steps / 20


def predictions(task, richness, limit, key, **options):
    solution = ak.solve([ak.Stage(task, richness, duration=DURATION)], limit, key=key, **options)
    return solution, np.asarray(solution.predict(task.X_test))


def rms(x) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def row(kind: str, data: tuple, richness: float, reference, queue) -> None:
    """Puts seconds, error and peak MiB; for a reference its predictions."""
    task = task_of(*data)
    error = np.nan
    if kind == "reference":
        limit = ak.TwoLayer("relu", particles=16_384, replicates=4, tol=5e-4)
        queue.put(predictions(task, richness, limit, 99, record=2)[1])
        return
    if kind.startswith("recipe"):
        seconds = recipe(task, richness, kind == "recipe")
        if kind == "recipe":
            limit = ak.TwoLayer("relu", particles=NEURONS, replicates=4, sampling="iid")
            solution, _ = predictions(task, richness, limit, 1, record=2)
            each = solution.predictions(task)[-1, :, :, 0]
            error = rms(each - reference)
    elif kind == "network":
        seconds = network(task, richness)
        stage = ak.Stage(task, richness, duration=DURATION)
        solution = ak.train([stage], ak.Network(SMALL, "relu"), seeds=2, record=2)
        each = solution.predictions(task)[-1, :, :, 0]
        error = rms(each - reference) * np.sqrt(SMALL / WIDTH)
    else:
        tol = float(kind.split()[-1])
        predictions(task, richness, ak.TwoLayer("relu"), 1, record=2, tol=tol)  # compiles
        began = time.perf_counter()
        solution, f = predictions(task, richness, ak.TwoLayer("relu"), 1, record=2, tol=tol)
        seconds, error = time.perf_counter() - began, rms(f - reference)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    queue.put((seconds, error, peak))


def apart(*arguments):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=row, args=(*arguments, queue))
    process.start()
    result = queue.get()
    process.join()
    return result


def main() -> None:
    counts = [int(n) for n in sys.argv[1:]] or [50, 200, 800]
    print("data     P   tests  richness   what            seconds     error   peak MiB     times")
    for data, tests in (("fashion", 1000), ("hermite", 10_000)):
        for samples in counts:
            for richness in (0.3, 1.0, 3.0):
                setting = ((data, samples, tests), richness)
                reference = apart("reference", *setting, None)
                kinds = ["adaptik, tol 1e-2", "adaptik, tol 1e-3"][: 1 if samples > 400 else 2]
                if samples == 200:
                    kinds += ["recipe", "recipe, no jit", "network"]
                first = None
                for kind in kinds:
                    seconds, error, peak = apart(kind, *setting, reference)
                    first = first or seconds
                    print(
                        f"{data:8s} {samples:3d} {tests:6d} {richness:8g}   {kind:17s}",
                        f"{seconds:8.2f} {error:9.5f} {peak:8.0f} {seconds / first:10.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
