"""The view of linear theory: a map that follows its sliders, and points that are simulated."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as ui

from ...linear_theory.diagram import QUANTITIES, SHOWN, Diagram
from ...system.errors import InputError
from . import frame
from .asked import (
    POINTS,
    ROWS,
    SCALES,
    Answer,
    Asked,
    Simulated,
    answer,
    by_rows,
    is_log,
    kind_of_map,
    nearest,
    said_of,
    simulate,
    stop_label,
    table_of,
)
from .map_figure import MapFigure

PACE = 0.06  # seconds that a map may take while a slider moves; a coarser one is shown until then
SIZES = (POINTS, 50, 25, 10)  # points along an axis; few sizes, since formulas compile for each
FEWEST = SIZES[-1]
INTRO = (
    "Linear networks, solved in closed form: pretrained on one teacher, fine-tuned on another. "
    "Black lines are where pretraining turns from help to harm. "
    "Click on the map, or use the fields below it, to simulate a point."
)


class MapView:
    """Sliders, the map they belong to, and its simulated points."""

    def __init__(self):
        self.asked = Asked()
        self.points: list[Simulated] = []
        self.wanted = 0  # counts maps asked for: what is older is dropped
        self.pending = False
        self.pace: dict[tuple, float] = {}  # seconds a point, for each kind of map
        self._make_controls()
        self.picture = MapFigure(self._tapped)
        self.view = self._arranged()
        self._axes_changed()

    # what a person moves

    def _make_controls(self) -> None:
        names = {f"{words} {symbol}": name for name, (symbol, words, _) in QUANTITIES.items()}
        small: Any = dict(size="small", **frame.WIDE)
        axis: Any = dict(options=names, **small)
        self.x = frame.choice("Horizontal axis", value="alignment", **axis)
        self.y = frame.choice("Vertical axis", value="nu_target", **axis)
        self.x_range = ui.TextInput(label="from:to, or from:to:log", value="-1:1", **small)
        self.y_range = ui.TextInput(label="from:to, or from:to:log", value="0.02:0.98", **small)
        shown = {words: name for name, words in SHOWN.items()}
        self.quantity = frame.choice("Colour", shown, value="gain", **small)
        group: Any = dict(color="primary", **small)
        heads = {"fresh readout": "fresh", "kept readout": "kept"}
        self.head = ui.RadioButtonGroup(label="Readout", options=heads, value="kept", **group)
        moved = {"train readout": "readout", "train all": "all"}
        self.finetune = ui.RadioButtonGroup(label="Target", options=moved, value="readout", **group)
        self.sliders = {name: self._slider(name) for name in SCALES}
        for axis, given in ((self.x, self.x_range), (self.y, self.y_range)):
            axis.param.watch(lambda event, given=given: self._axis_chosen(event, given), "value")
        for part in (self.x_range, self.y_range, self.quantity, self.head, self.finetune):
            part.param.watch(lambda _: self._axes_changed(), "value")
        for slider in self.sliders.values():
            slider.param.watch(lambda _: self._moved(), "value")

    def _slider(self, name: str) -> ui.DiscreteSlider:
        symbol, words, default = QUANTITIES[name]
        options = [stop_label(name, value) for value in SCALES[name][1]]
        slider: Any = ui.DiscreteSlider(
            label=f"{words} {symbol}",
            options=options,
            value=stop_label(name, default),
            size="small",
            **frame.WIDE,
        )
        slider._priority_changes = ["value"]  # Panel would wait for 50 ms
        return slider

    def _level(self, name: str) -> float | None:
        """Where a slider stands."""
        stops = {stop_label(name, value): value for value in SCALES[name][1]}
        return stops[self.sliders[name].value]

    def _axis_chosen(self, event: Any, given: ui.TextInput) -> None:
        new = SCALES[event.new][0]
        if given.value == new:
            self._axes_changed()
        given.value = new

    def _arranged(self) -> pn.Column:
        self.said = ui.Alert("", severity="warning", visible=False, **frame.WIDE)
        self.state = pn.pane.HTML("", margin=(0, 6), styles={"min-height": "1.5em"}, **frame.WIDE)
        number: Any = dict(width=130, step=0.05, size="small", margin=(4, 6))
        self.at_x = ui.FloatInput(label="x", value=0.5, **number)
        self.at_y = ui.FloatInput(label="y", value=0.4, **number)
        self.button = ui.Button(label="Simulate this point", color="primary", margin=(4, 6))
        self.button.on_click(self._pressed)
        self.table = pn.pane.DataFrame(None, index=False, visible=False, **frame.WIDE)
        self.command = ui.TextAreaInput(
            label="The same on the command line", rows=3, max_rows=8, auto_grow=True, **frame.WIDE
        )
        self.python = ui.TextAreaInput(
            label="The same in Python", rows=4, max_rows=10, auto_grow=True, **frame.WIDE
        )
        left = pn.Column(
            frame.shown(self.picture.figure),
            self.state,
            self.said,
            pn.FlexBox(self.at_x, self.at_y, self.button, align_items="center"),
            self.table,
            **frame.WIDE,
        )
        axes = [self.x, self.x_range, self.y, self.y_range, self.quantity]
        right = pn.Column(*axes, self.head, self.finetune, *self.sliders.values(), **frame.WIDE)
        return pn.Column(
            frame.heading("When does transfer help in linear networks?", INTRO),
            frame.beside(frame.grows(left, 340, 3), frame.grows(right, 280, 1)),
            frame.heading("Reproduce what you see"),
            frame.beside(frame.grows(self.command, 340), frame.grows(self.python, 340)),
            **frame.WIDE,
        )

    # what happens

    def _axes_changed(self) -> None:
        """Axes, colour or modes are others: sliders without effect go, simulated points too."""
        unused = {self.x.value, self.y.value}
        if self.quantity.value == "over_rich":
            unused |= SCALES.keys() - {"nu_source", "alignment", "noise_alignment"}
        for name, slider in self.sliders.items():
            slider.visible = name not in unused
        linear = self.quantity.value == "over_rich"
        self.head.disabled = self.finetune.disabled = linear
        self._moved()

    def _moved(self) -> None:
        """Something has changed; several changes at once are answered once."""
        self.wanted += 1
        if self.pending:
            return
        self.pending = True
        frame.soon(self.update)

    def update(self) -> None:
        """Answer what the controls ask for, at once: coarsely where that takes long."""
        self.pending = False
        self.points, self.asked = [], self._read()
        try:
            diagram = self.asked.diagram(self._affordable())
            if self._compiles_first(diagram):
                return
            began = time.perf_counter()
            found = answer(diagram)
            took = time.perf_counter() - began
            if kind_of_map(diagram) not in self.pace:  # the first one compiled
                began = time.perf_counter()
                found = answer(diagram)
                took = time.perf_counter() - began
        except InputError as error:
            self._say(str(error))
            return
        self._learn(diagram, took / found.value.size)
        coarse = found.value.shape[0] < POINTS
        self._show(found)
        self._tell(f"{POINTS} × {POINTS} points: computing…" if coarse else said_of(found, took))
        if coarse and pn.state.curdoc is not None:
            pn.state.execute(self._refine)
        elif coarse:
            self._show(answer(self.asked.diagram()))

    def _compiles_first(self, diagram: Diagram) -> bool:
        """Whether its formulas are compiled now, for seconds, and the map comes after that."""
        kind = kind_of_map(diagram)
        if not diagram.anisotropic or kind in self.pace or pn.state.curdoc is None:
            return False

        async def compiled() -> None:
            with suppress(InputError):  # which the map says itself
                await asyncio.to_thread(answer, diagram)
            self.pace[kind] = np.inf
            frame.soon(self.update)

        self._tell("compiling the formulas of such inputs, for some seconds the first time…")
        pn.state.execute(compiled)
        return True

    def _affordable(self) -> int:
        """Points along an axis that :data:`PACE` has time for."""
        diagram = self.asked.diagram(FEWEST)
        unknown = np.inf if diagram.anisotropic else 0.0
        seconds = self.pace.get(kind_of_map(diagram), unknown)
        return next((n for n in SIZES if seconds * n**2 <= PACE), FEWEST)

    def _learn(self, diagram: Diagram, pace: float) -> None:
        """The fastest is remembered: others compiled, or waited for the processor."""
        kind = kind_of_map(diagram)
        self.pace[kind] = min(self.pace.get(kind, np.inf), pace)

    async def _refine(self) -> None:
        """The whole map after the coarse one, unless something else is asked for meanwhile."""
        wanted, diagram = self.wanted, self.asked.diagram()
        rows, took = by_rows(diagram), 0.0
        await asyncio.sleep(0.15)  # a hand that goes on moving has priority
        while wanted == self.wanted:
            began = time.perf_counter()
            found = await asyncio.to_thread(next, rows)
            one = time.perf_counter() - began
            took += one
            self._learn(diagram, one / (ROWS * POINTS))
            if found is not None:
                frame.soon(partial(self._refined, wanted, found, took))
                return

    def _refined(self, wanted: int, found: Answer, took: float) -> None:
        if wanted == self.wanted:
            self._show(found)
            self._tell(said_of(found, took))

    def _read(self) -> Asked:
        return Asked(
            f"{self.x.value}={self.x_range.value.strip()}",
            f"{self.y.value}={self.y_range.value.strip()}",
            self.quantity.value,
            {name: self._level(name) for name in self.sliders},
            self.head.value,
            self.finetune.value,
        )

    def _show(self, found: Answer) -> None:
        self.picture.show(found)
        self.said.visible = False
        if not np.isfinite(found.value).all():
            self._say("The theory has no finite value in the grey part of the map.")
        self._show_points()

    # simulated points

    def _tapped(self, event: Any) -> None:
        pn.state.execute(partial(self._simulate, event.x, event.y))

    async def _pressed(self, _: Any) -> None:
        x, y = self._read_point()
        await self._simulate(x, y)

    def _read_point(self) -> tuple[float, float]:
        diagram = self.asked.diagram(FEWEST)
        pair = []
        for field, axis in ((self.at_x, diagram.x), (self.at_y, diagram.y)):
            value = float(np.clip(field.value or 0.0, axis.values[0], axis.values[-1]))
            pair.append(float(np.log10(value)) if is_log(axis) else value)
        return pair[0], pair[1]

    async def _simulate(self, x: float, y: float) -> None:
        try:
            diagram, wanted = self.asked.diagram(FEWEST), self.wanted
            at_x, at_y = nearest(diagram, x, y)
            self.at_x.value, self.at_y.value = at_x, at_y
            self._tell(f"simulating at ({at_x:g}, {at_y:g})…")
            self.button.loading = True
            work: Callable[..., Simulated] = simulate
            found = await asyncio.to_thread(work, diagram, at_x, at_y, len(self.points))
        except InputError as error:
            self._say(str(error))
            return
        finally:
            self.button.loading = False
        frame.soon(partial(self._simulated, wanted, found))

    def _simulated(self, wanted: int, found: Simulated) -> None:
        if wanted == self.wanted:
            self.points = [*self.points, found]
            self._show_points()
            self._tell(f"simulated: {found.apart:+.1f} standard errors from the theory")

    def _show_points(self) -> None:
        self.asked = replace(self.asked, simulated=tuple((p.x, p.y) for p in self.points))
        self.command.value, self.python.value = self.asked.command, self.asked.python
        diagram = self.asked.diagram(FEWEST)
        self.picture.mark(diagram, self.points)
        self.table.visible = bool(self.points)
        if self.points:
            self.table.object = table_of(self.points, diagram.x.name, diagram.y.name)

    def _tell(self, text: str) -> None:
        self.state.object = f"<small>{text}</small>"

    def _say(self, text: str) -> None:
        self.said.param.update(object=text, visible=True)
