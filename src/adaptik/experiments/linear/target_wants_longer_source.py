"""Beyond the paper: the source stage that is best for the target is not the one best for itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp

from ... import linear_theory as lt
from ...display.plots.style import GREY, OKABE_ITO, shades
from .. import curves, verdict
from ..finding import configuration, decode, in_parts, listed
from ..verdict import Claim
from .closed_forms import deviates, simulated_claim

SPAN = np.geomspace(0.06, 60, 6)  # times, in units of D/(1 + gamma_1), that are simulated
FINE = np.geomspace(0.03, 100, 50)
RICHNESS = np.geomspace(0.3, 100, 40)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A noisy source, a target after it, and how precisely both are simulated.

    Attributes
    ----------
    alignment
        Of the teachers.
    nu_source, nu_target, source_noise
        Samples per dimension, variance of the source's label noise.
    richness
        Values of gamma_1, increasing.
    sources
        Values of nu_1 over which best times are compared.
    dimension, draws, seed
        D of simulations, draws of source and target samples, and what fixes them.
    """

    alignment: float = 0.9
    nu_source: float = 2.0
    nu_target: float = 0.6
    source_noise: float = 1.0
    richness: tuple[float, ...] = (0.5, 4.0, 50.0)
    sources: tuple[float, ...] = (0.4, 0.8, 2.0)
    dimension: int = 80
    draws: int = 40
    seed: int = 0

    @property
    def noisy(self) -> dict[str, Any]:
        return dict(nu_source=self.nu_source, source_noise=self.source_noise)

    @property
    def target(self) -> tuple[float, float]:
        return self.alignment, self.nu_target


PRESETS = {
    "quick": Config(),
    "full": Config(richness=(0.5, 2.0, 8.0, 50.0), dimension=300, draws=200),
}


def compute(config: Config, **sweep: Any) -> xr.Dataset:
    """Losses against the source's duration, and what is best.

    ``target``, ``source`` over (richness, fine) and ``theory_``, ``simulated_target``, ``_source``
    (richness, draw, check), the last two checks being the times best for the source and for the
    target (the latest time where that is the end); ``longer``, ``gain``, ``gain_over_source`` and
    ``ridge`` (nu, gamma).
    """
    parts = {
        "stopped": (stopped, {"richness": config.richness}),
        "best": (best, {"nu": config.sources}),
    }
    return in_parts(config, parts, **sweep)


