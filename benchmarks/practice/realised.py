"""What pretraining gained in networks as people train them, over all pairs.

    python -m benchmarks.practice.realised [development | held-out] ... [--rounds 2]

Writes a row for each pair, network, mode, number of samples and round into
``results/realised.csv``: the right answers on the target's tests of every replicate. It goes on
from the rows that are there, so it may be killed at any time. Trained sources are kept in
``cache/``: scores of their features need them.

A round has 8 replicates, each with its draw of target samples; four networks trained on the
source take turns. Draws, validation splits and minibatches are those of the target alone, so
that sources and modes are compared on the same ones.
"""

import argparse
import csv
import io
import time
import zlib
from pathlib import Path

import jax
import numpy as np

from . import networks
from .networks import NETS, SOURCE, TARGET, Layers, Mode, Net
from .pairs import HALVES, Half, Problem, draw, pairs, sizes, source_rows, target_rows, test_rows

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "realised.csv"
CACHE = FOLDER / "cache"
COLUMNS = ("half", "target", "source", "net", "mode", "samples", "round", "tests", "right")
REPLICATES = 8  # of a round
SOURCE_NETWORKS = 4
TESTS = 500
RATES: dict[Mode, float] = {"scratch": 1e-3, "head": 1e-2, "all": 3e-4}  # of Adam


def seed(*parts: object) -> np.random.Generator:
    """Random numbers that depend on what they are for alone."""
    return np.random.default_rng(zlib.crc32("/".join(map(str, parts)).encode()))


def stack(trees: list[Layers]) -> Layers:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def cached(problem: Problem, kind: str, ending: str) -> Path:
    """Where what was made of a source is kept."""
    CACHE.mkdir(exist_ok=True)
    return CACHE / (f"{problem.half} {problem.name} {kind}".replace(":", " ") + ending)


def trained_sources(problem: Problem, net: Net) -> list[Layers]:
    """Networks trained on a source, from the cache if they are there."""
    path, shapes = cached(problem, net, ".npz"), networks.SHAPES[net]
    if not path.exists():
        layers = _train_sources(problem, net)
        arrays = {
            f"{i}{k}": np.asarray(a)
            for i, both in enumerate(layers)
            for k, a in zip("Wb", both, strict=True)
        }
        part = path.with_suffix(".part.npz")
        np.savez(part, **arrays)
        part.replace(path)
    with np.load(path) as kept:
        whole = [(kept[f"{i}W"], kept[f"{i}b"]) for i in range(len(shapes))]
    return [[(W[k], b[k]) for W, b in whole] for k in range(SOURCE_NETWORKS)]


def _train_sources(problem: Problem, net: Net) -> Layers:
    rows = source_rows(problem)
    problems = []
    for k in range(SOURCE_NETWORKS):
        rng = seed("source", problem.name, net, k)
        order = rng.permutation(len(rows.y))
        problems.append(
            _problem(networks.start(net, rng), rows.X[order], rows.y[order], SOURCE, rng, 900, 100)
        )
    return networks.trainer(net, RATES["scratch"])(*map(stack, zip(*problems, strict=True)))


def _problem(layers, X, y, schedule, rng, n_train, n_aside):
    """What :func:`.networks.trainer` takes, filled up to fixed numbers of rows."""
    train, aside = networks.split(y, schedule)
    batches = networks.minibatches(np.arange(len(train)), schedule, rng)

    def filled(array, rows, size):
        array = np.asarray(array[rows], np.float32)
        return np.pad(array, [(0, size - len(rows))] + [(0, 0)] * (array.ndim - 1))

    return (
        layers,
        filled(X, train, n_train),
        filled(y, train, n_train),
        batches.astype(np.int32),
        filled(X, aside, n_aside),
        filled(y, aside, n_aside),
        filled(np.ones(len(y)), aside, n_aside),
    )


def right_answers(
    target: Problem, net: Net, mode: Mode, samples: int, which: range, sources: list[Layers]
) -> list[int]:
    """Right answers on the tests of each replicate in ``which``.

    ``sources`` are the networks trained on the source; from scratch they are not used.
    """
    rows, tests = target_rows(target), test_rows(target)
    y_test = np.pad(tests.y, (0, TESTS - len(tests.y)))
    X_test = np.pad(tests.X, ((0, TESTS - len(tests.X)), (0, 0))).astype(np.float32)
    inputs = [(rows.X, X_test)]
    if mode == "head":
        read = networks.reader(net)
        inputs = [tuple(np.asarray(read(s, X)) for X in inputs[0]) for s in sources]
    problems = []
    for r in which:
        chosen, rng = draw(target, samples, r), seed("target", target.name, samples, r)
        layers = networks.start(net, rng)
        if mode == "head":
            layers = layers[-1:]
        elif mode == "all":
            layers = [*sources[r % SOURCE_NETWORKS][:-1], layers[-1]]
        X = inputs[r % len(inputs)][0]
        aside = 2 * networks.set_aside(samples, TARGET[samples])
        room = (samples - aside, aside)
        problems.append(_problem(layers, X[chosen], rows.y[chosen], TARGET[samples], rng, *room))
    own = None if mode == "head" else net
    trained = networks.trainer(own, RATES[mode])(*map(stack, zip(*problems, strict=True)))
    seen = np.stack([inputs[r % len(inputs)][1] for r in which])
    counts = networks.counter(own)(trained, seen, np.tile(y_test, (len(which), 1)))
    return np.asarray(counts).tolist()


def rows_kept(path: Path, columns: tuple[str, ...], key: int) -> set[tuple[str, ...]]:
    """The first ``key`` columns of every row of a table. A row that was cut off is removed."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(",".join(columns) + "\n")
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return {tuple(row[:key]) for row in csv.reader(whole.splitlines()[1:])}


def append(path: Path, rows: list[tuple]) -> None:
    """Add rows to a table in one write."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with path.open("a", newline="") as stream:
        stream.write(text.getvalue())


def cells(half: Half, net: Net) -> list[tuple[Problem, Problem | None, Mode, int]]:
    """Target, source, mode and samples of everything that one network is asked of a half."""
    chosen = [p for p in pairs(half) if net == "mlp" or not p.target.is_table]
    targets = {p.target: None for p in chosen}
    scratch = [(t, None, "scratch", n) for t in targets for n in sizes(t)]
    return scratch + [
        (p.target, p.source, mode, n)
        for p in chosen
        for mode in ("head", "all")
        for n in sizes(p.target)
    ]


def sweep(half: Half, net: Net, round_: int) -> None:
    """Compute the rows of one round that are not there yet."""
    kept, which = (
        rows_kept(RESULTS, COLUMNS, 7),
        range(REPLICATES * round_, REPLICATES * (round_ + 1)),
    )
    for target, source, mode, samples in cells(half, net):
        origin = source.name if source else "-"
        key = (half, target.name, origin, net, mode, str(samples), str(round_))
        if key in kept:
            continue
        sources = trained_sources(source, net) if source else []
        right = right_answers(target, net, mode, samples, which, sources)
        counts = " ".join(map(str, right))
        append(RESULTS, [(*key, len(test_rows(target).y), counts)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("halves", nargs="*", default=HALVES, choices=HALVES)
    parser.add_argument("--rounds", type=int, default=2, help="each of 8 replicates [default: 2]")
    asked = parser.parse_args()
    for half in asked.halves:
        for net in NETS:
            for round_ in range(asked.rounds):
                began = time.perf_counter()
                sweep(half, net, round_)
                spent = time.perf_counter() - began
                print(f"{half}, {net}, round {round_}: {spent:.0f} s", flush=True)


if __name__ == "__main__":
    main()
