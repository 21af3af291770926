"""The view of findings and sweeps: claims with their numbers, and curves over any axis."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import panel as pn
from bokeh.models import ColumnDataSource

from ...sweeps.grid import level_label
from ...system.errors import InputError
from . import frame
from .folder_of_finding import (
    MEAN,
    SweepFolder,
    axes,
    levels,
    lines,
    read_finding,
    read_sweep,
)
from .found import WROTE, Found

MOODS = {"reproduced": "success", "differs": "error"}
NONE = "(one curve)"


class GalleryView:
    """All findings and sweeps that were found, one at a time."""

    def __init__(self, found: Found):
        there = [*found.findings, *found.sweeps]
        if not there:
            said = f"No finding, no sweep here. Name a folder: adaptik explore FOLDER ({WROTE})."
            self.view = pn.Column(frame.message(said), **frame.WIDE)
            return
        self.findings = set(found.findings)
        options = {found.name(path): path for path in there}
        self.choice = frame.choice("Finding or sweep", options, value=there[0], **frame.CHOICE)
        self.choice.visible = len(options) > 1
        self.body = pn.Column(**frame.WIDE)
        self.view = pn.Column(self.choice, self.body, **frame.WIDE)
        self.choice.param.watch(lambda _: self.show(), "value")
        self.show()

    def show(self) -> None:
        """What was chosen, or what is wrong with its folder."""
        path = self.choice.value
        parts: Callable[[Path], list[Any]] = finding if path in self.findings else sweep
        try:
            self.body.objects = parts(path)
        except InputError as error:
            self.body.objects = [frame.message(str(error), "warning")]


def finding(path: Path) -> list[Any]:
    """The sections of a finding's page."""
    found = read_finding(path)
    shown: list[Any] = [
        frame.heading(found.title),
        frame.message(f"{found.word}: {found.claim}", MOODS.get(found.word, "info")),
        frame.heading("Claims"),
        pn.pane.DataFrame(
            found.claims,
            index=False,
            text_align="start",
            stylesheets=[":host table th { text-align: left; }"],
            **frame.WIDE,
        ),
    ]
    if found.picture:
        shown += [
            frame.heading("Figure", found.caption),
            pn.pane.PNG(
                found.picture,
                alt_text=found.caption,
                sizing_mode="scale_width",
                max_width=900,
                styles={"background": "white"},
            ),
        ]
    shown += [frame.heading("Theory and networks"), *map(frame.message, found.agreement)]
    return shown


def sweep(path: Path) -> list[Any]:
    """The sections of a sweep's page."""
    found = read_sweep(path)
    shown: list[Any] = [
        frame.heading(f"sweep {path.name}"),
        frame.message(found.said, "success" if found.whole else "warning"),
    ]
    names = [n for n in found.numbers() if axes(found.data[n])]
    if not names:
        return [*shown, frame.message("No result of this sweep has an axis to draw it over.")]
    return [*shown, SweepCurves(found, names).view]


