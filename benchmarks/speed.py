"""Seconds and errors of one curve: the published recipe, training a wide network, adaptik.

    python benchmarks/speed.py [P ...] [fashion | hermite] [richness ...] [time=T] [row ...]

For example 200 hermite 1.0, or 50 fashion 1.0 network "network, momentum" "adaptik, tol 1e-2".

A curve is one rich stage of gradient flow until the training loss is 1e-4, or for the time that is
given, with predictions at all test points. Every row is a process of its own; what is timed has run
before, so compilation, in a column of its own, is left out. Errors are root mean squares over test
points of the difference to a reference, whose own standard error is printed; what adaptik itself
reports ends each of its rows.

- recipe: 10 000 i.i.d. neurons, 20 000 explicit Euler steps, all test points carried, single
  precision; seconds are those of 50 steps (10 without jit) times their number, the error is that
  of i.i.d. samples alone (their readout at the start subtracted, which the recipe does not do).
- network: width 20 000, full-batch gradient descent. Steps are at first half the largest stable one
  at the start, and halved until their error (against half as long ones, at width 1024) is below
  that of the width, which is that of a network of width 1024 divided by sqrt(20 000/1024). Seconds
  are those of 20 steps times their number over 20, the error is that of both together.
- network, momentum: the same by the fastest of optax's momentum methods. Their steps of rate
  (1 - momentum) follow the same flow, and are stable where they are many times as long; as few as
  have the same error against the steps of gradient descent.
- adaptik: ``solve(tol=...)``, all replicates and all refinements included. "as recipe" asks for the
  error of the recipe.

Smaller tolerances run on up to 200 images, where they end within minutes. Settings take minutes at
P = 50 and much longer at 800: give P, data and richness.
"""

import multiprocessing
import resource
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptik as ak
from adaptik.kernels import lazy as lazy_kernels

NEURONS, STEPS, WIDTH, SMALL = 10_000, 20_000, 20_000, 1024
TESTS = {"fashion": 1000, "hermite": 10_000}  # test points
REFERENCE = {"fashion": 4096, "hermite": 8192}  # particles of each of 4 replicates
NETWORKS = ["network", "network, momentum"]
KINDS = ["recipe", "recipe, no jit", *NETWORKS, "adaptik, tol 1e-2", "adaptik, as recipe"]
MOMENTA = [(0.3, True), (0.5, True), (0.8, True), (0.9, False)]  # and Nesterov's


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


def recipe(task, richness, duration, jitted: bool) -> float:
    """Seconds of the whole run."""
    X, y = jnp.asarray(task.X, "f"), jnp.asarray(task.y[:, 0], "f")
    everything = jnp.concatenate([X, jnp.asarray(task.X_test, "f")])
    inputs = X @ everything.T / X.shape[1]
    rng, count = np.random.default_rng(0), len(X)
    w = jnp.asarray(rng.standard_normal((NEURONS, X.shape[1])), "f")
    h, z = w @ everything.T / np.sqrt(X.shape[1]), jnp.asarray(rng.standard_normal(NEURONS), "f")
    dt = duration / STEPS

    def step(_, state):
        h, z = state
        phi = jnp.maximum(h, 0)
        f = z @ phi / (richness * NEURONS)
        error = dt * richness * (y - f[:count]) / count
        g = z[:, None] * (h[:, :count] > 0)
        return h + (g * error) @ inputs, z + phi[:, :count] @ error

    steps = 50 if jitted else 10

    def several(state):
        if jitted:
            return jax.lax.fori_loop(0, steps, step, state)
        for _ in range(steps):
            state = step(0, state)
        return state

    return timed(jax.jit(several) if jitted else several, (h, z)) * STEPS / steps


def network(task, richness, duration, allowed: float, momenta) -> tuple[float, float, str]:
    """Seconds of the whole run, the error of its steps, and what they are.

    As few steps as keep the error of steps, measured at width 1024, below ``allowed``.
    """
    inputs = [jnp.asarray(a, "f") for a in (task.X, task.y[:, 0], task.X_test)]
    kernel = lazy_kernels.ntk(task.X, depth=1, activation="relu")
    steps = int(np.ceil(duration * np.linalg.eigvalsh(kernel)[-1] / task.n_train))
    error, finer = np.inf, descent(*inputs, richness, duration, SMALL, steps, steps)
    while not error <= allowed:
        coarse, steps = finer, 2 * steps
        finer = descent(*inputs, richness, duration, SMALL, steps, steps)
        error = rms(coarse - finer)
    steps //= 2
    said = f"{steps} steps"
    if momenta:
        found = [
            with_momentum(inputs, richness, duration, allowed, steps, finer, m) for m in momenta
        ]
        steps, error, kind = min(found)
        said = ", ".join(
            f"{'Nesterov' if nesterov else 'momentum'} {inertia:g}: {count} steps"
            + ("" if error <= allowed else " do not")
            for count, error, (inertia, nesterov) in found
        )
    else:
        kind = None
    seconds = timed(descent, *inputs, richness, duration, WIDTH, steps, 20, kind)
    return seconds * steps / 20, error, said


