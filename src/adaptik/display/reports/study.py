"""The report of a study: one self-contained page, its pictures, and the numbers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...solution.estimate import rounded
from ...solution.to_xarray import save_dataset
from ...transfer.verdict import certainty
from ..plots.study import figures
from . import html, study_charts
from .folder import as_json, checked_folder, plain, png, write_file
from .next_steps import command, next_steps
from .words import text

if TYPE_CHECKING:
    from ...transfer.study import Row, TransferStudy

NAMES = ("learning_curves", "loss_against_richness", "kernels", "alignment", "forgetting")
DATA = ("config.json", "rows.json", "results.zarr.zip", "evolution.zarr.zip")
FILES = (*DATA, "report.html", *(f"{name}.png" for name in NAMES))
COLUMNS = (
    ("mode", "mode"),
    ("source richness γ₁", "source_richness"),
    ("target richness γ₂", "target_richness"),
    ("target test loss ± solver s.e.", ("test_loss", "test_loss_se")),
    ("the same in label variances", ("relative_test_loss", "relative_test_loss_se")),
    ("test-sampling s.e.", "sampling_se"),
    ("test-sampling s.e. in label variances", "relative_sampling_se"),
    ("target stage stops at time", "stop"),
    ("target test loss where it goes on to its end", "test_loss_at_end"),
    ("the same at the end in label variances", "relative_test_loss_at_end"),
    ("network test loss ± s.e.", ("network_test_loss", "network_test_loss_se")),
    (
        "network test loss in label variances",
        ("relative_network_test_loss", "relative_network_test_loss_se"),
    ),
    ("difference / s.e. (Welch)", "difference_in_se"),
    ("accuracy", "accuracy"),
    ("cross-validated loss ± s.e.", ("cv_loss", "cv_loss_se")),
    ("cross-validated loss in label variances", ("relative_cv_loss", "relative_cv_loss_se")),
    ("source loss before", "source_loss_before"),
    ("source loss after", "source_loss_after"),
    ("source loss before, in label variances", "relative_source_loss_before"),
    ("source loss after, in label variances", "relative_source_loss_after"),
    ("outcome", "outcome"),
    ("seconds", "seconds"),
)
INTERRUPTED = "The study was interrupted; this page shows the cases that were finished."
BELOW_ZERO = (
    "values below 0 are estimates without bias of a mean squared loss that is itself not negative; "
    "they lie below 0 by sampling error (see the standard errors)"
)


def write(study: "TransferStudy", folder: str | Path) -> Path:
    """Write the report of ``study``; every file appears whole or not at all.

    Parameters
    ----------
    study
        A finished or interrupted study.
    folder
        Where to write; made if missing. Gets ``report.html`` (self-contained), one PNG for each
        figure, ``results.zarr.zip`` (``study.to_xarray()``), ``evolution.zarr.zip``
        (``study.evolution()``: curves, kernels and preactivations through time), ``rows.json`` and
        ``config.json``.
        ``report.html`` comes last, so where it is new everything else is.

    Returns
    -------
    Path
        The page to open.

    Raises
    ------
    InputError
        If the folder cannot be made or written to.
    """
    folder = checked_folder(folder, FILES)
    write_file(folder / "config.json", as_json(study.config))
    write_file(folder / "rows.json", as_json(document(study)))
    save_dataset(study.to_xarray(), folder / "results.zarr.zip")
    save_dataset(study.evolution(), folder / "evolution.zarr.zip")
    pictures = {name: png(figure) for name, figure in figures(study).items()}
    for name in NAMES:
        if name in pictures:
            write_file(folder / f"{name}.png", pictures[name])
        else:  # of an earlier run in this folder
            (folder / f"{name}.png").unlink(missing_ok=True)
    page = folder / "report.html"
    write_file(page, _page(study).encode(errors="replace"))
    return page


def document(study: "TransferStudy") -> dict[str, Any]:
    """The numbers as plain values for JSON: rows, verdict, tasks, notes, complete.

    What is missing, NaN or infinite is ``None``, so that any JSON reader accepts it.
    """
    return plain(
        {
            "rows": study.rows,
            "verdict": study.verdict,
            "tasks": study.tasks,
            "notes": all_notes(study),
            "complete": study.complete,
        }
    )


def _page(study: "TransferStudy") -> str:
    names = [study.tasks.get(t, {}).get("name", t) for t in ("source", "target")]
    mood = {True: "helps", False: "hurts", None: "open"}[study.verdict.helps]
    word, colon, rest = study.verdict.sentence.partition(": ")
    if not colon or word not in ("Yes", "No", "Unclear"):
        word, rest = "", study.verdict.sentence
    answer = html.banner(rest[:1].upper() + rest[1:], mood, word)
    steps, known = html.next_steps(next_steps(study)), html.facts(_facts(study))
    body = [
        "" if study.complete else html.alert("Incomplete.", INTERRUPTED),
        html.first(answer, study_charts.answer(study), steps, known),
        html.section("Results", _compact(study)),
        study_charts.learned(study),
        study_charts.kernel_maps(study),
        html.two(study_charts.sides(study)),
        html.folded(f"All numbers of the {len(study.rows)} rows", _rows(study.rows)),
        html.section("Tasks", _tasks(study.tasks)),
        html.section("Notes", html.bullets(all_notes(study))) if all_notes(study) else "",
        html.section("Command", f"<p><code>{text(command(study.config))}</code></p>"),
    ]
    return html.page("does pretraining help?", " → ".join(names), body, study.config)


def _facts(study: "TransferStudy") -> list[tuple[str, str | None]]:
    v, rows = study.verdict, study.rows
    where = (v.mode, v.source_richness, v.target_richness)
    chosen = [r for r in rows if (r.mode, r.source_richness, r.target_richness) == where]
    bare = _without(study)
    apart = [abs(r.difference_in_se) for r in rows if r.difference_in_se is not None]
    apart = [z for z in apart if math.isfinite(z)]
    agree = f"within {max(apart):.1f} s.e. in all {len(apart)} rows" if apart else None
    return [
        ("change of the test loss", None if v.gain is None else signed(-v.gain, v.gain_se)),
        ("confidence that it helps", None if v.confidence is None else certainty(v.confidence)),
        ("test loss, with the source", _loss(chosen[0]) if chosen else None),
        ("and without", _loss(bare) if bare and chosen else None),
        ("accuracy", f"{_accuracy(chosen[0])} (without: {_accuracy(bare)})")
        if chosen and bare and chosen[0].accuracy is not None
        else ("accuracy", None),
        ("networks against theory", agree),
    ]


def _without(study: "TransferStudy") -> "Row | None":
    """The row that the verdict compares with: chosen on refits, no source in it."""

    def held_out(row: "Row") -> float:
        loss = getattr(row, "relative_cv_loss", None)
        loss = row.cv_loss if loss is None else loss
        return math.inf if loss is None else loss

    return min((r for r in study.rows if r.mode == "scratch"), key=held_out, default=None)


def signed(value: float, error: float | None) -> str:
    """A change in percent, its sign always shown."""
    shown = rounded(value, error, unit="%")
    return f"+{shown}" if value > 0 else shown.replace("-", "−")


def _accuracy(row: "Row") -> str:
    return html.MISSING if row.accuracy is None else f"{100 * row.accuracy:.1f} %"


def _loss(row: "Row") -> str:
    """With the error of solver and test set together."""
    parts = [e for e in (row.test_loss_se, row.sampling_se) if e is not None and math.isfinite(e)]
    return rounded(row.test_loss, math.hypot(*parts))


def _compact(study: "TransferStudy") -> str:
    """What a reader wants of the rows; the verdict's are marked."""
    if not study.rows:
        return "<p>No case was finished.</p>"
    v, bare = study.verdict, _without(study)
    where = (v.mode, v.source_richness, v.target_richness)
    lines, chosen = [], []
    for i, row in enumerate(study.rows):
        if (row.mode, row.source_richness, row.target_richness) == where or row is bare:
            chosen.append(i)
        network = row.network_test_loss
        line = {
            "mode": row.mode,
            "γ₁": _number(row.source_richness, "{:g}"),
            "γ₂": _number(row.target_richness, "{:g}"),
            "target test loss": _loss(row),
            "networks": None if network is None else rounded(network, row.network_test_loss_se),
            "apart, s.e.": _number(row.difference_in_se, "{:+.1f}"),
            "accuracy": None if row.accuracy is None else _accuracy(row),
            "stops at": _number(row.stop, "{:.3g}"),
            "source loss before": _number(row.source_loss_before, "{:.3g}"),
            "after": _number(row.source_loss_after, "{:.3g}"),
        }
        lines.append(line)
    used = [name for name in lines[0] if any(line[name] is not None for line in lines)]
    said = (
        "Losses ± one standard error of solver and test set together, which rows share; networks ± "
        "that of their seeds. Bold: what the verdict compares."
    )
    shown = html.table(used, [[line[name] for name in used] for line in lines], chosen)
    return f"{shown}<figcaption>{text(said)}</figcaption>"


