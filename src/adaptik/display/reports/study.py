"""The report of a study: one self-contained page, its pictures, and the numbers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...solution.to_xarray import save_dataset
from ..plots.study import figures
from . import html
from .folder import as_json, checked_folder, plain, png, write_file

if TYPE_CHECKING:
    from ...transfer.study import Row, TransferStudy

CAPTIONS = {
    "learning_curves": (
        "Learning curves",
        "Test loss on each task during training. Lines are the infinite-width theory, open circles "
        "finite networks; bands and bars are one standard error. The theory's losses are unbiased "
        "estimates, which can fall below 0 by about their error.",
    ),
    "loss_against_richness": (
        "Does pretraining help?",
        "Target test loss against the richness of the source stage. Below the grey lines (no "
        "pretraining) pretraining helps. Bars are one standard error of the solver or of the "
        "network seeds, faint bands that of the finite test set, which all points share. Grey "
        "markers at the right edge are finite networks trained from scratch.",
    ),
    "kernels": (
        "What the network learned",
        "Kernel between the target's training samples, sorted by class: blocks that stand out are "
        "classes that the features tell apart. Both maps share one colour scale.",
    ),
    "alignment": (
        "Kernel alignment",
        "Centred kernel alignment with the labels: 1 is a kernel made for the task, 0 unrelated.",
    ),
    "forgetting": (
        "Forgetting",
        "Source test loss before (open) and after (filled) training on the target; a line to the "
        "right is forgetting.",
    ),
}
DATA = ("config.json", "rows.json", "results.zarr.zip", "evolution.zarr.zip")
FILES = (*DATA, "report.html", *(f"{name}.png" for name in CAPTIONS))
COLUMNS = (
    ("mode", "mode"),
    ("source richness γ₁", "source_richness"),
    ("target richness γ₂", "target_richness"),
    ("target test loss ± solver s.e.", ("test_loss", "test_loss_se")),
    ("the same in label variances", ("relative_test_loss", "relative_test_loss_se")),
    ("test-sampling s.e.", "sampling_se"),
    ("test-sampling s.e. in label variances", "relative_sampling_se"),
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
    for name in CAPTIONS:
        if name in pictures:
            write_file(folder / f"{name}.png", pictures[name])
        else:  # of an earlier run in this folder
            (folder / f"{name}.png").unlink(missing_ok=True)
    page = folder / "report.html"
    write_file(page, _page(study, pictures).encode(errors="replace"))
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


def _page(study: "TransferStudy", pictures: dict[str, bytes]) -> str:
    helps = {True: "helps", False: "hurts", None: "open"}[study.verdict.helps]
    body = [
        "" if study.complete else html.alert("Incomplete.", INTERRUPTED),
        html.banner(study.verdict.sentence, helps),
        f"<dl>{_facts(study)}</dl>",
        html.section("Results", _rows(study.rows)),
        *(html.figure(*CAPTIONS[name], pictures[name]) for name in CAPTIONS if name in pictures),
        html.section("Tasks", _tasks(study.tasks)),
        html.section("Notes", html.bullets(all_notes(study))) if all_notes(study) else "",
    ]
    names = " → ".join(study.tasks[t].get("name", t) for t in ("source", "target"))
    return html.page("does pretraining help?", names, body, study.config)


def _facts(study: "TransferStudy") -> str:
    v = study.verdict
    gain = _percent(v.gain, 1)
    if gain and _percent(v.gain_se, 1):
        gain = f"{gain} ± {_percent(v.gain_se, 1)}"
    facts = [
        ("gain", gain),
        ("confidence", _percent(v.confidence, 0)),
        ("mode", v.mode),
        ("source richness γ₁", v.source_richness),
        ("target richness γ₂", v.target_richness),
    ]
    known = [(k, html.cell(x)) for k, x in facts if x is not None]
    return "".join(f"<div><dt>{html.text(k)}</dt><dd>{x}</dd></div>" for k, x in known)


def _percent(value: float | None, digits: int) -> str | None:
    return None if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def _tasks(tasks: dict[str, dict[str, Any]]) -> str:
    head = ("", "name", "classes", "training samples", "test samples", "dimension D")
    body = []
    for role in ("source", "target"):
        task = tasks[role]
        classes = ", ".join(str(c) for c in task.get("classes") or ()) or html.MISSING
        values = [task.get(k) for k in ("n_train", "n_test", "D")]
        body.append([role, task.get("name"), classes, *values])
    return html.table(head, body)


def _rows(rows: Sequence["Row"]) -> str:
    if not rows:
        return "<p>No case was finished.</p>"
    used = [(title, key) for title, key in COLUMNS if any(_has(row, key) for row in rows)]
    body = ([_entry(row, key) for _, key in used] for row in rows)
    return html.table((title for title, _ in used), body)


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
        return _percent(row.accuracy, 1)
    if isinstance(key, str):
        return getattr(row, key)
    value, error = (getattr(row, k) for k in key)
    if value is None or error is None or not math.isfinite(error):
        return value
    return f"{value:.4g} ± {error:.1g}"
