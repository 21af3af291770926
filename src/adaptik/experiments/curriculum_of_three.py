"""Beyond the paper: curricula of three polynomials in easy, other and no order."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ..tasks import hermite_pair
from ..tasks.stages import Stage
from . import curves
from .both import PAPER, Accuracy, Both
from .finding import cases, configuration, decode
from .verdict import Claim, ratio_over_draws

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
        **PAPER, dimension=20, n_train=300, n_test=2000, duration=200.0, final_duration=500.0,
    ),
}  # fmt: skip


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_last`` (draw, curriculum, time, replicate) and ``network_last``: losses on He3."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the data; curricula share their first stages."""
    c = decode(Config, config)
    sizes: dict[str, Any] = dict(
        n_source=c.n_train, n_target=c.n_train, dimension=c.dimension, n_test=c.n_test,
        seed=c.seed + draw,
    )  # fmt: skip
    # The same seed gives the same direction and inputs for every degree.
    tasks = {k: hermite_pair(k, 3, 1.0, **sizes)[0] for k in (1, 2)}
    last = hermite_pair(1, 3, 1.0, **sizes)[1]
    done: dict[tuple[int, ...], Both | None] = {(): None}
    found = []
    for order in CURRICULA.values():
        for k in range(1, len(order) + 1):
            if order[:k] not in done:
                stage = Stage(tasks[order[k - 1]], c.richness, duration=c.duration)
                observe = [*tasks.values(), last]
                done[order[:k]] = Both.run(
                    [stage], c, draw, after=done[order[: k - 1]], observe=observe, record=2
                )
        final = Stage(last, c.richness, duration=c.final_duration)
        both = Both.run([final], c, draw, after=done[order], record=17)
        found.append(both.over_time(last=last))
    return xr.concat(found, "curriculum").assign_coords(curriculum=list(CURRICULA))


def draw(dataset: xr.Dataset) -> Figure:
    """Loss on the last task over its stage, one curve for each curriculum."""
    config = configuration(dataset, Config)
    figure, (ax,) = curves.panels(1, width=6.2)
    for i, name in enumerate(CURRICULA):
        one = dataset.sel(curriculum=name)
        curves.series(
            ax, dataset.time.values, one.theory_last, one.network_last, **curves.look(i),
            label=name, linestyle="--" if i == 0 else "-",
        )  # fmt: skip
    curves.time_axis(ax, config.final_duration)
    ax.set(ylabel="test loss on He3", title="the last of three polynomials")
    ax.set_ylim(bottom=0)
    curves.beside(ax, "degrees in order")
    curves.note(figure)
    return figure


def caption(config: Config) -> str:
    c = config
    return (
        f"Single-index teachers He1, He2, He3 of one direction, D = {c.dimension}, {c.n_train} "
        f"samples of each, {c.n_test} test samples; every stage rich, γ = {c.richness:g}, with a "
        f"fresh head, for t = {c.duration:g}, the last for t = {c.final_duration:g}; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The curriculum 1, 2, 3 against none, and against the reversed order of its first two."""
    last = dataset.isel(time=-1)

    def loss(name: str) -> tuple[xr.DataArray, xr.DataArray]:
        at = last.sel(curriculum=name)
        return at.theory_last, at.network_last

    return (
        ratio_over_draws(
            "the curriculum 1 → 2 → 3 lowers the final loss on He3 below training it alone",
            loss("3 alone"), loss("1 → 2 → 3"),
        ),
        ratio_over_draws(
            "it lowers it below that of 2 → 1 → 3", loss("2 → 1 → 3"), loss("1 → 2 → 3")
        ),
    )  # fmt: skip
