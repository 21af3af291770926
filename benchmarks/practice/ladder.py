"""From the theory's network to the practical one in single steps: which of them change the gains?

    python -m benchmarks.practice.ladder [--targets 5] [--samples 50]
    python -m benchmarks.practice.ladder --show
    python -m benchmarks.practice.ladder --score

Each rung changes one thing of the rung before. Gains of head-only training and of all weights over
the same network from scratch are measured on the development half as in :mod:`.realised`, after
``SOURCE_SAMPLES`` source samples, in 8 replicates: two networks trained on the source, each with
4 draws of target samples, which all rungs share. Rows go into ``results/ladder.csv``; it goes on
from the rows that are there. With ``--score`` it asks instead what the features of every rung's
source networks predict of the practical networks of :mod:`.realised`, by the score that the
infinite network is asked with (``results/ladder_scores.csv``).
"""

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise, product
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from . import analysis, predicted, realised, scores
from .networks import NETS, Layers, Mode
from .pairs import D, Pair, Problem, draw, pairs, source_rows, target_rows, test_rows

RESULTS = realised.FOLDER / "results" / "ladder.csv"
COLUMNS = ("target", "source", "rung", "mode", "samples", "tests", "right", "fitted")
SCORES = realised.FOLDER / "results" / "ladder_scores.csv"
SCORE_COLUMNS = ("target", "source", "rung", "samples", "mean")
SOURCE_SAMPLES = 500
REPLICATES, SOURCE_NETWORKS = 8, 2
RICHNESS = 1.0
FITTED = 0.05  # of the loss of an output of zero: where training without validation ends
STEPS = 4000  # at most
RATES: dict[str, dict[Mode, float]] = {
    "sgd": {"scratch": 0.05, "head": 0.05, "all": 0.05},
    "adam": realised.RATES,
}


@dataclass(frozen=True)
class Rung:
    """A network and how it is trained.

    Attributes
    ----------
    width, depth
        Of the hidden layers, and their number.
    start
        ``"mean-field"``: weights of variance 1, the infinite network's scales, richness
        ``RICHNESS``. ``"standard"``: uniform in +-1/sqrt(fan-in), outputs of order 1.
    biases
        Of every layer, drawn as PyTorch does.
    loss
        ``"squared"`` or ``"cross-entropy"``.
    optimiser
        ``"descent"``: full batches, steps as long as the loss falls. ``"sgd"``, ``"adam"``:
        minibatches, steps of fixed rates.
    validated
        Whether the best of the validated epochs is kept; otherwise training ends when the loss is
        ``FITTED`` times that of an output of zero.
    """

    width: int = 1024
    depth: int = 1
    start: Literal["mean-field", "standard"] = "mean-field"
    biases: bool = False
    loss: Literal["squared", "cross-entropy"] = "squared"
    optimiser: Literal["descent", "sgd", "adam"] = "descent"
    validated: bool = False


def _ladder() -> dict[str, Rung]:
    """The rungs by name, in order."""
    rung, found = Rung(), {}
    for name, change in (
        ("theory's network, width 1024", {}),
        ("width 256", {"width": 256}),
        ("two hidden layers", {"depth": 2}),
        ("standard initialisation", {"start": "standard"}),
        ("biases", {"biases": True}),
        ("cross-entropy", {"loss": "cross-entropy"}),
        ("minibatches", {"optimiser": "sgd"}),
        ("Adam", {"optimiser": "adam"}),
        ("early stopping", {"validated": True}),
    ):
        rung = found[name] = replace(rung, **change)
    return found


RUNGS = _ladder()


def begin(rung: Rung, rng: np.random.Generator) -> Layers:
    """Weights and biases before training."""
    sizes = [D, *[rung.width] * rung.depth, 1]
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        if rung.start == "mean-field":
            W, b = rng.normal(size=(fan_in, fan_out)), np.zeros(fan_out)
        else:
            W, b = (rng.uniform(-1, 1, s) / np.sqrt(fan_in) for s in ((fan_in, fan_out), fan_out))
        layers.append((W.astype(np.float32), (b * rung.biases).astype(np.float32)))
    return layers


