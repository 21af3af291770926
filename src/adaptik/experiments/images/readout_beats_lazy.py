"""Beyond the paper: readout fine-tuning against lazy fine-tuning of all weights.

Both have a frozen kernel and are solved in one step, without a learning rate. In linear networks
the spike that a rich source leaves is more than twice as strong in the readout's kernel.
"""

from dataclasses import dataclass
from typing import Any, Literal

import xarray as xr
from matplotlib.figure import Figure

from ...tasks.stages import Stage
from .. import curves
from ..both import Both, fine_tuned, stacked
from ..finding import cases, configuration, decode
from ..verdict import Claim, ratio_over_draws, sides
from . import fine_tuning

HEADS: tuple[Literal["fresh", "kept"], ...] = ("fresh", "kept")
WAYS: dict[str, tuple[str, Literal["fresh", "kept"]]] = {
    f"{mode}, {head} head": (mode, head) for head in HEADS for mode in ("readout", "lazy")
}


@dataclass(frozen=True, kw_only=True)
class Config(fine_tuning.Config):
    """As for fine-tuning of images, at one richness of the source stage."""

    richness: tuple[float, ...] = (4.0,)


PRESETS = {"quick": Config(), "full": Config(**fine_tuning.FULL)}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, richness, way, n_target, replicate) and ``network_loss``."""
    axes = {"draw": range(config.draws), "richness": config.richness}
    return cases(case, axes, config, **sweep)


def case(config: str, draw: int, richness: float) -> xr.Dataset:
    """One draw of the images."""
    c = decode(Config, config)
    source, target = c.load(c.seed + draw)
    first = Stage(source, richness, duration=c.duration)
    before = Both.run([first], c, draw, observe=[target], record=2)
    found = {
        way: fine_tuned(target, c.n_target, c, draw, after=before, mode=mode, head=head)
        for way, (mode, head) in WAYS.items()
    }
    return stacked("way", found)


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against target samples for the four ways."""
    c = configuration(dataset, Config)
    figure, (ax,) = curves.panels(width=6.6)
    kept = [way for way, (_, head) in WAYS.items() if head == "kept"]
    curves.family(ax, dataset.isel(richness=-1), "loss", "way", dashed=kept)
    curves.samples_axis(ax, c.n_target)
    ax.set_title(f"{c.title}, γ₁ = {c.richness[-1]:g}")
    curves.beside(ax, "what moves")
    return figure


def caption(c: Config) -> str:
    what = "the readout on frozen features or all weights lazily (γ₂ = 0), fresh or kept head"
    return fine_tuning.caption(c, what)


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Readout against lazy with a fresh head, at few and at many target images."""
    counts = configuration(dataset, Config).n_target
    found = dataset.isel(richness=-1)
    ways = "lazy, fresh head", "readout, fresh head"
    return tuple(
        ratio_over_draws(
            f"at P₂ = {count} the readout alone beats all weights lazily (fresh head)",
            *(sides(found, "loss", way=way, n_target=count) for way in ways),
        )
        for count in (counts[0], counts[-1])
    )
