"""Tutorials: scripts of cells are run, and become pages with their code, prints and figures.

``python docs/render.py [NAME ...]`` runs ``docs/tutorials/NAME.py``, or all of them, and writes
``NAME.md`` and its figures beside them. Cells begin with ``# %%``; text stands in comments under
``# %% [markdown]``; what stands under ``# %% [check]`` runs and is not shown: it holds what the
text says.
"""

import ast
import contextlib
import io
import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import matplotlib

FOLDER = Path(__file__).with_name("tutorials")
FIGURES = FOLDER / "figures"
CELL = re.compile(r"^# %%(?: \[(\w+)\])?.*\n", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """A kind, ``"code"``, ``"markdown"`` or ``"check"``, and its text."""

    kind: str
    text: str


def names() -> list[str]:
    """All tutorials."""
    return sorted(file.stem for file in FOLDER.glob("*.py"))


def cells(name: str) -> list[Cell]:
    """The cells of a tutorial's script."""
    _, *parts = CELL.split((FOLDER / f"{name}.py").read_text())
    found = []
    for kind, text in zip(parts[::2], parts[1::2], strict=True):
        if kind == "markdown":
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        found.append(Cell(kind or "code", text.strip()))
    return found


def run(name: str) -> list[tuple[str, list]]:
    """Run all cells; what each printed, and its figures."""
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    plt.close("all")
    space: dict = {"__name__": f"tutorial_{name}"}
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Several processes at once may wait too long for the folder of compiled programs.
        warnings.filterwarnings("ignore", message="Error (read|writ)ing persistent compilation")
        for cell in cells(name):
            printed = io.StringIO()
            if cell.kind != "markdown":
                with contextlib.redirect_stdout(printed):
                    value = _execute(cell.text, f"{name}.py", space)
                    if value is not None and not plt.get_fignums():
                        print(repr(value))
            figures = [plt.figure(number) for number in plt.get_fignums()]
            plt.close("all")
            results.append((printed.getvalue(), figures))
    return results


def _execute(code: str, file: str, space: dict) -> object:
    """Run code; the value of a last expression, which notebooks show."""
    body = ast.parse(code, file).body
    last = ast.Expression(body.pop().value) if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), file, "exec"), space)
    return None if last is None else eval(compile(last, file, "eval"), space)


def page(name: str, results: list[tuple[str, list[tuple[str, str]]]]) -> str:
    """The page: of each cell what it printed, and files and labels of its figures."""
    parts = []
    for cell, (printed, figures) in zip(cells(name), results, strict=True):
        if cell.kind == "markdown":
            parts.append(cell.text)
        if cell.kind == "code":
            parts.append(f"```python\n{cell.text}\n```")
            if printed.strip():
                text = f"```text\n{printed.rstrip()}\n```"
                parts.append(f'<div class="output" markdown>\n{text}\n</div>')
            parts += [f"![{label}](figures/{file})" for file, label in figures]
    parts.append(f"[The script of this page]({name}.py), which `make evidence` runs.")
    return "\n\n".join(parts) + "\n"


def render(name: str) -> None:
    """Run a tutorial and write its page and figures."""
    ran, results, count = run(name), [], 0
    FIGURES.mkdir(exist_ok=True)
    for old in FIGURES.glob(f"{name}-*.png"):
        old.unlink()
    for printed, figures in ran:
        files = []
        for figure in figures:
            count += 1
            file = f"{name}-{count}.png"
            figure.savefig(FIGURES / file, dpi=110, bbox_inches="tight", metadata={"Software": ""})
            files.append((file, figure.get_label()))
        results.append((printed, files))
    (FOLDER / f"{name}.md").write_text(page(name, results))


if __name__ == "__main__":
    # Tutorials compile for longer than they run: programs are optimised less.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    for chosen in sys.argv[1:] or names():
        render(chosen)