def _number(value: float | None, pattern: str) -> str | None:
    return None if value is None or not math.isfinite(value) else pattern.format(value)


def _tasks(tasks: dict[str, dict[str, Any]]) -> str:
    head = ("", "name", "classes", "training samples", "test samples", "dimension D")
    body = []
    for role in ("source", "target"):
        task = tasks.get(role, {})
        classes = ", ".join(str(c) for c in task.get("classes") or ()) or html.MISSING
        values = [task.get(k) for k in ("n_train", "n_test", "D")]
        body.append([role, task.get("name"), classes, *values])
    return html.table(head, body)


def _rows(rows: Sequence["Row"]) -> str:
    if not rows:
        return "<p>No case was finished.</p>"
    used = [(title, key) for title, key in COLUMNS if any(_has(row, key) for row in rows)]
    body = [[_entry(row, key) for _, key in used] for row in rows]
    return html.table([title for title, _ in used], body)


def all_notes(study: "TransferStudy") -> tuple[str, ...]:
    """The study's own, and what a loss below 0 in its rows means."""
    names = ("test_loss", "cv_loss", "source_loss_before", "source_loss_after")
    values = [getattr(row, name) for row in study.rows for name in names]
    below = any(value is not None and value < 0 for value in values)
    return (*study.notes, BELOW_ZERO) if below else study.notes


def _has(row: "Row", key: str | tuple[str, str]) -> bool:
    return getattr(row, key if isinstance(key, str) else key[0], None) is not None


def _entry(row: "Row", key: str | tuple[str, str]) -> Any:
    if key == "seconds":
        return f"{row.seconds:.1f}"
    if key == "accuracy":
        return None if row.accuracy is None else _accuracy(row)
    if isinstance(key, str):
        value = getattr(row, key)
        return rounded(value) if isinstance(value, float) else value
    value, error = (getattr(row, k) for k in key)
    return None if value is None else rounded(value, error)
