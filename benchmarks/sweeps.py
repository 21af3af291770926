"""What a sweep costs beside its cases, and what a second worker brings.

    python benchmarks/sweeps.py [seconds a case] [cases]

Overhead: cases that take one second (default) of busy waiting, one after the other in this process
and on two workers; the time of the whole sweep beyond their sum (half of it) is bookkeeping.
Scaling: the same CPU-bound cases one after the other and on two worker processes, after a sweep
that starts them. Needs two idle cores.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from adaptik.sweeps import sweep


def busy(case: int, seconds: float) -> dict[str, np.ndarray | float]:
    """Wait without sleeping, then return numbers of the size of a learning curve."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return {"loss": float(case), "curve": np.full((32, 8), float(case))}


def cpu_bound(case: int, seconds: float) -> dict[str, float]:
    """A fixed amount of arithmetic, about ``seconds`` on an idle core of today."""
    total = 0
    for i in range(int(seconds * 1.5e7)):
        total += i & case
    return {"total": float(total)}


def timed(function, cases: int, seconds: float, **settings) -> float:
    """Seconds of a whole sweep."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        sweep(
            function, {"case": list(range(cases))}, fixed={"seconds": seconds},
            store=Path(folder, "store"), **settings,
        )  # fmt: skip
        return time.perf_counter() - began


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    cases = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    print(f"{cases} cases of {seconds:g} s; load when started: {load()}")
    print("overhead   executor        whole sweep   beyond the cases")
    timed(busy, 1, 0.01, executor="serial")
    for executor, workers in (("serial", 1), ("processes", 2)):  # one process would be this one
        timed(busy, workers, 0.01, executor=executor, workers=workers)  # the workers start
        whole = timed(busy, cases, seconds, executor=executor, workers=workers)
        share = whole * workers / (cases * seconds) - 1
        print(f"           {executor:12s} {whole:12.2f} s {100 * share:14.2f} %")
    print("scaling    workers         whole sweep   speed-up")
    times = {}
    for workers in (1, 2):
        timed(cpu_bound, workers, 0.01, workers=workers)
        times[workers] = timed(cpu_bound, cases, seconds, workers=workers)
        ratio = times[1] / times[workers]
        print(f"           {workers:<12d} {times[workers]:12.2f} s {ratio:14.2f}")


def load() -> str:
    """Load averages of the machine: the numbers mean something where they are near 0."""
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())


if __name__ == "__main__":
    main()
