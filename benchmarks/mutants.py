"""Does the test suite see wrong code? One-line faults, each with a test that must fail.

    python benchmarks/mutants.py [--only TEXT] [--workers N]

The mutants stand in mutants.toml. Each is a plausible slip (a factor 2, a sign, a missing term, a
wrong axis, a dropped option, a standard error too small by sqrt 2) that leaves the code running and
its results finite. The script copies the project, checks that all named tests pass there, applies
one mutant after the other and runs the test named with it: first among those of ``make test``,
then, where the test is evidence, among those of ``make evidence``. It prints a table and ends with
1 where a mutant survives. Compiled programs are kept in a temporary folder for its own time.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    "src",
    "tests",
    "docs",
    "benchmarks",
    "examples",
    "pyproject.toml",
    "mkdocs.yml",
    "README.md",
)
LONG = "evidence"  # the marker of tests that are not in `make test`
LIMIT = 900  # seconds for one test; a mutant that runs longer counts as seen


class Mutant(NamedTuple):
    """Text of one file that becomes another, and the test that sees it."""

    name: str
    path: str  # below src/adaptik
    old: str
    new: str
    test: str


MUTANTS = tuple(
    Mutant(**entry)
    for entry in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["mutant"]
)


def copied(to: Path) -> Path:
    """A copy of what tests need."""
    to.mkdir()
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, to / name)
    return to


def passes(
    where: Path, tests: list[str], programs: Path, marker: str, workers: int = 0
) -> bool | None:
    """Whether the tests pass that the marker expression chooses; None if it chooses none."""
    settings = {
        "PYTHONPATH": str(where / "src"),
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "ADAPTIK_DATA": os.environ.get("ADAPTIK_DATA", str(ROOT.parent / "shared" / "data")),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["-n", str(workers), "-m", marker]
    try:
        done = subprocess.run(
            [*command, *tests], cwd=where, env=os.environ | settings, capture_output=True,
            text=True, timeout=LIMIT * len(tests),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1, 5):
        raise SystemExit(f"error: pytest could not run {tests}:\n{done.stdout}{done.stderr}")
    return None if done.returncode == 5 else done.returncode == 0


def seen(mutant: Mutant, where: Path, programs: Path) -> str:
    """Which command sees the mutant, if any."""
    path = where / "src" / "adaptik" / mutant.path
    right = path.read_text()
    path.write_text(right.replace(mutant.old, mutant.new))
    try:
        for command, marker in (("make test", f"not {LONG}"), ("make evidence", LONG)):
            if passes(where, [mutant.test], programs, marker) is False:
                return command
        return "SURVIVES"
    finally:
        path.write_text(right)


def check(mutants: list[Mutant]) -> None:
    """Refuse mutants whose text is not in the code exactly once."""
    for mutant in mutants:
        count = (ROOT / "src" / "adaptik" / mutant.path).read_text().count(mutant.old)
        if count != 1:
            raise SystemExit(f"error: {mutant.name}: its text is {count} times in {mutant.path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="One-line faults that the tests must see.")
    parser.add_argument("--only", default="", help="mutants whose name or file contains this")
    parser.add_argument("--workers", type=int, default=2, help="tests run at a time")
    options = parser.parse_args()
    mutants = [m for m in MUTANTS if options.only in m.name or options.only in m.path]
    check(mutants)
    with tempfile.TemporaryDirectory() as folder:
        programs, free = Path(folder) / "programs", Queue()
        for i in range(options.workers):
            free.put(copied(Path(folder) / f"copy{i}"))

        def judged(mutant: Mutant) -> tuple[str, float]:
            where, began = free.get(), time.perf_counter()
            try:
                return seen(mutant, where, programs), time.perf_counter() - began
            finally:
                free.put(where)

        whole = free.get()
        if not passes(whole, sorted({m.test for m in mutants}), programs, "", options.workers):
            raise SystemExit("error: the named tests do not pass on the code as it is")
        free.put(whole)
        with ThreadPoolExecutor(options.workers) as pool, suppress(BrokenPipeError):
            verdicts = []
            for mutant, (verdict, seconds) in zip(mutants, pool.map(judged, mutants), strict=True):
                verdicts.append(verdict)
                print(f"{verdict:14s} {seconds:5.0f} s  {mutant.name}  [{mutant.test}]", flush=True)
    quick, all_seen = verdicts.count("make test"), len(mutants) - verdicts.count("SURVIVES")
    print(f"{quick} of {len(mutants)} seen by make test, {all_seen} by it and make evidence")
    sys.exit(all_seen < len(mutants))


if __name__ == "__main__":
    main()
