"""Source-target pairs of real data, in a development and a held-out half.

The halves share no class and no table: a setting that was chosen on one half meets classes on the
other that it has never seen. Which pairs there are follows from the classes by rule, so nothing
was chosen by its result.

Every image becomes 16 by 16 pixels in grey and every table is filled up with zeros to as many
inputs, so that one network takes all of them. Rows are centred by the mean of the source rows of
their data set (and half), and scaled to mean ``|x|^2 = D`` there.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float

from adaptik.tasks.images import read

D = 256
SIDE = 16
SIZES = (10, 50, 200)
HALVES = ("development", "held-out")
Half = Literal["development", "held-out"]

# Fixed before any network was trained. Neighbours in a list make the target's two classes.
CLASSES: dict[Half, dict[str, tuple[int, ...]]] = {
    "development": {
        "fashion-mnist": (0, 2, 3, 5, 8),  # T-shirt, pullover, dress, sandal, bag
        "cifar10": (0, 3, 1, 4, 6),  # airplane, cat, automobile, deer, frog
        "digits": (0, 1, 2, 3, 4),
    },
    "held-out": {
        "fashion-mnist": (6, 4, 1, 7, 9),  # shirt, coat, trouser, sneaker, ankle boot
        "cifar10": (8, 5, 9, 7, 2),  # ship, dog, truck, horse, bird
        "digits": (5, 6, 7, 8, 9),
    },
}
TABLES: dict[Half, str] = {"development": "breast-cancer", "held-out": "diabetes"}
# Images of a class: rows for sources, rows from which target samples are drawn, the rest tests.
POOLS = {"fashion-mnist": (500, 250), "cifar10": (500, 250), "digits": (80, 55)}


@dataclass(frozen=True)
class Problem:
    """Two groups of classes to tell apart, or a column of a table to predict.

    Attributes
    ----------
    half, dataset
        Where its rows come from.
    groups
        The classes labelled -1 and +1; of a table, the names of the column and its relatives.
    """

    half: Half
    dataset: str
    groups: tuple[tuple, tuple]

    @property
    def name(self) -> str:
        """Unique: ``fashion-mnist:0,3|2,5``."""
        parts = "|".join(",".join(map(str, group)) for group in self.groups)
        return f"{self.dataset}:{parts}"

    @property
    def is_table(self) -> bool:
        return self.dataset in TABLES.values()


@dataclass(frozen=True)
class Pair:
    """A source, a target and what they share by construction."""

    source: Problem
    target: Problem
    relation: str


@dataclass(frozen=True, eq=False)
class Rows:
    """Standardised rows of a problem with labels -1 and +1."""

    X: Float[np.ndarray, "rows D"]
    y: Float[np.ndarray, " rows"]


def pairs(half: Half) -> list[Pair]:
    """All pairs of a half, 8 sources for each target of Fashion-MNIST and CIFAR-10.

    Examples
    --------
    >>> [len(pairs(half)) for half in HALVES]
    [99, 99]
    """
    images = ("fashion-mnist", "cifar10")
    found = []
    for dataset, other in zip(images, images[::-1], strict=True):
        for i in range(5):
            found += _of_two_classes(half, dataset, other, i)
    return found + _of_digits(half) + _of_table(half)


def _of_two_classes(half: Half, dataset: str, other: str, i: int) -> list[Pair]:
    """Sources for the target that tells class ``i`` of the list from the next."""
    a, b, c, d, _ = np.roll(CLASSES[half][dataset], -i).tolist()
    u, v = np.roll(CLASSES[half][other], -i).tolist()[:2]
    p, q, r, s, _ = CLASSES[half]["digits"]
    target = Problem(half, dataset, ((a,), (b,)))
    sources = {
        "same": (dataset, ((a,), (b,))),
        "shares the first class": (dataset, ((a,), (c,))),
        "shares the second class": (dataset, ((b,), (c,))),
        "contains it": (dataset, ((a, c), (b, d))),
        "collapses it": (dataset, ((a, b), (c, d))),
        "other classes": (dataset, ((c,), (d,))),
        "other data set": (other, ((u,), (v,))),
        "digits": ("digits", ((p, q), (r, s))),
    }
    return [Pair(Problem(half, *source), target, name) for name, source in sources.items()]


def _of_digits(half: Half) -> list[Pair]:
    """Two targets among all five digits."""
    a, b, c, d, e = CLASSES[half]["digits"]
    groups = [((a, b), (c, d, e)), ((a, c), (b, d, e))]
    found = []
    for target in groups:
        for source in [*groups, ((a, d), (b, c, e)), ((a,), (b,)), ((c,), (d,))]:
            relation = "same" if source == target else "digits"
            found.append((("digits", source), target, relation))
        for dataset in ("fashion-mnist", "cifar10"):
            u, v = CLASSES[half][dataset][:2]
            found.append(((dataset, ((u,), (v,))), target, "other data set"))
    return [Pair(Problem(half, *s), Problem(half, "digits", t), name) for s, t, name in found]


# What a table's sources predict: whether the first column lies above its median, from all columns
# but those that are named.
_COLUMNS = {
    "breast-cancer": (
        "malignant",
        {
            "mean radius": ("radius", "perimeter", "area"),
            "mean texture": ("texture",),
            "mean smoothness": ("smoothness",),
            "mean concavity": ("concav", "compactness"),
        },
    ),
    "diabetes": (
        "progression",
        {"bmi": ("bmi",), "bp": ("bp",), "s5": ("s5", "s4"), "age": ("age",)},
    ),
}


def _of_table(half: Half) -> list[Pair]:
    dataset = TABLES[half]
    label, columns = _COLUMNS[dataset]
    target = Problem(half, dataset, ((label,), ()))
    found = [Pair(target, target, "same")]
    for column, hidden in columns.items():
        source = Problem(half, dataset, ((column,), hidden))
        found.append(Pair(source, target, "other column"))
    return found


def sizes(target: Problem) -> tuple[int, ...]:
    """Numbers of target samples that the target's rows allow."""
    return SIZES[:2] if target.is_table else SIZES


