"""Error of one replicate against its number of particles: quasi-random against i.i.d. sampling.

    python benchmarks/accuracy_per_cost.py

He2 teacher in D = 20 dimensions, P = 40 samples, ReLU; the error is the root mean square over
replicates and test points of the predictor's difference to a reference with many particles.
"""

import numpy as np

import adaptik as ak

PARTICLES = (128, 384, 512, 1536, 2048, 6144)
REPLICATES = 8


def solve(task, richness, particles, sampling, key):
    limit = ak.TwoLayer(
        "relu", particles=particles, replicates=REPLICATES, sampling=sampling, tol=2e-3
    )
    stage = ak.Stage(task, richness, duration=20.0)
    solution = ak.solve([stage], limit, key=key, record=2)
    return solution.predictions(task)[-1, :, :, 0], solution.records[0].cost.run_seconds


def main() -> None:
    _, task = ak.tasks.hermite_pair(1, 2, 1.0, n_source=1, n_target=40, dimension=20, n_test=500)
    print("richness  particles   rms error quasi (s)     rms error iid (s)")
    for richness in (1.0, 3.0):
        reference = solve(task, richness, 16384, "quasi", key=99)[0].mean(0)
        errors = {}
        for sampling in ("quasi", "iid"):
            for particles in PARTICLES:
                f, seconds = solve(task, richness, particles, sampling, key=1)
                errors[sampling, particles] = np.sqrt(np.mean((f - reference) ** 2)), seconds
        for particles in PARTICLES:
            cells = [errors[s, particles] for s in ("quasi", "iid")]
            print(
                f"{richness:8g} {particles:10d}   "
                + "   ".join(f"{e:12.5f} ({s:5.1f})" for e, s in cells)
            )
        for particles in (128, 512, 2048):
            ratio = errors["quasi", particles][0] / errors["iid", 3 * particles][0]
            pair = f"quasi({particles}) / iid({3 * particles})"
            print(f"richness {richness:g}: error {pair} = {ratio:.2f}")


if __name__ == "__main__":
    main()