def features(rung: Rung, layers: Layers, X: Float[Array, "n D"]) -> Float[Array, "n width"]:
    """Last hidden layer."""
    for W, b in layers[: rung.depth]:
        h = X @ W
        X = jax.nn.relu(h / np.sqrt(len(W)) if rung.start == "mean-field" else h + b * rung.biases)
    return X


def output(rung: Rung, head: bool, layers: Layers, X) -> Float[Array, " n"]:
    """Of the whole network, or of its head on features."""
    W, b = layers[-1]
    f = (X if head else features(rung, layers, X)) @ W
    if rung.start == "mean-field":
        return f[:, 0] / (RICHNESS * len(W))
    return (f + b * rung.biases)[:, 0]


@lru_cache(maxsize=64)
def trainer(rung: Rung, mode: Mode, batch: int) -> Callable:
    """The compiled training of several networks, one after the other.

    Takes stacks of layers, training samples, labels, validation samples, their labels and random
    keys; returns layers and whether the training loss was reached.
    """
    apply = partial(output, rung, mode == "head")

    def loss(layers, X, y):
        f = apply(layers, X)
        if rung.loss == "squared":
            return jnp.mean(jnp.square(f - y))
        return jnp.mean(jax.nn.softplus(-y * f)) / np.log(2)

    whole = jax.value_and_grad(loss)

    def descent(layers, X, y):
        """Full batches: a step is taken if the loss falls, and the next one is longer."""

        def step(state):
            layers, value, slope, rate, n = state
            trial = jax.tree.map(lambda p, g: p - rate * g, layers, slope)
            then, its = whole(trial, X, y)
            falls = then < value
            best = jax.tree.map(
                lambda new, old: jnp.where(falls, new, old),
                (trial, then, its),
                (layers, value, slope),
            )
            return (*best, rate * jnp.where(falls, 1.1, 0.5), n + 1)

        def goes_on(state):
            return (state[1] > FITTED) & (state[-1] < STEPS)

        value, slope = whole(layers, X, y)
        size = sum(jnp.vdot(g, g) for g in jax.tree.leaves(slope))
        state = layers, value, slope, value / size, 0
        end = jax.lax.while_loop(goes_on, step, state)
        return end[0], end[1] <= FITTED

    if rung.optimiser == "descent":
        return jax.jit(lambda *stacks: jax.lax.map(lambda p: descent(*p[:3]), stacks))

    rate = RATES[rung.optimiser][mode]
    optimiser = optax.adam(rate) if rung.optimiser == "adam" else optax.sgd(rate)

    def minibatches(layers, X, y, X_aside, y_aside, key):
        """Epochs of shuffled batches; the best validated one, or the first that fits."""
        per_epoch = max(1, len(y) // batch)
        most = STEPS // per_epoch

        def step(carry, rows):
            layers, state = carry
            change, state = optimiser.update(jax.grad(loss)(layers, X[rows], y[rows]), state)
            return (optax.apply_updates(layers, change), state), None

        def epoch(carry):
            layers, state, best, least, key, n = carry
            key, own = jax.random.split(key)
            rows = jax.random.permutation(own, len(y))[: per_epoch * batch]
            rows = rows.reshape(per_epoch, batch)
            (layers, state), _ = jax.lax.scan(step, (layers, state), rows)
            now = loss(layers, X_aside, y_aside) if rung.validated else loss(layers, X, y)
            best = jax.tree.map(lambda new, old: jnp.where(now < least, new, old), layers, best)
            return layers, state, best, jnp.minimum(now, least), key, n + 1

        def goes_on(carry):
            *_, least, _, n = carry
            return (n < epochs) & (rung.validated | (least > FITTED))

        epochs = min(most, -(-600 // per_epoch)) if rung.validated else most
        carry = (layers, optimiser.init(layers), layers, jnp.inf, key, 0)
        end = jax.lax.while_loop(goes_on, epoch, carry)
        return end[2], (end[3] <= FITTED) | rung.validated

    return jax.jit(lambda *stacks: jax.lax.map(lambda p: minibatches(*p), stacks))


def _problem(rung: Rung, layers: Layers, X, y, share: float, rng: np.random.Generator):
    """What a trainer takes; the last rows of each label are set aside if they choose the epoch."""
    aside = np.zeros(len(y), bool)
    if rung.validated:
        each = max(1, round(share * len(y) / 2))
        for label in (-1, 1):
            aside[np.flatnonzero(y == label)[-each:]] = True
    X, y, key = X.astype(np.float32), y.astype(np.float32), jax.random.key(rng.integers(2**31))
    return layers, X[~aside], y[~aside], X[aside], y[aside], key


def _trained(rung: Rung, mode: Mode, batch: int, problems: list) -> tuple[Layers, np.ndarray]:
    stacks = [
        jnp.stack(part) if i == 5 else realised.stack(list(part))
        for i, part in enumerate(zip(*problems, strict=True))
    ]
    return trainer(rung, mode, batch)(*stacks)


@lru_cache(maxsize=12)
def trained_sources(name: str, source: Problem) -> list[Layers]:
    """Networks of a rung trained on a source."""
    rung, rows = RUNGS[name], source_rows(source)
    chosen = realised.seed("ladder", source.name).permutation(len(rows.y))[:SOURCE_SAMPLES]
    problems = []
    for k in range(SOURCE_NETWORKS):
        rng = realised.seed("ladder", source.name, k)
        layers = begin(rung, rng)
        problems.append(_problem(rung, layers, rows.X[chosen], rows.y[chosen], 0.1, rng))
    stack, _ = _trained(rung, "scratch", 32, problems)
    return [
        jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k]), stack) for k in range(len(problems))
    ]


