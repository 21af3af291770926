"""How well predictions order the realised gains: one table for each cell.

    python -m benchmarks.practice.analysis [--half development]

A cell is a network, a mode (head only, all weights) and a number of target samples. A gain is
the accuracy of the mode less that of the same network from scratch, on the same draws of target
samples. Errors of correlations, and of differences from the first predictor's, are bootstrap
errors over targets, as sources of one target share its samples and its scratch networks.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float
from scipy import stats

from . import predicted, realised
from .pairs import HALVES, SIZES
from .realised import SOURCE_NETWORKS

BOOTSTRAPS = 200
DECIDED = 2.0  # standard errors
FEWEST = 24  # pairs that a predictor must know to be shown


@dataclass(frozen=True, eq=False)
class Gains:
    """Realised gains of one cell.

    Attributes
    ----------
    targets, sources
        Names, one for each pair.
    values
        Accuracy gained in each replicate, shape ``(pairs, replicates)``.
    """

    targets: np.ndarray
    sources: np.ndarray
    values: Float[np.ndarray, "pairs replicates"]

    def only(self, chosen: np.ndarray) -> "Gains":
        return Gains(self.targets[chosen], self.sources[chosen], self.values[chosen])

    @property
    def mean(self) -> Float[np.ndarray, " pairs"]:
        return self.values.mean(1)

    @property
    def standard_error(self) -> Float[np.ndarray, " pairs"]:
        """Of the mean over networks and draws, pooled over the pairs of a target.

        From the spread of the means of the source networks: replicates of one network are not
        independent.
        """
        of_networks = self.values.reshape(len(self.values), -1, SOURCE_NETWORKS).mean(1)
        variance = of_networks.var(1, ddof=1) / SOURCE_NETWORKS
        pooled = {t: variance[self.targets == t].mean() for t in set(self.targets)}
        return np.sqrt([pooled[t] for t in self.targets])

    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean gains of two halves that share no source network and no draw."""
        first = np.arange(self.values.shape[1]) % SOURCE_NETWORKS < SOURCE_NETWORKS // 2
        return self.values[:, first].mean(1), self.values[:, ~first].mean(1)


def gains(half: str, net: str, mode: str, samples: int) -> Gains:
    """Read the realised gains of one cell, with the rounds that all of its pairs have."""
    with realised.RESULTS.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["half"] == half and row["net"] == net]
    counts: dict[tuple, dict[int, np.ndarray]] = defaultdict(dict)
    for row in rows:
        if int(row["samples"]) == samples and row["mode"] in (mode, "scratch"):
            right = np.array(row["right"].split(), float) / int(row["tests"])
            counts[row["target"], row["source"]][int(row["round"])] = right
    found = []
    for target, source in counts:
        scratch, own = counts.get((target, "-"), {}), counts[target, source]
        if source != "-":
            both = sorted(set(scratch) & set(own))
            found.append((target, source, {r: own[r] - scratch[r] for r in both}))
    most = max((len(g) for *_, g in found), default=0)
    rounds = [r for r in range(most) if sum(r in g for *_, g in found) >= 0.95 * len(found)]
    found = [f for f in found if set(rounds) <= set(f[2])]
    values = [np.concatenate([g[r] for r in rounds]) for *_, g in found] if rounds else []
    targets, sources = (np.array([f[i] for f in found]) for i in range(2))
    return Gains(targets, sources, np.array(values))


Scores = dict[tuple[str, str, str, int, str], float]


def scores(half: str) -> Scores:
    """Means over draws by target, source, representation, samples and score."""
    with predicted.RESULTS.open() as stream:
        return {
            (r["target"], r["source"], r["representation"], int(r["samples"]), r["score"]): float(
                r["mean"]
            )
            for r in csv.DictReader(stream)
            if r["half"] == half
        }


Predictor = Callable[[Scores, str, str, int], float]


def difference(of: str, score: str, reference: str | None) -> Predictor:
    """A score after the source, less that of a reference that knows no source."""

    def value(table: Scores, target: str, source: str, samples: int) -> float:
        found = table.get((target, source, of, samples, score), np.nan)
        if reference is None:
            return found
        return found - table.get((target, "-", reference, samples, score), np.nan)

    return value


def predictors(net: str) -> dict[str, Predictor]:
    """By name, those without a source network first."""
    found: dict[str, Predictor] = {}
    for name, score in product(predicted.THEORIES, predicted.OF_KERNELS):
        found[f"{name}: {score}, less theory-0"] = difference(name, score, "theory-0")
    for score in (*predicted.OF_FEATURES, *predicted.OF_KERNELS):
        found[f"network: {score}"] = difference(net, score, None)
        found[f"network: {score}, less inputs"] = difference(net, score, "inputs")
    for score in ("leep", "nce"):
        found[f"network: {score}"] = difference(net, score, None)
    return found


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation; NaN where one of them does not vary."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])


