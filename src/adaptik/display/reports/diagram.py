"""Phase diagrams and the linear theory's paper figures as a folder: picture, numbers, settings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...linear_theory.diagram import Axis, Diagram, phase_diagram
from ...solution.to_xarray import save_dataset
from ...system.errors import InputError
from .folder import as_json, checked_folder, png, write_file

if TYPE_CHECKING:
    import xarray as xr

NU_TARGET = np.linspace(0.02, 0.98, 97)
SIMULATED = 6  # points on every curve


@dataclass(frozen=True)
class Preset:
    """A paper figure: panels of curves over x, one for each value of y."""

    title: str
    panels: tuple[Diagram, ...]


PRESETS = {
    "fig1a": Preset(
        "Target loss after abundant source data",
        (
            Diagram(
                Axis("nu_target", NU_TARGET),
                Axis("alignment", np.array([0.0, 0.4, 0.7, 0.9, 1.0])),
                "loss",
                dict(richness=3.0),
            ),
        ),
    ),
    "fig1b": Preset(
        "Target loss after limited source data",
        (
            Diagram(
                Axis("nu_target", NU_TARGET),
                Axis("nu_source", np.array([0.1, 0.3, 0.6, 1.0])),
                "loss",
                dict(richness=3.0, alignment=0.9),
            ),
        ),
    ),
    "fig1c": Preset(
        "Over-rich limit: the spike alone",
        (
            Diagram(
                Axis("nu_source", np.linspace(0.02, 1.0, 99)),
                Axis("alignment", np.array([0.0, 0.4, 0.7, 0.9])),
                "over_rich",
                dict(noise_alignment=0.0),
            ),
            Diagram(
                Axis("nu_source", np.linspace(0.02, 0.98, 97)),
                Axis("noise_alignment", np.array([-0.6, 0.0, 0.4, 0.8])),
                "over_rich",
                dict(alignment=0.6),
            ),
        ),
    ),
    "fig2a": Preset(
        "Target loss against the richness of the source stage",
        (
            Diagram(
                Axis("richness", np.geomspace(0.1, 100, 121)),
                Axis("nu_target", np.array([0.1, 0.3, 0.5, 0.8])),
                "loss",
                dict(alignment=0.8),
            ),
            Diagram(
                Axis("richness", np.geomspace(0.1, 100, 121)),
                Axis("nu_target", np.array([0.1, 0.3, 0.5, 0.8])),
                "loss",
                dict(alignment=0.8, nu_source=0.4),
            ),
        ),
    ),
}


Progress = Callable[[str, int, int], None]


def _silent(label: str, done: int, total: int) -> None:
    """Where nobody watches."""


def draw(diagram: Diagram, folder: str | Path, progress: Progress = _silent, **checks: Any) -> Path:
    """Compute ``diagram`` and write it; ``checks`` are the arguments of ``phase_diagram``.

    ``progress`` is called with a label, how much is done, and of how much.

    ``folder`` is made if missing and gets ``phase_diagram.png``, ``phase_diagram.zarr.zip`` (the
    data set) and ``config.json``. Returns the picture's path.
    """
    from ..plots.diagram import phase_map

    folder = _prepared(folder, "phase_diagram", 1)
    dataset = phase_diagram(
        diagram, progress=lambda done, total: progress("simulating points", done, total), **checks
    )
    return _write(folder, "phase_diagram", [dataset], phase_map(diagram, dataset))


def draw_preset(
    name: str,
    folder: str | Path,
    *,
    draws: int = 20,
    seed: int = 0,
    progress: Progress = _silent,
) -> Path:
    """Draw a paper figure, with simulations on its curves; files as in :func:`draw`."""
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is unknown; use one of {tuple(PRESETS)}")
    from ..plots.diagram import phase_curves

    preset = PRESETS[name]
    folder = _prepared(folder, name, len(preset.panels))
    points = [on_curves(panel) for panel in preset.panels]
    total, before, datasets = sum(1 + len(p) for p in points), 0, []
    for panel, checks in zip(preset.panels, points, strict=True):

        def show(done: int, _: int, before: int = before) -> None:
            progress(name, before + done, total)

        datasets.append(phase_diagram(panel, checks=checks, draws=draws, seed=seed, progress=show))
        before += 1 + len(checks)
    figure = phase_curves(preset.title, preset.panels, datasets)
    return _write(folder, name, datasets, figure)


def on_curves(panel: Diagram) -> list[tuple[float, float]]:
    """Points on every curve whose sample numbers are integers."""
    places = np.linspace(0.04, 0.96, SIMULATED) * (len(panel.x.values) - 1)
    x = panel.x.values[places.round().astype(int)]
    if panel.x.name in ("nu_source", "nu_target"):
        x = np.maximum(np.round(x * panel.dimension), 1) / panel.dimension
    return [(float(a), float(b)) for b in panel.y.values for a in x]


def _prepared(folder: str | Path, name: str, panels: int) -> Path:
    return checked_folder(folder, ["config.json", f"{name}.png", *_stores(name, panels)])


def _stores(name: str, panels: int) -> list[str]:
    suffixes = [f"-{i + 1}" for i in range(panels)] if panels > 1 else [""]
    return [f"{name}{suffix}.zarr.zip" for suffix in suffixes]


def _write(folder: Path, name: str, datasets: "list[xr.Dataset]", figure) -> Path:
    write_file(folder / "config.json", as_json([dataset.attrs for dataset in datasets]))
    for dataset, store in zip(datasets, _stores(name, len(datasets)), strict=True):
        save_dataset(dataset, folder / store)
    picture = folder / f"{name}.png"
    write_file(picture, png(figure))
    return picture
