"""What is predicted of every pair from training samples alone.

    python -m benchmarks.practice.predicted [--half development] [--of theory mlp conv inputs]

Writes a row for each pair, representation, number of samples and score into
``results/predicted.csv``: mean and standard deviation over the draws of target samples that the
networks are trained on (:mod:`.realised`). It goes on from the rows that are there.

Representations: ``theory-g``, the feature kernel of the infinite two-layer ReLU network after the
source at richness g, which has seen no network and 200 of the source's samples (or as many as
``theory-g of n`` says); ``mlp`` and ``conv``, the last hidden layer of
the networks trained on the source (needs their cache); ``theory-0``, the same kernel at
initialisation, and ``inputs``, which know no source and are what the others are compared with.
"""

import argparse
import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np

import adaptik as ak
from adaptik.kernels import lazy

from . import networks, realised, scores
from .pairs import HALVES, Half, Problem, draw, pairs, sizes, source_rows, target_rows

RESULTS = realised.FOLDER / "results" / "predicted.csv"
COLUMNS = ("half", "target", "source", "representation", "samples", "score", "mean", "spread")
# Richness, and samples of the source where it has more: what the infinite network is asked with.
THEORIES = {"theory-1": (1.0, 200), "theory-4": (4.0, 200), "theory-1 of 1000": (1.0, 1000)}
LOSS_TOL = 0.03  # where the source's stage ends: features hardly move after
PARTICLES = 512
DRAWS = 16

OF_KERNELS: dict[str, Callable] = {
    "leave-one-out": scores.leave_one_out,
    "leave-one-out, ridge chosen": scores.chosen_leave_one_out,
    "evidence": scores.evidence,
    "alignment": scores.alignment,
}
OF_FEATURES: dict[str, Callable] = {
    "logme": scores.logme,
    "h-score": scores.h_score,
    "transrate": scores.transrate,
    "linear probe": scores.linear_probe,
}


def solved(source: Problem, richness: float, samples: int) -> ak.Solution:
    """The infinite network after the source, from the cache if it is there."""
    path = realised.cached(source, f"theory-{richness:g} {samples}", ".zip")
    if path.exists():
        return ak.Solution.load(path)
    rows = source_rows(source)
    chosen = realised.seed("theory", source.name).permutation(len(rows.y))[:samples]
    stage = ak.Stage(ak.Task(rows.X[chosen], rows.y[chosen]), richness, loss_tol=LOSS_TOL)
    limit = ak.TwoLayer("relu", particles=PARTICLES, replicates=1)
    solution = ak.solve([stage], limit)
    solution.save(path)
    return solution


@lru_cache(maxsize=8)
def initial(target: Problem) -> np.ndarray:
    """Feature kernel of the same network before training, on the rows to draw samples from."""
    return lazy.nngp(target_rows(target).X, depth=1, activation="relu")


def theory(richness: float, samples: int) -> Callable[[Problem | None, Problem], Callable]:
    """Scores of a target's draws by the kernel at one richness."""

    def of(source: Problem | None, target: Problem) -> Callable:
        if source is None:
            K = initial(target)
        else:
            K = solved(source, richness, samples).kernel(target_rows(target).X).value
        y = target_rows(target).y
        return lambda rows, _: {
            name: score(K[np.ix_(rows, rows)], y[rows]) for name, score in OF_KERNELS.items()
        }

    return of


def trained(net: networks.Net) -> Callable[[Problem, Problem], Callable]:
    """Scores of a target's draws by the features and answers of networks trained on the source."""

    def of(source: Problem, target: Problem) -> Callable:
        rows, maps = target_rows(target), []
        for layers in realised.trained_sources(source, net):
            F = np.asarray(networks.reader(net)(layers, rows.X), float)
            W, b = layers[-1]
            maps.append((F, 1 / (1 + np.exp(-(F @ W + b)[:, 0]))))

        def found(chosen: np.ndarray, r: int) -> dict[str, float]:
            F, positive = (part[chosen] for part in maps[r % len(maps)])
            y = rows.y[chosen]
            return of_features(F, y) | {
                "leep": scores.leep(np.stack([1 - positive, positive], 1), y),
                "nce": scores.nce(positive > 0.5, y),
            }

        return found

    return of


def inputs(source: None, target: Problem) -> Callable:
    rows = target_rows(target)
    return lambda chosen, _: of_features(rows.X[chosen], rows.y[chosen])


def of_features(F: np.ndarray, y: np.ndarray) -> dict[str, float]:
    by_features = {name: score(F, y) for name, score in OF_FEATURES.items()}
    K = F @ F.T
    return by_features | {name: score(K, y) for name, score in OF_KERNELS.items()}


REPRESENTATIONS: dict[str, Callable] = {
    "theory-0": theory(0.0, 0),
    "inputs": inputs,
    **{name: theory(*of) for name, of in THEORIES.items()},
    "mlp": trained("mlp"),
    "conv": trained("conv"),
}
WITHOUT_SOURCE = ("theory-0", "inputs")


def sweep(half: Half, representation: str) -> None:
    """Compute the rows of a representation that are not there yet."""
    kept = realised.rows_kept(RESULTS, COLUMNS, 5)
    of = REPRESENTATIONS[representation]
    chosen = [p for p in pairs(half) if representation != "conv" or not p.target.is_table]
    if representation in WITHOUT_SOURCE:
        cases = list(dict.fromkeys((None, p.target) for p in chosen))
    else:
        cases = [(p.source, p.target) for p in chosen]
    for source, target in cases:
        origin, found = source.name if source else "-", None
        for samples in sizes(target):
            key = (half, target.name, origin, representation, str(samples))
            if key in kept:
                continue
            found = found or of(source, target)
            draws = [found(draw(target, samples, r), r) for r in range(DRAWS)]
            values = {name: np.array([one[name] for one in draws]) for name in draws[0]}
            rows = [
                (*key, name, f"{v.mean():.6g}", f"{v.std(ddof=1):.4g}")
                for name, v in values.items()
            ]
            realised.append(RESULTS, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", default="development", choices=HALVES)
    parser.add_argument("--of", nargs="*", default=[*REPRESENTATIONS], choices=[*REPRESENTATIONS])
    asked = parser.parse_args()
    for representation in asked.of:
        began = time.perf_counter()
        sweep(asked.half, representation)
        print(f"{asked.half}, {representation}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
