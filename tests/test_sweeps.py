"""Sweeps: what is stored, what is computed again, and faults with real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
import types
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

import adaptik as ak
from adaptik import sweeps
from adaptik.sweeps import executors

GRID = {"a": [1.0, 2.0, 3.0], "b": ["x", "y"]}


def case(a, b, key, scale=1.0):
    return {"value": scale * a, "name": b, "noise": np.random.default_rng(key).normal(size=2)}


def run(path, function=case, grid=GRID, **settings):
    return sweeps.sweep(function, grid, store=path, **{"executor": "serial", **settings})


def test_results_are_labelled_and_describe_themselves(tmp_path):
    data = run(tmp_path / "s", fixed={"scale": 2.0})
    assert data.value.dims == ("a", "b")
    np.testing.assert_array_equal(data.value.sel(b="y"), [2.0, 4.0, 6.0])
    assert data.name.sel(a=1.0).values.tolist() == ["x", "y"]
    assert (data.status == 1).all() and data.noise.shape == (3, 2, 2)
    assert '"scale": 2.0' in data.attrs["config"] and "jax" in data.attrs["versions"]
    assert len(np.unique(data.noise)) == 12  # every case has a key of its own
    other = run(tmp_path / "other", seed=1)
    assert not np.isin(other.noise, data.noise).any()


def test_processes_give_the_same_bits(tmp_path):
    def here(a, b, key):  # sent by value: workers cannot import test modules
        return {"value": a, "name": b, "noise": np.random.default_rng(key).normal(size=2)}

    serial = run(tmp_path / "serial", here)
    parallel = run(tmp_path / "parallel", here, executor="processes", workers=2)
    xr.testing.assert_identical(serial.drop_vars("seconds"), parallel.drop_vars("seconds"))


GROWING = """
import os, sys, time, types
import numpy as np
from adaptik import sweeps

def main():
    def growing(i):  # as compiled programs do; loky looks once a second
        held = sys.modules.setdefault("held", types.ModuleType("held"))
        vars(held).setdefault("arrays", []).append(np.ones(20_000_000))
        time.sleep(1.1)
        return {"process": float(os.getpid())}

    grid = {"i": list(range(10))}
    data = sweeps.sweep(growing, grid, store=sys.argv[1], executor="processes", workers=2)
    assert len(np.unique(data.process)) == 2

if __name__ == "__main__":
    main()
