"""Beyond the paper: which spikes hurt a fresh head, and which of them a gradient flow leaves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import linear_theory as lt
from ...display.plots.style import GREY, look, shades
from ...limits import DeepLinear
from ...limits.solving import solve
from ...tasks import Task
from ...tasks.stages import Stage
from .. import curves, verdict
from ..finding import configuration, decode, in_parts, listed
from ..verdict import Claim
from .closed_forms import deviates, simulated_claim

FINE = np.geomspace(0.1, 100, 200)
CHECKS = np.geomspace(0.3, 60, 9)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Planted kernels, the flows beside them, and how precisely both are computed.

    Attributes
    ----------
    alignment
        Of the teachers.
    nu_source, nu_target, source_noise
        Samples per dimension, variance of the source's label noise.
    crosstalk
        Levels of c_1, in units of sqrt(c_2 c_3).
    dimension, draws
        D of simulations and draws of samples for every point.
    depth, flow_richness
        Hidden layers and gamma_1 of the flows.
    flow_dimension, flows
        Their D, and draws of source samples.
    seed
        Fixes everything.
    """

    alignment: float = 0.8
    nu_source: float = 0.4
    nu_target: float = 0.5
    source_noise: float = 0.5
    crosstalk: tuple[float, ...] = (0.0, 0.5, 1.0, 1.25, 1.5)
    dimension: int = 200
    draws: int = 60
    depth: tuple[int, ...] = (1, 2, 3)
    flow_richness: tuple[float, ...] = (1.0, 4.0, 16.0)
    flow_dimension: int = 20
    flows: int = 3
    seed: int = 0


