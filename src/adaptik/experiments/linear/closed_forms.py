"""The paper's figures of linear networks: curves of the closed forms, simulations, networks."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from ...display.plots.diagram import phase_curves
from ...display.plots.style import shades
from ...display.reports.diagram import PRESETS, on_curves
from ...linear_theory.diagram import QUANTITIES, Axis, Diagram, phase_diagram
from .. import curves, verdict
from ..finding import cases, configuration, decode, listed
from . import trained


@dataclass(frozen=True, kw_only=True)
class Config:
    """A figure and how precisely it is simulated.

    Attributes
    ----------
    figure
        A key of ``FIGURES``.
    dimension, draws, seed
        D of simulations, independent draws for every point, and what fixes them.
    networks, width, network_dimension
        Trained networks for every point of a loss on isotropic inputs, their width and D.
    """

    figure: str
    dimension: int = 200
    draws: int = 20
    seed: int = 0
    networks: int = 10
    width: int = 2048
    network_dimension: int = 60

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
        "full": Config(
            figure=figure,
            dimension=1000,
            draws=100,
            networks=20,
            width=20_000,
            network_dimension=200,
        ),
    }


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """Curves ``value{i}`` of every panel i, with simulations and networks at points on them.

    ``simulated{i}`` and ``standard_error{i}`` over ``check``; ``trained{i}`` over
    ``network_check`` and ``network``, with places ``network_x{i}``, ``network_y{i}``.
    """
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
    if diagram.quantity == "loss" and not diagram.anisotropic:
        found = found.assign(_networks(replace(diagram, dimension=c.network_dimension), c))
    return xr.Dataset(
        {
            f"{name}{panel}": ([f"{d}{panel}" for d in found[name].dims], found[name].values)
            for name in [*map(str, found.data_vars), "check_x", "check_y"]
        }
    )


def _networks(diagram: Diagram, c: Config) -> dict[str, Any]:
    """Losses of trained networks at points of a small diagram, and what theory predicts there."""
    points = on_curves(diagram)
    losses = trained.losses(diagram, points, width=c.width, draws=c.networks, seed=c.seed)
    predicted = [float(diagram.shown(*map(np.asarray, diagram.evaluate(*p)))) for p in points]
    x, y = np.transpose(points)
    return {
        "trained": (("network_check", "network"), losses),
        "predicted": ("network_check", np.array(predicted)),
        "network_x": ("network_check", x),
        "network_y": ("network_check", y),
    }


def panel(dataset: xr.Dataset, i: int) -> xr.Dataset:
    """What :func:`adaptik.linear_theory.diagram.phase_diagram` gives for panel i."""
    config = configuration(dataset, Config)
    diagram = config.panels[i]
    named = [n for n in map(str, dataset.data_vars) if n.endswith(str(i))]
    found = xr.Dataset(
        {n[:-1]: ([str(d)[:-1] for d in dataset[n].dims], dataset[n].values) for n in named}
    )
    axes = {axis.name: axis.values for axis in (diagram.x, diagram.y)}
    return found.assign_coords(axes).assign_attrs(draws=config.draws)


def draw(dataset: xr.Dataset) -> Figure:
    """The panels."""
    config = configuration(dataset, Config)
    found = [panel(dataset, i) for i in range(len(config.panels))]
    figure = phase_curves(FIGURES[config.figure][0], config.panels, found)
    if len(config.panels) == 1:
        figure.set_size_inches(6.8, 3.9)  # room for the words
    for ax, one, diagram in zip(figure.axes, found, config.panels, strict=True):
        lowest = float((one.simulated - one.standard_error).min())
        if lowest < 0:
            ax.set_ylim(bottom=1.1 * lowest)
        if "trained" in one:
            _draw_networks(ax, one, diagram)
    if any("trained" in one for one in found):
        curves.note(
            figure,
            f"lines: theory; open markers: {config.draws} simulations, D = {config.dimension}; "
            f"crosses: {config.networks} networks, D = {config.network_dimension} (means ± s.e.)",
        )
    return figure


def _draw_networks(ax: Axes, one: xr.Dataset, diagram: Diagram) -> None:
    mean, error = _trained(one)
    cross: dict[str, Any] = dict(marker="x", linestyle="")
    levels = diagram.y.values
    for level, shade in zip(levels, shades(len(levels)), strict=True):
        here = np.flatnonzero(one.network_y.values == level)
        at = one.network_x.values[here], mean[here], error[here]
        ax.errorbar(*at, color=shade, markersize=5, elinewidth=1, zorder=4, **cross)
    ax.errorbar([], [], [], color="0.3", label="trained networks", **cross)
    curves.beside(ax, QUANTITIES[diagram.y.name][1])


def _trained(found: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of the trained networks at every point."""
    losses = found.trained.transpose(..., "network").values
    return losses.mean(-1), losses.std(-1, ddof=1) / np.sqrt(losses.shape[-1])


