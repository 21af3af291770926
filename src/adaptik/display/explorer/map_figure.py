# Types of Bokeh and Panel know no text for titles, no numbers for palettes, no dicts of arrays.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOptionalMemberAccess=false, reportGeneralTypeIssues=false
"""The map of linear theory as a picture, of which only numbers change."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from bokeh.events import Tap
from bokeh.models import ColorBar, ColumnDataSource, CustomJSHover, LinearColorMapper, Range1d

from ...linear_theory.diagram import SHOWN, Diagram
from ..plots.diagram import colours_of
from . import frame
from .asked import Answer, Simulated, boundary, is_log, places


class MapFigure:
    """Colours, the boundary of negative transfer, and simulated points.

    ``tapped`` is called with the event of a click.
    """

    def __init__(self, tapped: Callable[[Any], Any]):
        fig = frame.plot("map", "", "", "", 520, tools="box_zoom,wheel_zoom,reset,save,tap")
        fig.x_range, fig.y_range = Range1d(0, 1), Range1d(0, 1)
        fig.grid.visible = False
        self.colours = LinearColorMapper(palette=frame.palette("RdBu"), nan_color="#9e9e9e")
        empty = np.zeros((2, 2), np.float32)
        self.image = ColumnDataSource(
            dict(value=[empty], harm=[empty], x=[0], y=[0], dw=[1], dh=[1]), name="map-values"
        )
        drawn = fig.image(
            "value", "x", "y", "dw", "dh", source=self.image, color_mapper=self.colours
        )
        self.line = ColumnDataSource(dict(xs=[], ys=[]), name="boundary")
        fig.multi_line(
            "xs",
            "ys",
            source=self.line,
            line_color="black",
            line_width=2.5,
        )
        self.marks = ColumnDataSource(dict(x=[], y=[], value=[]), name="simulated")
        fig.scatter(
            "x",
            "y",
            source=self.marks,
            size=13,
            line_color="black",
            line_width=2,
            fill_color={"field": "value", "transform": self.colours},
        )
        code = "return String(Number((log ? Math.pow(10, value) : value).toPrecision(3)));"
        self.ticks = [CustomJSHover(args={"log": False}, code=code) for _ in "xy"]
        tips = [("x", "$x{custom}"), ("y", "$y{custom}"), ("value", "@value{0.000}")]
        tips.append(("loss − without pretraining", "@harm{+0.000}"))
        self.hover = frame.hover(tips, [drawn])
        self.hover.formatters = {"$x": self.ticks[0], "$y": self.ticks[1]}
        fig.add_tools(self.hover)
        self.bar = ColorBar(color_mapper=self.colours, width=12)
        fig.add_layout(self.bar, "right")
        fig.on_event(Tap, tapped)
        self.figure = fig

    def show(self, found: Answer) -> None:
        """Other numbers."""
        x, y = found.diagram.x, found.diagram.y
        norm, colours, _ = colours_of(found.diagram, found.value)
        colours = frame.palette(colours)
        if self.colours.palette != colours:
            self.colours.palette = colours
        self.colours.update(low=float(norm.vmin), high=float(norm.vmax))
        ends = [(p[0], p[-1], (p[-1] - p[0]) / (len(p) - 1)) for p in (places(x), places(y))]
        (left, right, dx), (low, high, dy) = ends
        self.image.data = dict(
            value=[np.asarray(found.value, np.float32)],
            harm=[np.asarray(found.harm, np.float32)],
            x=[left - dx / 2],
            y=[low - dy / 2],
            dw=[right - left + dx],
            dh=[high - low + dy],
        )
        lines = boundary(found)
        self.line.data = dict(xs=[line[0] for line in lines], ys=[line[1] for line in lines])
        self._frame_axes(x, y, left, right, low, high)
        title = SHOWN[found.diagram.quantity]
        if self.figure.title.text != title:
            self.figure.title.text = title

    def _frame_axes(self, x, y, left, right, low, high) -> None:
        """Ranges and labels, sent only where they differ: each costs a round trip."""
        ranges = (self.figure.x_range, left, right), (self.figure.y_range, low, high)
        for shown, start, end in ranges:
            if (shown.start, shown.end) != (start, end):
                shown.update(start=start, end=end, reset_start=start, reset_end=end)
        for i, axis in enumerate((x, y)):
            drawn, log = (self.figure.xaxis, self.figure.yaxis)[i][0], is_log(axis)
            if drawn.axis_label != axis.label:
                drawn.axis_label = axis.label
            if self.ticks[i].args["log"] != log or "log" not in getattr(
                drawn.formatter, "args", {}
            ):
                drawn.formatter = frame.powers_of_ten(log)
                self.ticks[i].args = {"log": log}

    def mark(self, diagram: Diagram, points: Sequence[Simulated]) -> None:
        """Simulated points, in the colours of the map."""
        if not points and not self.marks.data["x"]:
            return
        spots = {
            name: [float(np.log10(v)) if is_log(axis) else v for v in values]
            for name, axis, values in (
                ("x", diagram.x, [p.x for p in points]),
                ("y", diagram.y, [p.y for p in points]),
            )
        }
        self.marks.data = dict(**spots, value=[p.value for p in points])
