"""Memory of a solve against the number of test points and of particles.

    python benchmarks/memory.py

Every solve runs in a process of its own, twice: the first time compiles. The data are two tasks,
each with the test points in 200 dimensions; "before" is the process with its data and compiled
code, "solve" what the second solve's peak adds to that. Linux only: the peak is reset
through /proc.
"""

import multiprocessing

import numpy as np

import adaptik as ak

DIMENSION = 200


def tasks(tests: int):
    rng = np.random.default_rng(0)
    for name, samples in (("source", 100), ("target", 50)):
        X, X_test = (rng.standard_normal((n, DIMENSION)) for n in (samples, tests))
        yield ak.Task(X, X[:, 0] ** 2 - 1, X_test, X_test[:, 0] ** 2 - 1, name=name)


def memory(which: str) -> float:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(which))
    return int(line.split()[1]) / 1024


def measure(particles: int, tests: int, queue) -> None:
    source, target = tasks(tests)
    stages = [ak.Stage(source, 1.0, duration=5.0), ak.Stage(target, 1.0, duration=5.0)]
    limit = ak.TwoLayer("relu", particles=particles, replicates=2)
    ak.solve(stages, limit, record=4)
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = memory("VmRSS")
    ak.solve(stages, limit, record=4)
    peak = memory("VmHWM")
    predicted = limit.predicted_bytes(stages, {t.name: t for t in (source, target)}) / 2**20
    queue.put((before, peak - before, predicted))


def main() -> None:
    context = multiprocessing.get_context("spawn")
    print("particles  test points   before MiB   solve MiB   predicted MiB")
    for particles in (2048, 8192):
        for tests in (100, 10_000):
            queue = context.Queue()
            process = context.Process(target=measure, args=(particles, tests, queue))
            process.start()
            cells = queue.get()
            process.join()
            print(f"{particles:9d} {tests:12d}", *(f"{cell:11.0f}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