def caption(config: Config) -> str:
    parts = []
    for p in config.panels:
        counted = ("alignment", "noise_alignment", "nu_source")
        fixed = ", ".join(
            f"{QUANTITIES[n][0]} = {'∞' if v == np.inf else f'{v:g}'}"
            for n, v in p.at(None, None).items()
            if v is not None and n not in (p.x.name, p.y.name)
            if p.quantity != "over_rich" or n in counted
        )
        how = "" if p.quantity == "over_rich" else f"; {p.head} head, {p.finetune}"
        levels = f"curves of {p.y.label} = {listed(p.y.values)}"
        parts.append(f"{p.x.label} against {levels}; {fixed}{how}")
    return (
        f"Two-layer linear networks, closed forms and simulations of finite samples (D = "
        f"{config.dimension}, {config.draws} draws a point, seed {config.seed}; crosses where "
        f"there are any: {config.networks} networks of width {config.width}, D = "
        f"{config.network_dimension}, trained by gradient flow). " + ". ".join(parts) + "."
    )


def agreement(dataset: xr.Dataset) -> verdict.Agreement:
    """Simulated and trained points against the curves, in normal deviates of Student's t."""
    config = configuration(dataset, Config)
    deviates, outliers = [], []
    for i, diagram in enumerate(config.panels):
        found = panel(dataset, i)
        for what, x, y, apart in _apart_from_theory(found, config):
            deviates.append(apart)
            outliers += [
                f"{what}, {diagram.x.name} = {x[k]:.3g}, {diagram.y.name} = {y[k]:.3g}: "
                f"{apart[k]:+.1f} s.e."
                for k in np.flatnonzero(np.abs(apart) > verdict.APART)
            ]
    return verdict.of_deviates(np.concatenate(deviates), outliers, "finite samples")


def _apart_from_theory(found: xr.Dataset, config: Config) -> Iterator[tuple[str, Any, Any, Any]]:
    simulated = (found.simulated - found.theory).values, found.standard_error.values
    sides = [("simulated", found.check_x, found.check_y, *simulated, config.draws)]
    if "trained" in found:
        mean, error = _trained(found)
        difference = mean - found.predicted.values
        place = found.network_x, found.network_y
        sides.append(("network", *place, difference, error, config.networks))
    for what, x, y, difference, error, count in sides:
        yield what, x.values, y.values, deviates(difference, error, count)


def deviates(difference: np.ndarray, error: np.ndarray, count: int) -> Float[np.ndarray, "..."]:
    """Differences whose standard errors are of ``count`` draws, as normal deviates."""
    t = difference / np.where(error < 1e-12, np.nan, error)  # nothing is random there
    return np.copysign(-stats.norm.ppf(stats.t.sf(np.abs(t), count - 1)), t)


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
    return simulated_claim(
        statement, 1 - theory[1] / theory[0], 1 - ratio, float(error), **settings
    )


def simulated_claim(
    statement: str, value: float, simulated: float, error: float, **settings: Any
) -> verdict.Claim:
    """A claim about a number of the closed forms, with the same number of simulations."""
    return verdict.Claim(
        statement,
        value,
        0.0,
        network=simulated,
        network_standard_error=error,
        evidence="simulations",
        **settings,
    )


def _at(found: xr.Dataset, place: dict[str, float]) -> xr.Dataset:
    x = next(str(d) for d in found.value.dims[1:])
    for name, value in place.items():
        points = found.check_x if name == x else found.check_y
        nearest = points.values[np.abs(points.values - value).argmin()]
        found = found.isel(check=np.flatnonzero(points.values == nearest))
    return found
