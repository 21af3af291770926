"""Figures inside a page: vector graphics in the page's colours, with switches and values.

matplotlib draws; what it drew as series (``plots.drawn``) can be switched off in the legend and
read out by pointer or keyboard. Nothing is loaded from elsewhere, and without scripts the picture
and its legend are still there.
"""

import io
import json
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from ..plots.drawn import Drawn, drawn
from .words import text

MOST = 60  # points of a series that are read out
KINDS = {"theory": "infinite width", "network": "finite networks"}
_DPI = 72  # of SVG: one unit a point
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")


def chart(
    title: str, caption: str, figures: Sequence[Figure], description: str, level: int = 2
) -> str:
    """A section of figures that share one legend.

    Parameters
    ----------
    title, caption
        Above and below.
    figures
        Without legends of their own.
    description
        What a screen reader says in place of the pictures.
    level
        Of the heading; 0 for none.
    """
    names: dict[str, Drawn] = {}
    kinds: list[str] = []
    pictures = []
    for number, figure in enumerate(figures):
        for ax in figure.axes:
            for one in drawn(ax):
                names.setdefault(one.series, one)
                if one.kind not in kinds and np.isfinite(one.y).any():
                    kinds.append(one.kind)
        salt = f"{title}-{number}"
        label = ", ".join([description, *(ax.get_title() for ax in figure.axes if ax.get_title())])
        pictures.append(svg(figure, salt, label))
    switches = [_switch("series", name, name, _swatch(one)) for name, one in names.items()]
    switches = switches if len(switches) > 1 else []
    if len(kinds) > 1:
        switches += [_switch("kind", kind, KINDS.get(kind, kind), "") for kind in kinds]
    heading = f"<h{level}>{text(title)}</h{level}>" if level else ""
    legend = f'<div class="legend">{"".join(switches)}</div>' if switches else ""
    count = "one" if len(figures) == 1 else "many"
    return (
        f'<figure class="chart">{heading}{legend}<div class="pictures {count}">'
        f'{"".join(pictures)}</div><div class="tip" role="status" hidden></div>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def svg(figure: Figure, salt: str, label: str) -> str:
    """One figure as an element of the page; ``salt`` keeps its identifiers apart from others'."""
    figure.set_dpi(_DPI)
    options: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt}
    with mpl.rc_context(options):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        everything = [one for ax in figure.axes for one in drawn(ax)]
        for i, one in enumerate(everything):
            for artist in one.artists:
                artist.set_gid(f"drawn-{i}")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    written = buffer.getvalue()
    body = written[written.index(">", written.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r' id="(?!drawn-)[A-Za-z.0-9]*_\d+"', "", body)
    for i, one in enumerate(everything):
        named = f' data-series="{text(one.series)}" data-kind="{one.kind}"'
        body = body.replace(f' id="drawn-{i}"', named)
    body = _COLOUR.sub(lambda found: f"var(--c-{found.group()[1:]})", body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    width, height = (f"{_DPI * inches:g}" for inches in figure.get_size_inches())
    points = json.dumps(_points(figure), ensure_ascii=False, separators=(",", ":"))
    head = f'<svg viewBox="0 0 {width} {height}" tabindex="0" role="img" aria-label="{text(label)}"'
    return f'{head} data-points="{text(points)}">{body}'


def colours(page: str) -> str:
    """Styles that give every colour of the charts in ``page`` its value, for light and dark."""
    used = sorted(set(re.findall(r"var\(--c-([0-9a-f]{6})\)", page)))
    light = "".join(f"--c-{name}:#{name};" for name in used)
    dark = "".join(f"--c-{name}:{_on_dark(name)};" for name in used)
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}"


def _points(figure: Figure) -> list[dict[str, Any]]:
    """Of every series: its name, and places in the picture with what is said there."""
    _, height = figure.get_size_inches() * _DPI
    found = []
    for ax in figure.axes:
        symbol = ax.get_xlabel().split(" ")[-1]
        for one in drawn(ax):
            places = one.line.get_transform().transform(np.column_stack([one.x, one.y]))
            if one.line.get_transform() == ax.get_yaxis_transform():  # axhline
                places = ax.transData.transform(np.column_stack([one.x, one.y]))
            inside = np.isfinite(places).all(1) & np.isfinite(one.y)
            kept = np.flatnonzero(inside)
            kept = (
                kept[np.unique(np.linspace(0, len(kept) - 1, MOST).astype(int))]
                if len(kept)
                else kept
            )
            points = [
                [
                    round(float(places[i, 0]), 1),
                    round(float(height - places[i, 1]), 1),
                    f"{symbol} = {one.said[i][0]}" if one.said[i][0] else "",
                    one.said[i][1],
                ]
                for i in kept
            ]
            if points:
                found.append({"s": one.series, "k": one.kind, "p": points})
    return found


def _switch(what: str, value: str, label: str, swatch: str) -> str:
    return (
        f'<button type="button" aria-pressed="true" data-switch="{what}" '
        f'data-value="{text(value)}">{swatch}{text(label)}</button>'
    )


def _swatch(one: Drawn) -> str:
    """Line and marker as in the picture."""
    line = one.line
    colour = f"var(--c-{to_hex(line.get_color())[1:]})"
    dashes = {"--": "4 2", ":": "1.5 2", "-.": "5 2 1.5 2"}.get(str(line.get_linestyle()), "")
    mark = ""
    if (marker := line.get_marker()) not in ("None", "", None):
        style = MarkerStyle(marker)
        path = style.get_path().transformed(style.get_transform())
        shapes: Any = path.to_polygons(closed_only=False)
        corners = [" ".join(f"{12 + 6 * x:.1f},{6 - 6 * y:.1f}" for x, y in s) for s in shapes]
        filled = "none" if marker == "x" else colour
        mark = "".join(
            f'<polyline points="{c}" fill="{filled}" stroke="{colour}"/>' for c in corners
        )
    return (
        f'<svg class="swatch" viewBox="0 0 24 12" aria-hidden="true"><line x1="0" y1="6" x2="24" '
        f'y2="6" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>{mark}</svg>'
    )


def _on_dark(name: str) -> str:
    """The colour that a dark page has in place of another: greys swap, others become lighter."""
    rgb = np.array([int(name[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    paper, ink = np.array([20, 24, 31]) / 255, np.array([230, 233, 239]) / 255
    if np.ptp(rgb) < 0.05:
        return to_hex(rgb.mean() * paper + (1 - rgb.mean()) * ink)
    for share in np.linspace(0, 1, 21):
        lighter = (1 - share) * rgb + share
        if _luminance(lighter) + 0.05 >= 4.5 * (_luminance(paper) + 0.05):
            break
    return to_hex(lighter)


def _luminance(rgb: np.ndarray) -> float:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
