"""What a person sees in a terminal: lines, progress bars, the table of a study."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from ..system.errors import InputError

if TYPE_CHECKING:
    from ..transfer.ranking import Ranking
    from ..transfer.study import Row, TransferStudy

WIDTH = 100  # of the table, so that it fits side by side with anything
PATIENCE = 2.0  # seconds after which a person wants to know how long it takes
LATEST = 60.0  # seconds after which a rough estimate is better than none

TRANSFER = """\
adaptik transfer: does pretraining on a source task help on a target task?

It needs both tasks, each one of
  NAME:CLASSES   images with classes: digits:1,7  fashion-mnist:0,6  cifar10:3,5
  FILE           your table or arrays: .npz, .csv, .parquet ... (labels: the column "label", else
                 the last one; both files have the same columns)

Two that run as they stand, in about a minute each:
  adaptik transfer --source digits:1,4 --target digits:1,7 --n-source 40 --n-target 8 --richness 0,2
  adaptik transfer --source digits:0,5 --target digits:1,7 --n-target 8 --check-seeds 0 --out hurts

With files of your own:  adaptik transfer --source mine.csv --target yours.csv --out report
All options:             adaptik transfer --help"""


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


def escaped(text: str) -> str:
    """As a help page has to have it, where brackets are markup.

    Examples
    --------
    >>> escaped("samples [default: all]")
    'samples \\\\[default: all]'
    """
    return text.replace("[", r"\[")


@contextmanager
def bar(label: str, width: int = 16) -> Iterator[Callable[[str, int, int], None]]:
    """Progress on standard error with the time left, as a function of a label, done and total.

    A bar in a terminal; elsewhere one plain line, once the time can be estimated, of what takes
    longer than :data:`PATIENCE`.
    """
    if not sys.stderr.isatty():
        yield _one_line(label)
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn(f"{{task.description:<{width}}}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left:"),
        progress.TimeRemainingColumn(),
    )
    # Cases differ, so that all that were computed count, not those of the last half minute.
    shown = progress.Progress(*columns, console=Console(stderr=True), speed_estimate_period=1e9)
    with shown:
        job = shown.add_task(label, total=None)

        def show(said: str, done: int, total: int) -> None:
            shown.update(job, description=said, completed=done, total=total)

        yield show


def _one_line(label: str) -> Callable[[str, int, int], None]:
    began, first, told = time.monotonic(), -1, False

    def show(said: str, done: int, total: int) -> None:
        nonlocal first, told
        if first < 0:  # what an earlier run has computed took no time now
            first = done if done < total else 0
        elapsed, new = time.monotonic() - began, done - first
        early = elapsed < PATIENCE or (new < 0.1 * (total - first) and elapsed < LATEST)
        if told or early or not 0 < new < total - first:
            return
        told = True
        left = duration(elapsed / new * (total - done))
        say(f"{label}: {done} of {total} done, about {left} left", err=True)

    return show


def duration(seconds: float) -> str:
    """A time in the unit that people would use.

    Examples
    --------
    >>> duration(7.4), duration(140), duration(7000)
    ('7 s', '2 min', '1.9 h')
    """
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def bar_of_cases(label: str) -> Iterator[Callable[[int, int, int], None]]:
    """A :func:`bar` as a function of cases done, failed and in all."""
    with bar(label) as show:

        def count(done: int, failed: int, total: int) -> None:
            show(f"{label}, {failed} failed" if failed else label, done + failed, total)

        yield count


def print_study(study: "TransferStudy", notes: Sequence[str], verbose: bool = False) -> None:
    """The rows of a study as a table of :data:`WIDTH` columns, with notes and the verdict below.

    ``verbose`` adds what the report has besides: when target stages stop and the loss where they
    would go on to their end, errors of the test set, cross-validated losses, outcomes, seconds; as
    wide as it takes.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"{study.tasks['source']['name']} → {study.tasks['target']['name']}: target test loss"
    regression = any(row.relative_test_loss is not None for row in study.rows)
    if regression:
        title = f"{title}, in variances of the training labels"
        say("Losses in squares of the labels themselves are in rows.json and the report.")
    unit = "relative_" if regression else ""
    cells = [_cells(row, unit) | (_details(row, unit) if verbose else {}) for row in study.rows]
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in [h for h in (cells[0] if cells else ()) if any(row[h] != "–" for row in cells)]:
        left = heading in ("mode", "outcome")
        table.add_column(heading, justify="left" if left else "right", no_wrap=verbose)
    for row in cells:
        table.add_row(*(row[str(column.header)] for column in table.columns))
    console = Console()
    width = console.width if sys.stdout.isatty() else WIDTH
    console = Console(width=240 if verbose else min(width, WIDTH))
    with console.capture() as shown:
        console.print(table)
    say("\n".join(line.rstrip() for line in shown.get().rstrip().splitlines()))
    for note in notes:
        say(f"note: {note}")
    say(study.verdict.sentence)


def print_ranking(ranking: "Ranking") -> None:
    """Sources as a table, best first, with what decides it below."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ..transfer.study import label_of
    from ..transfer.verdict import certainty, change

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("source", "change of the test loss", "is the best", "used as"):
        numbers = heading in ("change of the test loss", "is the best")
        table.add_column(heading, justify="right" if numbers else "left", overflow="fold")
    for one in ranking.ranked:
        table.add_row(
            one.source or "none",
            change(one.gain, one.gain_se) if one.source else "–",
            certainty(one.best),
            label_of(one.mode, one.source_richness, one.target_richness),
        )
    console = Console(width=WIDTH)
    with console.capture() as shown:
        console.print(table)
    if ranking.ranked:
        say("\n".join(line.rstrip() for line in shown.get().rstrip().splitlines()))
    for study in ranking.studies:
        say(f"{study.config['source']}: {study.verdict.sentence}")
    say(ranking.sentence)


def _cells(row: "Row", unit: str) -> dict[str, str]:
    """A row's numbers under their headings, losses in a unit (a prefix of their names)."""
    return {
        "mode": row.mode,
        "γ₁": _plain(row.source_richness, "{:g}"),
        "γ₂": _plain(row.target_richness, "{:g}"),
        "theory ± s.e.": _pair(row, f"{unit}test_loss"),
        "network ± s.e.": _pair(row, f"{unit}network_test_loss"),
        "apart/s.e.": _plain(row.difference_in_se, "{:+.1f}"),
        "accuracy": _plain(row.accuracy, "{:.1%}"),
        "source loss → after": _before_after(row, unit),
    }


def _details(row: "Row", unit: str) -> dict[str, str]:
    return {
        "stops at": _plain(row.stop, "{:.3g}"),
        "at the end": _plain(getattr(row, f"{unit}test_loss_at_end"), "{:.3g}"),
        "test-set s.e.": _plain(getattr(row, f"{unit}sampling_se"), "{:.2g}"),
        "refits ± s.e.": _pair(row, f"{unit}cv_loss"),
        "seconds": f"{row.seconds:.1f}",
        "outcome": row.outcome,
    }


def _plain(value: float | None, pattern: str) -> str:
    return "–" if value is None or not math.isfinite(value) else pattern.format(value)


def _pair(row: "Row", name: str) -> str:
    from ..solution.estimate import rounded

    value = getattr(row, name)
    return "–" if value is None else rounded(value, getattr(row, f"{name}_se"))


def _before_after(row: "Row", unit: str) -> str:
    ends = [getattr(row, f"{unit}source_loss_{end}") for end in ("before", "after")]
    return "–" if None in ends else " → ".join(_plain(value, "{:.3g}") for value in ends)
