"""Beyond the paper: which directions of a multi-index teacher does pretraining bring?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.figure import Figure

from ...solution import Solution
from ...tasks import Directions, Task, multi_index_pair
from ...tasks.stages import Stage, target_stage
from .. import curves
from ..both import PAPER, Accuracy, Both, named, of_size, stacked
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, means, over_draws

SHARED, OWN, FOREIGN = DIRECTIONS = ("shared", "the target's own", "the source's own")
NONE, RICH = SOURCES = ("no source", "rich source")
STAGES = ("readout", "rich")


@dataclass(frozen=True, kw_only=True)
class Config(Accuracy):
    """Teachers, samples and times.

    Attributes
    ----------
    degree
        Of the teachers ``(He_k(u_1) + He_k(u_2))/sqrt(2 k!)``: u_1 is seen by both tasks, u_2 by
        one of them.
    dimension
        D.
    n_source, n_target, n_test
        P1, levels of P2, test samples.
    source_richness, target_richness
        gamma_1, and gamma_2 of the rich target stage.
    source_duration, target_duration
        Of the source stage, and of the rich target stage.
    """

    degree: int = 2
    dimension: int = 8
    n_source: int = 200
    n_target: tuple[int, ...] = (20, 40, 80)
    n_test: int = 1000
    source_richness: float = 2.0
    target_richness: float = 1.0
    source_duration: float = 60.0
    target_duration: float = 60.0
    draws: int = 5


PRESETS = {
    "quick": Config(),
    "full": Config(
        **PAPER,
        dimension=20,
        n_source=800,
        n_target=(50, 100, 200, 400),
        n_test=4000,
        source_duration=200.0,
        target_duration=500.0,
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_learned`` (draw, source, stage, n_target, direction, replicate), and networks."""
    axes = {"draw": range(config.draws), "source": SOURCES}
    return cases(case, axes, config, **sweep)


def case(config: str, draw: int, source: str) -> xr.Dataset:
    """One draw of the data, with or without a source stage."""
    c = decode(Config, config)
    pretraining, target, directions = multi_index_pair(
        1,
        1,
        1,
        n_source=c.n_source,
        n_target=max(c.n_target),
        degree=c.degree,
        dimension=c.dimension,
        n_test=c.n_test,
        seed=c.seed + draw,
    )
    before = None
    if source == RICH:
        first = Stage(pretraining, c.source_richness, duration=c.source_duration)
        before = Both.run([first], c, draw, observe=[target], record=2)

    def ends() -> Iterator[tuple[str, xr.Dataset]]:
        for mode in STAGES:
            found = {}
            for count in c.n_target:
                task = of_size(target, count)
                stage = target_stage(task, mode, c.target_richness)
                if mode == "rich":
                    stage = replace(stage, duration=c.target_duration)
                both = Both.run([stage], c, draw, after=before, record=2)
                found[count] = named(_along(both, task, directions, c.degree), "learned")
            yield mode, stacked("n_target", found)

    return stacked("stage", dict(ends()))


def _along(both: Both, task: Task, directions: Directions, degree: int) -> xr.Dataset:
    """What predictions hold of the polynomial along each direction, 1 being all of the teacher's.

    Variables ``theory`` (direction, replicate) and ``network`` (direction, seed).
    """
    X, y = task.split("test")
    u = X @ np.concatenate([directions.shared, directions.target, directions.source]).T
    design = np.concatenate([np.ones((len(u), 1)), _polynomial(degree, u)], axis=1)

    def parts(solution: Solution) -> Float[np.ndarray, "directions members"]:
        f = solution.predictions(task)[-1]
        found = np.linalg.lstsq(design, f.reshape(len(f), -1).T, rcond=None)[0]
        teacher = np.linalg.lstsq(design, y, rcond=None)[0][1]
        return found[1:] / teacher

    return xr.Dataset(
        {
            "theory": (("direction", "replicate"), parts(both.theory)),
            "network": (("direction", "seed"), parts(both.network)),
        },
        coords={"direction": list(DIRECTIONS)},
    )


def _polynomial(degree: int, u: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    return np.polynomial.hermite_e.hermeval(u, [0.0] * degree + [1.0])


def draw(dataset: xr.Dataset) -> Figure:
    """What is learned along each direction against target samples, with a source and without."""
    c = configuration(dataset, Config)
    figure, axes = curves.panels(2, width=4.4, sharey=True)
    for ax, mode in zip(axes, STAGES, strict=True):
        one = dataset.sel(stage=mode)
        ax.axhline(0, color="black", linewidth=0.8)
        for source in SOURCES:
            dashed = DIRECTIONS if source == NONE else ()
            curves.family(
                ax,
                one.sel(source=source),
                "learned",
                "direction",
                lambda v, source=source: f"{v}, {source}",
                dashed=dashed,
            )
        ax.set_xscale("log")
        curves.ticks(ax, c.n_target)
        ax.set(xlabel="target training samples P₂", title=mode)
    axes[0].set_ylabel("share of the teacher's part learned")
    curves.beside(axes[1], "direction")
    return figure


def caption(c: Config) -> str:
    return (
        f"Teachers (He{c.degree}(u₁) + He{c.degree}(u₂))/√2 up to norm: u₁ is shared, u₂ each "
        f"task's own; D = {c.dimension}, P₁ = {c.n_source}, P₂ = {listed(c.n_target)}, {c.n_test} "
        f"test samples. A source stage at γ₁ = {c.source_richness:g} for t = "
        f"{c.source_duration:g}, or none; then a fresh readout on frozen features to its end, or "
        f"a rich stage at γ₂ = {c.target_richness:g} for t = {c.target_duration:g}. What "
        f"predictions on test inputs hold of He{c.degree} along a direction, over what the "
        f"target's teacher does; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Gains along the directions, means over numbers of target samples."""
    claims = []
    for mode in STAGES:
        one = dataset.sel(stage=mode).mean("n_target")

        def learned(direction: str, source: str, one=one) -> list[np.ndarray]:
            return means(one, "learned", direction=direction, source=source)

        def gains(direction: str, learned=learned) -> list[np.ndarray]:
            pairs = zip(learned(direction, RICH), learned(direction, NONE), strict=True)
            return [after - before for after, before in pairs]

        both = zip(gains(SHARED), gains(OWN), strict=True)
        foreign = zip(gains(SHARED), gains(FOREIGN), strict=True)
        claims += [
            over_draws(f"{mode}: the source brings the shared direction", *gains(SHARED)),
            over_draws(f"{mode}: more than the target's own", *(a - b for a, b in both)),
            over_draws(
                f"{mode}: more than twice its own (half the shared gain less that along its own)",
                *(a / 2 - b for a, b in foreign),
            ),
        ]
    return tuple(claims)