def source_rows(problem: Problem) -> Rows:
    """About 1000 rows of a source of images; what there is of digits and tables."""
    return _rows(problem, "source")


def target_rows(problem: Problem) -> Rows:
    """Rows from which target samples are drawn; sources never see them."""
    return _rows(problem, "target")


def test_rows(problem: Problem) -> Rows:
    """Rows on which accuracies are counted, at most 500."""
    return _rows(problem, "test")


test_rows.__test__ = False  # not a test of pytest


def draw(problem: Problem, samples: int, draw: int) -> np.ndarray:
    """Rows of :func:`target_rows` in one draw, half of each label; the order is random.

    The draw depends on the target alone, so that sources are compared on the same samples.
    """
    rng = np.random.default_rng([zlib.crc32(problem.name.encode()), samples, draw])
    y = target_rows(problem).y
    chosen = [rng.choice(np.flatnonzero(y == s), samples // 2, replace=False) for s in (-1, 1)]
    return np.stack(chosen, 1).ravel()


@lru_cache(maxsize=64)
def _rows(problem: Problem, part: str) -> Rows:
    if problem.is_table:
        return _table_rows(problem, part)
    images, centre, scale = _images(problem.half, problem.dataset)
    chosen = []
    for group in problem.groups:
        for label in group:
            rows = images[label, part]
            if part == "source":  # as many rows of both labels: 1000 in all, of digits 320
                each = POOLS[problem.dataset][0]
                if problem.dataset == "digits":
                    each *= min(map(len, problem.groups))
                rows = rows[: each // len(group)]
            chosen.append(rows)
    labels = np.repeat([-1.0, 1.0], [len(group) for group in problem.groups])
    y = np.concatenate([np.full(len(rows), s) for rows, s in zip(chosen, labels, strict=True)])
    return Rows((np.concatenate(chosen) - centre) / scale, y)


@lru_cache(maxsize=6)
def _images(half: Half, dataset: str):
    """Images by class and part, small and grey; mean and scale of the source rows."""
    data = read(dataset)
    X = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    n_source, n_target = POOLS[dataset]
    parts = {}
    for label in CLASSES[half][dataset]:
        rows = small(X[labels == label][:1000], dataset)
        cuts = np.split(rows, [n_source, n_source + n_target])
        parts |= {(label, name): cut for name, cut in zip(_PARTS, cuts, strict=True)}
    sources = np.concatenate([rows for (_, part), rows in parts.items() if part == "source"])
    centre = sources.mean(0)
    return parts, centre, np.sqrt(np.mean((sources - centre) ** 2))


_PARTS = ("source", "target", "test")


def small(X: Float[np.ndarray, "rows pixels"], dataset: str) -> Float[np.ndarray, "rows 256"]:
    """Images of a data set as 16 by 16 grey pixels: averaged, framed or repeated."""
    if dataset == "digits":
        return X.reshape(-1, 8, 8).repeat(2, 1).repeat(2, 2).reshape(-1, D)
    side = 28 if dataset == "fashion-mnist" else 32
    grey = X.reshape(len(X), side, side, -1).mean(3)
    halved = grey.reshape(len(X), side // 2, 2, side // 2, 2).mean((2, 4))
    frame = (SIDE - side // 2) // 2
    return np.pad(halved, ((0, 0), (frame, frame), (frame, frame))).reshape(-1, D)


@lru_cache(maxsize=2)
def _table(dataset: str) -> tuple[np.ndarray, list[str], np.ndarray]:
    from sklearn.datasets import load_breast_cancer, load_diabetes

    bunch = load_breast_cancer() if dataset == "breast-cancer" else load_diabetes()
    X, label = np.asarray(bunch.data), np.asarray(bunch.target)
    positive = label == 0 if dataset == "breast-cancer" else label > np.median(label)
    order = np.random.default_rng(0).permutation(len(X))
    return X[order], list(bunch.feature_names), np.where(positive, 1.0, -1.0)[order]


def _table_rows(problem: Problem, part: str) -> Rows:
    """Half of the rows for sources, a quarter each for target samples and tests."""
    X, names, y = _table(problem.dataset)
    (label,), hidden = problem.groups
    if label in names:
        column = X[:, names.index(label)]
        y = np.where(column > np.median(column), 1.0, -1.0)
    seen = [not any(word in name for word in hidden) for name in names]
    cuts = np.split(np.arange(len(X)), [len(X) // 2, 3 * len(X) // 4])
    source = X[cuts[0]]
    scaled = (X - source.mean(0)) / source.std(0) * np.sqrt(D / X.shape[1]) * seen
    rows = cuts[_PARTS.index(part)]
    return Rows(np.pad(scaled[rows], ((0, 0), (0, D - X.shape[1]))), y[rows])