"""


@pytest.mark.evidence
def test_workers_that_grow_are_kept(tmp_path):
    path = tmp_path / "growing.py"
    path.write_text(GROWING)
    # Workers that loky ends and does not start again would leave the sweep waiting for ever.
    subprocess.run([sys.executable, str(path), str(tmp_path / "s")], check=True, timeout=120)


def test_functions_that_workers_cannot_import_are_said_to_be(tmp_path, monkeypatch):
    nowhere = types.ModuleType("nowhere_at_all")
    exec("def lost(a, b):\n    return {'value': a}", vars(nowhere))
    monkeypatch.setitem(sys.modules, "nowhere_at_all", nowhere)
    with pytest.raises(ak.InputError, match="cannot load lost of module 'nowhere_at_all'"):
        run(tmp_path / "s", nowhere.lost, executor="processes", workers=2)


def test_only_what_is_missing_is_computed(tmp_path):
    calls = []

    def logged(a, b):
        calls.append((a, b))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return {"value": a}

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "s", logged)
    seen = []
    data = run(tmp_path / "s", logged, progress=lambda *counts: seen.append(counts))
    assert len(calls) == 7 and calls.count((2.0, "y")) == 2
    assert seen[0] == (3, 0, 6) and seen[-1] == (6, 0, 6)
    assert (data.status == 1).all()
    run(tmp_path / "s", logged)
    assert len(calls) == 7


def test_a_case_that_raises_is_recorded_and_can_be_tried_again(tmp_path):
    broken = [True]

    def sometimes(a, b):
        if broken[0] and a == 2.0:
            raise ValueError("no luck")
        return {"value": np.nan if b == "x" else a}

    data = run(tmp_path / "s", sometimes)
    assert data.status.sel(b="x").values.tolist() == [1, 2, 1]
    assert "ValueError: no luck" in str(data.error.sel(a=2.0, b="x").values)
    assert np.isnan(data.value.sel(b="x")).all()  # NaN is a result like any other
    broken[0] = False
    assert (run(tmp_path / "s", sometimes).status.sel(a=2.0) == 2).all()
    data = run(tmp_path / "s", sometimes, retry_failed=True)
    assert (data.status == 1).all() and (data.error == "").all()
    assert float(data.value.sel(a=2.0, b="y")) == 2.0


def test_results_of_another_shape_fail_alone(tmp_path):
    data = run(tmp_path / "s", lambda a, b: {"v": np.zeros(1 if a < 3 else 2)})
    assert data.status.values.tolist() == [[1, 1], [1, 1], [2, 2]]
    assert "has shape (2,), other cases have (1,)" in str(data.error.values[2, 0])


def test_a_store_of_before_a_result_was_added_goes_on_without_it(tmp_path):
    from adaptik.transfer import transfer_point

    def point(a):
        if a > 1 and not later:
            raise KeyboardInterrupt
        return {"loss": a} | ({"notes": "said"} if later else {})

    later = False
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "s", point, {"a": [1.0, 2.0]})
    later = True
    refused = run(tmp_path / "s", point, {"a": [1.0, 2.0]})
    assert refused.status.values.tolist() == [1, 2]
    assert str(refused.error.values[1]).startswith("result has ['notes'] besides, compared with")
    point.optional_results = transfer_point.optional_results
    data = run(tmp_path / "s", point, {"a": [1.0, 2.0]}, retry_failed=True)
    assert data.loss.values.tolist() == [1.0, 2.0] and "notes" not in data
    new = run(tmp_path / "new", point, {"a": [1.0, 2.0]})
    assert new.notes.values.tolist() == ["said", "said"]


def test_datasets_keep_their_coordinates(tmp_path):
    def curve(a, b):
        return xr.Dataset({"loss": ("time", np.arange(3.0) * a)}, coords={"time": [0.0, 1.0, 5.0]})

    data = run(tmp_path / "s", curve)
    assert float(data.loss.sel(a=3.0, b="x", time=5.0)) == 6.0


BAD = (
    (dict(grid={}), "no axes"),
    (dict(grid={"a": [], "b": ["x"]}), "'a' is empty"),
    (dict(grid={"a": [1.0, 1.0], "b": ["x"]}), "repeats a value"),
    (dict(grid={"a": [1.0, "x"], "b": ["x"]}), "must hold numbers, or strings"),
    (dict(grid={"a": [1.0, np.nan], "b": ["x"]}), "holds NaN"),
    (dict(grid={"a": "text", "b": ["x"]}), "must be a list"),
    (dict(grid={"a": [1.0], "c": [1.0]}), "axis 'c' is unknown to case; it has"),
    (dict(grid={"a": [1.0]}), "'b' is missing"),
    (dict(fixed={"a": 1.0}), "'a' is an axis and fixed"),
    (dict(executor="threads"), "executor='threads' is unknown"),
    (dict(workers=0), "workers must be an integer >= 1"),
)


@pytest.mark.parametrize(("settings", "message"), BAD)
def test_bad_requests_are_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(ak.InputError, match=message):
        run(tmp_path / "s", **settings)
    assert list(tmp_path.iterdir()) == []


def test_stores_of_other_sweeps_are_refused(tmp_path, monkeypatch):
    run(tmp_path / "s")
    with pytest.raises(ak.InputError, match=r"other axes .*a: .*4.0"):
        run(tmp_path / "s", grid={**GRID, "a": [4.0]})
    with pytest.raises(ak.InputError, match=r"other configuration .*seed: 0 there, 3 here"):
        run(tmp_path / "s", seed=3)
    monkeypatch.setattr("adaptik.sweeps.store.version", lambda name: "99")
    with pytest.raises(ak.InputError, match=r"other versions .*adaptik"):
        run(tmp_path / "s")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder"):
        with pytest.raises(ak.InputError, match="holds no sweep"):
            run(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_store_goes_on_after_its_function_has_moved(tmp_path, monkeypatch):
    calls = []

    def moving(a, b):
        calls.append((a, b))
        return {"value": a}

    moving.__module__ = "adaptik.experiments.image_fine_tuning"
    with monkeypatch.context() as then:
        then.setattr("adaptik.system.moved.MOVED", {})
        run(tmp_path / "s", moving)
    moving.__module__ = "adaptik.experiments.images.fine_tuning"
    run(tmp_path / "s", moving)
    assert len(calls) == 6
    moving.__module__ = "adaptik.experiments.images.pairs"
    with pytest.raises(ak.InputError, match="other configuration"):
        run(tmp_path / "s", moving)


SCRIPT = """
import os, sys, time
import numpy as np
from adaptik import sweeps

