"""Target loss against the elastic coupling: lines of the Bayesian limit, points of networks.

    python benchmarks/elastic.py [figure.png]

Left, linear teachers of several overlaps and the closed form; right, erf networks on a
Fashion-MNIST pair, where the limit is sampled. Networks have width 1000.
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
    axes.set(xscale="log", xlabel="elastic coupling δ", ylabel="target test loss", title="linear")
    axes.legend(frameon=False)


def images(axes) -> None:
    source, target = ak.tasks.load_pair(
        "fashion-mnist:0,1", "fashion-mnist:0,9", n_source=20, n_target=10, n_test=200
    )
    limit = ak.Bayesian("erf", temperature=0.05, particles=1024, replicates=2)
    for richness, colour in zip((0.5, 2.0), COLOURS, strict=False):

        def stages(delta, richness=richness):
            return [ak.Stage(source, richness), ak.Stage(target, richness, elastic=delta)]

        found = {d: ak.solve(stages(d), limit) for d in (0.0, 0.1, 1.0, 10.0)}
        loss = {d: s.loss(target) for d, s in found.items()}
        print(f"images, richness {richness:g}:", loss)
        axes.errorbar(
            [d for d in loss if d], [loss[d].value for d in loss if d],
            [loss[d].standard_error for d in loss if d],
            color=colour, label=f"richness {richness:g}",
        )  # fmt: skip
        axes.axhline(loss[0.0].value, color=colour, ls=":", lw=1)
        network = sampled(stages(1.0), "erf", 0.05)
        compare(axes, 1.0, network, target, loss[1.0].value, colour)
        K, M = found[1.0].kernel(target.X).value, network.states[1].mean_kernel.mean(0)
        print("  kernel:", *kernel_gap(M, K))
    axes.set(xscale="log", xlabel="elastic coupling δ", title="Fashion-MNIST, erf")
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


def kernel_gap(M, K) -> tuple[str, str]:
    cosine = np.sum(M * K) / np.linalg.norm(M) / np.linalg.norm(K)
    return f"cosine {cosine:.5f}", f"relative error {np.linalg.norm(M - K) / np.linalg.norm(K):.4f}"


def main() -> None:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    linear(left)
    images(right)
    if len(sys.argv) > 1:
        figure.savefig(sys.argv[1], dpi=120)


if __name__ == "__main__":
    main()
