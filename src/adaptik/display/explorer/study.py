# Types of Bokeh and Panel know no text for titles, no numbers for palettes, no dicts of arrays.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportOptionalMemberAccess=false, reportGeneralTypeIssues=false
"""The view of a study: answer, rows, curves, features through time, and how it was decided."""

from collections.abc import Callable
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as ui
from bokeh.models import ColumnDataSource
from bokeh.models.widgets.tables import NumberFormatter

from ...system.errors import InputError
from ...transfer.verdict import certainty
from . import frame
from .folder_of_study import StudyFolder, curves, judged, read, sequences, table, ways
from .found import WROTE, Found
from .study_figures import FeatureFigures, curve_figure

MOODS = {True: "success", False: "error", None: "info"}
BREATH = 250  # milliseconds between sections, in which a page draws
Section = Callable[[StudyFolder], list[Any]]
MARKS = {True: "✓ ", False: "✗ ", None: "? "}


class StudyView:
    """All studies that were found, one at a time."""

    def __init__(self, found: Found):
        self.found = found
        if not found.studies:
            said = f"No study here. Start with adaptik explore FOLDER, a folder that {WROTE} wrote."
            self.view = pn.Column(frame.message(said), **frame.WIDE)
            return
        options = {found.name(path): path for path in found.studies}
        self.choice = frame.choice("Study", options, value=found.studies[0], **frame.CHOICE)
        self.choice.visible = len(options) > 1
        self.body = pn.Column(**frame.WIDE)
        self.view = pn.Column(self.choice, self.body, **frame.WIDE)
        self.choice.param.watch(lambda _: self.show(), "value")
        self.show()

    def show(self) -> None:
        """The chosen study, section by section, or what is wrong with its folder."""
        try:
            study = read(self.choice.value)
        except InputError as error:
            self.body.objects = [frame.message(str(error), "warning")]
            return
        self.body.objects = _answer(study)
        self._add(study, list(SECTIONS) if len(study.rows) else [_notes])

    def _add(self, study: StudyFolder, waiting: list[Section]) -> None:
        """The next section, then those after it; unless another study was chosen meanwhile."""

        def add() -> None:
            if study.path == self.choice.value:
                self.body.extend(waiting[0](study))
                self._add(study, waiting[1:])

        if waiting:
            frame.soon(add, BREATH)


def _answer(study: StudyFolder) -> list[Any]:
    helps = study.verdict.get("helps")
    shown: list[Any] = [
        frame.heading(study.title),
        frame.message(MARKS[helps] + study.verdict["sentence"], MOODS[helps]),
    ]
    if not study.complete:
        shown.append(
            frame.message("The study was interrupted: these are the rows it finished.", "warning")
        )
    return shown


def _notes(study: StudyFolder) -> list[Any]:
    if not study.notes:
        return []
    said = "\n".join(f"- {note}" for note in study.notes)
    return [frame.heading("Notes"), pn.pane.Markdown(said, margin=(0, 4), **frame.WIDE)]


def _rows(study: StudyFolder) -> list[Any]:
    rows = table(study)
    words = {"target stage", "outcome"}
    formats = {
        c: NumberFormatter(format="0.[00]" if "γ" in c else "0.000", nan_format="–")
        for c in rows.columns
        if c not in words
    }
    filters = {
        c: (
            {"type": "input", "func": "like", "placeholder": "contains…"}
            if c in words
            else {"type": "number", "func": ">=", "placeholder": "at least…"}
        )
        for c in rows.columns
    }
    grid = frame.Table(
        rows,
        show_index=False,
        disabled=True,
        formatters=formats,
        header_filters=filters,
        layout="fit_data_fill",
        height=min(90 + 32 * len(rows), 420),
        **frame.WIDE,
    )
    said = f"Losses in {study.unit}. Click on a title to sort; type below it to filter."
    return [frame.heading("Rows", said), grid]


