"""Two statements about transfer in linear networks, next to the exact solution and simulation.

    python benchmarks/linear_claims.py [figure.png]

Is there an optimal richness of the source stage, and can transfer with a fresh head hurt? Rows:
loss from theory and from simulation, for ridgeless isotropic targets (neither), for a ridge or a
time in units of the spike (both), and for anisotropic inputs with noise in the source (both).
"""

import sys

import numpy as np
from matplotlib.figure import Figure

from adaptik import linear_theory as lt

D, DRAWS = 600, 40
RICHNESS = np.array([0.2, 1.0, 4.0, 16.0, 64.0, 256.0])
FINE = np.geomspace(0.1, 400, 200)
MODE = (("readout", "fresh"),)
COLOURS = ("#0072B2", "#D55E00", "#009E73")


def main() -> None:
    panels = {
        "isotropic, to the end": [isotropic(nu) for nu in (0.2, 0.5, 1.5)],
        "isotropic, limited": [limited(limit) for limit in (dict(ridge=0.1), dict(time=10.0))],
        "blocks, source noise": [blocks(contrast) for contrast in (1.0, 100.0, 1000.0)],
    }
    for title, rows in panels.items():
        for label, theory, lazy, simulated in rows:
            print(f"\n{title}: {label}; loss relative to a lazy source at the same target stage")
            print("gamma_1        " + "".join(f"{g:16g}" for g in RICHNESS))
            print("theory         " + "".join(f"{theory(g) / lazy:16.3f}" for g in RICHNESS))
            cells = "".join("{:9.3f} ± {:.3f}".format(*pair) for pair in simulated)
            print("simulation     " + cells)
    if len(sys.argv) > 1:
        draw(panels, sys.argv[1])


def summary(draws, lazy):
    loss = draws.loss[:, 0] / lazy
    return loss.mean(), loss.std(ddof=1) / np.sqrt(len(loss))


def isotropic(nu_source):
    """Identical in richness, alignment 0.5 and half a target sample per dimension."""
    settings = dict(nu_source=nu_source, source_noise=0.1)
    lazy = lt.baseline_loss(0.5)
    simulated = [
        summary(
            lt.simulate_isotropic(
                0.5, 0.5, g, dimension=D, modes=MODE, draws=DRAWS, seed=i, **settings
            ),
            lazy,
        )
        for i, g in enumerate(RICHNESS)
    ]
    return (
        f"ν₁ = {nu_source}, σ₁² = 0.1",
        lambda g: lt.transfer_loss(0.5, 0.5, g, **settings),
        lazy,
        simulated,
    )


def limited(limit):
    """Ridge or time in units of the spike; abundant source data."""

    def theory(g):
        return lt.regularised_transfer_loss(0.5, 0.5, g, scale="spike", **limit)

    lazy, simulated = theory(0.0), []
    for i, g in enumerate(RICHNESS):
        size = np.sqrt(1 + g**2)  # 1 + chi
        absolute = {k: v * size if k == "ridge" else v / size for k, v in limit.items()}
        draws = lt.simulate_isotropic(
            0.5, 0.5, g, dimension=D, modes=MODE, draws=DRAWS, seed=i, **absolute
        )
        simulated.append(summary(draws, lazy))
    name, value = next(iter(limit.items()))
    label = f"ridge {value:g} (1 + χ)" if name == "ridge" else f"time {value:g} D/(1 + χ)"
    return label, theory, lazy, simulated


def blocks(contrast):
    """Identical teachers; a fifth of the directions has ``contrast`` times the variance."""
    S = np.where(np.arange(D) < D / 5, contrast, 1.0)
    S = S * D / S.sum()
    teacher = np.full(D, 1 / np.sqrt(D))
    data, settings = (S, S, teacher, teacher, 0.3 * D, 0.25 * D), dict(source_noise=0.1)

    def theory(g):
        return lt.spectral_transfer_loss(*data, g, **settings)

    lazy = theory(0.0)
    simulated = [
        summary(
            lt.simulate(
                *data[:5], round(data[5]), g, modes=MODE, draws=2 * DRAWS, seed=i, **settings
            ),
            lazy,
        )
        for i, g in enumerate(RICHNESS)
    ]
    return f"contrast {contrast:g}, α = 1", theory, lazy, simulated


def draw(panels, path):
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    for ax, (title, rows) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        ax.axhline(1, color="0.5", linewidth=1, linestyle="--")
        for colour, (label, theory, lazy, simulated) in zip(COLOURS, rows, strict=False):
            mean, error = np.array(simulated).T
            ax.plot(FINE, theory(FINE) / lazy, color=colour)
            ax.errorbar(
                RICHNESS, mean, error, color=colour, fmt="o", capsize=2, markersize=5,
                markerfacecolor="white", label=label,
            )  # fmt: skip
        ax.set(xscale="log", xlabel="source richness γ₁", title=title)
        ax.legend(frameon=False, fontsize=8.5)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("target loss / loss with a lazy source")
    figure.axes[0].set_ylim(0.65, 1.04)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