def right_answers(
    target: Problem, name: str, mode: Mode, samples: int, sources: list[Layers]
) -> tuple[list[int], float]:
    """Right answers of every replicate on the target's tests, and the part that fitted."""
    rung, rows, tests = RUNGS[name], target_rows(target), test_rows(target)
    inputs = [(rows.X, tests.X)]
    if mode == "head":
        inputs = [tuple(np.asarray(features(rung, s, X)) for X in inputs[0]) for s in sources]
    problems = []
    for r in range(REPLICATES):
        chosen, rng = draw(target, samples, r), realised.seed("ladder", target.name, samples, r)
        layers = begin(rung, rng)
        if mode == "head":
            layers = layers[-1:]
        elif mode == "all":
            layers = [*sources[r % len(sources)][:-1], layers[-1]]
        X = inputs[r % len(inputs)][0][chosen]
        problems.append(_problem(rung, layers, X, rows.y[chosen], 0.2, rng))
    batch = realised.TARGET[samples].batch
    stack, fitted = _trained(rung, mode, batch, problems)
    right = []
    for r in range(REPLICATES):
        layers = jax.tree.map(lambda leaf, r=r: leaf[r], stack)
        f = output(rung, mode == "head", layers, inputs[r % len(inputs)][1].astype(np.float32))
        right.append(int(np.sum(np.asarray(f) * tests.y > 0)))
    return right, float(np.mean(fitted))


def chosen_pairs(targets: int) -> list[list[Pair]]:
    """The pairs of some targets of two classes, data sets in turn."""
    found: dict[str, dict[Problem, list[Pair]]] = defaultdict(dict)
    for pair in pairs("development"):
        if pair.target.dataset in ("fashion-mnist", "cifar10"):
            found[pair.target.dataset].setdefault(pair.target, []).append(pair)
    in_turn = [
        list(group)
        for both in zip(*(d.values() for d in found.values()), strict=True)
        for group in both
    ]
    return in_turn[:targets]


