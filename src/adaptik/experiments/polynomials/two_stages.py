"""Two single-index polynomials learned one after the other, both richly: losses over time."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import xarray as xr
from matplotlib.figure import Figure

from ...tasks.stages import Stage
from .. import curves
from ..both import PAPER, Accuracy, Both, stacked
from ..finding import cases, configuration, decode
from ..verdict import Claim, means, over_draws, ratio_over_draws, sides
from .pairs import Teachers

RUNS = ("scratch", "fresh head", "kept head")


@dataclass(frozen=True, kw_only=True)
class Config(Teachers, Accuracy):
    """Degrees of the polynomials, samples and times.

    Attributes
    ----------
    source_degree, target_degree
        Of the teachers ``He_k(beta.x/|beta|)/sqrt(k!)``.
    richness
        gamma of both stages.
    source_duration, target_duration
        Times of gradient flow.
    """

    source_degree: int
    target_degree: int
    n_source: int = 120
    n_test: int = 2000
    richness: float = 2.0
    source_duration: float = 100.0
    target_duration: float = 200.0
    width: int = 2048
    draws: int = 5


def presets(source_degree: int, target_degree: int) -> dict[str, Config]:
    quick = Config(source_degree=source_degree, target_degree=target_degree)
    sizes = dict(dimension=20, n_source=800, n_target=200, n_test=2000)
    return {"quick": quick, "full": replace(quick, **PAPER, **sizes, target_duration=500.0)}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """Losses on both tasks during the target stage.

    ``theory_target``, ``theory_source`` (draw, run, time, replicate) and their ``network_``
    counterparts; runs are scratch and the source followed by a fresh or kept head.
    """
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the data."""
    c = decode(Config, config)
    source, target = c.pair(c.source_degree, c.target_degree, c.seed + draw)
    stage = Stage(source, c.richness, duration=c.source_duration)
    before = Both.run([stage], c, draw, observe=[target])
    found = {}
    for run in RUNS:
        head: Literal["fresh", "kept"] = "kept" if run == "kept head" else "fresh"
        after, seen = (None, [source]) if run == "scratch" else (before, [])
        last = Stage(target, c.richness, duration=c.target_duration, head=head)
        both = Both.run([last], c, draw, after=after, observe=seen)
        found[run] = both.over_time(source=source, target=target)
    return stacked("run", found)


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss and source loss over the time of the target stage."""
    c = configuration(dataset, Config)
    figure, axes = curves.panels(2, width=4.4)
    degrees = {"target": c.target_degree, "source": c.source_degree}
    for ax, (what, degree) in zip(axes, degrees.items(), strict=True):
        first = 1 if what == "source" else 0  # from scratch there is no source to forget
        shown = dataset.isel(run=slice(first, None))
        curves.family(ax, shown, what, "run", dashed=["scratch"], first=first)
        curves.time_axis(ax, c.target_duration)
        ax.set_ylabel(f"{what} test loss (He{degree})")
        ax.set_ylim(bottom=0)
    axes[0].set_title(f"He{c.source_degree} → He{c.target_degree}: learning the target")
    axes[1].set_title("forgetting the source")
    curves.beside(axes[1], "target stage", of=axes[0])
    return figure


def caption(c: Config) -> str:
    return (
        f"Single-index teachers He{c.source_degree} → He{c.target_degree}, alignment "
        f"{c.alignment:g}, D = {c.dimension}, P₁ = {c.n_source}, P₂ = {c.n_target}, "
        f"{c.n_test} test samples; both stages rich, γ₁ = γ₂ = {c.richness:g}, times "
        f"t₁ = {c.source_duration:g} and t₂ = {c.target_duration:g}; {c.accuracy}."
    )


def gain(dataset: xr.Dataset, statement: str, **settings: Any) -> Claim:
    """By how much the final target loss after a source (fresh head) is below that from scratch."""
    last = dataset.isel(time=-1)
    scratch, after = (sides(last, "target", run=run) for run in ("scratch", "fresh head"))
    return ratio_over_draws(statement, scratch, after, **settings)


def forgetting(dataset: xr.Dataset) -> Claim:
    """By how much the source loss rises while the head is kept."""
    kept = means(dataset, "source", run="kept head")
    return over_draws(
        "with a kept head the source loss rises during the target stage (forgetting)",
        *(side[:, -1] - side[:, 0] for side in kept),
        unit="",
    )
