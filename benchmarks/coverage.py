"""How often the true error lies within two standard errors.

    python benchmarks/coverage.py [solves] [data ...]

50 independent solves (default) of one rich stage, richness 1, 50 samples, 8 replicates of 256 and
1024 particles, against a reference of 16 x 8192; the share of 1000 test points at which the
difference is within two standard errors (its own and the reference's), averaged over solves.
Student's distribution with 7 degrees of freedom has 91.4 %. Also the root mean square of difference
over standard error, which would be 1.18 for it (1 for a Gaussian).
"""

import sys

import numpy as np
from speed import task_of

import adaptik as ak

DURATION = 100.0


def predicted(task, particles: int, replicates: int, key: int, tol: float):
    limit = ak.TwoLayer("relu", particles=particles, replicates=replicates, tol=tol)
    stages = [ak.Stage(task, 1.0, duration=DURATION)]
    return ak.solve(stages, limit, key=key, record=2).predict(task.X_test)


def main() -> None:
    solves = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    print("data     particles   within 2 s.e.   rms difference / s.e.   mean s.e.")
    for data in sys.argv[2:] or ("fashion", "hermite"):
        task = task_of(data, 50, 1000)
        known = predicted(task, 8192, 16, 10_000, 5e-4)
        for particles in (256, 1024):
            shares, ratios, sizes = [], [], []
            for key in range(solves):
                found = predicted(task, particles, 8, key, 1e-3)
                size = np.hypot(found.standard_error, known.standard_error)
                ratio = (found.value - known.value) / size
                shares.append(np.mean(np.abs(ratio) < 2))
                ratios.append(np.mean(ratio**2))
                sizes.append(np.mean(size))
            print(
                f"{data:8s} {particles:9d} {100 * np.mean(shares):13.1f} % "
                f"{np.sqrt(np.mean(ratios)):21.2f} {np.mean(sizes):15.5f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