class SweepCurves:
    """One result over an axis, one curve for each level of another."""

    def __init__(self, found: SweepFolder, names: list[str]):
        self.found = found
        small: Any = dict(width=240)
        self.result = frame.choice("Result", names, value=names[0], **small)
        self.x = frame.choice("Horizontal axis", [], **small)
        self.colour = frame.choice("A curve for each", [], **small)
        self.log = frame.choice(
            "Scales",
            ["linear", "x logarithmic", "y logarithmic", "both logarithmic"],
            value="linear",
            **small,
        )
        self.rest = pn.FlexBox(**frame.WIDE)
        self.picture = pn.Column(**frame.WIDE)
        self.at: dict[str, pn.widgets.Select] = {}
        self.busy = False
        self._result_chosen()
        self.result.param.watch(lambda _: self._result_chosen(), "value")
        self.x.param.watch(lambda _: self._axes_chosen(), "value")
        self.colour.param.watch(lambda _: self._axes_chosen(), "value")
        self.log.param.watch(lambda _: self.draw(), "value")
        said = "Bars are standard errors of means over the axes that are averaged."
        self.view = pn.Column(
            frame.heading("Curves over any axis", said),
            pn.FlexBox(self.result, self.x, self.colour, self.log),
            self.rest,
            self.picture,
            **frame.WIDE,
        )

    @property
    def variable(self) -> Any:
        return self.found.data[self.result.value]

    def _result_chosen(self) -> None:
        names = axes(self.variable)
        self.busy = True
        x = self.x.value if self.x.value in names else names[0]
        colour = next((n for n in names if n != x), NONE)
        if self.colour.value in names and self.colour.value != x:
            colour = self.colour.value
        self.x.param.update(options=names, value=x)
        self.colour.param.update(options=[NONE, *names], value=colour)
        self.busy = False
        self._axes_chosen()

    def _axes_chosen(self) -> None:
        if self.busy:
            return
        variable = self.variable
        self.at = {}
        for name in axes(variable):
            if name in (self.x.value, self.colour.value):
                continue
            places = {level_label(v): i for i, v in enumerate(levels(variable, name))}
            options: dict[str, int | str] = {f"{MEAN} over all": MEAN, **places}
            pick = frame.choice(name, options, value=MEAN, width=240)
            pick.param.watch(lambda _: self.draw(), "value")
            self.at[name] = pick
        self.rest.objects = [*self.at.values()]
        self.draw()

    def draw(self) -> None:
        """The curves that are chosen."""
        colour = self.colour.value if self.colour.value not in (NONE, self.x.value) else None
        at = {name: pick.value for name, pick in self.at.items()}
        drawn = lines(self.variable, self.x.value, colour, at)
        self.picture.objects = [
            frame.shown(_figure(drawn, self.x.value, self.result.value, self.log.value))
        ]


def _figure(drawn: list[Any], x: str, y: str, scales: str) -> Any:
    """Curves with error bars; levels that are words stand at even distances."""
    numeric = drawn[0].x.dtype.kind in "fiu"
    values = np.concatenate([line.mean for line in drawn])
    positive = bool(np.nanmin(values, initial=np.inf) > 0)
    log_x = numeric and scales[0] in "xb" and bool((drawn[0].x > 0).all())
    log_y = scales[0] in "yb" and positive
    names = [level_label(v) for v in drawn[0].x]
    options: dict[str, Any] = {} if numeric else {"x_range": names}
    if log_x:
        options["x_axis_type"] = "log"
    fig = frame.plot(
        "sweep", f"{y} against {x}", x, y, 420, y_axis_type="log" if log_y else "linear", **options
    )
    shown = []
    for i, (line, colour) in enumerate(zip(drawn, frame.levels(len(drawn)), strict=True)):
        at = line.x if numeric else np.array(names)
        fine = np.isfinite(line.mean)
        error = np.nan_to_num(line.error)
        source = ColumnDataSource(
            dict(
                x=at[fine],
                y=line.mean[fine],
                error=error[fine],
                low=(line.mean - error)[fine],
                high=(line.mean + error)[fine],
                who=[line.label] * int(fine.sum()),
            )
        )
        more = {"legend_label": line.label} if line.label else {}
        fig.line("x", "y", source=source, line_color=colour, line_width=2, **more)
        fig.segment("x", "low", "x", "high", source=source, line_color=colour)
        marker = frame.BOKEH_MARKERS[i % len(frame.BOKEH_MARKERS)]
        shown.append(
            fig.scatter("x", "y", source=source, size=8, color=colour, marker=marker, **more)
        )
    tips = [("", "@who"), (x, "@x"), (y, "@y{0.0000} ± @error{0.0000}")]
    fig.add_tools(frame.hover(tips, shown))
    frame.legend_below(fig, columns=2)
    return fig
