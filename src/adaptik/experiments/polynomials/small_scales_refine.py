"""Beyond the paper: at which initial scale of the first layer a target stage refines features.

In diagonal linear networks a smaller scale of the earlier layer lets fine-tuning both reuse what
was learned and refine it, on targets that rely on a part of the source's features (arXiv
2602.20062). Here the question is asked of ReLU networks.
"""

from dataclasses import dataclass, replace
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ...limits import TwoLayer
from ...networks import Network
from ...tasks import multi_index_pair
from ...tasks.stages import Stage
from .. import curves
from ..both import PAPER, Accuracy, Both, named, stacked
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, ratio_over_draws, sides

SCRATCH, READOUT, RICH = RUNS = ("target alone", "source → readout", "source → all weights")


@dataclass(frozen=True, kw_only=True)
class Config(Accuracy):
    """Directions of the teachers, samples, and scales.

    Attributes
    ----------
    shared, source_only
        Directions that both see, which are all of the target's, and further ones of the source.
    dimension, n_source, n_target, n_test
        D and numbers of samples.
    richness
        gamma of both stages.
    duration, target_duration
        Of the source stage, and of stages on the target.
    scale
        Levels of the first layer's standard deviation at the start.
    at
        The level that ``limit`` and ``network`` have.
    """

    shared: int = 1
    source_only: int = 2
    dimension: int = 8
    n_source: int = 200
    n_target: int = 30
    n_test: int = 1000
    richness: float = 1.0
    duration: float = 100.0
    target_duration: float = 100.0
    scale: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    at: float = 1.0
    draws: int = 5

    @property
    def limit(self) -> TwoLayer:
        count, replicates = self.particles, self.replicates
        return TwoLayer(self.activation, particles=count, replicates=replicates, scale=self.at)

    @property
    def network(self) -> Network:
        return replace(super().network, scale=self.at)


PRESETS = {
    "quick": Config(),
    "full": Config(**PAPER, dimension=20, n_source=800, n_target=100, n_test=2000),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, scale, run, replicate) on the target at the end, and networks."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the data."""
    c = decode(Config, config)
    sizes = {name: getattr(c, name) for name in ("n_source", "n_target", "n_test", "dimension")}
    source, target, _ = multi_index_pair(c.shared, c.source_only, 0, **sizes, seed=c.seed + draw)
    learned = Stage(source, c.richness, duration=c.duration)
    rich = Stage(target, c.richness, duration=c.target_duration)
    on_target = {SCRATCH: rich, READOUT: replace(rich, trains="readout"), RICH: rich}

    def at_scale(scale: float) -> xr.Dataset:
        own = replace(c, at=scale)
        before = Both.run([learned], own, draw, observe=[target], record=2)
        found = {}
        for run, stage in on_target.items():
            after = None if run == SCRATCH else before
            found[run] = named(
                Both.run([stage], own, draw, after=after, record=2).final(target), "loss"
            )
        return stacked("run", found)

    return stacked("scale", {scale: at_scale(scale) for scale in c.scale})


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss against the initial scale, a curve for each way to use the source."""
    c = configuration(dataset, Config)
    figure, (ax,) = curves.panels(width=5.0)
    for i, run in enumerate(RUNS):
        curves.series(ax, dataset.sel(run=run), "loss", **curves.look(i), label=run)
    ax.set_xscale("log")
    curves.ticks(ax, c.scale)
    ax.set(xlabel="initial scale of the first layer σ", ylabel="target test loss")
    ax.set_title("reuse and refinement of features")
    ax.set_ylim(bottom=0)
    ax.legend()
    return figure


def caption(c: Config) -> str:
    return (
        f"Sums of He2 along {c.shared + c.source_only} directions (source), of which the target "
        f"sees {c.shared}, D = {c.dimension}, P₁ = {c.n_source}, P₂ = {c.n_target}, {c.n_test} "
        f"test samples; first-layer weights start with the standard deviation σ = "
        f"{listed(c.scale)}, heads are fresh with 1. Rich stages, γ = {c.richness:g}: the source "
        f"for t = {c.duration:g}, the target for t = {c.target_duration:g}, alone, with the "
        f"readout on frozen source features, or with all weights; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """At the smallest scale: reuse, refinement; and what remains of both at the largest."""
    small, large = dataset["scale"].values[[0, -1]]
    scratch, readout, rich = (sides(dataset, "loss", scale=small, run=run) for run in RUNS)
    there = sides(dataset, "loss", scale=large, run=RICH)
    at = f"at an initial scale of {small:g}"
    return (
        ratio_over_draws(f"{at} a rich target stage reuses source features", scratch, rich),
        ratio_over_draws(f"{at} it refines them: it ends below the readout alone", readout, rich),
        ratio_over_draws(f"it ends below that at a scale of {large:g}", there, rich),
    )
