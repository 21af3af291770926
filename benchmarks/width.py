"""Distance of single networks to the infinite-width limit against their width.

    python benchmarks/width.py [figure.png]

One row a width: root-mean-square difference of predictions over test points, mean and standard
error over seeds; then the fitted slope per seed, which is -1/2 where the limit is right.
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import adaptik as ak

WIDTHS = 2 ** np.arange(8, 14)
SEEDS = 6


def main() -> None:
    source, target = ak.tasks.hermite_pair(
        1, 2, 0.8, n_source=20, n_target=15, dimension=8, n_test=100
    )
    stages = [ak.Stage(source, 2.0, duration=8.0), ak.Stage(target, 1.0, duration=8.0)]
    limit = ak.TwoLayer("relu", particles=8192, replicates=8)
    f = ak.solve(stages, limit, record=2).predict(target.X_test).value
    rms = []
    for width in WIDTHS:
        network = ak.train(stages, ak.Network(int(width), "relu"), seeds=range(SEEDS), record=2)
        gaps = network.states[-1].predict(target.X_test)[..., 0] - f
        rms.append(np.sqrt(np.mean(gaps**2, axis=1)))
    rms = np.array(rms)
    mean, error = rms.mean(1), rms.std(1, ddof=1) / np.sqrt(SEEDS)
    for row in zip(WIDTHS, mean, error, strict=True):
        print("width {:5d}   rms difference {:.4f} ± {:.4f}".format(*row))
    slopes = [np.polyfit(np.log(WIDTHS), np.log(r), 1)[0] for r in rms.T]
    print(f"slope {np.mean(slopes):.3f} ± {np.std(slopes, ddof=1) / np.sqrt(SEEDS):.3f}")
    if len(sys.argv) > 1:
        draw(mean, error, sys.argv[1])


def draw(mean: np.ndarray, error: np.ndarray, path: str) -> None:
    axes = Figure(figsize=(5, 3.6), layout="constrained").add_subplot()
    axes.plot(WIDTHS, mean[0] * np.sqrt(WIDTHS[0] / WIDTHS), "k-", label=r"$\propto N^{-1/2}$")
    axes.errorbar(WIDTHS, mean, error, fmt="o", color="#0072B2", label="networks, He₁ → He₂")
    axes.set(xscale="log", yscale="log", xlabel="width N", ylabel="rms difference to the limit")
    axes.set_xticks(WIDTHS, [str(w) for w in WIDTHS])
    axes.set_xticks([], minor=True)
    axes.legend(frameon=False)
    axes.figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
