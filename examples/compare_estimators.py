"""Transfer estimators against estimators without a source, on image pairs with few target samples.

    python examples/compare_estimators.py [splits] [n_target ...]

Test accuracy, mean over splits with its standard error, and seconds of one fit, for 20, 50 and 100
target samples unless others are named. Each split draws
its own source (100 samples) and target samples, on one common scale. Everything is
trained to convergence; nothing is tuned on test data: KernelRidge (RBF) searches ridge and width by
cross-validation, the Gaussian process (constant * RBF + noise) by its likelihood. The transfer
estimators use one richness for all data sets. "better" counts splits in which a row beats the same
network without a source (adaptive kernel, richness 1).
"""

import sys
import time
import warnings

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV

from adaptik import tasks
from adaptik.estimators import AdaptiveKernelRegressor, TransferKernelRegressor
from adaptik.kernels import lazy as lazy_kernels
from adaptik.kernels.regression import GramRegression

PAIRS = (
    ("digits:3,5", "digits:8,9"),
    ("fashion-mnist:0,6", "fashion-mnist:2,4"),
    ("cifar10:1,2", "cifar10:8,9"),
)
SOURCE, TESTS, RICHNESS = 100, 500, 1.0


class LazyNTK:
    """Ridgeless regression with the NTK of one hidden ReLU layer."""

    def fit(self, X, y):
        self.X, gram = X, lazy_kernels.ntk(X, depth=1, activation="relu")
        self.regression = GramRegression.on(gram, y)
        return self

    def predict(self, X):
        cross = lazy_kernels.ntk(X, self.X, depth=1, activation="relu")
        return self.regression.predict(cross)[:, 0]


def models(source: tasks.Task, seed: int) -> dict:
    data = (source.X, source.y[:, 0])
    options = dict(tol=1e-2, particles=256, random_state=seed)

    def transfer(mode, **changes):
        return TransferKernelRegressor(
            data, mode=mode, richness=RICHNESS, source_richness=RICHNESS, **(options | changes)
        )

    grid = {"alpha": np.logspace(-4, 1, 6), "gamma": np.logspace(-2, 1, 7) / source.dimension}
    process = ConstantKernel() * RBF(np.sqrt(source.dimension)) + WhiteKernel(0.1)
    return {
        "transfer, readout": transfer("readout"),
        "transfer, lazy": transfer("lazy"),
        "transfer, rich": transfer("rich"),
        "transfer, lazy, kept head": transfer("lazy", head="kept"),
        "adaptive kernel, no source": AdaptiveKernelRegressor(richness=RICHNESS, **options),
        "lazy NTK": LazyNTK(),
        "KernelRidge (RBF)": GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=4),
        "Gaussian process": GaussianProcessRegressor(process, normalize_y=True, random_state=seed),
    }


def main() -> None:
    splits = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    warnings.simplefilter("ignore")
    for first, second in PAIRS:
        for n in map(int, sys.argv[2:] or ("20", "50", "100")):
            scores: dict[str, list[float]] = {}
            times: dict[str, list[float]] = {}
            for seed in range(splits):
                source, target = tasks.load_pair(
                    first, second, n_source=SOURCE, n_target=n, n_test=TESTS, seed=seed
                )
                X_test, y_test = target.split("test")
                for name, model in models(source, seed).items():
                    began = time.perf_counter()
                    model.fit(target.X, target.y[:, 0])
                    times.setdefault(name, []).append(time.perf_counter() - began)
                    right = (model.predict(X_test) > 0) == (y_test[:, 0] > 0)
                    scores.setdefault(name, []).append(float(np.mean(right)))
            print(f"\n{first} -> {second}, {n} target samples, {splits} splits")
            print("| estimator | test accuracy | better / worse | seconds |\n|---|---|---|---|")
            base = np.array(scores["adaptive kernel, no source"])
            for name, values in scores.items():
                mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(splits)
                better, worse = np.sum(values > base), np.sum(values < base)
                print(
                    f"| {name} | {mean:.3f} ± {error:.3f} | {better} / {worse} | "
                    f"{np.median(times[name]):.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