def sweep(targets: int, samples: int) -> None:
    """Compute the rows that are not there yet."""
    kept = realised.rows_kept(RESULTS, COLUMNS, 5)
    for group in chosen_pairs(targets):
        target, began = group[0].target, time.perf_counter()
        for name in RUNGS:
            cases = [(None, "scratch"), *((p.source, m) for p in group for m in ("head", "all"))]
            for source, mode in cases:
                key = (target.name, source.name if source else "-", name, mode, str(samples))
                if key in kept:
                    continue
                sources = trained_sources(name, source) if source else []
                right, fitted = right_answers(target, name, mode, samples, sources)
                counts = " ".join(map(str, right))
                realised.append(RESULTS, [(*key, len(test_rows(target).y), counts, f"{fitted:g}")])
            print(f"{target.name}, {name}: {time.perf_counter() - began:.0f} s", flush=True)


def gains(mode: Mode, samples: int) -> tuple[list[tuple[str, str]], dict[str, np.ndarray]]:
    """Pairs (target, source) that all rungs have; their gains, shape ``(pairs, replicates)``."""
    with RESULTS.open() as stream:
        rows = [row for row in csv.DictReader(stream) if int(row["samples"]) == samples]
    shares = {
        (row["target"], row["source"], row["rung"], row["mode"]): np.array(
            row["right"].split(), float
        )
        / int(row["tests"])
        for row in rows
    }
    names = dict.fromkeys((t, s) for t, s, *_ in shares if s != "-")
    whole = [p for p in names if all((*p, rung, mode) in shares for rung in RUNGS)]
    found = {
        rung: np.array(
            [shares[t, s, rung, mode] - shares[t, "-", rung, "scratch"] for t, s in whole]
        )
        for rung in RUNGS
    }
    return whole, found


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two rungs' gains over pairs, freed of noise.

    Of halves that share no source network and no draw, over the root of what halves of one rung
    have: 1 where both order the pairs alike.
    """

    def between(x: np.ndarray, y: np.ndarray) -> float:
        first, second = (np.arange(x.shape[1]) % SOURCE_NETWORKS == k for k in (0, 1))
        ways = (x[:, first], y[:, second]), (x[:, second], y[:, first])
        return float(np.mean([np.corrcoef(a.mean(1), b.mean(1))[0, 1] for a, b in ways]))

    return between(one, other) / np.sqrt(between(one, one) * between(other, other))


def show(mode: Mode, samples: int) -> None:
    """Print what every step changes, and how well the infinite network orders every rung."""
    names, found = gains(mode, samples)
    targets, sources = (np.array(part) for part in zip(*names, strict=True))
    table, last = analysis.scores("development"), [*found.values()][-1]
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(targets == t) for t in np.unique(targets)]
    drawn = [
        np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
        for _ in range(analysis.BOOTSTRAPS)
    ]
    predictor = analysis.difference("theory-1 of 1000", "leave-one-out", "theory-0")
    theory = np.array([predictor(table, t, s, samples) for t, s in names])
    print(f"\n{mode}, {samples} samples, {len(names)} pairs of {len(groups)} targets")
    print(
        f"{'':30s}{'gain, %':>9s}{'spread':>9s}{'reliability':>13s}{'with rung before':>18s}"
        f"{'with the last':>16s}{'infinite network':>18s}{'within':>14s}"
    )
    before = None
    for rung, values in found.items():
        cell = analysis.Gains(targets, sources, values)

        def with_error(f: Callable, *arrays: np.ndarray) -> str:
            errors = [f(*(a[rows] for a in arrays)) for rows in drawn]
            return f"{f(*arrays):.2f} ± {np.nanstd(errors):.2f}"

        q = analysis.quality(theory, cell)
        within = f"{q.within:.2f} ± {np.nanstd(q.bootstraps[:, 1]):.2f}"
        steps = "" if before is None else with_error(agreement, values, before)
        mean = 100 * cell.mean
        halves = np.arange(values.shape[1]) % SOURCE_NETWORKS == 0
        r = np.corrcoef(values[:, halves].mean(1), values[:, ~halves].mean(1))[0, 1]
        print(
            f"{rung:30s}{mean.mean():9.1f}{mean.std():9.1f}{2 * r / (1 + r):13.2f}{steps:>18s}"
            f"{with_error(agreement, values, last):>16s}"
            f"{with_error(analysis.spearman, theory, cell.mean):>18s}{within:>14s}"
        )
        before = values


def score(targets: int, samples: int) -> None:
    """Compute leave-one-out losses of all rungs' features that are not there yet."""
    kept = realised.rows_kept(SCORES, SCORE_COLUMNS, 4)
    for name, rung in RUNGS.items():
        for pair in (p for group in chosen_pairs(targets) for p in group):
            key = (pair.target.name, pair.source.name, name, str(samples))
            if key in kept:
                continue
            rows = target_rows(pair.target)
            X = rows.X.astype(np.float32)
            maps = [
                np.asarray(features(rung, s, X), float) for s in trained_sources(name, pair.source)
            ]
            losses = []
            for r in range(predicted.DRAWS):
                chosen = draw(pair.target, samples, r)
                F = maps[r % len(maps)][chosen]
                losses.append(scores.leave_one_out(F @ F.T, rows.y[chosen]))
            realised.append(SCORES, [(*key, f"{np.mean(losses):.6g}")])


