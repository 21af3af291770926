# Types of Bokeh and Panel know no text for titles, no numbers for palettes, no dicts of arrays.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOptionalMemberAccess=false, reportGeneralTypeIssues=false
"""Pictures of a study: learning curves, kernels and densities."""

from typing import Any

import numpy as np
from bokeh.models import ColorBar, ColumnDataSource, LinearColorMapper

from . import frame
from .folder_of_study import Series


def curve_figure(found: list[Series], stage: str, task: str, log: bool) -> Any:
    log = log and all((s.loss > 0).all() for s in found)
    fig = frame.plot(
        f"curves-{stage}-{task}",
        f"{stage} stage: loss on the {task}",
        "time since the stage's start",
        "test loss",
        300,
        x_axis_type="log",
        y_axis_type="log" if log else "linear",
    )
    ordered = sorted({s.source_richness for s in found if np.isfinite(s.source_richness)})
    colours = dict(zip(ordered, frame.levels(max(len(ordered), 1)), strict=False))
    drawn = []
    for s in found:
        colour = colours.get(s.source_richness, frame.GREY)
        error = np.nan_to_num(s.error)
        who = [f"{s.label}, {'theory' if s.origin == 'theory' else 'networks'}"] * len(s.loss)
        columns = dict(t=s.times, loss=s.loss, low=s.loss - error, high=s.loss + error)
        source = ColumnDataSource(columns | dict(error=error, who=who))
        draw = _line if s.origin == "theory" else _dots
        drawn.append(draw(fig, source, s, colour))
    tips = [("", "@who"), ("time", "@t{0.00}"), ("loss", "@loss{0.0000} ± @error{0.0000}")]
    fig.add_tools(frame.hover(tips, drawn))
    frame.legend_below(fig)
    return frame.shown(fig)


def _line(fig: Any, source: ColumnDataSource, s: Series, colour: str) -> Any:
    """A curve of the theory within its error; dashed where there is no source."""
    dash = "solid" if np.isfinite(s.source_richness) else "dashed"
    band = dict(fill_color=colour, fill_alpha=0.25, legend_label=s.label)
    fig.varea("t", "low", "high", source=source, **band)
    style = dict(line_color=colour, line_width=2.2, line_dash=dash, legend_label=s.label)
    return fig.line("t", "loss", source=source, **style)


def _dots(fig: Any, source: ColumnDataSource, s: Series, colour: str) -> Any:
    """Losses of networks with their errors."""
    bars = fig.segment("t", "low", "t", "high", source=source, line_color=colour)
    style = dict(size=7, line_color=colour, fill_alpha=0.0, line_width=1.5, legend_label=s.label)
    dots = fig.scatter("t", "loss", source=source, **style)
    dots.js_link("visible", bars, "visible")
    return dots


class FeatureFigures:
    """Kernels and densities, of which a slider changes the data alone."""

    def __init__(self, data: Any):
        self.data = data
        n = data.sizes["sample"]
        self.colours = LinearColorMapper(palette=frame.palette("viridis"))
        self.images, kernels = [], []
        labels = [str(v) for v in data.label.values]
        for name, title in (("before", "before"), ("now", "at the time chosen")):
            square = dict(x_range=(0, n), y_range=(n, 0), tools="reset,save")
            fig = frame.plot(f"kernel-{name}", title, "sample", "sample", 330, **square)
            source = ColumnDataSource(dict(image=[np.zeros((n, n))]), name=f"kernel-{name}")
            drawn = fig.image("image", 0, 0, n, n, source=source, color_mapper=self.colours)
            starts = [i for i in range(1, n) if labels[i] != labels[i - 1]]
            if len(starts) <= 20:
                for line in starts:
                    ends = dict(x0=[line, 0], y0=[0, line], x1=[line, n], y1=[n, line])
                    fig.segment(**ends, line_color="white", line_width=1)
            fig.add_tools(frame.hover([("kernel", "@image{0.000}")], [drawn]))
            fig.add_layout(ColorBar(color_mapper=self.colours, width=10), "right")
            self.images.append(source)
            self.title = fig.title
            kernels.append(frame.grows(frame.shown(fig), 300))
        groups = [str(g) for g in data.group.values]
        fig = frame.plot("densities", "", "preactivation h", "density p(h)", 300)
        self.densities = []
        for i, group in enumerate(groups):
            colour = frame.OKABE_ITO[i % 6]
            pair = []
            for dash, alpha in (("dashed", 0.7), ("solid", 1.0)):
                source = ColumnDataSource(dict(h=[], p=[]))
                style = dict(line_color=colour, line_dash=dash, line_alpha=alpha, line_width=2)
                fig.line("h", "p", source=source, legend_label=group, **style)
                pair.append(source)
            self.densities.append(pair)
        frame.legend_below(fig)
        self.parts = [frame.beside(*kernels), frame.shown(fig)]

    def show(self, places: np.ndarray, now: int) -> None:
        """Moments ``places`` of one stage, the first of them beside moment ``now``."""
        data = self.data
        both = [np.asarray(data.kernel[i], np.float32) for i in (places[0], now)]
        of_all = data.kernel[places].values  # one scale for all times
        low, high = (float(v) for v in np.percentile(of_all, [0.5, 99.5]))
        self.colours.update(low=low, high=max(high, low + 1e-6))
        for source, kernel in zip(self.images, both, strict=True):
            source.data = dict(image=[kernel])
        self.title.text = f"at time {float(data.moment_time[now]):.3g}"
        for group, (start, moving) in enumerate(self.densities):
            for source, i in ((start, places[0]), (moving, now)):
                source.data = dict(h=data.preactivation[i].values, p=data.density[i, group].values)
