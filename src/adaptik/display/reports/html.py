"""The parts of one self-contained HTML page: every page of the package is made of these."""

import base64
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from ...solution.estimate import rounded
from ..plots.style import OKABE_ITO
from .chart import colours
from .folder import as_json
from .words import text

MISSING = "–"


def page(question: str, title: str, body: Iterable[str], config: Any) -> str:
    """One self-contained HTML document, the exact configuration at its end."""
    content = "\n".join(part for part in body if part)
    return _PAGE.substitute(
        question=text(question),
        title=text(title),
        body=content,
        config=text(as_json(config).decode()),
        style=_file("page.css").substitute(
            accent=OKABE_ITO[0], hurts=OKABE_ITO[1], helps=OKABE_ITO[2]
        ),
        colours=colours(content),
        script=_file("page.js").template,
    )


@cache
def _file(name: str) -> Template:
    return Template(resources.files("adaptik.display.reports").joinpath(name).read_text("utf-8"))


def first(answer: str, shown: str, steps: str, known: str = "") -> str:
    """What fills the first screen: an answer, one picture, what to do next, and facts."""
    return (
        f'<div class="first"><div class="answer">{answer}</div><div class="picture">{shown}</div>'
        f'<div class="rest">{known}{steps}</div></div>'
    )


def banner(sentence: str, mood: str, word: str = "") -> str:
    """The answer, a ``word`` of it large.

    ``mood`` is ``"helps"`` (green), ``"hurts"`` (red) or anything else (grey).
    """
    large = f"<strong>{text(word)}</strong>" if word else ""
    return f'<p class="verdict {mood}">{large}{text(sentence)}</p>'


def alert(headline: str, sentence: str) -> str:
    """What has to be seen before anything else."""
    said = f"<strong>{text(headline)}</strong> {text(sentence)}"
    return f'<p class="banner" role="status">{said}</p>'


def facts(known: Iterable[tuple[str, Any]]) -> str:
    """Numbers with their names; those that are missing are left out."""
    parts = [(name, cell(value)) for name, value in known if value is not None]
    return f"<dl>{''.join(f'<div><dt>{text(n)}</dt><dd>{v}</dd></div>' for n, v in parts)}</dl>"


def next_steps(steps: Iterable[tuple[str, str]]) -> str:
    """What a reader can do now: sentences, each with a command or a line of Python, or none."""
    lines = [
        f"<li>{text(said)}{f' <code>{text(command)}</code>' if command else ''}</li>"
        for said, command in steps
    ]
    return f'<div class="next"><h2>What to do next</h2><ul>{"".join(lines)}</ul></div>'


def section(title: str, content: str) -> str:
    return f"<section><h2>{text(title)}</h2>\n{content}</section>"


def two(parts: Iterable[str]) -> str:
    """Side by side where there is room."""
    return f'<div class="two">{"".join(parts)}</div>'


def folded(title: str, content: str) -> str:
    """Shown when it is asked for, and on paper."""
    return f'<details class="printed"><summary>{text(title)}</summary>{content}</details>'


def picture(title: str, caption: str, png: bytes) -> str:
    """One picture inside the document."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure class="shown"><img alt="{text(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def table(head: Iterable[str], body: Sequence[Sequence[Any]], chosen: Collection[int] = ()) -> str:
    """Rows under headings, numbers at the right; some rows can be ``chosen``."""
    numbers = [any(map(_is_number, column)) for column in zip(*body, strict=True)]
    titles = "".join(
        f'<th scope="col"{_number_class(number)}>{text(t)}</th>'
        for t, number in zip(head, numbers or [False] * 99, strict=False)
    )
    lines = "".join(
        f"<tr{' class=chosen' if i in chosen else ''}>"
        + "".join(
            f"<td{_number_class(number) or _wide(c)}>{cell(c)}</td>"
            for c, number in zip(line, numbers, strict=True)
        )
        + "</tr>"
        for i, line in enumerate(body)
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table><thead><tr>'
        f"{titles}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value[:1] in "+-0123456789" and value[-1:] in "0123456789%" and "," not in value
    return isinstance(value, int | float | np.number)


def _number_class(number: bool) -> str:
    return ' class="number"' if number else ""


def _wide(value: Any) -> str:
    return ' class="wide"' if len(str(value)) > 40 else ""


def cell(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, float | np.floating):
        return rounded(float(value))
    return text(value)


def bullets(notes: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(note)}</li>' for note in notes)}</ul>"


_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>adaptik: $title</title>
<style>
$style$colours
</style>
</head>
<body>
<header><h1><small>adaptik: $question</small>$title</h1></header>
<main>
$body
<details><summary>Exact configuration</summary><pre tabindex="0">$config</pre></details>
</main>
<script>
$script</script>
</body>
</html>
"""
)
