"""Paper figure 5: preactivations on the target, and what the final kernel aligns with."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats

from ...display.plots.style import look
from ...solution import Solution
from ...solution.observables import centred_alignment
from ...tasks import Task
from .. import curves
from ..both import stacked
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, means, over_draws
from .jointly_rich import FULL, Config, runs

EDGES = np.linspace(-5, 5, 41)
CENTRES = (EDGES[1:] + EDGES[:-1]) / 2
LABELS = ("source", "target")


PRESETS = {
    "quick": Config(
        n_source=40,
        n_target=40,
        target_richness=(0.1, 2.0, 8.0),
        target_duration=50.0,
        draws=6,
    ),
    "full": Config(
        **FULL,
        target_richness=(0.1, 0.5, 1.0, 2.0, 4.0, 8.0),
        target_duration=1000.0,
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """Densities, excess kurtosis and alignments for ``theory_`` and ``network_``.

    ``density`` (draw, richness, h, member), ``kurtosis`` (draw, richness, member), ``alignment``
    (draw, richness, labels, member): of the final feature kernel on the test images of each task
    with the labels of that task. Members are the dimension ``replicate`` or ``seed``.
    """
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the images."""
    c = decode(Config, config)
    found = {}
    for gamma, source, target, both in runs(c, draw, record=2):
        sides = ("theory", both.theory, "replicate"), ("network", both.network, "seed")
        found[gamma] = xr.Dataset(
            {
                f"{side}_{name}": value
                for side, solution, member in sides
                for name, value in _observed(solution, (source, target), member).items()
            }
        )
    return stacked("richness", found).assign_coords(h=CENTRES, labels=list(LABELS))


def _observed(solution: Solution, tasks: tuple[Task, Task], member: str) -> dict[str, Any]:
    X = tasks[1].X
    h = solution.preactivations(X) / np.sqrt(np.sum(X**2, axis=1) / X.shape[1])
    pooled = h.reshape(len(h), -1)
    density = [np.histogram(row, EDGES, density=True)[0] for row in pooled]
    state = solution.state()
    aligned = [
        centred_alignment(state.kernel(inputs, None, "feature"), y)
        for inputs, y in ((t.split("test")[0][:200], t.split("test")[1][:200]) for t in tasks)
    ]
    return {
        "density": ((member, "h"), np.array(density)),
        "kurtosis": (member, stats.kurtosis(pooled, axis=1)),
        "alignment": (("labels", member), np.array(aligned)),
    }


def draw(dataset: xr.Dataset) -> Figure:
    """Densities, excess kurtosis, and alignment with source and target labels."""
    figure, (left, middle, right) = curves.panels(3, width=3.9, height=3.7)
    curves.family(left, dataset, "density", "richness", "γ₂ = {:g}".format, ordered=True)
    left.plot(CENTRES, stats.norm.pdf(CENTRES), color="black", linestyle=":", label="Gaussian")
    left.set(yscale="log", ylim=(1e-4, 3), title="on target training images")
    left.set(xlabel="preactivation h(x)/√K(x, x)", ylabel="density p(h)")
    left.legend(loc="lower center", fontsize=7.5, frameon=False)
    curves.series(middle, dataset, "kurtosis", **look(0), label="excess kurtosis")
    middle.axhline(0, color="black", linestyle=":")
    middle.set_ylabel("excess kurtosis of h")
    curves.family(right, dataset, "alignment", "labels", "{} labels".format, first=1)
    right.set(ylabel="centred kernel alignment (CKA)", ylim=(0, None), title="final kernel")
    right.legend(frameon=False)
    for ax in (middle, right):
        ax.set(xscale="log", xlabel="target richness γ₂")
    return figure


def caption(c: Config) -> str:
    return (
        f"{c.classes}, P₁ = {c.n_source}, P₂ = {c.n_target}; both stages rich, γ₁ = "
        f"{c.source_richness:g}, γ₂ = {listed(c.target_richness)}, fresh head, times t₁ = "
        f"{c.source_duration:g} and t₂ = {c.target_duration:g}. Preactivations of the last stage's "
        f"end on the target's training images; alignment of the feature kernel with labels on "
        f"{min(200, c.n_test)} test images of each task; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Kurtosis and alignments at the largest against the smallest richness."""
    richness = configuration(dataset, Config).target_richness
    low, high = richness[0], richness[-1]

    def change(name: str, **at: Any) -> list[np.ndarray]:
        ends = (means(dataset, name, richness=gamma, **at) for gamma in (high, low))
        return [above - below for above, below in zip(*ends, strict=True)]

    ends = f"from γ₂ = {low:g} to {high:g}"
    return (
        over_draws(f"the excess kurtosis of h rises {ends}", *change("kurtosis"), unit=""),
        over_draws(
            f"the alignment of the final kernel with the target's labels rises {ends}",
            *change("alignment", labels="target"),
            unit="",
        ),
        over_draws(
            f"its alignment with the source's labels falls {ends}",
            *change("alignment", labels="source"),
            sense=-1,
            unit="",
        ),
    )