def show_scores(samples: int) -> None:
    """Print how well features of each rung, less the inputs, order practical networks' gains."""
    with SCORES.open() as stream:
        rows = [row for row in csv.DictReader(stream) if int(row["samples"]) == samples]
    values = {(r["rung"], r["target"], r["source"]): float(r["mean"]) for r in rows}
    table = analysis.scores("development")
    ways = {
        name: lambda t, s, name=name: (
            values.get((name, t, s), np.nan)
            - table.get((t, "-", "inputs", samples, "leave-one-out"), np.nan)
        )
        for name in RUNGS
    }
    limit = analysis.difference("theory-1 of 1000", "leave-one-out", "theory-0")
    ways = {"infinite network, 1000 samples": lambda t, s: limit(table, t, s, samples)} | ways
    cells = list(product(NETS, ("head", "all")))
    print(f"\nSpearman, and within targets, {samples} samples")
    print(f"{'':34s}" + "".join(f"{f'{net}, {mode}':>24s}" for net, mode in cells))
    known = {(t, s) for _, t, s in values}
    for name, way in ways.items():
        line = f"{name:34s}"
        for net, mode in cells:
            cell = analysis.gains("development", net, mode, samples)
            pairs_ = list(zip(cell.targets, cell.sources, strict=True))
            cell = cell.only(np.array([p in known for p in pairs_]))
            x = np.array([way(t, s) for t, s in zip(cell.targets, cell.sources, strict=True)])
            if not np.isfinite(x).all():
                line += f"{'':>24s}"
                continue
            q = analysis.quality(x, cell)
            errors = np.nanstd(q.bootstraps, axis=0)
            line += f"   {q.spearman:.2f} ± {errors[0]:.2f} ({q.within:.2f} ± {errors[1]:.2f})"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=10, help="of two classes [default: 10]")
    parser.add_argument("--samples", type=int, nargs="*", default=[50], choices=realised.TARGET)
    parser.add_argument("--show", action="store_true", help="print what the rows say")
    parser.add_argument("--score", action="store_true", help="what features of each rung predict")
    asked = parser.parse_args()
    for samples in asked.samples:
        if asked.score:
            score(asked.targets, samples)
            show_scores(samples)
            continue
        if not asked.show:
            sweep(asked.targets, samples)
        for mode in ("head", "all"):
            show(mode, samples)


if __name__ == "__main__":
    main()
