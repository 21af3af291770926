"""A folder that a person can open: one self-contained page, its pictures, and the numbers."""

import base64
import html
import io
import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from ...system.errors import InputError
from ..plots import study as plots

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
FILES = (
    "config.json", "rows.json", "results.zarr.zip", "report.html",
    *(f"{name}.png" for name in CAPTIONS),
)  # fmt: skip
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
BELOW_ZERO = (
    "values below 0 are estimates without bias of a mean squared loss that is itself not negative; "
    "they lie below 0 by sampling error (see the standard errors)"
)
_MISSING = "–"


def write(study: "TransferStudy", folder: str | Path) -> Path:
    """Write the report of ``study``; every file appears whole or not at all.

    Parameters
    ----------
    study
        A finished or interrupted study.
    folder
        Where to write; made if missing. Gets ``report.html`` (self-contained), one PNG for each
        figure, ``results.zarr.zip`` (``study.to_xarray()``), ``rows.json`` and ``config.json``.
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
    from ...solution.to_xarray import save_dataset

    folder = checked_folder(folder, FILES)
    write_file(folder / "config.json", as_json(study.config))
    write_file(folder / "rows.json", as_json(document(study)))
    save_dataset(study.to_xarray(), folder / "results.zarr.zip")
    pictures = {name: png(figure) for name, figure in plots.figures(study).items()}
    for name in CAPTIONS:
        if name in pictures:
            write_file(folder / f"{name}.png", pictures[name])
        else:  # of an earlier run in this folder
            (folder / f"{name}.png").unlink(missing_ok=True)
    page = folder / "report.html"
    write_file(page, _page(study, pictures).encode(errors="replace"))
    return page


def checked_folder(folder: str | Path, names: Iterable[str] = ()) -> Path:
    """Make ``folder``, and make sure before any long computation that it can be written to.

    Raises
    ------
    InputError
        If it cannot, or holds a file called as one of ``names`` that adaptik did not write.
    """
    folder = Path(folder)
    doing = "make"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        doing = "write to"
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"cannot {doing} the output folder {str(folder)!r}: {reason}; choose another"
        ) from error
    ours = _is_ours(folder)
    for path in (folder / name for name in names):
        if path.exists() and not (ours and path.is_file()):
            raise InputError(
                f"{str(path)!r} is there and was not written by adaptik; choose another folder"
            )
    return folder


def is_page(path: Path) -> bool:
    """Whether a file is one of adaptik's pages."""
    try:
        with path.open("rb") as file:
            return b"<title>adaptik: " in file.read(1000)
    except OSError:
        return False


# What the settings of a study, an experiment or a diagram have in common, whichever wrote them.
_MARKS = ({"kernel_richness", "versions"}, {"experiment"}, {"quantity", "finetune"})


def _is_ours(folder: Path) -> bool:
    """Whether the page or the settings in ``folder`` are of adaptik."""
    if is_page(folder / "report.html"):
        return True
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    settings = found[0] if isinstance(found, list) and found else found
    return isinstance(settings, dict) and any(mark <= settings.keys() for mark in _MARKS)


def document(study: "TransferStudy") -> dict[str, Any]:
    """The numbers as plain values for JSON: rows, verdict, tasks, notes, complete.

    What is missing, NaN or infinite is ``None``, so that any JSON reader accepts it.
    """
    return _plain(
        {
            "rows": study.rows,
            "verdict": study.verdict,
            "tasks": study.tasks,
            "notes": all_notes(study),
            "complete": study.complete,
        }
    )


def write_file(path: Path, content: bytes) -> None:
    from ...system.files import replacing

    with replacing(path) as temporary:
        temporary.write_bytes(content)


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, facecolor="white")
    return buffer.getvalue()


