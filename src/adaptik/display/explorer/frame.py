# Types of Bokeh and Panel know no text for titles, no numbers for palettes, no dicts of arrays.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOptionalMemberAccess=false, reportGeneralTypeIssues=false
"""How all views look: page, figures, messages; colours are those of the reports."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, ClassVar

import matplotlib as mpl
import numpy as np
import panel as pn
import panel_material_ui as ui
from bokeh.models import CustomJSTickFormatter, HoverTool
from bokeh.plotting import figure
from panel.io.resources import CDN_DIST, CSS_URLS, LOCAL_DIST

from ..plots.style import OKABE_ITO, shades

BLUE, RED, GREEN, PINK, ORANGE, SKY, _ = OKABE_ITO
GREY = "#8a8a8a"  # seen on white and on black
BOKEH_MARKERS = ("circle", "square", "diamond", "triangle", "inverted_triangle", "plus", "star")
MOODS = {"helps": "success", "hurts": "error", "open": "info"}
TOOLS = "pan,box_zoom,wheel_zoom,reset,save"
WIDE: Any = dict(sizing_mode="stretch_width")
CHOICE: Any = dict(margin=(18, 4, 4, 4), **WIDE)
CONFIG: Any = {
    "palette": {"primary": {"main": BLUE}, "secondary": {"main": RED}},
    "typography": {
        "fontFamily": "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif",
        "button": {"textTransform": "none"},
    },
}
STYLES = """
body { overflow-x: hidden; }
code, pre { font-family: ui-monospace, 'DejaVu Sans Mono', monospace; }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; } }
"""


def page(title: str, views: Sequence[tuple[str, Callable[[], Any]]], active: int) -> ui.Page:
    """One page with a tab for each view, which is made when the tab is first looked at.

    Only the tab that is looked at has something in it: a table that nobody sees tries to draw
    itself without end.
    """
    rooms = [pn.Column(**WIDE) for _ in views]
    named = [(name, room) for (name, _), room in zip(views, rooms, strict=True)]
    tabs = ui.Tabs(*named, active=active, margin=0, **WIDE)
    made: dict[int, Any] = {}

    def enter(_: Any = None) -> None:
        if tabs.active not in made:
            made[tabs.active] = views[tabs.active][1]()
        for i, room in enumerate(rooms):
            room.objects = [made[i]] if i == tabs.active else []

    tabs.param.watch(enter, "active")
    rooms[active].objects = [message("One moment…")]
    pn.state.onload(enter)  # the page itself is there sooner
    return ui.Page(
        title=title,
        main=[pn.Column(tabs, **WIDE, margin=(0, 12, 40, 12))],
        sidebar=[],
        theme_config=CONFIG,
        raw_css=[STYLES],
        busy_indicator="linear",
    )


def soon(change: Callable[[], None], milliseconds: int = 0) -> None:
    """Change what is shown later, with the document's lock.

    A coroutine lacks that lock once it has waited, and a page draws what it has in between.
    """
    document = pn.state.curdoc
    if document is None:  # no browser
        change()
        return

    def changed() -> None:
        with in_order():
            change()

    if milliseconds:
        document.add_timeout_callback(changed, milliseconds)
    else:
        document.add_next_tick_callback(changed)


def in_order() -> AbstractContextManager[None]:
    """Figures that change in here are sent after what Panel has sent before.

    On a busy connection Panel queues its messages and Bokeh does not: a figure's new numbers
    would reach a browser that does not have the figure yet.
    """
    return pn.io.hold(pn.state.curdoc)


def choice(label: str, options: Any, **more: Any) -> pn.widgets.Select:
    """One of several, as the browser itself asks: by keys, and well on a phone."""
    more.pop("size", None)
    return pn.widgets.Select(label=label, options=options, **more)


def message(text: str, mood: str = "info") -> ui.Alert:
    """A line in a box: ``"info"``, ``"success"``, ``"warning"`` or ``"error"``."""
    return ui.Alert(object=text, severity=mood, **WIDE, margin=(8, 4))


def heading(text: str, said: str = "") -> pn.Column:
    """A section's title, with a line that explains it."""
    parts: list[Any] = [ui.Typography(text, variant="h6", margin=(18, 4, 0, 4))]
    if said:
        parts.append(ui.Typography(said, variant="body2", margin=(0, 4, 6, 4), **WIDE))
    return pn.Column(*parts, **WIDE)


def beside(*parts: Any) -> pn.Row:
    """Next to each other where there is room, else below each other."""
    wrapped = {"flex-wrap": "wrap", "gap": "8px 24px", "align-items": "flex-start"}
    return pn.Row(*parts, styles=wrapped, **WIDE)


def grows(part: Any, least: int, share: int = 1) -> Any:
    """A part that takes room, but no less than a phone has."""
    styles = {"flex": f"{share} 1 {least}px", "min-width": f"min({least}px, 92vw)"}
    return pn.Column(part, styles=styles, **WIDE)


class Table(pn.widgets.Tabulator):
    """A table to look at, whose style comes from this server.

    Panel sends what is made after a page has loaded to its network of copies, which a machine
    without internet does not reach.
    """

    _stylesheets: ClassVar[list[str]] = [CSS_URLS["font-awesome"].replace(CDN_DIST, LOCAL_DIST)]

    def _get_theme(self, theme, resources=None):
        return super()._get_theme(theme, resources).replace(CDN_DIST, LOCAL_DIST)


def plot(name: str, title: str, x: str, y: str, height: int = 330, **options: Any) -> figure:
    """An empty figure in the style of all."""
    made = figure(
        name=name,
        title=title,
        x_axis_label=x,
        y_axis_label=y,
        height=height,
        sizing_mode="stretch_width",
        tools=options.pop("tools", TOOLS),
        toolbar_location="above",
        output_backend="canvas",
        **options,
    )
    made.toolbar.logo = None
    made.toolbar.autohide = True
    made.min_border_right = 12
    return made


def shown(made: figure) -> pn.pane.Bokeh:
    """A figure as a part of a view."""
    return pn.pane.Bokeh(made, sizing_mode="stretch_width", margin=(2, 4))


def hover(tips: Sequence[tuple[str, str]], renderers: Any = "auto", **formats: Any) -> HoverTool:
    return HoverTool(tooltips=list(tips), renderers=renderers, formatters=formats)


def powers_of_ten(is_log: bool) -> CustomJSTickFormatter:
    """Labels for coordinates that are decimal logarithms, or values as they are."""
    code = "const v = log ? Math.pow(10, tick) : tick; return String(Number(v.toPrecision(3)));"
    return CustomJSTickFormatter(args={"log": is_log}, code=code)


def legend_below(made: figure, columns: int = 3) -> None:
    """The legend in lines below a figure; a click on an entry hides what it stands for."""
    if not made.legend:
        return
    legend = made.legend[0]
    made.add_layout(legend, "below")
    legend.orientation, legend.ncols = "horizontal", columns
    legend.click_policy = "hide"
    legend.background_fill_alpha = 0
    legend.border_line_alpha = 0


def levels(count: int) -> list[str]:
    """Colours of ordered levels, seen on white and on black."""
    if count == 1:
        return [BLUE]
    middle = mpl.colormaps["viridis"](np.linspace(0.3, 0.8, count))
    return [mpl.colors.to_hex(c) for c in (middle if count > 1 else shades(1))]


@cache
def palette(name: str) -> list[str]:
    """256 colours of a map of matplotlib."""
    return [mpl.colors.to_hex(c) for c in mpl.colormaps[name](np.linspace(0, 1, 256))]