def stopped(config: str, richness: float) -> xr.Dataset:
    """Theory and simulations at one richness."""
    c = decode(Config, config)

    def losses(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        target = lt.stopped_transfer_loss(*c.target, richness, times, **c.noisy)
        return np.asarray(target), np.asarray(lt.stopped_source(times, richness, **c.noisy).loss)

    found = lt.best_source_time(*c.target, richness, **c.noisy)
    span = SPAN / (1 + richness)
    times = np.append(span, [min(float(t), span[-1]) for t in (found.source, found.target)])
    simulated = [_simulated(c, richness, times, draw) for draw in range(c.draws)]
    theory, fine = losses(times), losses(FINE / (1 + richness))
    data: dict[str, Any] = {"time": ("fine", FINE / (1 + richness)), "check_time": ("check", times)}
    for i, what in enumerate(("target", "source")):
        data[what] = ("fine", fine[i])
        data[f"theory_{what}"] = ("check", theory[i])
        data[f"simulated_{what}"] = (("draw", "check"), np.array([s[i] for s in simulated]))
    return xr.Dataset(data)


def _simulated(c: Config, richness: float, times: np.ndarray, draw: int) -> tuple[Any, Any]:
    """Target and source losses of one draw of the samples, which all times share."""
    D, (distinct, where) = c.dimension, np.unique(times, return_inverse=True)
    rng = np.random.default_rng([c.seed, draw, round(1000 * richness)])
    X = rng.standard_normal((round(c.nu_source * D), D))
    y = X[:, 0] + np.sqrt(c.source_noise) * rng.standard_normal(len(X))
    seed = int(rng.integers(2**31))
    aligned = np.eye(D)[0] * c.alignment + np.eye(D)[1] * np.sqrt(1 - c.alignment**2)
    losses = []
    for beta, M in flow(X, y, richness, distinct):
        n = beta / np.linalg.norm(beta)
        spike, seen = np.array([[n @ M @ n - 1]]), np.array([n @ aligned])
        settings: dict[str, Any] = dict(dimension=D, draws=1, seed=seed)
        target = lt.simulate_spikes(spike, seen, c.nu_target, **settings)[0]
        losses.append((target, np.sum((beta - np.eye(D)[0]) ** 2)))
    target, source = np.array(losses)[where].T
    return target, source


def flow(
    X: Float[np.ndarray, "P D"], y: Float[np.ndarray, " P"], richness: float, times: np.ndarray
) -> list[tuple[Float[np.ndarray, " D"], Float[np.ndarray, "D D"]]]:
    """Predictor and moments M along gradient flow on samples (theory section 3.1)."""
    P, D = X.shape

    def slope(t: float, state: np.ndarray) -> np.ndarray:
        M, beta, a = state[: D * D].reshape(D, D), state[D * D : -1], state[-1]
        r = X.T @ (y - X @ beta) / P
        pushed = richness**2 * np.outer(beta, r)
        moved = (pushed + pushed.T).ravel(), M @ r + a * r, [2 * np.trace(pushed)]
        return np.concatenate(moved)

    start = np.concatenate([np.eye(D).ravel(), np.zeros(D), [1.0]])
    states = solve_ivp(slope, (0.0, times[-1]), start, t_eval=times, rtol=1e-4, atol=1e-6).y.T
    return [(state[D * D : -1], state[: D * D].reshape(D, D)) for state in states]


def best(config: str, nu: float) -> xr.Dataset:
    """What is best after ``nu`` source samples per dimension, over the richness."""
    c = decode(Config, config)
    settings: dict[str, Any] = dict(nu_source=nu, source_noise=c.source_noise)
    time = lt.best_source_time(*c.target, RICHNESS, **settings)
    ridge = lt.best_source_ridge(*c.target, RICHNESS, **settings)
    found = {
        "longer": time.target / time.source,
        "gain": time.gain,
        "gain_over_source": time.gain_over_source,
        "ridge": ridge.target / ridge.source,
    }
    return xr.Dataset({k: ("gamma", v) for k, v in found.items()}, coords={"gamma": RICHNESS})


def draw(dataset: xr.Dataset) -> Figure:
    """Losses against the source's duration; the best one and what it gains."""
    c = configuration(dataset, Config)
    figure, axes = curves.panels(3, width=4.2, height=3.8)
    _draw_losses(axes[0], dataset, c)
    for nu, colour in zip(c.sources, OKABE_ITO, strict=False):
        at = dataset.sel(nu=nu)
        ended = np.isfinite(at.longer.values)
        axes[1].plot(RICHNESS[ended], at.longer.values[ended], color=colour, label=f"{nu:g}")
        axes[1].plot(RICHNESS[ended][:1], at.longer.values[ended][:1], "^", color=colour)
        axes[2].plot(RICHNESS, 100 * at.gain, color=colour, label=f"{nu:g}")
        axes[2].plot(RICHNESS, 100 * at.gain_over_source, "--", color=colour)
    axes[1].axhline(1.0, color=GREY, linewidth=0.8)
    axes[1].set(yscale="log", ylabel="best for the target / for the source")
    axes[1].set_title("best duration (left of ▲: to the end)")
    axes[2].set_ylabel("fall of the target loss (%)")
    axes[2].set_title("what it gains")
    axes[2].plot([], [], color="0.3", label="over the end")
    axes[2].plot([], [], "--", color="0.3", label="over the source's best")
    for ax in axes[1:]:
        ax.set(xscale="log", xlabel="source richness γ₁")
        ax.legend(title="source samples ν₁", fontsize=8)
    axes[2].set_ylim(top=1.7 * axes[2].get_ylim()[1])  # room for the legend
    curves.note(
        figure,
        f"lines: theory; markers: {c.draws} simulated flows, D = {c.dimension} (means ± s.e.)",
    )
    return figure


def _draw_losses(ax: Axes, dataset: xr.Dataset, c: Config) -> None:
    for gamma, shade in zip(c.richness, shades(len(c.richness)), strict=True):
        at = dataset.sel(richness=gamma)
        for what, style in (("target", "-"), ("source", ":")):
            ax.plot(at.time, at[what], style, color=shade)
            mean, error = _mean(at[f"simulated_{what}"])
            marker: dict[str, Any] = dict(marker="o" if what == "target" else "s", markersize=4)
            ax.errorbar(
                at.check_time, mean, error, color=shade, linestyle="", markerfacecolor="w", **marker
            )
        ax.plot([], [], color=shade, label=f"γ₁ = {gamma:g}")
    ax.plot([], [], "-o", color="0.3", markersize=4, markerfacecolor="w", label="target")
    ax.plot([], [], ":s", color="0.3", markersize=4, markerfacecolor="w", label="source")
    ax.set(
        xscale="log", xlabel="duration of the source stage t/D", ylabel="test loss", ylim=(0, 1.5)
    )
    ax.set_title("losses on target and source")
    ax.legend(fontsize=8, loc="upper left", ncols=2)


def _mean(losses: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    values = losses.transpose("draw", ...).values
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))