PRESETS = {
    "quick": Config(),
    "full": Config(
        dimension=600,
        draws=200,
        depth=(1, 2, 3, 4),
        flow_richness=(0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
        flow_dimension=60,
        flows=6,
    ),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """Losses with planted kernels relative to those without pretraining; spikes of flows.

    ``value`` (crosstalk, richness), ``theory``, ``simulated`` and ``standard_error`` (crosstalk,
    check), NaN where no kernel has such coefficients; ``lowest`` and ``largest`` eigenvalue over
    all layers, and ``ratio`` = c_1/sqrt(c_2 c_3) of the last one (depth, flow, flow_richness).
    """
    parts = {
        "planted": (planted, {"crosstalk": config.crosstalk}),
        "flows": (flows, {"depth": config.depth, "flow": range(config.flows)}),
    }
    return in_parts(config, parts, **sweep)


def planted(config: str, crosstalk: float) -> xr.Dataset:
    """Signal and noise as a flow leaves them, with another crosstalk between them."""
    c = decode(Config, config)
    alignments = np.array([c.alignment, 0.0])
    baseline = float(lt.baseline_loss(c.nu_target))

    def coefficients(richness: np.ndarray) -> np.ndarray:
        parts = lt.kernel_parts(richness, nu_source=c.nu_source, source_noise=c.source_noise)
        crossed = crosstalk * parts.crosstalk
        C = np.array([[parts.signal, crossed], [crossed, parts.noise]])
        return np.moveaxis(C, (0, 1), (-2, -1))

    def theory(C: np.ndarray) -> np.ndarray:
        positive = np.linalg.eigvalsh(C)[..., 0] > -0.99
        losses = lt.spike_loss(np.where(positive[:, None, None], C, 0.0), alignments, c.nu_target)
        return np.where(positive, losses / baseline, np.nan)

    checked = coefficients(CHECKS)
    expected = theory(checked)
    simulated = np.full((2, len(CHECKS)), np.nan)
    for i in np.flatnonzero(np.isfinite(expected)):
        losses = lt.simulate_spikes(
            checked[i],
            alignments,
            c.nu_target,
            dimension=c.dimension,
            draws=c.draws,
            seed=c.seed + 100 * int(i) + c.crosstalk.index(crosstalk),
        )
        simulated[:, i] = losses.mean(), losses.std(ddof=1) / np.sqrt(c.draws)
    return xr.Dataset(
        {
            "value": ("richness", theory(coefficients(FINE))),
            "theory": ("check", expected),
            "simulated": ("check", simulated[0] / baseline),
            "standard_error": ("check", simulated[1] / baseline),
        },
        coords={"richness": FINE, "check": CHECKS},
    )


def flows(config: str, depth: int, flow: int) -> xr.Dataset:
    """What source stages of deep linear networks leave of their noisy samples."""
    c = decode(Config, config)
    D = c.flow_dimension
    rng = np.random.default_rng([c.seed, flow])
    X, directions = rng.standard_normal((round(c.nu_source * D), D)), np.eye(D)
    y = X[:, 0] + np.sqrt(c.source_noise) * rng.standard_normal(len(X))
    found = []
    for richness in c.flow_richness:
        stage = Stage(Task(X, y, name="source"), richness / np.sqrt(D))
        solution = solve([stage], DeepLinear(depth))
        points = np.sqrt(D) * directions
        spikes = [
            np.linalg.eigvalsh(solution.kernel(points, layer=layer).value - directions)
            for layer in range(1, depth + 1)
        ]
        rest = solution.predict(points).value * (1 - directions[0])
        U = np.stack([directions[0], rest / np.linalg.norm(rest)])
        C = U @ (solution.kernel(points).value - directions) @ U.T
        ratio = C[0, 1] / np.sqrt(C[0, 0] * C[1, 1])
        found.append((min(s[0] for s in spikes), spikes[-1][-1], ratio))
    names = ("lowest", "largest", "ratio")
    return xr.Dataset(
        {
            name: ("flow_richness", values)
            for name, values in zip(names, np.transpose(found), strict=True)
        },
        coords={"flow_richness": list(c.flow_richness)},
    )


def draw(dataset: xr.Dataset) -> Figure:
    """Loss against richness for levels of crosstalk; the crosstalk that flows leave."""
    c = configuration(dataset, Config)
    figure, (left, right) = curves.panels(2, width=4.8)
    for level, shade in zip(c.crosstalk, shades(len(c.crosstalk)), strict=True):
        at = dataset.sel(crosstalk=level)
        style: dict[str, Any] = dict(color=shade, linestyle="--" if level > 1 else "-")
        left.plot(FINE, at.value, **style, label=f"{level:g}", linewidth=1.7)
        points = at.simulated.values, at.standard_error.values
        left.errorbar(
            CHECKS,
            *points,
            color=shade,
            marker="o",
            markersize=4,
            linestyle="",
            markerfacecolor="w",
        )
    left.axhline(1.0, color=GREY, linewidth=0.8)
    left.set(xscale="log", xlabel="source richness γ₁", ylim=(0.3, 1.6))
    left.set_ylabel("target loss / loss without pretraining")
    left.set_title("planted spikes: too much crosstalk hurts")
    left.legend(title="crosstalk c₁/√(c₂c₃)", loc="lower left", fontsize=8)
    right.axhspan(1.0, 1.6, color="0.92", linewidth=0)
    right.text(c.flow_richness[0], 1.3, "some target is hurt", color=GREY)
    for i, depth in enumerate(c.depth):
        ratio = dataset.ratio.sel(depth=depth)
        error = ratio.std("flow", ddof=1) / np.sqrt(c.flows)
        label = f"{depth} hidden layer{'s' if depth > 1 else ''}"
        apart = 1.04 ** (i - (len(c.depth) - 1) / 2)  # markers beside each other
        right.errorbar(
            apart * np.array(c.flow_richness), ratio.mean("flow"), error, **look(i), label=label
        )
    right.set(xscale="log", xlabel="source richness γ₁", ylim=(0.0, 1.6))
    curves.ticks(right, c.flow_richness)
    right.set_ylabel("crosstalk c₁/√(c₂c₃)")
    right.set_title("what gradient flow leaves")
    right.legend(loc="lower left")
    curves.note(
        figure,
        f"left: lines: theory; markers: {c.draws} simulations, D = {c.dimension} (means ± s.e.); "
        f"dashed: reached by no flow. Right: flows on {c.flows} draws of the samples (s.e.)",
    )
    return figure


def caption(c: Config) -> str:
    return (
        f"Left: linear regression with planted kernels whose signal c₂ and noise c₃ are those of "
        f"a two-layer flow and whose crosstalk c₁ is {listed(c.crosstalk)} times that; ν₁ = "
        f"{c.nu_source:g} with label noise σ₁² = {c.source_noise:g}, ν₂ = {c.nu_target:g}, α = "
        f"{c.alignment:g}, fresh head; {c.draws} draws a point, D = {c.dimension}, seed "
        f"{c.seed}. Lines end where no kernel has such coefficients. Right: feature kernels of "
        f"infinite linear networks with {listed(c.depth)} hidden layers after such a source, "
        f"γ₁ = {listed(c.flow_richness)}, D = {c.flow_dimension}, {c.flows} draws of the samples."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """Too much crosstalk hurts, that of a flow does not; what flows of any depth leave."""
    c = configuration(dataset, Config)
    most = dataset.sel(crosstalk=max(c.crosstalk))
    last = most.isel(check=int(np.flatnonzero(np.isfinite(most.theory))[-1]))
    best = most.isel(check=int(np.nanargmin(most.theory.values)))
    rise, seen = (float(last[side] - best[side]) for side in ("theory", "simulated"))
    error = float(np.hypot(last.standard_error, best.standard_error))
    reached = dataset.sel(crosstalk=[level for level in c.crosstalk if level <= 1])
    highest = reached.stack(point=("crosstalk", "check"))
    highest = highest.isel(point=int(highest.theory.values.argmax()))
    negative = float((-dataset.lowest / dataset.largest).max())
    times = f"{max(c.crosstalk):g} times the crosstalk of a flow"
    return (
        simulated_claim(
            f"{times} hurts at γ₁ = {float(last.check):.2g} (rise above the loss without "
            "pretraining)",
            float(last.theory) - 1,
            float(last.simulated) - 1,
            float(last.standard_error),
        ),
        simulated_claim(
            f"a finite γ₁ is then best (rise from γ₁ = {float(best.check):.2g} on)",
            rise,
            seen,
            error,
        ),
        simulated_claim(
            "with as much crosstalk as a flow or less, pretraining never hurts (largest change)",
            float(reached.value.max()) - 1,
            float(highest.simulated) - 1,
            float(highest.standard_error),
            bound=1e-9,
            sense=-1,
        ),
        Claim(
            f"no layer of flows with {listed(c.depth)} hidden layers has a negative eigenvalue "
            "(largest one, relative to the spike, less than 0.01 %)",
            negative,
            0.0,
            bound=1e-4,
            sense=-1,
        ),
        Claim(
            "their crosstalk is not beyond that of one spike (largest c₁/√(c₂c₃), below 1.001)",
            float(dataset.ratio.max()),
            0.0,
            bound=1.001,
            sense=-1,
            unit="",
        ),
    )


def agreement(dataset: xr.Dataset) -> verdict.Agreement:
    """Simulated points against the lines."""
    c = configuration(dataset, Config)
    difference = (dataset.simulated - dataset.theory).values
    apart = deviates(difference, dataset.standard_error.values, c.draws)
    outliers = [
        f"crosstalk = {c.crosstalk[i]:g}, γ₁ = {CHECKS[j]:.3g}: {apart[i, j]:+.1f} s.e."
        for i, j in np.argwhere(np.abs(apart) > verdict.APART)
    ]
    return verdict.of_deviates(apart.ravel(), outliers, "finite samples")
