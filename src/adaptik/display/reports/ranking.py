"""The reports of several studies of one target, and a page that compares them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...transfer.study import label_of
from ...transfer.verdict import certainty
from . import html
from .folder import as_json, checked_folder, plain, write_file
from .study import FILES as OF_STUDY
from .study import document as of_study
from .study import signed
from .study import write as write_study
from .words import text

if TYPE_CHECKING:
    from ...transfer.ranking import Ranking

FILES = ("ranking.json", "report.html")


def folders(out: Path, count: int) -> list[Path]:
    """Where the report of every source lies, in the order in which they were asked for."""
    return [out / f"source-{i + 1}" for i in range(count)]


def check(out: Path, count: int) -> None:
    """Make all folders before anything is computed.

    Raises
    ------
    InputError
        If one cannot be made or written to, or holds files of others under our names.
    """
    checked_folder(out, FILES)
    for folder in folders(out, count):
        checked_folder(folder, OF_STUDY)


def write(ranking: "Ranking", out: Path) -> Path:
    """Write the report of every study, ``ranking.json`` and the page that compares them."""
    places = folders(out, len(ranking.studies))
    for study, folder in zip(ranking.studies, places, strict=True):
        write_study(study, folder)
    write_file(out / "ranking.json", as_json(document(ranking)))
    page = out / "report.html"
    links = [
        f'<li><a href="{folder.name}/report.html">{text(study.config["source"])}</a>: '
        f"{text(study.verdict.sentence)}</li>"
        for study, folder in zip(ranking.studies, places, strict=True)
    ]
    target = ranking.studies[0].config["target"] if ranking.studies else ""
    body = [
        html.banner(ranking.sentence, "open"),
        html.section("Sources, best first", html.table(*_table(ranking))) if ranking.ranked else "",
        html.section("One by one", f"<ul>{''.join(links)}</ul>"),
    ]
    asked = [study.config for study in ranking.studies]
    shown = html.page("which source is best?", str(target), body, asked)
    write_file(page, shown.encode(errors="replace"))
    return page


def document(ranking: "Ranking") -> Mapping[str, Any]:
    """As plain values for JSON: the order, and every study as ``rows.json`` has it."""
    return plain(
        {
            "sentence": ranking.sentence,
            "ranked": ranking.ranked,
            "studies": [of_study(study) for study in ranking.studies],
            "complete": ranking.complete,
        }
    )


def _table(ranking: "Ranking") -> tuple[list[str], list[list[Any]]]:
    head = ["source", "change of the test loss", "probability of being the best", "how it is used"]
    body = [
        [
            one.source or "none",
            signed(-one.gain, one.gain_se) if one.source else None,
            certainty(one.best),
            label_of(one.mode, one.source_richness, one.target_richness),
        ]
        for one in ranking.ranked
    ]
    return head, body
