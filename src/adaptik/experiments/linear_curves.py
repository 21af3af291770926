"""The paper's figures of linear networks: curves of the closed forms, points of simulations."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats

from .. import diagram_plots
from ..linear_theory.diagram import QUANTITIES, Axis, Diagram, phase_diagram
from ..phase_diagram import PRESETS, on_curves
from . import verdict
from .finding import cases, configuration, decode


@dataclass(frozen=True, kw_only=True)
class Config:
    """A figure and how precisely it is simulated.

    Attributes
    ----------
    figure
        A key of ``FIGURES``.
    dimension, draws, seed
        D of simulations, independent draws for every point, and what fixes them.
    """

    figure: str
    dimension: int = 400
    draws: int = 20
    seed: int = 0

    @property
    def panels(self) -> tuple[Diagram, ...]:
        return tuple(replace(p, dimension=self.dimension) for p in FIGURES[self.figure][1])


ANISOTROPIC = Diagram(
    Axis("richness", np.geomspace(0.1, 400, 60)),
    Axis("contrast", np.array([1.0, 100.0, 1000.0])),
    "gain",
    dict(alignment=1.0, nu_source=0.3, nu_target=0.25, source_noise=0.1),
)
FIGURES = {name: (preset.title, preset.panels) for name, preset in PRESETS.items()} | {
    "anisotropic": ("Transfer of identical tasks from a noisy source", (ANISOTROPIC,))
}


def presets(figure: str, **quick: Any) -> dict[str, Config]:
    return {
        "quick": Config(figure=figure, **quick),
        "full": Config(figure=figure, dimension=1000, draws=100),
    }


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """Curves ``value{i}`` of every panel i, and ``simulated{i}``, ``standard_error{i}`` on them."""
    panels = list(range(len(config.panels)))
    parts = [cases(case, {"panel": [i]}, config, **_apart(sweep, i)) for i in panels]
    merged = xr.merge([p.isel(panel=0, drop=True).drop_vars("seconds") for p in parts])
    seconds = sum(float(p.seconds.sum()) for p in parts)
    return merged.assign(seconds=seconds).assign_attrs(parts[0].attrs)


def _apart(sweep: dict[str, Any], panel: int) -> dict[str, Any]:
    """Panels have axes of their own, and so each has its own store."""
    store = sweep.get("store")
    return sweep if store is None else sweep | {"store": store.with_name(f"{store.name}-{panel}")}


def case(config: str, panel: int) -> xr.Dataset:
    """One panel."""
    c = decode(Config, config)
    diagram = c.panels[panel]
    found = phase_diagram(diagram, checks=on_curves(diagram), draws=c.draws, seed=c.seed)
    return xr.Dataset({
        f"{name}{panel}": ([f"{d}{panel}" for d in found[name].dims], found[name].values)
        for name in [*map(str, found.data_vars), "check_x", "check_y"]
    })  # fmt: skip


def panel(dataset: xr.Dataset, i: int) -> xr.Dataset:
    """What :func:`adaptik.linear_theory.diagram.phase_diagram` gives for panel i."""
    config = configuration(dataset, Config)
    diagram = config.panels[i]
    named = [n for n in map(str, dataset.data_vars) if n.endswith(str(i))]
    found = xr.Dataset({
        n[:-1]: ([str(d)[:-1] for d in dataset[n].dims], dataset[n].values) for n in named
    })  # fmt: skip
    axes = {axis.name: axis.values for axis in (diagram.x, diagram.y)}
    return found.assign_coords(axes).assign_attrs(draws=config.draws)


def draw(dataset: xr.Dataset) -> Figure:
    """The panels."""
    config = configuration(dataset, Config)
    found = [panel(dataset, i) for i in range(len(config.panels))]
    return diagram_plots.curves(FIGURES[config.figure][0], config.panels, found)


def caption(config: Config) -> str:
    parts = []
    for p in config.panels:
        values = {n: v for n, v in p.at(None, None).items() if v is not None}
        if p.quantity == "over_rich":
            counted = ("alignment", "noise_alignment", "nu_source")
            values = {n: v for n, v in values.items() if n in counted}
        fixed = ", ".join(
            f"{QUANTITIES[n][0]} = {'∞' if v == np.inf else f'{v:g}'}"
            for n, v in values.items()
            if n not in (p.x.name, p.y.name)
        )
        levels = ", ".join(f"{v:g}" for v in p.y.values)
        how = "" if p.quantity == "over_rich" else f"; {p.head} head, {p.finetune}"
        parts.append(f"{p.x.label} against curves of {p.y.label} = {levels}; {fixed}{how}")
    return (
        f"Two-layer linear networks, closed forms and simulations of finite samples (D = "
        f"{config.dimension}, {config.draws} draws a point, seed {config.seed}). "
        + ". ".join(parts)
        + "."
    )


def agreement(dataset: xr.Dataset) -> verdict.Agreement:
    """Simulated points against the curves, in normal deviates of Student's t."""
    config = configuration(dataset, Config)
    deviates, outliers = [], []
    for i, diagram in enumerate(config.panels):
        found = panel(dataset, i)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = ((found.simulated - found.theory) / found.standard_error).values
        exact = found.standard_error.values < 1e-12  # nothing is random there
        t = np.where(exact, np.nan, t)
        apart = np.copysign(-stats.norm.ppf(stats.t.sf(np.abs(t), config.draws - 1)), t)
        deviates.append(apart)
        outliers += [
            f"{diagram.x.name} = {found.check_x.values[k]:.3g}, {diagram.y.name} = "
            f"{found.check_y.values[k]:.3g}: {apart[k]:+.1f} s.e."
            for k in np.flatnonzero(np.abs(apart) > verdict.APART)
        ]
    return verdict.of_deviates(np.concatenate(deviates), outliers, "simulations")


def fall(
    statement: str,
    found: xr.Dataset,
    before: dict[str, float],
    after: dict[str, float],
    **settings: Any,
) -> verdict.Claim:
    """The claim that the loss averaged over simulated points is smaller ``after`` than ``before``.

    Both choose points by axis (the nearest one); the loss falls by 1 - after/before.
    """
    theory, simulated, errors = [], [], []
    for place in (before, after):
        at = _at(found, place)
        theory.append(float(at.theory.mean()))
        simulated.append(float(at.simulated.mean()))
        errors.append(float(np.sqrt((at.standard_error**2).sum()) / at.sizes["check"]))
    ratio = simulated[1] / simulated[0]
    error = np.hypot(errors[1], ratio * errors[0]) / simulated[0]
    return verdict.Claim(
        statement, 1 - theory[1] / theory[0], 0.0, network=1 - ratio,
        network_standard_error=float(error), evidence="simulations", **settings,
    )  # fmt: skip


def _at(found: xr.Dataset, place: dict[str, float]) -> xr.Dataset:
    x = next(str(d) for d in found.value.dims[1:])
    for name, value in place.items():
        points = found.check_x if name == x else found.check_y
        nearest = points.values[np.abs(points.values - value).argmin()]
        found = found.isel(check=np.flatnonzero(points.values == nearest))
    return found
