"""Error of one replicate against its number of particles: quasi-random against i.i.d. sampling.

    python benchmarks/accuracy_per_cost.py

He2 teacher in D = 20 dimensions, P = 40 samples, ReLU; the error is the root mean square over
replicates and test points of the predictor's difference to a reference with many particles. The
i.i.d. samples are centred too (f = 0 at the start), which makes them better than the plain recipe.
"""

import numpy as np

import adaptik as ak

COUNTS = (128, 256, 512, 1024, 2048)
REPLICATES = 16


def solve(task, richness, particles, sampling, key):
    limit = ak.TwoLayer(
        "relu", particles=particles, replicates=REPLICATES, sampling=sampling, tol=2e-3
    )
    stage = ak.Stage(task, richness, duration=20.0)
    solution = ak.solve([stage], limit, key=key, record=2)
    return solution.predictions(task)[-1, :, :, 0], solution.records[0].cost.run_seconds


def main() -> None:
    _, task = ak.tasks.hermite_pair(1, 2, 1.0, n_source=1, n_target=40, dimension=20, n_test=500)
    print(
        "richness  particles M    quasi, M points           iid, 3 M points        ratio of errors"
    )
    for richness in (1.0, 3.0):
        reference = solve(task, richness, 16384, "quasi", key=99)[0].mean(0)
        for particles in COUNTS:
            cells, errors = [], []
            for sampling, count in (("quasi", particles), ("iid", 3 * particles)):
                f, seconds = solve(task, richness, count, sampling, key=1)
                errors.append(np.sqrt(np.mean((f - reference) ** 2)))
                cells.append(f"{errors[-1]:14.5f} ({seconds:5.1f} s)")
            ratio = errors[0] / errors[1]
            print(f"{richness:8g} {particles:10d} {cells[0]} {cells[1]} {ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
