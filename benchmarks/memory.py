"""Peak memory of a solve against the number of test points and of particles.

    python benchmarks/memory.py

Every solve runs in a process of its own; the first row is the process before the solve.
"""

import multiprocessing
import resource

import adaptik as ak


def peak(particles: int, tests: int, queue) -> None:
    source, target = ak.tasks.hermite_pair(
        1, 2, 0.5, n_source=100, n_target=50, dimension=200, n_test=tests
    )
    stages = [ak.Stage(source, 1.0, duration=5.0), ak.Stage(target, 1.0, duration=5.0)]
    if particles:
        limit = ak.TwoLayer("relu", particles=particles, replicates=2)
        ak.solve(stages, limit, record=4)
        predicted = limit.predicted_bytes(stages, {t.name: t for t in (source, target)})
    else:
        predicted = 0
    queue.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, predicted / 2**20))


def main() -> None:
    context = multiprocessing.get_context("spawn")
    print("particles  test points   peak MiB   predicted MiB of the solve")
    for particles, tests in ((0, 100), (2048, 100), (2048, 10000), (8192, 100), (8192, 10000)):
        queue = context.Queue()
        process = context.Process(target=peak, args=(particles, tests, queue))
        process.start()
        used, predicted = queue.get()
        process.join()
        print(f"{particles:9d} {tests:12d} {used:10.0f} {predicted:12.0f}")


if __name__ == "__main__":
    main()
