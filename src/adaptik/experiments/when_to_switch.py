"""Beyond the paper: how long should a noisy source be trained before the switch to the target?"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ..tasks import hermite_pair
from ..tasks.stages import Stage, target_stage
from . import curves
from .both import PAPER, Accuracy, Both, named
from .finding import cases, configuration, decode
from .verdict import Claim, over_draws


@dataclass(frozen=True, kw_only=True)
class Config(Accuracy):
    """Degrees, samples, noise, richness and switch times.

    Attributes
    ----------
    degree, alignment, dimension
        Of both teachers, their overlap, and D.
    n_source, source_noise, n_target, n_test
        Numbers of samples and the variance of the source's label noise.
    richness
        gamma_1.
    switch
        Values of t1, increasing; the first is (nearly) no source stage.
    """

    degree: int = 2
    alignment: float = 1.0
    dimension: int = 8
    n_source: int = 60
    source_noise: float = 1.0
    n_target: int = 20
    n_test: int = 300
    richness: float = 2.0
    switch: tuple[float, ...] = (0.1, 3.0, 10.0, 30.0, 100.0)
    draws: int = 8


PRESETS = {
    "quick": Config(),
    "full": Config(
        **PAPER, dimension=20, n_source=400, n_target=60, n_test=2000,
        switch=(0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 40.0, 70.0, 100.0, 200.0, 400.0, 1000.0),
    ),
}  # fmt: skip


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_target`` (draw, switch, replicate), ``theory_source`` at the switch, networks."""
    return cases(case, {"draw": range(config.draws)}, config, **sweep)


def case(config: str, draw: int) -> xr.Dataset:
    """One draw of the data; the source stage goes on from one switch time to the next."""
    c = decode(Config, config)
    source, target = hermite_pair(
        c.degree, c.degree, c.alignment, n_source=c.n_source, n_target=c.n_target,
        dimension=c.dimension, n_test=c.n_test, source_noise=c.source_noise, seed=c.seed + draw,
    )  # fmt: skip
    before, found = None, []
    for length in np.diff((0.0, *c.switch)):
        head: Literal["fresh", "kept"] = "fresh" if before is None else "kept"
        stage = Stage(source, c.richness, duration=float(length), head=head)
        before = Both.run([stage], c, draw, after=before, observe=[target], record=2)
        after = Both.run([target_stage(target, "readout")], c, draw, after=before, record=2)
        losses = named(before.final(source), "source"), named(after.final(target), "target")
        found.append(xr.merge(losses))
    return xr.concat(found, "switch").assign_coords(switch=list(c.switch))


def draw(dataset: xr.Dataset) -> Figure:
    """Final target loss and the source loss at the switch, against the switch time."""
    config = configuration(dataset, Config)
    figure, (ax,) = curves.panels(1, width=6.4)
    words = (("target", "target, at its end"), ("source", "source, at the switch"))
    for i, (what, label) in enumerate(words):
        curves.series(
            ax, config.switch, dataset[f"theory_{what}"], dataset[f"network_{what}"],
            **curves.look(i), label=label, linestyle="-" if i == 0 else "--",
        )  # fmt: skip
    ax.set(
        xscale="log", xlabel="switch time t₁", ylabel="test loss",
        title=f"He{config.degree} → He{config.degree}, source noise σ₁² = {config.source_noise:g}",
    )  # fmt: skip
    curves.beside(ax, "test loss")
    curves.note(figure)
    return figure


def caption(config: Config) -> str:
    c = config
    return (
        f"Single-index teachers He{c.degree} → He{c.degree}, alignment {c.alignment:g}, D = "
        f"{c.dimension}, P₁ = {c.n_source} with label noise σ₁² = {c.source_noise:g}, P₂ = "
        f"{c.n_target}, {c.n_test} clean test samples; source stage of richness γ₁ = "
        f"{c.richness:g} for t₁ = {', '.join(f'{t:g}' for t in c.switch)}, then a fresh readout on "
        f"frozen features; {c.accuracy}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The best switch time, chosen on the theory's other draws, against both ends."""
    theory = dataset.theory_target.mean("replicate").transpose("draw", "switch").values
    network = dataset.network_target.mean("seed").transpose("draw", "switch").values
    draws = range(len(theory))
    best = [int(np.delete(theory, d, 0).mean(0).argmin()) for d in draws]

    def gains(end: int) -> list[np.ndarray]:
        return [
            np.array([1 - side[d, b] / side[d, end] for d, b in zip(draws, best, strict=True)])
            for side in (theory, network)
        ]

    shortest, longest = dataset.switch.values[[0, -1]]
    return (
        over_draws(f"the best switch time beats t₁ = {shortest:g}", *gains(0)),
        over_draws(f"it beats t₁ = {longest:g}", *gains(-1)),
    )