def _decision(study: StudyFolder) -> list[Any]:
    """Held-out and test loss of every row, the two that the verdict compares filled."""
    lines = judged(study).dropna(subset=["test_loss"])
    names = [*lines.label][::-1]
    fig = frame.plot(
        "decision",
        "",
        f"loss, in {study.unit}",
        "",
        height=150 + 24 * len(names),
        y_range=names,
        tools="save",
    )
    fig.ygrid.grid_line_alpha = 0.4
    fig.xaxis.ticker.desired_num_ticks = 4
    drawn = []
    for column, marker, colour, words in (
        ("held_out", "square", frame.ORANGE, "held-out loss: chooses"),
        ("test_loss", "circle", frame.BLUE, "test loss: answers"),
    ):
        known = lines.dropna(subset=[column])
        error = known[f"{column}_se"].fillna(0)
        source = ColumnDataSource(
            dict(
                loss=known[column],
                label=known.label,
                low=known[column] - error,
                high=known[column] + error,
                error=error,
                alpha=np.where(known.chosen, 1.0, 0.0),
            )
        )
        fig.segment("low", "label", "high", "label", source=source, line_color=colour)
        drawn.append(
            fig.scatter(
                "loss",
                "label",
                source=source,
                marker=marker,
                size=10,
                line_color=colour,
                line_width=1.5,
                fill_color=colour,
                fill_alpha="alpha",
                legend_label=words,
            )
        )
    fig.add_tools(frame.hover([("", "@label"), ("loss", "@loss{0.0000} ± @error{0.0000}")], drawn))
    frame.legend_below(fig, columns=1)
    said = (
        "Refits that hold out some of the target's training data choose the best way with "
        "pretraining and the best without (filled); their test losses answer."
    )
    v = study.verdict
    if v.get("gain") is not None and v.get("confidence") is not None:
        said += (
            f" Gain {100 * v['gain']:.1f} ± {100 * (v.get('gain_se') or 0):.1f} %, positive in "
            f"{certainty(v['confidence'])} of resampled data."
        )
    return [frame.heading("Where the verdict comes from", said), frame.shown(fig)]


def _curves(study: StudyFolder) -> list[Any]:
    options = ways(study)
    if not options:
        return []
    first = next((n for n, (mode, _) in options.items() if mode != "scratch"), next(iter(options)))
    pick = frame.choice("Way to use the target", [*options], value=first, width=320)
    log = ui.Switch(label="logarithmic losses", value=False, margin=(8, 6))

    def draw(name: str, log: bool) -> Any:
        mode, g2 = options[name]
        both = []
        for stage in ("source", "target"):
            for task in ("source", "target"):
                found = curves(study, stage, task, mode, g2)
                if stage == "target" and mode != "scratch":
                    scratch = [w for w in options.values() if w[0] == "scratch"]
                    same = [w for w in scratch if w[1] == (g2 or 0.0)] or scratch[:1]
                    for way in same:
                        found += curves(study, stage, task, *way)
                if found and not (stage == "source" and mode == "scratch"):
                    both.append(frame.grows(curve_figure(found, stage, task, log), 320))
        return frame.beside(*both)

    said = (
        "Lines and bands: infinite width ± s.e.; circles and bars: finite networks ± s.e. "
        "Click on a legend's entry to hide it."
    )
    return [
        frame.heading("Learning curves", said),
        pn.FlexBox(pick, log, align_items="center"),
        pn.panel(pn.bind(draw, pick, log), **frame.WIDE),
    ]


def _features(study: StudyFolder) -> list[Any]:
    data, found = study.evolution, sequences(study)
    if data is None or not found:
        lazy = "No stage of this study moves its features: kernels stay as they were."
        return [] if data is None else [frame.heading("Features through time", lazy)]
    names = [*found]
    pick = frame.choice("Stage", names, value=names[-1], width=320)
    view = FeatureFigures(data)

    def times(name: str) -> dict[str, int]:
        return {f"{float(data.moment_time[i]):.3g}": int(i) for i in found[name]}

    options = times(names[-1])
    at = ui.DiscreteSlider(
        label="Time", options=options, value=[*options.values()][-1], **frame.WIDE
    )

    def chosen(event: Any) -> None:
        new = times(event.new)
        at.param.update(options=new, value=[*new.values()][-1])

    def moved(_: Any) -> None:
        with frame.in_order():
            view.show(found[pick.value], at.value)

    pick.param.watch(chosen, "value")
    at.param.watch(moved, "value")
    moved(None)
    said = (
        "Kernel between target training samples, sorted by class, at the stage's start and at the "
        "time of the slider, on one scale; below, densities of the hidden layer's preactivations "
        "(dashed: at the start)."
    )
    return [frame.heading("Features through time", said), pick, at, *view.parts]


SECTIONS: tuple[Section, ...] = (_decision, _rows, _curves, _features, _notes)
