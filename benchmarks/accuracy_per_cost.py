"""Error of one replicate against its number of particles: adaptik against i.i.d. sampling.

    python benchmarks/accuracy_per_cost.py

He2 teacher in D = 20 dimensions, P = 40 samples, ReLU; the error is the root mean square over
replicates and test points of the predictor's difference to a reference with many particles. Plain
i.i.d. samples are the published recipe, f = <z phi>/gamma; centred ones subtract f at the start.
"""

from dataclasses import replace

import numpy as np

import adaptik as ak
from adaptik.kernels.particles.state import ReadoutTerm
from adaptik.solution import Request

COUNTS = (128, 256, 512, 1024, 2048)
REPLICATES = 32
DURATION = 20.0


def solve(task, richness, particles, sampling, key, replicates=REPLICATES):
    """Predictions at the test points at the end, shape (replicates, points), and run seconds."""
    limit = ak.TwoLayer(
        "relu",
        particles=particles,
        replicates=replicates,
        sampling="quasi" if sampling == "quasi" else "iid",
        tol=2e-3,
    )
    if sampling == "plain":
        stage = ak.Stage(task, richness, duration=DURATION, head="kept")
        rng, tasks = np.random.default_rng(key), {task.name: task}
        state = limit.start([stage], tasks, rng)
        state = replace(state, terms=(ReadoutTerm(state.particles, 1 / richness),))
        record, *_ = limit.advance(state, stage, Request(tasks, np.array([DURATION]), (), rng))
        return record.predictions[task.name, "test"][-1, :, :, 0], record.cost.run_seconds
    stage = ak.Stage(task, richness, duration=DURATION)
    solution = ak.solve([stage], limit, key=key, record=2)
    return solution.predictions(task)[-1, :, :, 0], solution.records[0].cost.run_seconds


def main() -> None:
    _, task = ak.tasks.hermite_pair(1, 2, 1.0, n_source=1, n_target=40, dimension=20, n_test=500)
    print("errors (run seconds)")
    print(
        "richness      M   adaptik, M          plain i.i.d., 3 M   centred i.i.d., 3 M   "
        "ratio to plain   to centred"
    )
    for richness in (1.0, 3.0):
        reference = solve(task, richness, 16384, "quasi", key=99, replicates=16)[0].mean(0)
        for particles in COUNTS:
            cells, errors = [], []
            for sampling in ("quasi", "plain", "centred"):
                count = particles if sampling == "quasi" else 3 * particles
                f, seconds = solve(task, richness, count, sampling, key=1)
                errors.append(np.sqrt(np.mean((f - reference) ** 2)))
                cells.append(f"{errors[-1]:9.5f} ({seconds:5.1f} s)")
            ratios = [errors[0] / other for other in errors[1:]]
            print(
                f"{richness:8g} {particles:6d} ",
                *cells,
                f"{ratios[0]:10.2f} {ratios[1]:12.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