def slow(i, key):
    time.sleep(0.02)
    if os.environ.get("KILL") == str(i) and not os.path.exists(sys.argv[2]):
        open(sys.argv[2], "w").close()
        os.kill(os.getpid(), 9)
    if i == 7:
        raise ValueError("seven")
    return {"value": np.full(3, np.nan if i == 8 else i), "key": key}

if __name__ == "__main__":
    where = {"executor": os.environ["DASK"]} if "DASK" in os.environ else {"workers": 2}
    sweeps.sweep(slow, {"i": range(200)}, store=sys.argv[1], **where)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "sweep_script.py"
    path.write_text(SCRIPT)

    def start(store, **environment):
        return subprocess.Popen(
            [sys.executable, str(path), str(tmp_path / store), str(tmp_path / "killed")],
            env={**os.environ, **environment},
        )

    return start


def contents(path, names=("status", "value", "key", "error")):
    group = zarr.open_group(path, mode="r")
    return {name: np.asarray(group[name]) for name in names}


def wait_for_cases(path, count):
    for _ in range(1200):
        if path.exists() and (contents(path, ["status"])["status"] > 0).sum() >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the sweep did not start")


@pytest.mark.evidence
def test_after_kills_every_case_is_there_once_and_right(tmp_path, script):
    undisturbed = script("undisturbed")
    assert undisturbed.wait() == 0
    main = script("main")
    wait_for_cases(tmp_path / "main", 30)
    main.send_signal(signal.SIGKILL)
    main.wait()
    assert 0 < (contents(tmp_path / "main", ["status"])["status"] == 0).sum() < 200
    again = script("main", KILL="150")  # and a worker dies on the way
    assert again.wait() == 0
    assert (tmp_path / "killed").exists()
    expected, found = contents(tmp_path / "undisturbed"), contents(tmp_path / "main")
    assert (expected["status"] == np.where(np.arange(200) == 7, 2, 1)).all()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


FULL_DISK = """
import resource, signal, sys
import numpy as np
from adaptik import InputError, sweeps

def large(i):
    return {"value": i + np.random.default_rng(i).normal(size=500)}

def limit(done, failed, total):
    if done == 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    grid = {"i": range(20)}
    try:
        sweeps.sweep(large, grid, store=sys.argv[1], executor="serial", progress=limit)
    except InputError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    data = sweeps.sweep(large, grid, store=sys.argv[1], executor="serial",
                        progress=lambda done, failed, total: print(done, failed))
    expected = np.stack([large(i)["value"] for i in range(20)])
    assert (data.status == 1).all() and (data.value.values == expected).all()
"""


def test_a_full_disk_keeps_what_was_finished(tmp_path):
    path = tmp_path / "full_disk.py"
    path.write_text(FULL_DISK)
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path / "s")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert "cannot write" in first and "finished cases are kept" in first
    assert rest[0] == "5 0" and rest[-1] == "20 0" and len(rest) == 16


@pytest.fixture
def cluster():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as local:
        yield local


@pytest.mark.evidence
def test_a_dask_cluster_gives_the_same_bits_and_survives_a_killed_worker(tmp_path, cluster):
    def patient(a, b, key):
        time.sleep(0.1)
        return {"value": np.random.default_rng(key).normal(size=3)}

    grid = {"a": list(range(10)), "b": [0, 1]}
    serial = run(tmp_path / "serial", patient, grid)
    victims = [worker.pid for worker in cluster.workers.values()]

    def kill(done, failed, total):
        if done == 4 and victims:
            os.kill(victims.pop(), signal.SIGKILL)

    there = run(tmp_path / "dask", patient, grid, executor=cluster.scheduler_address, progress=kill)
    assert len(victims) == 1
    xr.testing.assert_identical(serial.drop_vars("seconds"), there.drop_vars("seconds"))


@pytest.mark.evidence
def test_a_killed_client_of_a_scheduler_goes_on_where_it_was(tmp_path, script, cluster):
    undisturbed = script("undisturbed")
    assert undisturbed.wait() == 0
    client = script("dask", DASK=cluster.scheduler_address)
    wait_for_cases(tmp_path / "dask", 30)
    client.send_signal(signal.SIGKILL)
    client.wait()
    before = contents(tmp_path / "dask")
    assert 0 < (before["status"] == 0).sum() < 200
    assert script("dask", DASK=cluster.scheduler_address).wait() == 0
    expected, found = contents(tmp_path / "undisturbed"), contents(tmp_path / "dask")
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
        done = before["status"] == 1
        np.testing.assert_array_equal(found[name][done], before[name][done])


