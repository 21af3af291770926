"""A saved solution comes back equal and shared as it was; anything else is refused."""

import json
import math
import os
import subprocess
import sys
import warnings
import zipfile
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from adaptik import activations
from adaptik.mathematics.activations import Activation
from adaptik.solution import AbstractState, Cost, Kernels, Outcome, Solution, StageRecord, archive
from adaptik.system.errors import InputError
from adaptik.system.moved import MOVED
from adaptik.tasks import Task
from adaptik.tasks.stages import Stage


@archive.register
@dataclass(frozen=True, eq=False)
class StoredWeights(AbstractState):
    weights: np.ndarray
    activation: Activation
    shared: np.ndarray | None = None

    def predict(self, X):
        return np.asarray(self.activation(self.weights @ X.T))[..., None]

    def kernels(self, X, rows, columns):
        K = X[rows] @ X[columns].T
        feature = np.broadcast_to(K, (len(self.weights), *K.shape))
        return Kernels(lambda layer: feature, lambda layer: feature[..., None, None])

    def preactivations(self, X):
        return (self.weights @ X.T)[:, None, :]

    def scaled(self, factor):
        return replace(self, weights=factor * self.weights)


def a_task(name, seed, test=True):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((6, 3)), np.array([-1, 1] * 3)
    return Task(X, y, *((X + 1, y) if test else ()), name=name, classes=("a", "b"))


def a_solution(activation="relu", **state):
    source, target = a_task("source", 0), a_task("target", 1, test=False)
    stages = (Stage(source, 2.0), Stage(target, 0.0, duration=math.inf, head="kept"))
    rng = np.random.default_rng(2)
    states = tuple(
        StoredWeights(
            jnp.asarray(rng.standard_normal((4, 3))), activations.get(activation), **state
        )
        for _ in stages
    )
    splits = [(t.name, s) for t in (source, target) for s in t.splits]
    records = tuple(
        StageRecord(
            times=np.array([0.0, 1.0, math.inf]),
            predictions={key: rng.standard_normal((3, 4, 6, 1)) for key in splits},
            duration=duration,
            train_loss=float("nan"),
            rate=np.float32(0.5),
            outcome=outcome,
            cost=Cost("Kvaerno5", 10, 2, 0.5, 1.5),
        )
        for duration, outcome in ((3.5, Outcome.CONVERGED), (math.inf, Outcome.STALLED))
    )
    provenance = {"seed": 2**100, "none": None, "flags": [True, (1, -math.inf)], "empty": {}}
    tasks = {"source": source, "target": target}
    snapshots = {(0, 1.5): states[0]}
    return Solution("limit", stages, records, states, tasks, snapshots, provenance)


@pytest.fixture
def saved(tmp_path):
    solution = a_solution()
    solution.save(tmp_path / "result.zip")
    return solution, Solution.load(tmp_path / "result.zip")


def test_everything_comes_back(saved):
    before, after = saved
    for old, new in zip(before.records, after.records, strict=True):
        assert list(new.predictions) == list(old.predictions)
        for key, f in old.predictions.items():
            np.testing.assert_array_equal(new.predictions[key], f)
        np.testing.assert_array_equal(new.times, old.times)
        assert (new.outcome, new.cost, new.duration) == (old.outcome, old.cost, old.duration)
        assert math.isnan(new.train_loss)
        assert new.rate == 0.5
    assert after.provenance == before.provenance
    assert type(after.provenance["flags"][1]) is tuple
    assert after.provenance["flags"][0] is True
    assert after.stages[1].head == "kept"
    assert after.stages[1].duration == math.inf
    X = np.linspace(-1, 1, 15).reshape(5, 3)
    for stage, time in ((1, None), (0, 1.5)):  # float32 weights of JAX, now of NumPy
        f = before.predict(X, stage).value
        np.testing.assert_allclose(after.predict(X, stage, time).value, f, rtol=1e-5)
    assert float(after.loss("source", "train").value) == float(before.loss("source", "train").value)


def test_identity_is_kept(saved):
    _, after = saved
    assert after.tasks["source"] is after.stages[0].task
    assert after.tasks["target"] is after.stages[1].task
    assert after.tasks["source"] is not after.tasks["target"]
    assert after.snapshots[0, 1.5] is after.states[0]


def test_shared_arrays_are_stored_once(tmp_path):
    shared = np.random.default_rng(0).standard_normal(50_000)
    a_solution(shared=shared).save(tmp_path / "shared.zip")
    assert (tmp_path / "shared.zip").stat().st_size < 1.5 * shared.nbytes
    after = archive.load(tmp_path / "shared.zip")
    assert after.states[0].shared is after.states[1].shared


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.array(2.5),
        np.array([-0.0, 0.0]),
        np.array([np.nan, np.inf]),
        np.arange(4, dtype=np.uint8),
        np.array([True, False]),
        np.ones(3, np.complex64),
        np.ones((2, 3), np.float32).T,
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_of_every_kind(tmp_path, array):
    a_solution(shared=array).save(tmp_path / "x.zip")
    after = archive.load(tmp_path / "x.zip").states[0].shared
    assert after.dtype == array.dtype
    np.testing.assert_array_equal(after, array)
    if array.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(after), np.signbit(array))


