"""How long is the first answer, and the same in a second process?

    python benchmarks/first_answer.py [--repeats 5]

Two stages on 40 and 20 digits, `TwoLayer("relu")` at its defaults. A process is timed from the
start of the interpreter to its exit, imports included; the run time is that of the same solve
repeated in one process. First processes start with an empty folder of programs, second ones with
what a first one left there.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

ONCE = """
import adaptik as ak
source, target = ak.tasks.load_pair("digits:3,5", "digits:8,9", n_source=40, n_target=20)
stages = [ak.Stage(source, richness=1.0), ak.Stage(target, richness=1.0)]
solution = ak.solve(stages, ak.TwoLayer("relu"))
compiling = sum(record.cost.compile_seconds for record in solution.records)
"""
AGAIN = """
import statistics, time
seconds = []
for _ in range(5):
    began = time.perf_counter()
    ak.solve(stages, ak.TwoLayer("relu"))
    seconds.append(time.perf_counter() - began)
print(compiling, statistics.median(seconds))
"""


def process(folder: str, code: str) -> tuple[float, str]:
    """Seconds from start to exit, and what was printed."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"ADAPTIK_CACHE": folder}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return time.perf_counter() - began, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds of a first and a second process.")
    parser.add_argument("--repeats", type=int, default=5)
    repeats = range(parser.parse_args().repeats)
    firsts, seconds, runs, compiling = [], [], [], []
    for _ in repeats:
        with tempfile.TemporaryDirectory() as folder:
            firsts.append(process(folder, ONCE)[0])
            seconds.append(process(folder, ONCE)[0])
            _, printed = process("off", ONCE + AGAIN)
            compiled, run = map(float, printed.split())
            compiling.append(compiled)
            runs.append(run)
    run = statistics.median(runs)
    for name, taken in (("first process", firsts), ("second process", seconds)):
        middle = statistics.median(taken)
        print(f"{name}: {middle:.2f} s ({min(taken):.2f} to {max(taken):.2f}), ", end="")
        print(f"{middle - run:.2f} s beyond its run time")
    print(f"run time {run:.2f} s; compilation of both stages {statistics.median(compiling):.2f} s")


if __name__ == "__main__":
    main()