def with_momentum(inputs, richness, duration, allowed, steps, known, momentum):
    """Number of steps, their error, and which: from a 32nd of ``steps`` on, a third more each."""
    count = max(4, steps // 32)
    while count <= steps:
        found = descent(*inputs, richness, duration, SMALL, count, count, momentum)
        if (error := rms(found - known)) <= allowed:
            return count, error, momentum
        count = -(-4 * count // 3)
    return count, np.inf, momentum


@partial(jax.jit, static_argnames=("width", "taken", "momentum"))
def descent(X, y, X_test, richness, duration, width, steps, taken, momentum=None):
    """Predictions after the first ``taken`` of ``steps`` steps of full-batch gradient descent."""
    W, v = (
        jax.random.normal(jax.random.key(i), s)
        for i, s in enumerate(((width, X.shape[1]), (width,)))
    )

    def readout(weights, X):
        W, v = weights
        return jnp.maximum(X @ W.T / np.sqrt(X.shape[1]), 0) @ v / (richness * width)

    start = readout((W, v), X)

    def loss(weights):
        return 0.5 * jnp.mean((y - readout(weights, X) + start) ** 2)

    inertia, nesterov = momentum or (None, False)
    rate = richness**2 * width * duration / steps * (1 - (inertia or 0.0))
    optimiser = optax.sgd(rate, inertia, nesterov)

    def step(_, both):
        weights, state = both
        change, state = optimiser.update(jax.grad(loss)(weights), state)
        return optax.apply_updates(weights, change), state

    weights, _ = jax.lax.fori_loop(0, taken, step, ((W, v), optimiser.init((W, v))))
    return readout(weights, X_test) - readout((W, v), X_test)


def predictions(task, richness, limit, key, duration=None, **options):
    stage = ak.Stage(task, richness, duration=duration)
    solution = ak.solve([stage], limit, key=key, record=2, **options)
    return solution, np.asarray(solution.predict(task.X_test))


def rms(x) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def row(kind: str, data: tuple, richness: float, given, queue) -> None:
    """Puts a reference, or (seconds, compile seconds, error, peak MiB, remark)."""
    task = task_of(*data)
    error, compiling, remark = np.nan, np.nan, ""
    if kind == "reference":
        limit = ak.TwoLayer("relu", particles=REFERENCE[data[0]], replicates=4, tol=2e-3)
        solution, f = predictions(task, richness, limit, 99, given)
        queue.put((f, solution.records[-1].duration, solution.sampling_error))
        return
    reference, duration, _ = given
    if kind.startswith("recipe"):
        seconds = recipe(task, richness, duration, kind == "recipe")
        if kind == "recipe":
            limit = ak.TwoLayer("relu", particles=NEURONS, replicates=4, sampling="iid")
            solution, _ = predictions(task, richness, limit, 1, duration)
            error = rms(solution.predictions(task)[-1, :, :, 0] - reference)
    elif kind in NETWORKS:
        stage = ak.Stage(task, richness, duration=duration)
        solution = ak.train([stage], ak.Network(SMALL, "relu"), seeds=1, record=2)
        error = rms(solution.predictions(task)[-1, :, :, 0] - reference) * np.sqrt(SMALL / WIDTH)
        momenta = MOMENTA if kind != "network" else []
        seconds, of_steps, steps = network(task, richness, duration, error, momenta)
        remark = f"{steps}; their error is {of_steps:.5f}"
        error = np.hypot(error, of_steps)
    else:
        tol, limit = float(kind.split()[-1]), ak.TwoLayer("relu")
        began = time.perf_counter()
        predictions(task, richness, limit, 1, duration, tol=tol)
        first, began = time.perf_counter() - began, time.perf_counter()
        solution, f = predictions(task, richness, limit, 1, duration, tol=tol)
        seconds = time.perf_counter() - began
        compiling = first - seconds
        error = rms(f - reference)
        particles = solution.states[-1].particles.w.shape[1]
        cost = solution.records[-1].cost
        remark = f"4 x {particles} particles, {cost.steps} {cost.method.split()[0]} steps"
        remark += f", reported {solution.sampling_error:.5f}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    queue.put((seconds, compiling, error, peak, remark))


def apart(*arguments):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=row, args=(*arguments, queue))
    process.start()
    result = queue.get()
    process.join()
    return result


def main() -> None:
    counts = [int(n) for n in sys.argv[1:] if n.isdigit()] or [50, 200, 800]
    only = [n for n in sys.argv[1:] if n in KINDS]
    names = [n for n in sys.argv[1:] if n in TESTS] or list(TESTS)
    wanted = [float(n) for n in sys.argv[1:] if "." in n and "=" not in n] or [0.3, 1.0, 3.0]
    times = [float(n.removeprefix("time=")) for n in sys.argv[1:] if n.startswith("time=")]
    until = times[0] if times else None
    print("data      P  tests gamma  what               seconds  compile    error  peak MiB")
    for samples in counts:
        for data, tests in ((name, TESTS[name]) for name in names):
            for richness in wanted:
                setting = ((data, samples, tests), richness)
                given = apart("reference", *setting, until)
                print(
                    f"{data:7s} {samples:3d} {tests:6d} {richness:5g}  reference: time "
                    f"{given[1]:.0f}, standard error {given[2]:.5f}",
                    flush=True,
                )
                kinds, asked = only or [*KINDS], np.nan
                if data == "fashion" and samples <= 200 and not only:
                    kinds += ["adaptik, tol 3e-3", "adaptik, tol 1e-3"]
                for kind in kinds:
                    asks = f"adaptik, tol {asked:.3g}" if kind.endswith("as recipe") else kind
                    seconds, compiling, error, peak, remark = apart(asks, *setting, given)
                    asked = error if kind == "recipe" else asked
                    print(
                        f"{data:7s} {samples:3d} {tests:6d} {richness:5g}  {asks:19s}"
                        f"{seconds:7.2f} {compiling:8.1f} {error:8.5f} {peak:9.0f}  {remark}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
