"""What a map shows, as a person has asked for it: quantities, their levels, and the answer."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from ...linear_theory.diagram import OF_OVER_RICH, QUANTITIES, Axis, Diagram

POINTS = 100  # along an axis
DRAWS = 20  # simulations of a point
ROWS = 5  # of a map, computed between two looks at whether it is still wanted
Line = tuple[np.ndarray, np.ndarray]


def _sizes(low: float, high: float, count: int) -> list[float]:
    """Evenly spaced logarithms, in numbers that can be read."""
    return [float(f"{v:.2g}") for v in np.geomspace(low, high, count)]


def _steps(low: float, high: float, step: float) -> list[float]:
    return [round(float(v), 10) for v in np.arange(low, high + step / 2, step)]


# name: range of an axis, as the command line has it, and the stops of a slider
SCALES: dict[str, tuple[str, list[float | None]]] = {
    "alignment": ("-1:1", [*_steps(-1, 1, 0.05)]),
    "nu_target": ("0.02:0.98", [*_steps(0.02, 2, 0.02)]),
    "richness": ("0.1:100:log", [0.0, *_sizes(0.1, 100, 61)]),
    "nu_source": ("0.05:5:log", [*_sizes(0.05, 10, 47), np.inf]),
    "noise_alignment": ("-0.6:0.6", [*_steps(-1, 1, 0.05)]),
    "source_noise": ("0:1", [*_steps(0, 2, 0.05)]),
    "target_noise": ("0:1", [*_steps(0, 2, 0.05)]),
    "ridge": ("0.001:10:log", [0.0, *_sizes(0.001, 10, 41)]),
    "time": ("0.1:100:log", [*_sizes(0.1, 100, 31), None]),
    "exponent": ("0:2", [None, *_steps(0, 3, 0.1)]),
    "contrast": ("1:100:log", [None, *_sizes(1, 100, 21)]),
}
WITHOUT: dict[str, str] = {"time": "until the end", "exponent": "off", "contrast": "off"}


def stop_label(name: str, value: float | None) -> str:
    """What a slider says at one of its stops.

    Examples
    --------
    >>> stop_label("nu_source", np.inf), stop_label("time", None), stop_label("ridge", 0.1)
    ('∞', 'until the end', '0.1')
    """
    if value is None:
        return WITHOUT[name]
    return "∞" if value == np.inf else f"{value:g}"


@dataclass(frozen=True)
class Asked:
    """A map, and the points on it that are simulated.

    Attributes
    ----------
    x, y
        Axes as the command line takes them, ``name=low:high[:log]``.
    quantity, head, finetune, dimension
        As in :class:`adaptik.linear_theory.diagram.Diagram`.
    settings
        Levels of quantities; those of the axes, and those that are not set, have no effect.
    simulated
        Points, whose simulations have the seeds 0, 1, ...

    Examples
    --------
    >>> print(Asked(settings={"richness": 3.0}).command)
    adaptik phase-diagram --x=alignment=-1:1 --y=nu_target=0.02:0.98 --points 100 --quantity gain \
--set richness=3 --head fresh --finetune readout --dimension 400 --checks 0
    """

    x: str = "alignment=-1:1"
    y: str = "nu_target=0.02:0.98"
    quantity: Any = "gain"
    settings: dict[str, float | None] = field(default_factory=dict)
    head: Any = "fresh"
    finetune: Any = "readout"
    dimension: int = 400
    simulated: tuple[tuple[float, float], ...] = ()

    @property
    def given(self) -> dict[str, float]:
        """Settings that change something: not of an axis, and not as they are anyway."""
        axes = {text.partition("=")[0] for text in (self.x, self.y)}
        return {
            name: value
            for name, value in self.settings.items()
            if name not in axes and value is not None and value != QUANTITIES[name][2]
            if self.quantity != "over_rich" or name in OF_OVER_RICH
        }

    def diagram(self, points: int = POINTS) -> Diagram:
        """To evaluate.

        Raises
        ------
        InputError
            For what no map can have.
        """
        axes = Axis.parse(self.x, points), Axis.parse(self.y, points)
        choices = dict(head=self.head, finetune=self.finetune, dimension=self.dimension)
        return Diagram(*axes, self.quantity, self.given, **choices)  # pyright: ignore[reportArgumentType]

    @property
    def command(self) -> str:
        """The command that draws this map and simulates its points."""
        parts = [f"--x={self.x} --y={self.y} --points {POINTS} --quantity {self.quantity}"]
        parts += [
            f"--set {name}={value!r}".removesuffix(".0") for name, value in self.given.items()
        ]
        parts += [f"--head {self.head} --finetune {self.finetune} --dimension {self.dimension}"]
        parts += [f"--at={x!r},{y!r}" for x, y in self.simulated]
        parts += [f"--draws {DRAWS}" if self.simulated else "--checks 0"]
        return f"adaptik phase-diagram {' '.join(parts)}"

    @property
    def python(self) -> str:
        """Python that returns the same numbers as a data set."""
        checks = list(self.simulated) or 0
        return (
            "from adaptik.linear_theory.diagram import Axis, Diagram, phase_diagram\n"
            f"phase_diagram(Diagram(Axis.parse({self.x!r}, {POINTS}), "
            f"Axis.parse({self.y!r}, {POINTS}), {self.quantity!r}, {self.given!r}, "
            f"head={self.head!r}, finetune={self.finetune!r}, dimension={self.dimension}), "
            f"checks={checks!r}, draws={DRAWS})"
        )


@dataclass(frozen=True)
class Answer:
    """A map's numbers: the quantity and loss minus baseline, both ``(y, x)``, and their diagram."""

    diagram: Diagram
    value: Float[np.ndarray, "y x"]
    harm: Float[np.ndarray, "y x"]


