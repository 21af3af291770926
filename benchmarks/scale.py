"""Seconds, steps and memory of a stage on thousands of images, ten classes and two layers.

    python benchmarks/scale.py [--times 3] [ROW ...]      # "1000, 4/6"; every row without a name

Fashion-MNIST (all 60 000 images, in the folder that ``ADAPTIK_DATA`` names), ReLU, richness 1, from
the start to a training loss of 1e-4 if nothing else is said ("converged" waits for its rate too, as
stages do by default); 2 x 1024 particles, of two layers what ``Deep`` takes; default tolerances.
Every solve is a process of its own, to be run on a machine that does nothing else. Seconds are
those of the run, with compilation beside them (with several times the medians of both, and all runs
at the end); memory is the peak less what the process holds with its imports and data, with the
prediction beside it.
"""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from memory import memory

import adaptik as ak
from adaptik.limits.two_layer import memory as two_layer_memory

PARTICLES, REPLICATES, TESTS = 1024, 2, 1000
TO_LOSS: dict[str, Any] = dict(loss_tol=1e-4, rate_tol=1e-3)
TO_A_HUNDREDTH: dict[str, Any] = dict(loss_tol=1e-2, rate_tol=1e-3)
FOR_100: dict[str, Any] = dict(duration=100.0)
TEN = tuple(range(10))
HEAD = (
    "| stage | ends | steps (refused) | seconds (compilation) | MiB (predicted) "
    "| test loss, accuracy | steps of |",
    "|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Row:
    """One stage: which classes, how many samples and hidden layers, when it ends."""

    classes: tuple[int, ...]
    samples: int
    ends: dict[str, Any] = field(default_factory=dict)
    depth: int = 1
    memory: int | None = None  # MiB that solves are told there are; None for the machine's

    @property
    def limit(self) -> ak.TwoLayer | ak.Deep:
        if self.depth > 1:
            return ak.Deep(self.depth, "relu")
        return ak.TwoLayer("relu", particles=PARTICLES, replicates=REPLICATES)

    def task(self) -> ak.Task:
        task = ak.tasks.load(
            "fashion-mnist", classes=self.classes, n_train=self.samples, n_test=TESTS, seed=0
        )
        return ak.tasks.standardise_labels(task)


ROWS = {
    "400, 2/6": Row((2, 6), 400, TO_LOSS),
    "400, 4/6": Row((4, 6), 400, TO_LOSS),
    "400, 4/6, converged": Row((4, 6), 400),
    "1000, 0/9": Row((0, 9), 1000, TO_LOSS),
    "1000, 4/6": Row((4, 6), 1000, TO_LOSS),
    "1000, ten classes": Row(TEN, 1000, TO_LOSS),
    "4000, 0/9": Row((0, 9), 4000, TO_LOSS),
    "4000, 0/9, to 1e-2": Row((0, 9), 4000, TO_A_HUNDREDTH),
    "10000, 0/9, to 1e-2": Row((0, 9), 10_000, TO_A_HUNDREDTH),
    "1000, 0/9, for 100": Row((0, 9), 1000, FOR_100),
    "2000, 0/9, for 100": Row((0, 9), 2000, FOR_100),
    "4000, 0/9, for 100": Row((0, 9), 4000, FOR_100),
    "10000, 0/9, for 100": Row((0, 9), 10_000, FOR_100),
    "10000, ten classes, for 100": Row(TEN, 10_000, FOR_100),
    "10000, 0/9, for 10": Row((0, 9), 10_000, dict(duration=10.0)),
    "10000, 0/9, for 10, 1 GiB": Row((0, 9), 10_000, dict(duration=10.0), memory=1024),
    "60000, ten classes, for 0.1, 4 GiB": Row(TEN, 60_000, dict(duration=0.1), memory=4096),
    "200, 0/9, two layers": Row((0, 9), 200, TO_LOSS, 2),
    "400, 0/9, two layers": Row((0, 9), 400, TO_LOSS, 2),
    "1000, 0/9, two layers": Row((0, 9), 1000, TO_LOSS, 2),
}


def measure(row: Row) -> dict[str, Any]:
    """One solve, after a small one that imports what a solve imports."""
    task, limit = row.task(), row.limit
    if row.memory is not None:
        two_layer_memory.available_bytes = lambda: row.memory * 2**20
    small = ak.Task([[1.0, 0.0], [0.0, 1.0]], [-1, 1])
    ak.solve([ak.Stage(small, 1.0, duration=0.1)], ak.TwoLayer("relu", particles=64))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    stage, before = ak.Stage(task, 1.0, **row.ends), memory("VmRSS")
    solution = ak.solve([stage], limit, record=2)
    record = solution.records[0]
    return dict(
        cost=record.cost,
        end=f"{record.outcome.value} at {record.duration:.4g}, "
        f"loss {float(solution.loss(task, 'train')):.2g}",
        memory=memory("VmHWM") - before,
        predicted=limit.predicted_bytes([stage], {task.name: task}) / 2**20,
        tests=f"{solution.loss(task)}, {solution.accuracy(task)}",
    )


def apart(row: Row) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as process:
        return process.submit(measure, row).result()


def line(name: str, runs: list[dict[str, Any]]) -> str:
    costs = [run["cost"] for run in runs]
    seconds, compiling = (
        np.median([getattr(c, kind) for c in costs]) for kind in ("run_seconds", "compile_seconds")
    )
    most = max(run["memory"] for run in runs)
    every = "" if len(runs) == 1 else ": " + ", ".join(f"{c.run_seconds:.3g}" for c in costs)
    return (
        f"| {name} | {runs[0]['end']} | {costs[0].steps} ({costs[0].rejected}) "
        f"| {seconds:.3g} ({compiling:.2g}) | {most:.0f} ({runs[0]['predicted']:.0f}) "
        f"| {runs[0]['tests']} | {costs[0].method.split(' (')[0]}{every} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {'; '.join(ROWS)}")
    parser.add_argument("--times", type=int, default=1, help="solves of a row [default: 1]")
    asked = parser.parse_args()
    if unknown := sorted({*asked.rows} - {*ROWS}):
        parser.error(f"no such row: {'; '.join(unknown)}; there are {'; '.join(ROWS)}")
    print(*HEAD, sep="\n", flush=True)
    seconds = {}
    for name in asked.rows or ROWS:
        runs = [apart(ROWS[name]) for _ in range(asked.times)]
        print(line(name, runs), flush=True)
        if name.endswith("0/9, for 100"):
            seconds[ROWS[name].samples] = np.median([run["cost"].run_seconds for run in runs])
    if len(seconds) > 1:
        power = np.polyfit(np.log([*seconds]), np.log([*seconds.values()]), 1)[0]
        print(f"exponent of seconds in samples: {power:.2f}")


if __name__ == "__main__":
    main()
