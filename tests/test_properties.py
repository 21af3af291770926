"""One problem in many forms gives one answer, whatever front end is asked.

The form of a problem is all that a person chooses without meaning anything by it: units of inputs
and labels, orders of rows and columns, names of classes, types and containers. An example changes
all of them at once; what is left must be the answer, in the units of the labels.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from adaptik.estimators import (
    AdaptiveKernelClassifier,
    AdaptiveKernelRegressor,
    TransferKernelClassifier,
    TransferKernelRegressor,
)
from adaptik.sweeps import load, sweep
from adaptik.tasks import load_pair, standardise_labels
from adaptik.transfer import TransferConfig, run, transfer_point

Kind = Literal["numbers", "classes"]
N_SOURCE, N_TARGET, N_TEST, PARTICLES = 12, 8, 4, 128
COLUMNS = ("area", "rooms", "flag")


def examples(count: int, body: Callable[[Any], None], *given_: Any) -> None:
    """Run ``body`` on as many examples, the same ones every time, without shrinking."""
    chosen = settings(
        derandomize=True, max_examples=count, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    chosen(given(*given_)(body))()


def few(count: int, many: int) -> pytest.MarkDecorator:
    """The number of examples of every run, and of those for evidence."""
    return pytest.mark.parametrize("count", [count, pytest.param(many, marks=pytest.mark.evidence)])


# -- a problem ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs that every number type holds exactly, and labels of both kinds."""

    X: np.ndarray
    numbers: np.ndarray
    classes: np.ndarray  # 0 and 1


