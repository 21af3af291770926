"""Beyond the paper: does pretraining help more where features are local?

A convolution with pooling against dense networks, through the same two rich stages. Average pooling
at richness gamma is the sum over sqrt(Q) at gamma sqrt(Q) (theory section 2.1): both poolings are
compared at the dense network's richness, since neither is more equal to it than the other.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ...tasks import Task, load_pair
from ...tasks.stages import Stage
from .. import curves
from ..both import Both, named, stacked
from ..finding import cases, configuration, decode, listed
from ..verdict import Claim, over_draws, sides
from .architecture import ARCHITECTURES, Architecture

STARTS = ("scratch", "pretrained")


@dataclass(frozen=True, kw_only=True)
class Config(Architecture):
    """Images, patches and richness.

    Attributes
    ----------
    data, pairs
        Data set, and pairs of classes: two of the source, two of the target.
    n_source, n_target, n_test
        P1, P2, test samples.
    source_richness, target_richness
        gamma_1, gamma_2.
    loss_tol
        Training loss, relative to the labels, at which either stage ends.
    """

    data: str = "fashion-mnist"
    pairs: tuple[str, ...] = ("0,1,0,9", "2,3,4,6", "5,7,7,9")
    n_source: int = 60
    n_target: int = 12
    n_test: int = 200
    patch: int = 7
    stride: int = 7
    source_richness: float = 2.0
    target_richness: float = 1.0
    loss_tol: float = 0.03
    particles: int = 256
    width: int = 384
    networks: int = 2
    draws: int = 4


PRESETS = {
    "quick": Config(),
    "full": Config(
        particles=1024,
        replicates=4,
        width=2048,
        networks=3,
        draws=10,
        n_source=200,
        n_target=20,
        n_test=1000,
        patch=5,
        stride=3,
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """``theory_loss`` (draw, pair, architecture, start, replicate) and ``network_loss``."""
    axes = dict(draw=range(config.draws), pair=config.pairs, architecture=ARCHITECTURES)
    return cases(case, axes, replace(config, architecture="dense"), **sweep)


def case(config: str, draw: int, pair: str, architecture: str) -> xr.Dataset:
    """One architecture on one draw of a pair."""
    c = replace(decode(Config, config), architecture=architecture)
    source, target = load(c, pair, c.seed + draw)
    settings: dict[str, Any] = dict(loss_tol=c.loss_tol, rate_tol=1.0)
    last = Stage(target, c.target_richness, **settings)
    first = Stage(source, c.source_richness, **settings)
    runs = {
        "scratch": Both.run([last], c, draw, record=2),
        "pretrained": Both.run([first, last], c, draw, record=2),
    }
    return stacked(
        "start", {start: named(run.final(target), "loss") for start, run in runs.items()}
    )


def load(c: Config, pair: str, seed: int) -> tuple[Task, Task]:
    """Source and target, as images: patches need their pixels where they are."""
    first, second, third, fourth = pair.split(",")
    return load_pair(
        f"{c.data}:{first},{second}",
        f"{c.data}:{third},{fourth}",
        n_source=c.n_source,
        n_target=c.n_target,
        n_test=c.n_test,
        seed=seed,
    )


def draw(dataset: xr.Dataset) -> Figure:
    """Target loss from scratch and after pretraining, a panel for each pair."""
    c = configuration(dataset, Config)
    figure, axes = curves.panels(len(c.pairs), width=3.6, sharey=True)
    for ax, pair in zip(axes, c.pairs, strict=True):
        at = dataset.sel(pair=pair).assign_coords(start=range(len(STARTS)))
        curves.family(ax, at, "loss", "architecture")
        ax.set_xticks(range(len(STARTS)), STARTS)
        ax.set(xlabel="start of the target stage", title=_title(pair))
        ax.set_xlim(-0.3, 1.3)
    axes[0].set(ylabel="target test loss")
    axes[0].set_ylim(bottom=0)
    curves.beside(axes[-1], "network")
    return figure


def _title(pair: str) -> str:
    first, second, third, fourth = pair.split(",")
    return f"{first}, {second} → {third}, {fourth}"


def caption(c: Config) -> str:
    pairs = "; ".join(map(_title, c.pairs))
    return (
        f"{c.data}, classes {pairs}, as ±1 regression; a target stage of richness γ₂ = "
        f"{c.target_richness:g} on P₂ = {c.n_target} images, from scratch or with a fresh head "
        f"after a source stage of richness γ₁ = {c.source_richness:g} on P₁ = {c.n_source}, "
        f"either until the training loss is {c.loss_tol:g} of the labels' mean square; patches of "
        f"{listed((c.patch, c.patch))} pixels at stride {c.stride:g}, pooled by their average or "
        f"their sum over √Q; {c.n_test} test images; {c.accuracy}."
    )


def gains(dataset: xr.Dataset, architecture: str) -> list[np.ndarray]:
    """Of theory and networks: 1 - loss pretrained/loss from scratch, (draws, pairs)."""
    found = []
    at = [sides(dataset, "loss", architecture=architecture, start=start) for start in STARTS]
    for scratch, pretrained in zip(*at, strict=True):
        means = [
            side.mean([d for d in side.dims if d in ("replicate", "seed")]).transpose(
                "draw", "pair"
            )
            for side in (scratch, pretrained)
        ]
        found.append(1 - means[1].values / means[0].values)
    return found


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Gains of convolutions less those of dense networks, averaged over pairs."""
    dense = gains(dataset, "dense")
    claims = []
    for pooling, words in (("average", "average pooling"), ("root", "sums over √Q")):
        more = [
            (ours - theirs).mean(1)
            for ours, theirs in zip(gains(dataset, pooling), dense, strict=True)
        ]
        statement = f"pretraining lowers the loss by a larger share with patches ({words})"
        claims.append(over_draws(statement, *more))
    return tuple(claims)
