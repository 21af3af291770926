"""What a person sees in a terminal: lines, progress bars, the table of a study."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from ..system.errors import InputError

if TYPE_CHECKING:
    from ..transfer.study import Row, TransferStudy

HEADINGS = (
    "source γ₁",
    "mode",
    "target γ₂",
    "theory ± s.e.",
    "test-set s.e.",
    "network ± s.e.",
    "diff/s.e.",
    "accuracy",
    "source loss before → after",
    "outcome",
)


class OutputLost(InputError):
    """Standard output takes no more: its reader has gone, or its disk is full."""

    def __init__(self, error: OSError):
        super().__init__(f"standard output takes no more: {error.strerror or error}")


def say(text: str, err: bool = False) -> None:
    """Print a line; where that fails what was computed lies on disk, and one line says so.

    Raises
    ------
    OutputLost
        If nothing can be printed.
    """
    try:
        typer.echo(text, err=err)
    except OSError as error:
        raise OutputLost(error) from error


@contextmanager
def bar(label: str, width: int = 16, left: bool = True) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error, as a function of a label, cases done and in all.

    ``left`` adds the time that is left, where cases take about as long as each other.
    """
    from rich import progress
    from rich.console import Console

    columns: list[Any] = [
        progress.TextColumn(f"{{task.description:<{width}}}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    ]
    if left:
        columns += [progress.TextColumn("left:"), progress.TimeRemainingColumn()]
    with progress.Progress(*columns, console=Console(stderr=True)) as shown:
        job = shown.add_task(label, total=None)

        def show(said: str, done: int, total: int) -> None:
            shown.update(job, description=said, completed=done, total=total)

        yield show


@contextmanager
def bar_of_cases(label: str) -> Iterator[Callable[[int, int, int], None]]:
    """A :func:`bar` as a function of cases done, failed and in all."""
    with bar(label) as show:

        def count(done: int, failed: int, total: int) -> None:
            show(f"{label}, {failed} failed" if failed else label, done + failed, total)

        yield count


def print_study(study: "TransferStudy", notes: Sequence[str]) -> None:
    """The rows of a study as a table, with notes and the verdict below."""
    from rich.console import Console
    from rich.table import Table

    title = f"{study.tasks['source']['name']} → {study.tasks['target']['name']}: target test loss"
    regression = any(row.relative_test_loss is not None for row in study.rows)
    if regression:
        title = f"{title}, in variances of the training labels"
        say("Losses in squares of the labels themselves are in rows.json and the report.")
    table = Table(title=title)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("mode", "outcome") else "right")
    for row in study.rows:
        table.add_row(*_cells(row, "relative_" if regression else ""))
    console = Console(width=None if sys.stdout.isatty() else 150)
    with console.capture() as shown:
        console.print(table)
    say(shown.get().rstrip())
    for note in notes:
        say(f"note: {note}")
    say(study.verdict.sentence)


def _cells(row: "Row", unit: str) -> list[str]:
    """A row's numbers under :data:`HEADINGS`, losses in a unit (a prefix of their names)."""

    def show(name: str, pattern: str) -> str:
        value = getattr(row, name)
        return "–" if value is None else pattern.format(value)

    def pair(one: str, other: str, pattern: str) -> str:
        if getattr(row, f"{unit}{one}") is None:
            return "–"
        return pattern.format(*(getattr(row, f"{unit}{name}") for name in (one, other)))

    return [
        show("source_richness", "{:g}"),
        row.mode,
        show("target_richness", "{:g}"),
        pair("test_loss", "test_loss_se", "{:.4f} ± {:.4f}"),
        show(f"{unit}sampling_se", "{:.3f}"),
        pair("network_test_loss", "network_test_loss_se", "{:.4f} ± {:.4f}"),
        show("difference_in_se", "{:+.1f}"),
        show("accuracy", "{:.3f}"),
        pair("source_loss_before", "source_loss_after", "{:.3f} → {:.3f}"),
        row.outcome,
    ]
