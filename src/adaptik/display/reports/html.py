"""The parts of one self-contained HTML page: every page of the package is made of these."""

import base64
import html
from collections.abc import Iterable
from string import Template
from typing import Any

import numpy as np

from ..plots.style import OKABE_ITO
from .folder import as_json

MISSING = "–"


def page(question: str, title: str, body: Iterable[str], config: Any) -> str:
    """One self-contained HTML document, the exact configuration at its end."""
    return _PAGE.substitute(
        question=text(question),
        title=text(title),
        body="\n".join(body),
        config=text(as_json(config).decode()),
        accent=OKABE_ITO[0],
        hurts=OKABE_ITO[1],
        helps=OKABE_ITO[2],
    )


def banner(sentence: str, mood: str) -> str:
    """The answer; ``mood`` is ``"helps"`` (green), ``"hurts"`` (red) or anything else (grey)."""
    return f'<p class="verdict {mood}">{text(sentence)}</p>'


def alert(headline: str, sentence: str) -> str:
    """What has to be seen before anything else."""
    said = f"<strong>{text(headline)}</strong> {text(sentence)}"
    return f'<p class="banner" role="status">{said}</p>'


def section(title: str, content: str) -> str:
    return f"<section><h2>{text(title)}</h2>\n{content}</section>"


def figure(title: str, caption: str, png: bytes) -> str:
    """A section with one picture inside the document."""
    data = base64.b64encode(png).decode()
    return section(
        title,
        f'<figure><img alt="{text(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text(caption)}</figcaption></figure>",
    )


def table(head: Iterable[str], body: Iterable[Iterable[Any]]) -> str:
    """Rows under headings; numbers with four digits."""
    titles = "".join(f'<th scope="col">{text(t)}</th>' for t in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell(c)}</td>' for c in line)}</tr>" for line in body)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def cell(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return text(value)


def bullets(notes: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(note)}</li>' for note in notes)}</ul>"


def text(value: Any) -> str:
    """With everything escaped that HTML would take for its own."""
    return html.escape(str(value))


_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>adaptik: $title</title>
<style>
:root { color-scheme: light; --ink: #1c2430; --soft: #5a6676; --line: #dfe4ea; --accent: $accent; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 72rem; color: var(--ink);
  background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h1 small { display: block; font-size: .85rem; font-weight: 500; color: var(--soft); }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem; }
.verdict { border-left: 5px solid var(--soft); background: #f5f7f9; padding: .9rem 1.1rem;
  border-radius: 0 6px 6px 0; font-size: 1.1rem; margin: 0; }
.verdict.helps { border-color: $helps; } .verdict.hurts { border-color: $hurts; }
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
