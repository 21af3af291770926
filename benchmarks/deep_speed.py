"""Seconds and kernel errors of the deep limits against converged references.

    python benchmarks/deep_speed.py [small | large]

small: two layers, 8 samples, duration 5 (50 Euler steps of 0.1), tanh, richness 1. large: three
layers, 50 samples. One line a method: seconds of its first solve (with compilation) and of the
second, and relative Frobenius errors of feature (Phi) and gradient (G) kernels of every layer: root
mean square over solves with different keys. Solves estimate their own step error (a second, coarser
solve) in this time. References are means over many replicates, with their own standard error.
"""

import sys
import time

import numpy as np

import adaptik as ak

CASES = {
    "small": dict(
        depth=2, samples=8, activation="tanh", keys=6,
        reference=ak.Reveal(2, "tanh", 16384, 16, tol=2e-5, reveal_tol=1e-3),
        methods=[ak.Reveal(2, "tanh", n, 1) for n in (2048, 4096, 8192)]
        + [ak.Reveal(2, "tanh", 4096, 2), ak.Deep(2, "tanh")],
    ),
    "large": dict(
        depth=3, samples=50, activation="tanh", keys=1,
        reference=ak.Reveal(3, "tanh", 8192, 2, reveal_tol=5e-3),
        methods=[ak.Reveal(3, "tanh", 4096, 1), ak.Deep(3, "tanh")],
    ),
}  # fmt: skip


def kernels(limit, stage: ak.Stage, depth: int, key: int) -> tuple[list[ak.Estimate], float]:
    began = time.perf_counter()
    solution = ak.solve([stage], limit, record=2, key=key)
    seconds = time.perf_counter() - began
    found = [
        solution.kernel(stage.task.X, kind=kind, layer=layer)
        for kind in ("feature", "gradient")
        for layer in range(1, depth + 1)
    ]
    return found, seconds


def percent(errors) -> str:
    halves = np.split(100 * np.array(errors), 2)
    return " | ".join(", ".join(f"{e:.2f}" for e in half) + " %" for half in halves)


def main(name: str) -> None:
    case = CASES[name]
    task, _ = ak.tasks.hermite_pair(
        1, 2, 0.8, n_source=case["samples"], n_target=4, dimension=6, n_test=4
    )
    stage = ak.Stage(task, 1.0, duration=5.0)
    known, seconds = kernels(case["reference"], stage, case["depth"], 100)
    sizes = [np.linalg.norm(k.value) for k in known]
    errors = [np.linalg.norm(k.standard_error) for k in known]
    print(f"{name}: reference in {seconds:.0f} s, Phi_l | G_l ±", end=" ")
    print(percent(np.divide(errors, sizes)), flush=True)
    for limit in case["methods"]:
        _, first = kernels(limit, stage, case["depth"], 0)
        runs = [kernels(limit, stage, case["depth"], key) for key in range(1, case["keys"] + 1)]
        gaps = [
            [
                np.linalg.norm(k.value - r.value) / s
                for k, r, s in zip(ks, known, sizes, strict=True)
            ]
            for ks, _ in runs
        ]
        mean = np.sqrt(np.mean(np.square(gaps), axis=0))
        print(
            f"{limit.describe()}: first {first:.2f} s, then {min(s for _, s in runs):.2f} s, "
            f"{percent(mean)}", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "small")