def caption(c: Config) -> str:
    return (
        f"Two-layer linear networks, source stages stopped after a time, then a fresh readout to "
        f"its end; α = {c.alignment:g}, ν₁ = {c.nu_source:g} with label noise σ₁² = "
        f"{c.source_noise:g}, ν₂ = {c.nu_target:g}, γ₁ = {listed(c.richness)}; gradient flow of "
        f"the moments on {c.draws} draws of the samples, D = {c.dimension}, seed {c.seed}. Middle "
        f"and right: closed forms for ν₁ = {listed(c.sources)}."
    )


def check(dataset: xr.Dataset) -> tuple[Claim, ...]:
    """The source overfits, a lazy target does not mind, a rich one does; who wants more."""
    c = configuration(dataset, Config)
    lazy, rich = (dataset.sel(richness=gamma) for gamma in (c.richness[0], c.richness[-1]))
    end, own, best_time = len(SPAN) - 1, len(SPAN), len(SPAN) + 1
    low, high = c.richness[0], c.richness[-1]
    longest = float(dataset.ridge.max())
    return (
        _fall(f"past its best time the source loss rises (γ₁ = {low:g})", lazy, "source", end, own),
        _fall(f"the target loss falls on to the end (γ₁ = {low:g})", lazy, "target", own, end),
        _fall(
            f"rich features want the source stopped (γ₁ = {high:g}; fall below the end)",
            rich,
            "target",
            end,
            best_time,
        ),
        Claim(
            "the target wants the source longer than the source does, at every richness (smallest "
            "ratio of best times)",
            float(dataset.longer.min()),
            0.0,
            bound=1.0,
            unit="",
        ),
        Claim(
            "a source ridge is never best for the target above what is best for the source "
            "(largest ratio)",
            longest,
            0.0,
            bound=1.0 + 1e-9,
            sense=-1,
            unit="",
        ),
    )


def _fall(statement: str, at: xr.Dataset, what: str, before: int, after: int) -> Claim:
    """By how much the loss is lower at one check than at another, on the same samples."""
    theory = at[f"theory_{what}"].values
    draws = at[f"simulated_{what}"].transpose("draw", "check").values
    first, last = draws[:, before], draws[:, after]
    ratio = last.mean() / first.mean()
    error = (last - ratio * first).std(ddof=1) / first.mean() / np.sqrt(len(draws))
    value = 1 - theory[after] / theory[before]
    return simulated_claim(statement, float(value), float(1 - ratio), float(error))


def agreement(dataset: xr.Dataset) -> verdict.Agreement:
    """Simulated losses of target and source against the lines."""
    c = configuration(dataset, Config)
    deviations, outliers = [], []
    for gamma in c.richness:
        at = dataset.sel(richness=gamma)
        for what in ("target", "source"):
            mean, error = _mean(at[f"simulated_{what}"])
            apart = deviates(mean - at[f"theory_{what}"].values, error, c.draws)
            deviations.append(apart)
            outliers += [
                f"{what}, γ₁ = {gamma:g}, t/D = {float(at.check_time[k]):.3g}: {apart[k]:+.1f} s.e."
                for k in np.flatnonzero(np.abs(apart) > verdict.APART)
            ]
    return verdict.of_deviates(np.concatenate(deviations), outliers, "finite samples")
