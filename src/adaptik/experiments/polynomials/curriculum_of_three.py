"""Beyond the paper: curricula of three polynomials in easy, other and no order."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ...tasks import hermite_pair
from ...tasks.stages import Stage
from .. import curves
from ..both import PAPER, Accuracy, Both, stacked
from ..finding import cases, configuration, decode
from ..verdict import Claim, ratio_over_draws, sides

CURRICULA = {"3 alone": (), "2 → 3": (2,), "1 → 3": (1,), "1 → 2 → 3": (1, 2), "2 → 1 → 3": (2, 1)}


@dataclass(frozen=True, kw_only=True)
class Config(Accuracy):
    """Samples, richness and times; all teachers share one direction.

    Attributes
    ----------
    dimension, n_train, n_test
        D, and samples of every task.
    richness
        gamma of every stage.
    duration, final_duration
        Of the earlier stages and of the last one.
    """

    dimension: int = 8
    n_train: int = 40
    n_test: int = 2000
    richness: float = 2.0
    duration: float = 60.0
    final_duration: float = 150.0
    draws: int = 6


PRESETS = {
    "quick": Config(),
    "full": Config(
        **PAPER,
        dimension=20,
        n_train=300,
        n_test=2000,
        duration=200.0,
        final_duration=500.0,
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_last`` (draw, curriculum, time, replicate) and ``network_last``: losses on He3."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the data; curricula share their first stages."""
    c = decode(Config, config)
    sizes: dict[str, Any] = dict(
        n_source=c.n_train,
        n_target=c.n_train,
        dimension=c.dimension,
        n_test=c.n_test,
        seed=c.seed + draw,
    )
    # The same seed gives the same direction and inputs for every degree.
    tasks = {k: hermite_pair(k, 3, 1.0, **sizes)[0] for k in (1, 2)}
    last = hermite_pair(1, 3, 1.0, **sizes)[1]
    seen = [*tasks.values(), last]
    done: dict[tuple[int, ...], Both | None] = {(): None}
    found = {}
    for name, order in CURRICULA.items():
        for k in range(len(order)):
            if order[: k + 1] not in done:
                stage, before = Stage(tasks[order[k]], c.richness, duration=c.duration), order[:k]
                done[order[: k + 1]] = Both.run(
                    [stage], c, draw, after=done[before], observe=seen, record=2
                )
        final = Stage(last, c.richness, duration=c.final_duration)
        both = Both.run([final], c, draw, after=done[order], record=17)
        found[name] = both.over_time(last=last)
    return stacked("curriculum", found)


def draw(dataset: xr.Dataset) -> Figure:
    """Loss on the last task over its stage, one curve for each curriculum."""
    figure, (ax,) = curves.panels(width=6.2)
    curves.family(ax, dataset, "last", "curriculum", dashed=["3 alone"])
    curves.time_axis(ax, configuration(dataset, Config).final_duration)
    ax.set(ylabel="test loss on He3", title="the last of three polynomials")
    ax.set_ylim(bottom=0)
    curves.beside(ax, "degrees in order")
    return figure


def caption(c: Config) -> str:
    return (
        f"Single-index teachers He1, He2, He3 of one direction, D = {c.dimension}, {c.n_train} "
        f"samples of each, {c.n_test} test samples; every stage rich, γ = {c.richness:g}, with a "
        f"fresh head, for t = {c.duration:g}, the last for t = {c.final_duration:g}; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The curriculum 1, 2, 3 against none, and against the reversed order of its first two."""
    last = dataset.isel(time=-1)
    alone, rising, reversed_ = (
        sides(last, "last", curriculum=name) for name in ("3 alone", "1 → 2 → 3", "2 → 1 → 3")
    )
    return (
        ratio_over_draws(
            "the curriculum 1 → 2 → 3 lowers the final loss on He3 below training it alone",
            alone,
            rising,
        ),
        ratio_over_draws("it lowers it below that of 2 → 1 → 3", reversed_, rising),
    )