@cache
def problem(seed: int) -> tuple[Data, Data, np.ndarray]:
    """A source, a target (each with rows to hold out) and new inputs.

    Columns are of like size and the source's labels linear, so that nothing has to train for long,
    which would magnify rounding.
    """
    rng = np.random.default_rng(seed)
    sizes = np.cumsum([0, N_SOURCE + N_TEST, N_TARGET + N_TEST, 6]).tolist()
    cells = rng.choice(6 * 6 * 2, sizes[-1], replace=False)  # no row twice
    X = np.column_stack([cells // 12, cells // 2 % 6, cells % 2])
    labels = 9 * X[:, 0] - 14 * X[:, 1] + 20 * X[:, 2] - 9
    labels[sizes[1] :] += 8 * (X[sizes[1] :, 0] - 2) ** 2
    parts = [
        Data(X[a:b], labels[a:b].astype(float), (labels[a:b] > np.median(labels[a:b])).astype(int))
        for a, b in ((0, sizes[1]), (sizes[1], sizes[2]))
    ]
    return parts[0], parts[1], X[sizes[2] :]


# -- its forms ---------------------------------------------------------------------------------

TYPES = ("float64", "uint8", "Int64", "float16", "int8", "object", "float32", "Float64", "int16",
         "int32", "int64", "category")  # fmt: skip
FLAGS = ("bool", "float64", "boolean", "category", "int8", "object", "uint8", "Int64")
NAMES: tuple[tuple[Any, Any], ...] = (
    ("yes", "no"), (0, 1), (7, 3), (False, True), ("a b", "a,b"), (-1, 1), ("good", "bad"),
    (0.0, 1.0), ("10th", "9th"),
)  # fmt: skip
ARRAYS = ("DataFrame", "array", "Fortran", "list", "memmap", "strided")
FILES = (",", "npz", ";", "\t", "parquet", "|", ":", "utf-16")


@dataclass(frozen=True)
class Form:
    """How one side of a problem is written down.

    Attributes
    ----------
    factor, shift
        Labels are multiplied, and moved by as many of their standard deviations.
    unit
        Of all inputs; 1 where their type holds whole numbers only.
    types
        Of the inputs, of the column of zeros and ones, and of labels that are numbers.
    columns, rows
        Their orders.
    container
        What holds them.
    """

    factor: float
    shift: float
    unit: float
    types: tuple[str, str, str]
    columns: tuple[int, ...]
    rows: tuple[int, ...]
    container: str

    @property
    def scales(self) -> bool:
        """Whether labels that are numbers are in a unit of their own."""
        return self.types[2] == "float64"

    def labels(self, data: Data, kind: Kind, names: tuple[Any, Any] = (0, 1)) -> np.ndarray:
        rows = np.array(self.rows)
        if kind == "classes":
            return np.array(names)[data.classes[rows]]
        y = data.numbers[rows]
        if not self.scales:
            return y.astype(self.types[2])
        return self.factor * (y + self.shift * data.numbers.std())

    def frame(self, X: np.ndarray) -> pd.DataFrame:
        """Inputs as a table, rows as they stand."""
        types = dict(zip(COLUMNS, (self.types[0], self.types[0], self.types[1]), strict=True))
        if self.types[0] == "float64":
            return pd.DataFrame(self.unit * X, columns=COLUMNS)[[COLUMNS[i] for i in self.columns]]
        table = pd.DataFrame(X, columns=COLUMNS).astype(types)
        return table[[COLUMNS[i] for i in self.columns]]

    def inputs(self, X: np.ndarray, folder: Path) -> Any:
        """Inputs for an estimator, rows as they stand."""
        table = self.frame(X)
        if self.container == "DataFrame":
            return table
        extended = self.types[0] in ("Int64", "Float64", "category")
        plain = table.to_numpy(float if extended else self.types[0])
        if self.container == "list":
            return plain.tolist()
        if self.container == "Fortran":
            return np.asfortranarray(plain)
        if self.container == "strided":
            return np.repeat(plain, 2, axis=0)[::2]
        if self.container == "memmap" and plain.dtype != object:
            path = folder / f"x{len(list(folder.iterdir()))}"  # another's file would change it
            stored = np.memmap(path, plain.dtype, "w+", shape=plain.shape)
            stored[:] = plain
            return stored
        return plain

    def write(self, path: Path, X: np.ndarray, y: np.ndarray) -> str:
        """A file of inputs and labels, rows as they stand; ``path`` has no suffix."""
        table = self.frame(X)
        if self.container == "npz":
            names = np.array(list(table.columns))
            path = path.with_suffix(".npz")
            y = y.astype(float) if y.dtype == object else y  # archives hold no objects
            np.savez(path, X=table.to_numpy(float), y=y, columns=names)
            return str(path)
        table.insert(self.columns[0], "label", y)
        if self.container == "parquet":
            path = path.with_suffix(".parquet")
            table.to_pickle(path)  # read back by what stands in for pyarrow
        elif self.container == "utf-16":
            path = path.with_suffix(".tsv")
            table.to_csv(path, index=False, sep="\t", encoding="utf-16")
        else:
            path = path.with_suffix(".csv")
            table.to_csv(path, index=False, sep=self.container)
        return str(path)


def forms(size: int, containers: tuple[str, ...]):
    """Of a side with ``size`` rows. What Hypothesis takes for simplest is no identity."""
    return st.builds(
        Form,
        factor=st.builds(
            lambda sign, power, part: sign * part * 10.0**power,
            st.sampled_from([-1, 1]), st.sampled_from([5, *range(-12, 13)]), st.floats(1, 3),
        ),
        shift=st.one_of(st.floats(-1e3, 1e3), st.floats(-1e6, 1e6)).map(lambda s: 7.5 - s),
        unit=st.sampled_from([1e-3, 1.0, 2.54, 1e6]),
        types=st.tuples(
            st.sampled_from(TYPES), st.sampled_from(FLAGS),
            st.sampled_from(["float64"] * 6 + ["int16", "float32", "object"]),
        ),
        columns=st.permutations(range(3)).map(lambda p: tuple(p[::-1])),
        rows=st.permutations(range(size)).map(lambda p: tuple(p[::-1])),
        container=st.sampled_from(containers),
    )  # fmt: skip


def alike(source: Form, target: Form) -> tuple[Form, Form]:
    """With what both sides of one problem share: the unit of inputs, and the sign of labels."""
    if target.types[0] != "float64":
        target = replace(target, unit=1.0)
    if target.unit != 1:
        source = replace(source, types=("float64", *source.types[1:]))
    sign = np.sign(target.factor) if source.scales and target.scales else 1
    return (
        replace(source, unit=target.unit, factor=sign * abs(source.factor)),
        replace(target, factor=sign * abs(target.factor)),
    )


def plain_forms(seed: int) -> list[Form]:
    """The plainest form of both sides."""
    return [
        Form(1.0, 0.0, 1.0, ("int64", "int64", "float64"), (0, 1, 2), tuple(range(len(d.X))), ",")
        for d in problem(seed)[:2]
    ]


names = st.sampled_from(NAMES)
seeds = st.integers(0, 1)


def tolerance(*written: Form) -> float:
    """Of what is told in standard deviations: far shifts cost digits of the labels themselves."""
    return 1e-4 if max(abs(form.shift) for form in written) > 1e3 else 1e-6


# -- estimators --------------------------------------------------------------------------------

SMALL: dict[str, Any] = dict(particles=PARTICLES, replicates=2, activation="erf")
LAZY = dict(mode="lazy", head="kept", richness=0.0, source_richness=0.0)
READOUT = dict(mode="readout", head="kept", richness=0.0, source_richness=0.0)
ESTIMATORS: dict[str, tuple[Any, dict[str, Any], Kind]] = {
    "regressor": (AdaptiveKernelRegressor, dict(richness=0.0), "numbers"),
    "rich regressor": (AdaptiveKernelRegressor, dict(richness=1.0, duration=2.0), "numbers"),
    "transfer regressor": (TransferKernelRegressor, LAZY, "numbers"),
    "classifier": (AdaptiveKernelClassifier, dict(richness=0.0), "classes"),
    "transfer classifier": (TransferKernelClassifier, READOUT, "classes"),
}


def outputs(name: str, seed: int, source: Form, target: Form, named, folder: Path) -> np.ndarray:
    """Predictions in standard deviations of the labels, or decisions for the class ``named[1]``."""
    kind_of, options, kind = ESTIMATORS[name]
    first, second, new = problem(seed)
    if "transfer" in name:
        X = source.inputs(first.X[list(source.rows)], folder)
        options = options | dict(source=(X, source.labels(first, kind, named)))
    X, y = target.inputs(second.X[list(target.rows)], folder), target.labels(second, kind, named)
    model = kind_of(**SMALL, **options).fit(X, y)
    X = target.inputs(new, folder)
    if kind == "classes":
        f = model.decision_function(X)
        assert model.classes_.tolist() == sorted(named)
        return f if named[0] < named[1] else -f
    f, std = model.predict(X, return_std=True)
    if not target.scales:
        return np.stack([f, std]) / second.numbers.std()
    f = f / target.factor - target.shift * second.numbers.std()
    return np.stack([f, std / abs(target.factor)]) / second.numbers.std()


@cache
def plain_outputs(name: str, seed: int) -> np.ndarray:
    first, second = (replace(form, container="array") for form in plain_forms(seed))
    return outputs(name, seed, first, second, (0, 1), Path())


@pytest.mark.parametrize("name", ESTIMATORS)
@few(4, 40)
def test_estimators(name, count, tmp_path):
    def same(drawn):
        seed, source, target, named = drawn
        source, target = alike(source, target)
        if "rich" in name:  # finite samples of neurons have no symmetry of sign
            target = replace(target, factor=abs(target.factor))
        if "transfer" in name and source.container != "DataFrame":
            # Without names columns are taken by position, scikit-learn's convention.
            source = replace(source, columns=target.columns)
            target = replace(target, container=target.container.replace("DataFrame", "array"))
        elif "transfer" in name:
            target = replace(target, container="DataFrame")
        found = outputs(name, seed, source, target, named, tmp_path)
        off = np.abs(found - plain_outputs(name, seed)).max()
        assert off < tolerance(source, target), off

    sides = [forms(size + N_TEST, ARRAYS) for size in (N_SOURCE, N_TARGET)]
    examples(count, same, st.tuples(seeds, *sides, names))


# -- files -------------------------------------------------------------------------------------


@pytest.fixture
def parquet(monkeypatch):
    """Reads what :meth:`Form.write` wrote: the types of its columns without pyarrow."""
    monkeypatch.setattr(pd, "read_parquet", pd.read_pickle)


pairs = st.tuples(seeds, forms(N_SOURCE + N_TEST, FILES), forms(N_TARGET + N_TEST, FILES), names)
KINDS: tuple[Kind, ...] = ("numbers", "classes")


def written(drawn, kind: Kind, folder: Path) -> dict[str, str]:
    """Files of a source and a target in forms of their own, inputs in one unit."""
    seed, source, target, named = drawn
    sides = zip(("source", "target"), alike(source, target), problem(seed)[:2], strict=True)
    return {
        side: form.write(folder / side, data.X[list(form.rows)], form.labels(data, kind, named))
        for side, form, data in sides
    } | {"kind": kind}


@pytest.fixture
def plainly(tmp_path_factory):
    """Files of a problem in its plainest form."""
    folder = tmp_path_factory.mktemp("plain")

    @cache
    def write(seed: int, kind: Kind) -> dict[str, str]:
        place = folder / f"{seed}-{kind}"
        place.mkdir()
        return written((seed, *plain_forms(seed), (0, 1)), kind, place)

    return write


SIZES: dict[str, Any] = dict(n_source=N_SOURCE, n_target=N_TARGET, n_test=N_TEST)


@pytest.mark.parametrize("kind", KINDS)
@few(12, 200)
def test_loaded_pairs(count, kind, plainly, parquet, tmp_path):
    def same(drawn):
        seed, *sides, named = drawn
        found = load_pair(**written(drawn, kind, tmp_path), **SIZES)
        plain = load_pair(**plainly(seed, kind), **SIZES)
        for task, expected, form in zip(found, plain, alike(*sides), strict=True):
            assert task.features == expected.features == tuple(sorted(COLUMNS))
            sign = 1 if named[0] < named[1] else -1  # two classes are -1 and +1 in sorted order
            if kind == "numbers":
                task, expected = standardise_labels(task), standardise_labels(expected)
                sign = np.sign(form.factor) if form.scales else 1
            for split in ("train", "test"):
                for k, tol in ((0, 1e-12), (1, 1e-9)):
                    mine, its = task.split(split)[k], expected.split(split)[k]
                    np.testing.assert_allclose(sign**k * mine, its, atol=tol)

    examples(count, same, pairs)


# -- questions asked of files ------------------------------------------------------------------
# At richness 0, which is solved in closed form: flows of particles in single precision magnify
# rounding, here to 3e-4. Richer ones stand above, in double precision.

ASKED: dict[str, Any] = dict(activation="relu", particles=PARTICLES, replicates=2, **SIZES)
STUDY: dict[str, Any] = ASKED | dict(
    richness=(0.0,), target_richness=(0.0,), head="kept", folds=3, check_seeds=0
)
POINT: dict[str, Any] = ASKED | dict(head="kept", mode="lazy", source_richness=0.0)


def of_point(files, kind: str) -> dict[str, Any]:
    found = transfer_point(**files, **POINT)
    return {
        name: value for name, value in found.items()
        if name.startswith("relative") or name in ("accuracy", "duration", "outcome")
    }  # fmt: skip


def of_sweep(files, kind: str, folder: Path) -> dict[str, Any]:
    data = sweep(
        transfer_point, {"mode": ["lazy", "readout"]}, store=folder / "store", executor="serial",
        fixed=files | ASKED | dict(head="kept", source_richness=0.0),
    )  # fmt: skip
    assert (data.status == 1).all(), data.error.values
    names = [n for n in map(str, data.data_vars) if n.startswith("relative") or n == "accuracy"]
    return {f"{name} {i}": value for name in names for i, value in enumerate(data[name].values)}


def of_rows(rows, sentence: str, kind: str) -> dict[str, Any]:
    """From dictionaries of rows."""
    told = {"sentence": sentence}
    for i, row in enumerate(rows):
        for name, value in row.items():
            if name == "outcome" or (name != "seconds" and _without_unit(name, kind)):
                told[f"{name} {i}"] = value
    return told


def _without_unit(name: str, kind: str) -> bool:
    loss = "loss" in name or name.endswith("_se")
    return name.startswith("relative") or not loss or kind == "classes"


def of_study(files, kind: str) -> dict[str, Any]:
    study = run(TransferConfig(**files, **STUDY))
    rows = [vars(row) for row in study.rows]
    return of_rows(rows, study.verdict.sentence, kind)


def of_command(files, kind: str, typed, folder: Path, capsys) -> dict[str, Any]:
    options = {"n-source": N_SOURCE, "n-target": N_TARGET, "n-test": N_TEST, "activation": "relu",
               "particles": PARTICLES, "replicates": 2, "richness": 0, "target-richness": 0,
               "head": "kept", "folds": 3, "check-seeds": 0}  # fmt: skip
    given_ = {"source": files["source"], "target": files["target"], "kind": kind, **options}
    line = " ".join(f"--{name} {value}" for name, value in given_.items())
    capsys.readouterr()
    assert typed(f"transfer {line} --json --out {folder / 'report'}") == 0
    document = json.loads(capsys.readouterr().out)
    return of_rows(document["rows"], document["verdict"]["sentence"], kind)


def far(found: dict[str, Any], expected: dict[str, Any], tol: float) -> dict[str, tuple]:
    """What differs: numbers by more than ``tol`` of 1 or of their size, anything else at all."""

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, float) and isinstance(b, float):
            return abs(a - b) <= tol * max(1.0, abs(b)) or (np.isnan(a) and np.isnan(b))
        return a == b

    pairs = {name: (found[name], value) for name, value in expected.items()}
    return {name: pair for name, pair in pairs.items() if not same(*pair)}


FRONT_ENDS = {"point": (2, 25), "study": (2, 25), "sweep": (1, 8), "command": (None, 3)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("front_end", "count"),
    [
        pytest.param(name, count, marks=[pytest.mark.evidence] if many else [])
        for name, counts in FRONT_ENDS.items()
        for many, count in enumerate(counts)
        if count
    ],
)
def test_answers_of_files(front_end, count, kind, plainly, parquet, tmp_path, run, capsys):
    asked = iter(range(10**6))

    def ask(files):
        folder = tmp_path / str(next(asked))
        if front_end == "sweep":
            return of_sweep(files, kind, folder)
        if front_end == "command":
            return of_command(files, kind, run, folder, capsys)
        return {"point": of_point, "study": of_study}[front_end](files, kind)

    @cache
    def plain(seed):
        return ask(plainly(seed, kind))

    def same(drawn):
        seed, *sides, _ = drawn
        tol = tolerance(*alike(*sides))
        found, expected = ask(written(drawn, kind, tmp_path)), plain(seed)
        assert list(found) == list(expected)
        assert not far(found, expected, tol), far(found, expected, tol)

    examples(count, same, pairs)


def test_a_sweep_says_once_what_was_assumed_of_its_data(plainly, tmp_path, run, capsys):
    files = plainly(0, "classes")
    table = pd.read_csv(files["target"])
    repeated = tmp_path / "repeated.csv"
    table.iloc[[*range(len(table)), *[0] * len(table)]].to_csv(repeated, index=False)
    fixed = ASKED | dict(source=files["source"], target=str(repeated), source_richness=0.0)
    lines = [f"{name} = {json.dumps(value)}" for name, value in fixed.items()]
    heads = ['compute = "transfer"', 'executor = "serial"', "[grid]", 'mode = ["lazy", "readout"]']
    (tmp_path / "cases.toml").write_text("\n".join([*heads, "[fixed]", *lines]))
    assert run(f"sweep {tmp_path / 'cases.toml'}") == 0
    said = capsys.readouterr().err
    assert said.count("test rows also stand in the training data") == 1
    assert said.count("are taken for classes (whole, -1 to 19); --kind says it") == 1
    assert said.count("note: ") == len(load(tmp_path / "cases").notes.item(0).splitlines()) == 2
