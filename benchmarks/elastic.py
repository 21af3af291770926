"""Target loss against the elastic coupling: lines of the Bayesian limit, points of networks.

    python benchmarks/elastic.py [figure.png]

Linear teachers of several overlaps; the limit is the closed form, networks have width 1000.
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import adaptik as ak

GRID = np.geomspace(0.03, 100, 12)
COLOURS = ("#0072B2", "#D55E00", "#009E73")


def linear(axes) -> None:
    limit = ak.BayesianLinear(temperature=0.02)
    for alignment, colour in zip((0.0, 0.6, 0.95), COLOURS, strict=True):
        pair = ak.tasks.linear_pair(
            alignment, n_source=24, n_target=10, dimension=20, n_test=2000, seed=3
        )

        def stages(delta, pair=pair):
            return [ak.Stage(pair[0], 1.5), ak.Stage(pair[1], 1.5, elastic=delta)]

        loss = [ak.solve(stages(d), limit).loss(pair[1]).value for d in GRID]
        axes.plot(GRID, loss, color=colour, label=f"overlap {alignment:g}")
        best = GRID[int(np.argmin(loss))]
        scratch = ak.solve(stages(0.0), limit).loss(pair[1]).value
        print(f"linear, overlap {alignment:g}: scratch {scratch:.3f}", end=", ")
        print(f"best {min(loss):.3f} at {best:.2g}")
        for delta in (0.3, 3.0):
            network = sampled(stages(delta), "linear", 0.02)
            exact = ak.solve(stages(delta), limit).loss(pair[1]).value
            compare(axes, delta, network, pair[1], exact, colour)
    axes.set(xscale="log", xlabel="elastic coupling δ", ylabel="target test loss")
    axes.legend(frameon=False)


def sampled(stages, activation: str, temperature: float) -> ak.Solution:
    return ak.sample_posterior(
        stages, ak.Network(1000, activation), temperature=temperature, warmup=50, samples=60
    )


def compare(axes, delta, network, target, exact, colour) -> None:
    f = network.predict(target.X_test).value
    loss = np.mean((f - target.y_test[:, 0]) ** 2)  # of the mean predictor, as the limit's
    axes.plot(delta, loss, "o", color=colour)
    print(f"  delta {delta:g}: networks {loss:.4f}, limit {exact:.4f}, {network.outcome.value}")


def main() -> None:
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    linear(figure.add_subplot())
    if len(sys.argv) > 1:
        figure.savefig(sys.argv[1], dpi=120)


if __name__ == "__main__":
    main()