@pytest.mark.parametrize("name", ["erf", "hermite(3)", "polynomial(0.123456789, 0, 0.5)"])
def test_named_activations(tmp_path, name):
    a_solution(name).save(tmp_path / "x.zip")
    after = archive.load(tmp_path / "x.zip").states[0].activation
    assert after.name == activations.get(name).name
    assert float(after(1.3)) == float(activations.get(name)(1.3))


@pytest.mark.parametrize(
    "activation",
    [
        lambda h: h**2,
        activations.from_callable(jnp.cos, name="relu"),  # not what its name says
    ],
)
def test_custom_activations_are_refused(tmp_path, activation):
    with pytest.raises(InputError, match=r"states\[0\]\.activation.*use a named activation"):
        a_solution(activation).save(tmp_path / "x.zip")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), np.array(["a"]), lambda: 0])
def test_what_cannot_be_stored_is_named(tmp_path, value):
    solution = replace(a_solution(), provenance={"odd": value})
    with pytest.raises(InputError, match=r"solution\.provenance\['odd'\]"):
        solution.save(tmp_path / "x.zip")
    assert os.listdir(tmp_path) == []


def test_unregistered_classes_are_refused(tmp_path):
    @dataclass(frozen=True)
    class Stranger:
        pass

    with pytest.raises(InputError, match=r"Stranger is not registered"):
        replace(a_solution(), provenance={"odd": Stranger()}).save(tmp_path / "x.zip")


def test_a_registered_name_is_not_enough():
    with pytest.raises(TypeError, match="share a name"):
        archive.register(dataclass(frozen=True)(type("Task", (), {"__module__": "elsewhere"})))
    with pytest.raises(TypeError, match="frozen dataclass"):
        archive.register(dataclass(type("Loose", (), {})))


def test_overwriting_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "result.zip"
    a_solution().save(path)
    good = path.read_bytes()

    def broken(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.zarr, "create_group", broken)
    with pytest.raises(InputError, match=r"result\.zip.*No space left"):
        a_solution().save(path)
    assert path.read_bytes() == good
    assert os.listdir(tmp_path) == ["result.zip"]


def test_unwritable_folders(tmp_path):
    (tmp_path / "file").touch()
    for folder in ("file", "missing"):
        with pytest.raises(InputError, match=rf"cannot write.*{folder}.*is not a folder"):
            a_solution().save(tmp_path / folder / "x.zip")
    with pytest.raises(InputError, match="it is a folder"):
        a_solution().save(tmp_path)