def by_target(x: np.ndarray, y: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rank correlation of each target's pairs, in the order of their names."""
    return np.array([spearman(x[targets == t], y[targets == t]) for t in np.unique(targets)])


@dataclass(frozen=True, eq=False)
class Quality:
    """How well a predictor orders the gains of a cell.

    Attributes
    ----------
    spearman, within, kendall
        Rank correlations over all pairs, and Spearman's within targets.
    sign_right, decided
        Part of the pairs whose gain is beyond two standard errors that have the predicted sign,
        and how many these are.
    bootstraps
        ``spearman`` and ``within`` on bootstraps of the targets, which are the same for all
        predictors of a cell, shape ``(BOOTSTRAPS, 2)``.
    """

    spearman: float
    within: float
    kendall: float
    sign_right: float
    decided: int
    bootstraps: np.ndarray


def quality(x: np.ndarray, cell: Gains) -> Quality:
    gain, targets, rng = cell.mean, cell.targets, np.random.default_rng(0)
    rows_of = [np.flatnonzero(targets == name) for name in np.unique(targets)]
    inside, bootstraps = by_target(x, gain, targets), []
    for _ in range(BOOTSTRAPS):
        drawn = rng.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of[i] for i in drawn])
        bootstraps.append((spearman(x[rows], gain[rows]), np.nanmean(inside[drawn])))
    clear = np.abs(gain) > DECIDED * cell.standard_error
    right = np.mean(np.sign(x[clear]) == np.sign(gain[clear])) if clear.any() else np.nan
    return Quality(
        spearman=spearman(x, gain),
        within=float(np.nanmean(inside)),
        kendall=float(stats.kendalltau(x, gain).statistic),
        sign_right=float(right),
        decided=int(clear.sum()),
        bootstraps=np.array(bootstraps),
    )


def reliability(cell: Gains) -> tuple[float, float, float]:
    """Of the mean gain (Spearman-Brown from halves); rank correlations of halves, within targets.

    The square root of the reliability is about the most that a predictor can correlate.
    """
    first, second = cell.halves()
    r = float(np.corrcoef(first, second)[0, 1])
    inside = float(np.nanmean(by_target(first, second, cell.targets)))
    return 2 * r / (1 + r), spearman(first, second), inside


def predictions(cell: Gains, net: str, samples: int, table: Scores) -> dict[str, np.ndarray]:
    """Of every predictor that knows enough of the pairs."""
    names = list(zip(cell.targets, cell.sources, strict=True))
    found = {
        title: np.array([predictor(table, *pair, samples) for pair in names])
        for title, predictor in predictors(net).items()
    }
    return {title: x for title, x in found.items() if np.isfinite(x).sum() >= FEWEST}


def show(half: str, net: str, mode: str, samples: int, table: Scores) -> None:
    """Print a cell, on the pairs that all of its predictors know."""
    cell = gains(half, net, mode, samples)
    found = predictions(cell, net, samples, table) if cell.values.size else {}
    if not found:
        return
    known = np.all(np.isfinite(list(found.values())), axis=0)
    cell = cell.only(known)
    total, ranks, inside = reliability(cell)
    spread = 100 * np.quantile(cell.mean, [0.05, 0.95])
    print(
        f"\n{net}, {mode}, {samples} samples: {len(cell.mean)} pairs of {len(set(cell.targets))} "
        f"targets, {cell.values.shape[1]} replicates; gains from {spread[0]:+.1f} to "
        f"{spread[1]:+.1f} %, error {100 * np.mean(cell.standard_error):.1f} %; reliability "
        f"{total:.2f}; halves {ranks:.2f}, within targets {inside:.2f}"
    )
    print(
        f"{'':48s}{'Spearman':>13s}{'less first':>14s}{'within':>14s}{'less first':>14s}"
        f"{'Kendall':>9s}{'sign right':>13s}"
    )
    first = None
    for title, x in found.items():
        q = quality(x[known], cell)
        first = first or q
        cells = ""
        for i, name in enumerate(("spearman", "within")):
            mine, its = getattr(q, name), getattr(first, name)
            errors = q.bootstraps[:, i], q.bootstraps[:, i] - first.bootstraps[:, i]
            cells += f"{mine:7.2f} ± {np.nanstd(errors[0]):.2f}"
            cells += (
                f"{mine - its:+7.2f} ± {np.nanstd(errors[1]):.2f}" if q is not first else " " * 14
            )
        signed = not title.startswith("network") or "less" in title
        sign = f"{100 * q.sign_right:6.0f} % of {q.decided}" if signed else ""
        print(f"{title:48s}{cells}{q.kendall:9.2f}{sign}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", default="development", choices=HALVES)
    asked = parser.parse_args()
    table = scores(asked.half)
    for net, mode, samples in product(("mlp", "conv"), ("head", "all"), SIZES):
        show(asked.half, net, mode, samples, table)


if __name__ == "__main__":
    main()
