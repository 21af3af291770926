"""When should a readout on few samples stop? Test losses of the rules that a page compares.

    python -m benchmarks.practice.stopping

Readouts on the infinite network's features, without a source and after 1000 source samples at
richness 1, on the targets of images of the development half: mean test loss by number of samples.
"""

from collections import defaultdict

import numpy as np
from jaxtyping import Float

from adaptik.kernels import lazy
from adaptik.kernels.regression import GramRegression
from adaptik.transfer.stopping import Stopping

from . import predicted
from .pairs import draw, pairs, sizes, target_rows, test_rows

DRAWS, FOLDS = 4, 4
STEPS = 4.0 ** np.arange(-4, 9)  # times P / mean eigenvalue; over ridges of the mean eigenvalue
EXPECTED = 4


def paths(
    K: Float[np.ndarray, "P P"], cross: Float[np.ndarray, "n P"], y: Float[np.ndarray, " P"]
) -> tuple[Float[np.ndarray, "T n"], Float[np.ndarray, "T n"]]:
    """Predictions at all times, and with all ridges, in units of the kernel's mean eigenvalue."""
    mean = np.trace(K) / len(K)
    flow = GramRegression.on(K, y)
    stopped = [flow.predict(cross, time=t * len(K) / mean)[:, 0] for t in STEPS]
    ridges = [GramRegression.on(K, y, ridge=mean / t).predict(cross)[:, 0] for t in STEPS]
    return np.array(stopped), np.array(ridges)


def by_rule(
    K: Float[np.ndarray, "P P"],
    cross: Float[np.ndarray, "n P"],
    y: Float[np.ndarray, " P"],
    y_test: Float[np.ndarray, " n"],
) -> dict[str, float]:
    """Test loss of every rule."""
    stopped, ridged = (np.mean((f - y_test) ** 2, axis=1) for f in paths(K, cross, y))
    fold = np.empty(len(y), int)
    fold[np.argsort(y, kind="stable")] = np.arange(len(y)) % FOLDS
    held_out = np.empty((len(STEPS), len(y)))
    for k in range(FOLDS):
        rest, out = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        f, _ = paths(K[np.ix_(rest, rest)], K[np.ix_(out, rest)], y[rest])
        held_out[:, out] = (f - y[out]) ** 2
    mean = np.trace(K) / len(K)
    fits = [GramRegression.on(K, y, ridge=mean / t) for t in STEPS]
    alone = [np.mean(fit.leave_one_out() ** 2) for fit in fits]
    end = GramRegression.on(K, y).predict(cross)[:, 0]
    return {
        "at its end": float(np.mean((end - y_test) ** 2)),
        "at P / mean eigenvalue": stopped[EXPECTED],
        "where refits are best": stopped[held_out.mean(1).argmin()],
        "the second, unless refits are sure": stopped[Stopping(held_out, EXPECTED).stop],
        "best of all": stopped.min(),
        "ridge of the mean eigenvalue": ridged[EXPECTED],
        "ridge by leave-one-out": ridged[int(np.argmin(alone))],
    }


def main() -> None:
    found: dict[tuple, list[float]] = defaultdict(list)
    seen = set()
    for pair in pairs("development"):
        target = pair.target
        if target.is_table:
            continue
        rows, tests = target_rows(target), test_rows(target)
        X, m = np.concatenate([rows.X, tests.X]), len(rows.y)
        kernels = {"source": np.asarray(predicted.solved(pair.source, 1.0, 1000).kernel(X).value)}
        if target not in seen:
            seen.add(target)
            kernels["no source"] = lazy.nngp(X, depth=1, activation="relu")
        for name, K in kernels.items():
            for samples in sizes(target):
                for r in range(DRAWS):
                    at = draw(target, samples, r)
                    ways = K[np.ix_(at, at)], K[m:][:, at], rows.y[at], tests.y
                    for rule, loss in by_rule(*ways).items():
                        found[rule, name, samples].append(loss)
    columns = [(name, n) for name in ("no source", "source") for n in (10, 50, 200)]
    print(f"{'':36s}" + "".join(f"{f'{name}, {n}':>15s}" for name, n in columns))
    for rule in dict.fromkeys(rule for rule, *_ in found):
        means = (np.mean(found[rule, *column]) for column in columns)
        print(f"{rule:36s}" + "".join(f"{mean:15.3f}" for mean in means))


if __name__ == "__main__":
    main()