def tampered(path, change):
    """Rewrite the attributes of a saved file."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    meta = json.loads(entries["zarr.json"])
    change(meta["attributes"])
    entries["zarr.json"] = json.dumps(meta).encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in entries.items():
            new.writestr(name, content)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda tree: tree.pop("adaptik_format"), "not written by adaptik"),
        (lambda tree: tree.update(adaptik_format=99), "upgrade"),
        (lambda tree: tree.update(root={"array": 0}), "no solution"),
        (lambda tree: tree.update(root={"list": [3]}), "no solution"),
        (lambda tree: tree.update(root={"eval": "1"}), "unknown entry"),
        (lambda tree: tree["objects"][0].update({"class": "Popen"}), "needs the class 'Popen'"),
        (lambda tree: tree["objects"][0].update(fields={"x": 1}), "TypeError"),
        (lambda tree: tree["objects"][-1]["fields"].update(stages={"object": 99}), "IndexError"),
    ],
)
def test_foreign_trees(tmp_path, change, reason):
    path = tmp_path / "odd.zip"
    a_solution().save(path)
    tampered(path, change)
    with pytest.raises(InputError, match=rf"odd\.zip.*{reason}"):
        archive.load(path)


def entry(tree, cls, number=0):
    """The fields of one stored object of a class."""
    return [o for o in tree["objects"] if o["class"] == cls][number]["fields"]


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda tree: entry(tree, "Solution").update(records={"tuple": [1, "x"]}), "records must"),
        (lambda tree: entry(tree, "Solution").update(records={"tuple": []}), "one record and one"),
        (lambda tree: entry(tree, "Solution").update(kind="poem"), "kind must be"),
        (lambda tree: entry(tree, "Solution").update(states=entry(tree, "Solution")["stages"]),
         "states must"),
        (lambda tree: entry(tree, "StageRecord").update(times=3), "times must be"),
        (lambda tree: entry(tree, "StageRecord").update(predictions={"dict": []}), "no predict"),
        (lambda tree: entry(tree, "StageRecord").update(outcome="converged"), "outcome must be"),
        (lambda tree: entry(tree, "StageRecord").update(duration="long"), "duration must be"),
        (lambda tree: entry(tree, "StageRecord").update(times=entry(tree, "Task")["X"]),
         "times must be"),
        (lambda tree: entry(tree, "StageRecord").pop("cost"), "TypeError"),
        (lambda tree: entry(tree, "Cost").update(steps=True), "steps must be int"),
        (lambda tree: entry(tree, "Solution").update(root={"object": 0}), "TypeError"),
        (lambda tree: entry(tree, "Task").update(name="other"), "is not there|is stored as"),
        (lambda tree: tree["objects"][0]["fields"].update(y={"object": 0}), "RecursionError"),
    ],
)  # fmt: skip
def test_records_that_are_none(tmp_path, change, reason):
    path = tmp_path / "odd.zip"
    a_solution().save(path)
    tampered(path, change)
    with pytest.raises(InputError, match=rf"cannot load .*odd\.zip.*({reason})") as refused:
        archive.load(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "declared",
    [
        {"shape": [10**12, 3]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**9, 10**9]}}},
        {"shape": [10**9, 10**9], "chunk_grid":
         {"name": "regular", "configuration": {"chunk_shape": [10**9, 10**9]}}},
        {"data_type": "complex128"},
        {"node_type": "group"},
    ],
)  # fmt: skip
def test_arrays_larger_than_the_file(tmp_path, declared):
    path = tmp_path / "odd.zip"
    a_solution().save(path)
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    meta = json.loads(entries["0/zarr.json"])
    entries["0/zarr.json"] = json.dumps(meta | declared).encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in entries.items():
            new.writestr(name, content)
    with pytest.raises(InputError, match=r"cannot load .*odd\.zip"):
        archive.load(path)


def garbled(tmp_path, count):
    """Every damaged file is refused in one line, or what was hit means nothing."""
    rng = np.random.default_rng(22)
    path, refused = tmp_path / "odd.zip", 0
    before = a_solution()
    before.save(path)
    whole = path.read_bytes()
    for i in range(count):
        content, place = bytearray(whole), int(rng.integers(len(whole)))
        if i % 3:
            content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content if i % 3 else content[:place])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr's, of names that it does not know
            try:
                after = archive.load(path)
            except InputError as error:
                refused += 1
                assert "cannot load" in str(error) and "\n" not in str(error)
                continue
        for old, new in zip(before.records, after.records, strict=True):
            assert new.outcome is old.outcome
            for key, f in old.predictions.items():
                np.testing.assert_array_equal(new.predictions[key], f)
    assert refused > count / 2


def test_garbled_files(tmp_path):
    garbled(tmp_path, 20)


@pytest.mark.evidence
def test_two_hundred_garbled_files(tmp_path):
    garbled(tmp_path, 200)


def test_unreadable_files(tmp_path):
    path = tmp_path / "odd.zip"
    a_solution().save(path)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = bytes(b ^ 255 for b in whole[middle - 200 : middle + 200])
    bad = [b"", b"text", whole[:middle], whole[: middle - 200] + flipped + whole[middle + 200 :]]
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"odd\.zip"):
            archive.load(path)
    path.write_bytes(b"text")
    with pytest.raises(InputError, match="BadZipFile"):
        archive.load(path)
    with zipfile.ZipFile(path, "w") as foreign:
        foreign.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"odd\.zip"):
        archive.load(path)
    with pytest.raises(InputError, match="no such file"):
        archive.load(tmp_path / "missing.zip")


def test_no_module_outside_the_package_is_imported(tmp_path):
    path = tmp_path / "odd.zip"
    a_solution().save(path)
    tampered(path, lambda tree: tree["objects"][0].update({"class": "X", "module": "antigravity"}))
    code = (
        "import sys; from adaptik.solution import archive\n"
        "try: archive.load(sys.argv[1])\n"
        "except Exception as e: print(type(e).__name__, 'antigravity' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["InputError", "False"]


def test_solutions_of_before_the_rooms_load_and_predict():
    """Their classes name modules that are elsewhere today, and nothing else imports them first."""
    code = (
        "import json, sys; from adaptik.solution import Solution\n"
        "assert not [name for name in sys.modules if name.startswith('adaptik.limits')]\n"
        "told = json.loads(open(sys.argv[1] + '/predictions.json').read())\n"
        "X = told.pop('X')\n"
        "for name in told:\n"
        "    found = Solution.load(f'{sys.argv[1]}/{name}.zip')\n"
        "    told[name] = [found.predict(X, stage).value.tolist() for stage in (0, 1)]\n"
        "print(json.dumps(told))"
    )
    folder = Path(__file__).parent / "data"
    told = json.loads((folder / "predictions.json").read_text())
    for name in ("two_layer", "linear"):
        with zipfile.ZipFile(folder / f"{name}.zip") as archive:
            tree = json.loads(archive.read("zarr.json"))["attributes"]
        modules = {entry["module"] for entry in tree["objects"]}
        assert "adaptik.limits.span" in modules and "adaptik.solution" in modules
        gone = {m for m in modules if m in MOVED or find_spec(m) is None}
        assert gone, "the archive was written by the code of today"
    found = json.loads(
        subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
        ).stdout
    )
    for name, predictions in found.items():
        np.testing.assert_allclose(predictions, told[name], rtol=1e-5, atol=1e-6)
        assert not np.allclose(predictions[0], predictions[1], atol=0.01)