def test_an_unreachable_scheduler_is_said_to_be(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "ANSWER", "1s")
    with pytest.raises(ak.InputError, match=r"no Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        run(tmp_path / "s", executor="tcp://127.0.0.1:9")


LONG = "γ" * 3000


def test_texts_of_any_length_are_kept(tmp_path):
    data = run(tmp_path / "s", lambda a, b: {"text": [b, LONG[: int(a) * 1000]]})
    assert data.text.sel(a=3.0, b="y").values.tolist() == ["y", LONG]
    assert sweeps.load(tmp_path / "s").text.sel(a=1.0, b="x").values.tolist() == ["x", LONG[:1000]]


def test_numbers_do_not_change_silently(tmp_path):
    def mixed(a, b):
        return {"v": int(a) if b == "x" else np.nan, "w": int(a) if a < 3 else 2**60 + 1}

    data = run(tmp_path / "s", mixed)
    assert data.status.values.tolist() == [[1, 1], [1, 1], [2, 2]]
    assert data.v.sel(b="x").values.tolist()[:2] == [1, 2] and np.isnan(data.v.sel(b="y")).all()
    assert "'w' has type int64, other cases have float64" in str(data.error.values[2, 0])


def test_what_cannot_be_stored_is_refused(tmp_path):
    with pytest.raises(ak.InputError, match="fixed: scale must be a number"):
        run(tmp_path / "s", fixed={"scale": object()})
    with pytest.raises(ak.InputError, match="seed must be an integer >= 0, got -1"):
        run(tmp_path / "s", seed=-1)
    with pytest.raises(ak.InputError, match="grid has 4000000 cases"):
        run(tmp_path / "s", grid={"a": range(2000), "b": range(2000)})
    assert list(tmp_path.iterdir()) == []


DAMAGES = ("truncated", "emptied", "flipped", "garbled", "deleted")


def damaged(path, rng):
    """One file of a store changed in one way; which, and how."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".lock")
    file, how = files[rng.integers(len(files))], DAMAGES[rng.integers(len(DAMAGES))]
    content = bytearray(file.read_bytes())
    place = int(rng.integers(len(content)))
    if how == "flipped":
        content[place] ^= 1 << int(rng.integers(8))
    elif how == "garbled":
        content = bytearray(rng.bytes(len(content)))
    else:
        content = content[: place if how == "truncated" else 0]
    file.write_bytes(content)
    if how == "deleted":
        file.unlink()
    return file, how


def garbled_stores(tmp_path, count):
    """Every damaged store is refused, or computed again and then as before."""
    rng = np.random.default_rng(22)
    before, whole = tmp_path / "whole", None
    whole = run(before)
    for i in range(count):
        path = tmp_path / f"{i}"
        shutil.copytree(before, path)
        where = damaged(path, rng)
        try:
            seen = sweeps.load(path)
        except ak.InputError:
            pass
        else:
            there = seen.where(seen.status == 1, drop=True)
            same = whole.sel(a=there.a, b=there.b)
            assert there.value.equals(same.value.where(there.status == 1)), where
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                data = run(path)
            except ak.InputError as refused:
                assert "store: " in str(refused) and "\n" not in str(refused)
                continue
        changed = where[1] != "deleted" or "c" in where[0].parts
        lost = where[0].parent.name != "error" and changed and "c" in where[0].parts
        assert ["computed again" in str(w.message) for w in said] == [True] * lost, (where, said)
        xr.testing.assert_identical(data.drop_vars("seconds"), whole.drop_vars("seconds"))


def test_damaged_cases_are_computed_again(tmp_path):
    garbled_stores(tmp_path, 5)


@pytest.mark.evidence
def test_fifty_garbled_stores_are_refused_or_computed_again(tmp_path):
    garbled_stores(tmp_path, 50)


TWO = """
import sys, time
import numpy as np
from adaptik import sweeps

def slow(i, key):
    time.sleep(0.05)
    return {"value": np.full(3, i), "key": key, "who": sys.argv[2]}

sweeps.sweep(slow, {"i": range(60)}, store=sys.argv[1], executor="serial")
"""


def test_two_processes_share_one_store(tmp_path):
    path = tmp_path / "two.py"
    path.write_text(TWO)
    both = [subprocess.Popen([sys.executable, str(path), str(tmp_path / "s"), who]) for who in "AB"]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    data = sweeps.load(tmp_path / "s")
    assert (data.status == 1).all() and (data.value[:, 0] == np.arange(60)).all()
    assert len(np.unique(data.key)) == 60
    assert {path.name for path in tmp_path.iterdir()} == {"two.py", "s"}