def answer(diagram: Diagram) -> Answer:
    """All of a map at once."""
    *_, last = by_rows(diagram, len(diagram.y.values))
    assert last is not None
    return last


def by_rows(diagram: Diagram, rows: int = ROWS) -> Iterator[Answer | None]:
    """A map in some rows after others: ``None`` until the last of them is there."""
    x, y = diagram.x.values, diagram.y.values
    parts = []
    for i in range(0, len(y), rows):
        with np.errstate(all="ignore"):
            shape = (len(y[i : i + rows]), len(x))
            both = diagram.evaluate(x[None, :], y[i : i + rows, None])
            parts.append([np.broadcast_to(part, shape) for part in both])
        if i + rows < len(y):
            yield None
    loss, baseline = (np.concatenate(part) for part in zip(*parts, strict=True))
    with np.errstate(all="ignore"):  # left before the yield: another thread may go on from there
        last = Answer(diagram, diagram.shown(loss, baseline), loss - baseline)
    yield last


def boundary(found: Answer) -> list[Line]:
    """Where transfer turns from help to harm: lines of loss = baseline, in :func:`places`."""
    from contourpy import contour_generator

    harm = np.where(np.abs(found.harm) < 1e-9, np.nan, found.harm)  # nothing changes there
    finite = harm[np.isfinite(harm)]
    if found.diagram.quantity == "over_rich" or not finite.size or min(harm.shape) < 2:
        return []
    harm = np.ma.masked_invalid(harm)
    x, y = places(found.diagram.x), places(found.diagram.y)
    lines: Any = contour_generator(x, y, harm).lines(0.0)
    return [(line[:, 0], line[:, 1]) for line in lines]


def is_log(axis: Axis) -> bool:
    """Whether an axis is spaced by its logarithm."""
    v = axis.values
    return bool(v[0] > 0 and np.isclose(v[1] / v[0], v[-1] / v[-2]) and len(v) > 2)


def places(axis: Axis) -> Float[np.ndarray, " n"]:
    """Evenly spaced coordinates of an axis: its values, or their decimal logarithms."""
    return np.log10(axis.values) if is_log(axis) else axis.values


def nearest(diagram: Diagram, x: float, y: float) -> tuple[float, float]:
    """The point to simulate for a click at :func:`places` x and y.

    Three digits are kept, and numbers of samples are whole.
    """
    point = []
    for axis, place in ((diagram.x, x), (diagram.y, y)):
        low, high = axis.values[0], axis.values[-1]
        value = float(np.clip(10**place if is_log(axis) else place, low, high))
        if axis.name in ("nu_target", "nu_source"):
            value = max(round(value * diagram.dimension), 1) / diagram.dimension
        point.append(
            float(f"{value:.3g}") if axis.name not in ("nu_target", "nu_source") else value
        )
    return point[0], point[1]


@dataclass(frozen=True)
class Simulated:
    """A simulated point beside the theory."""

    x: float
    y: float
    theory: float
    value: float
    standard_error: float

    @property
    def apart(self) -> float:
        """Simulation less theory in standard errors."""
        gap = self.value - self.theory
        return (
            gap / self.standard_error if self.standard_error > 0 else (0.0 if gap == 0 else np.inf)
        )


def simulate(diagram: Diagram, x: float, y: float, seed: int, draws: int = DRAWS) -> Simulated:
    """Simulate a point, as :func:`adaptik.linear_theory.diagram.phase_diagram` does."""
    theory = diagram.shown(*(np.asarray(v) for v in diagram.evaluate(x, y)))
    return Simulated(x, y, float(theory), *diagram.simulate(x, y, draws, seed))


def kind_of_map(diagram: Diagram) -> tuple:
    """What decides how long a point takes."""
    timed = diagram.at(0, 0)["time"] is not None
    return diagram.anisotropic, timed, diagram.head, diagram.finetune


def table_of(points: list[Simulated], x: str, y: str) -> pd.DataFrame:
    """Simulated points beside the theory, as a person reads them."""
    symbols = [QUANTITIES[name][0] for name in (x, y)]
    rows = [
        (
            f"{p.x:.3g}",
            f"{p.y:.3g}",
            f"{p.theory:.4f}",
            f"{p.value:.4f} ± {p.standard_error:.4f}",
            f"{p.apart:+.1f} s.e.",
        )
        for p in points
    ]
    return pd.DataFrame(rows, columns=[*symbols, "theory", "simulation ± s.e.", "difference"])


def said_of(found: Answer, took: float) -> str:
    """How large a map is, and how many seconds it took."""
    rows, columns = found.value.shape
    return f"{columns} × {rows} points in {1000 * took:.0f} ms"
