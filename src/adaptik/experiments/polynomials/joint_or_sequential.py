"""Beyond the paper: a source learned together with the target, or before it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ...tasks.stages import Stage
from .. import curves
from ..both import PAPER, Accuracy, Both, stacked
from ..finding import cases, configuration, decode
from ..verdict import Claim, ratio_over_draws, sides
from .pairs import Teachers

ALONE, SEQUENTIAL, JOINT, TUNED = RUNS = (
    "target alone",
    "source → target",
    "both",
    "both → target",
)


@dataclass(frozen=True, kw_only=True)
class Config(Teachers, Accuracy):
    """Degrees of the polynomials, which share their direction, samples and times.

    Attributes
    ----------
    source_degree, target_degree
        Of the teachers ``He_k(beta.x/|beta|)/sqrt(k!)``.
    richness
        gamma of every stage.
    duration, target_duration
        Of the first stage (on the source or on both tasks), and of the target's; without a first
        stage the target's, or that on both tasks, takes as long as the two together.
    """

    source_degree: int = 1
    target_degree: int = 2
    dimension: int = 8
    n_target: int = 30
    richness: float = 2.0
    duration: float = 60.0
    target_duration: float = 60.0
    draws: int = 6


PRESETS = {
    "quick": Config(),
    "full": Config(
        **PAPER,
        dimension=20,
        n_source=800,
        n_target=200,
        n_test=2000,
        duration=100.0,
        target_duration=500.0,
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_target`` (draw, run, time, replicate) and ``network_target``: test losses."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the data; both tasks count as their samples in a joint stage."""
    c = decode(Config, config)
    source, target = c.pair(c.source_degree, c.target_degree, c.seed + draw)
    whole = c.duration + c.target_duration
    first = {
        SEQUENTIAL: Stage(source, c.richness, duration=c.duration),
        TUNED: Stage([source, target], c.richness, duration=c.duration),
    }
    last = {
        ALONE: Stage(target, c.richness, duration=whole),
        SEQUENTIAL: Stage(target, c.richness, duration=c.target_duration),
        JOINT: Stage([source, target], c.richness, duration=whole),
        TUNED: Stage(target, c.richness, duration=c.target_duration, head="kept"),
    }
    found = {}
    for run in RUNS:
        before = None
        if run in first:
            before = Both.run([first[run]], c, draw, observe=[source, target], record=2)
        both = Both.run([last[run]], c, draw, after=before, record=13)
        over = both.over_time(target=target)
        # Records stand at the same shares of every stage, but for rounding.
        found[run] = over.assign_coords(time=np.round(over.time / both.times[-1], 6))
    return stacked("run", found)


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss over the last stage, a curve for each way to use the source."""
    figure, (ax,) = curves.panels(width=6.2)
    c = configuration(dataset, Config)
    curves.family(ax, dataset, "target", "run", dashed=[ALONE])
    curves.time_axis(ax, 1.0)
    ax.set_xlabel("time, in units of the last stage")
    ax.set(ylabel=f"test loss on He{c.target_degree}", title="a source before, or together with")
    ax.set_ylim(bottom=0)
    curves.beside(ax, "stages")
    return figure


def caption(c: Config) -> str:
    return (
        f"Single-index teachers He{c.source_degree} (source) and He{c.target_degree} (target) of "
        f"one direction, D = {c.dimension}, {c.n_source} and {c.n_target} samples, {c.n_test} test "
        f"samples; every stage rich, γ = {c.richness:g}. First stages take t = {c.duration:g}, the "
        f"target's after them t = {c.target_duration:g}, single ones as long as both; tasks of a "
        "joint stage count as their samples, each with a head of its own. After the source the "
        f"head is fresh, after both it is the target's; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Both tasks together against the target alone, and against one after the other."""
    last = dataset.isel(time=-1)
    alone, sequential, joint, tuned = (sides(last, "target", run=run) for run in RUNS)
    return (
        ratio_over_draws(
            "a joint stage lowers the target's loss below training alone", alone, joint
        ),
        ratio_over_draws("it lowers it below the source first, then the target", sequential, joint),
        ratio_over_draws("fine-tuning on the target lowers it further", joint, tuned),
    )