def as_json(value: Any) -> bytes:
    return (json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(
        errors="replace"
    )  # file names may hold bytes that are no text


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def _page(study: "TransferStudy", pictures: dict[str, bytes]) -> str:
    helps = {True: "helps", False: "hurts", None: "open"}[study.verdict.helps]
    body = [
        "" if study.complete else _BANNER,
        banner(study.verdict.sentence, helps),
        f"<dl>{_facts(study)}</dl>",
        section("Results", _rows(study.rows)),
        *(figure(*CAPTIONS[name], pictures[name]) for name in CAPTIONS if name in pictures),
        section("Tasks", _tasks(study.tasks)),
        section("Notes", bullets(all_notes(study))) if all_notes(study) else "",
    ]
    names = " → ".join(study.tasks[t].get("name", t) for t in ("source", "target"))
    return page("does pretraining help?", names, body, study.config)


def page(question: str, title: str, body: Iterable[str], config: Any) -> str:
    """One self-contained HTML document, the exact configuration at its end."""
    return _PAGE.substitute(
        question=_text(question),
        title=_text(title),
        body="\n".join(body),
        config=_text(as_json(config).decode()),
    )


def banner(sentence: str, mood: str) -> str:
    """The answer; ``mood`` is ``"helps"`` (green), ``"hurts"`` (red) or anything else (grey)."""
    return f'<p class="verdict {mood}">{_text(sentence)}</p>'


def section(title: str, content: str) -> str:
    return f"<section><h2>{_text(title)}</h2>\n{content}</section>"


def figure(title: str, caption: str, png: bytes) -> str:
    """A section with one picture inside the document."""
    data = base64.b64encode(png).decode()
    return section(
        title,
        f'<figure><img alt="{_text(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>",
    )


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
    known = [(k, _cell(x)) for k, x in facts if x is not None]
    return "".join(f"<div><dt>{_text(k)}</dt><dd>{x}</dd></div>" for k, x in known)


def _percent(value: float | None, digits: int) -> str | None:
    return None if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def _tasks(tasks: dict[str, dict[str, Any]]) -> str:
    head = ("", "name", "classes", "training samples", "test samples", "dimension D")
    body = []
    for role in ("source", "target"):
        task = tasks[role]
        classes = ", ".join(str(c) for c in task.get("classes") or ()) or _MISSING
        values = [task.get(k) for k in ("n_train", "n_test", "D")]
        body.append([role, task.get("name"), classes, *values])
    return table(head, body)


def _rows(rows: Sequence["Row"]) -> str:
    if not rows:
        return "<p>No case was finished.</p>"
    used = [(title, key) for title, key in COLUMNS if any(_has(row, key) for row in rows)]
    return table([title for title, _ in used], [[_entry(r, key) for _, key in used] for r in rows])


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


def table(head: Iterable[str], body: Iterable[Iterable[Any]]) -> str:
    """Rows under headings; numbers with four digits."""
    titles = "".join(f'<th scope="col">{_text(t)}</th>' for t in head)
    lines = "".join(f"<tr>{''.join(f'<td>{_cell(c)}</td>' for c in line)}</tr>" for line in body)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if value is None:
        return _MISSING
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return _text(value)


def bullets(notes: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(note)}</li>' for note in notes)}</ul>"


def _text(value: Any) -> str:
    return html.escape(str(value))


_BANNER = (
    '<p class="banner" role="status"><strong>Incomplete.</strong> The study was interrupted; this '
    "page shows the cases that were finished.</p>"
)

_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>adaptik: $title</title>
<style>
:root { color-scheme: light; --ink: #1c2430; --soft: #5a6676; --line: #dfe4ea; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 72rem; color: var(--ink);
  background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h1 small { display: block; font-size: .85rem; font-weight: 500; color: var(--soft); }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem; }
.verdict { border-left: 5px solid var(--soft); background: #f5f7f9; padding: .9rem 1.1rem;
  border-radius: 0 6px 6px 0; font-size: 1.1rem; margin: 0; }
.verdict.helps { border-color: #009e73; } .verdict.hurts { border-color: #d55e00; }
.banner { background: #fff4d6; border: 1px solid #e6b800; border-radius: 6px; padding: .7rem 1rem; }
dl { display: flex; flex-wrap: wrap; gap: .6rem 2rem; margin: 1rem 0 0; }
dt { font-size: .8rem; color: var(--soft); } dd { margin: 0; font-weight: 600; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .7rem; text-align: left; border-bottom: 1px solid var(--line); }
th { background: #f5f7f9; font-weight: 600; vertical-align: bottom; min-width: 5rem; }
td { white-space: nowrap; } tr:last-child td { border-bottom: 0; }
figure { margin: 0; } img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 48rem; margin-top: .4rem; }
pre { background: #f5f7f9; padding: 1rem; overflow-x: auto; border-radius: 6px; font-size: .85rem; }
summary { cursor: pointer; font-weight: 600; margin-top: 2.5rem; }
</style>
</head>
<body>
<h1><small>adaptik: $question</small>$title</h1>
$body
<details><summary>Exact configuration</summary><pre>$config</pre></details>
</body>
</html>
"""
)
