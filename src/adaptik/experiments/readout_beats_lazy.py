"""Beyond the paper: readout fine-tuning against lazy fine-tuning of all weights.

Both have a frozen kernel and are solved in one step, without a learning rate. In linear networks
the spike that a rich source leaves is more than twice as strong in the readout's kernel.
"""

from dataclasses import dataclass
from typing import Any, Literal

import xarray as xr
from matplotlib.figure import Figure

from ..tasks.stages import Stage
from . import curves, image_fine_tuning, image_pairs
from .both import Both, fine_tuned
from .finding import cases, configuration, decode
from .verdict import Claim, ratio_over_draws

WAYS: tuple[tuple[str, Literal["fresh", "kept"]], ...] = (
    ("readout", "fresh"),
    ("lazy", "fresh"),
    ("readout", "kept"),
    ("lazy", "kept"),
)
NAMES = tuple(f"{mode}, {head} head" for mode, head in WAYS)


@dataclass(frozen=True, kw_only=True)
class Config(image_fine_tuning.Config):
    """As for fine-tuning of images, at one richness of the source stage."""

    richness: tuple[float, ...] = (4.0,)


PRESETS = {
    "quick": Config(),
    "full": Config(**image_fine_tuning.FULL),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, richness, way, n_target, replicate) and ``network_loss``."""
    axes = {"draw": range(config.draws), "richness": config.richness}
    return cases(case, axes, config, **sweep)


def case(config: str, draw: int, richness: float) -> xr.Dataset:
    """One draw of the images."""
    c = decode(Config, config)
    source, target = image_pairs.load(c, max(c.n_target), draw)
    first = Stage(source, richness, duration=c.duration)
    before = Both.run([first], c, draw, observe=[target], record=2)
    ways = [
        fine_tuned(target, c.n_target, c, draw, after=before, mode=mode, head=head)
        for mode, head in WAYS
    ]
    return xr.concat(ways, "way").assign_coords(way=list(NAMES))


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against target samples for the four ways."""
    config = configuration(dataset, Config)
    figure, (ax,) = curves.panels(1, width=6.6)
    for i, name in enumerate(NAMES):
        one = dataset.isel(richness=-1).sel(way=name)
        curves.series(
            ax, config.n_target, one.theory_loss, one.network_loss, **curves.look(i), label=name,
            linestyle="--" if "kept" in name else "-",
        )  # fmt: skip
    curves.samples_axis(ax, config.n_target)
    classes = f"{config.source_classes} → {config.target_classes}"
    ax.set_title(f"{config.data} {classes}, γ₁ = {config.richness[-1]:g}")
    curves.beside(ax, "what moves")
    curves.note(figure)
    return figure


def caption(config: Config) -> str:
    return image_fine_tuning.caption(config).replace(
        "then a fresh readout on frozen features",
        "then the readout on frozen features or all weights lazily (γ₂ = 0), fresh or kept head",
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Readout against lazy with a fresh head, at few and at many target images."""
    config = configuration(dataset, Config)
    found = dataset.isel(richness=-1)

    def loss(way: str, count: int) -> tuple[xr.DataArray, xr.DataArray]:
        at = found.sel(way=way, n_target=count)
        return at.theory_loss, at.network_loss

    return tuple(
        ratio_over_draws(
            f"at P₂ = {count} the readout alone beats all weights lazily (fresh head)",
            loss("lazy, fresh head", count), loss("readout, fresh head", count),
        )
        for count in (config.n_target[0], config.n_target[-1])
    )  # fmt: skip
