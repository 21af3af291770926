"""Appendix B: a pull towards the source's weights helps related linear teachers.

For unrelated teachers no pull is best, between them a finite one. Gradient flow under weight decay
lambda = T/P and a pull delta lambda has no thermal noise, and is drawn beside the posterior.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy.optimize import minimize_scalar

from ...display.plots.style import look
from ...limits import TwoLayer
from ...limits.solving import solve
from ...tasks import Task, linear_pair
from ...tasks.stages import Stage
from .. import curves
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, over_draws, ratio_over_draws, sides
from . import elastic_pull

LARGEST = 1e3  # values of delta searched for the best one
SMALLEST = 1e-3


@dataclass(frozen=True, kw_only=True)
class Config(elastic_pull.Config):
    """Teachers and samples.

    Attributes
    ----------
    alignment
        Overlaps of the teachers.
    dimension, n_source, n_target, n_test
        D, and numbers of samples.
    richness
        Of both stages.
    """

    activation: str = "linear"
    particles: int = 128  # of the flow; exact for linear neurons
    replicates: int = 1
    alignment: tuple[float, ...] = (0.0, 0.5, 0.95)
    dimension: int = 30
    n_source: int = 40
    n_target: int = 12
    n_test: int = 1000
    richness: float = 1.5


PRESETS = {
    "quick": Config(),
    "full": Config(
        **elastic_pull.PAPER,
        alignment=(0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        dimension=100,
        n_source=130,
        n_target=40,
        n_test=5000,
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, alignment, elastic, replicate) and ``network_loss``.

    ``flow_loss`` (draw, alignment, elastic) is that of gradient flow, ``best_elastic`` (draw,
    alignment) where the posterior's loss is smallest, from 0.001 to 1000.
    """
    axes = {"draw": range(config.draws), "alignment": config.alignment}
    return cases(case, axes, config, **sweep)


def case(config: str, draw: int, alignment: float) -> xr.Dataset:
    """One draw of the data and one overlap of the teachers."""
    c = decode(Config, config)
    source, target = linear_pair(
        alignment,
        n_source=c.n_source,
        n_target=c.n_target,
        dimension=c.dimension,
        n_test=c.n_test,
        seed=c.seed + draw,
    )
    found = elastic_pull.pulled(source, [target], c.richness, c, draw).isel(n_target=0, drop=True)
    found = found[["theory_loss", "network_loss"]]
    found["flow_loss"] = "elastic", flow_losses(c, source, target)
    found["best_elastic"] = best_elastic(c, source, target)
    return found


def flow_losses(c: Config, source: Task, target: Task) -> list[float]:
    """Test losses of gradient flow with the posterior's ridge and pull."""
    limit = TwoLayer(c.activation, particles=c.particles, replicates=c.replicates)
    decay = c.temperature / c.n_source
    stage = Stage(source, c.richness, weight_decay=decay)
    first = solve([stage], limit, observe=[target], record=2)
    decay = c.temperature / c.n_target
    stages = [
        Stage(target, c.richness, weight_decay=decay, elastic=delta * decay) for delta in c.elastic
    ]
    ends = (solve([stage], limit, after=first, record=2) for stage in stages)
    return [float(end.loss(target)) for end in ends]


def best_elastic(c: Config, source: Task, target: Task) -> float:
    """Where the target loss of the posterior is smallest."""
    before = solve([Stage(source, c.richness)], c.limit, observe=[target])

    def loss(exponent: float) -> float:
        stage = Stage(target, c.richness, elastic=10**exponent)
        return float(solve([stage], c.limit, after=before).loss(target))

    ends = np.log10([SMALLEST, LARGEST])
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 0.02})
    # A bounded search stays inside: its ends count where the loss is no larger there.
    return float(10 ** min([float(found.x), *map(float, ends)], key=loss))


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against the pull for every overlap, and the best pull against the overlap."""
    c = configuration(dataset, Config)
    figure, (left, right) = curves.panels(2, width=5.2)
    curves.family(left, dataset, "loss", "alignment", "{:g}".format)
    for i, flow in enumerate(dataset.flow_loss.mean("draw").transpose("alignment", ...).values):
        left.plot(c.elastic, flow, color=look(i)["color"], linestyle=":", linewidth=1.3)
    curves.pull_axis(left, c.elastic)
    left.plot([], [], color="0.3", linestyle=":", label="gradient flow")
    left.set(ylabel="target test loss", title="Posterior, and flow under weight decay")
    curves.beside(left, "alignment α")
    best = np.log10(dataset.best_elastic)
    error = best.std("draw", ddof=1) / np.sqrt(dataset.sizes["draw"])
    right.errorbar(
        c.alignment,
        best.mean("draw"),
        error,
        color="0.2",
        marker="o",
        markerfacecolor="white",
        capsize=2,
    )
    right.set(xlabel="alignment of the teachers α", ylabel="best pull, log₁₀ δ (mean ± s.e.)")
    right.set_title(f"Best pull, from {SMALLEST:g} to {LARGEST:g}")
    return figure


def caption(c: Config) -> str:
    return (
        f"Linear teachers with overlap α = {listed(c.alignment)}, D = "
        f"{c.dimension}, P₁ = {c.n_source}, P₂ = {c.n_target}, {c.n_test} test samples; both "
        f"stages of richness γ = {c.richness:g}, {c.pull}. "
        "Dotted: gradient flow with weight decay T/P and pull δT/P, run to its end."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Related, unrelated, and how the best pull moves."""
    c = configuration(dataset, Config)
    low, high = c.alignment[0], c.alignment[-1]
    ends = c.elastic[0], c.elastic[-1]
    related, unrelated = (
        [sides(dataset, "loss", alignment=alpha, elastic=delta) for delta in ends]
        for alpha in (high, low)
    )
    best = np.log10(dataset.best_elastic)
    return (
        ratio_over_draws(
            f"at α = {high:g} the strongest pull (δ = {ends[1]:g}) lowers the target loss",
            *related,
        ),
        ratio_over_draws(
            f"at α = {low:g} it raises it (the fall is negative)", *unrelated, sense=-1
        ),
        over_draws(
            f"the best pull is stronger at α = {high:g} than at α = {low:g} (decades)",
            (best.sel(alignment=high) - best.sel(alignment=low)).values,
            unit="",
        ),
    )
