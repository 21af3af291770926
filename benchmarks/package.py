"""Do wheel and sdist install into an empty environment and run the README's example?

    python benchmarks/package.py

Builds both, installs each with its dependencies into a new environment in a temporary folder, and
runs the first Python example of README.md there. Needs an index of packages.
"""

import re
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def example() -> str:
    """The README's first Python block."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    if found is None:
        raise SystemExit("error: README.md has no Python example")
    return found[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "dist"
        build = [sys.executable, "-m", "build", "--outdir", str(built), str(ROOT)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        for package in sorted(built.iterdir()):
            where = Path(folder) / package.suffix
            venv.create(where, with_pip=True)
            python = where / "bin" / "python"
            subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)
            began = time.perf_counter()
            code = example() + "\nprint(theory.outcome.value, theory.loss(target), ak.__file__)\n"
            done = subprocess.run(
                [python, "-c", code], check=True, cwd=folder, capture_output=True, text=True
            )
            typed = (where / "lib").glob("*/site-packages/adaptik/py.typed")
            assert list(typed), f"{package.name} has no py.typed"
            seconds = time.perf_counter() - began
            print(f"{package.name}: example in {seconds:.0f} s: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
