"""The labelled data set holds the solution's own numbers, NaN where there are none."""

import json

import numpy as np
import pytest

from adaptik.solution import Cost, Outcome, Solution, StageRecord
from adaptik.tasks import Task
from adaptik.tasks.stages import Stage

xr = pytest.importorskip("xarray")

MEMBERS = 3


def a_record(stage, tasks, times, rng):
    predictions = {
        (t.name, s): rng.standard_normal(
            (len(times), MEMBERS, len(t.split(s)[0]), stage.task.outputs)
        )
        for t in tasks
        for s in t.splits
    }
    cost = Cost("exact", 1, 0, 0.0, 0.0)
    return StageRecord(np.array(times), predictions, times[-1], 0.1, 0.0, Outcome.CONVERGED, cost)


@pytest.fixture
def solution():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, 4))
    source = Task(X, [-1, 1] * 3, X[:4] + 1, [-1, 1, 1, -1], name="digits:3/5", classes=("3", "5"))
    regression = Task(X, rng.standard_normal(6), name="digits:3_5")
    three = Task(X, np.eye(3)[[0, 1, 2] * 2], X[:2], np.eye(3)[:2], name="three", classes="abc")
    stages = (Stage(source, 1.0), Stage(regression, 0.0), Stage(three, 1.0, duration=4.0))
    tasks = {t.name: t for t in (source, regression, three)}
    times = ([0.0, 1.0, 2.0], [0.0, 5.0], [0.0, 4.0])
    records = tuple(
        a_record(stage, tasks.values(), t, rng) for stage, t in zip(stages, times, strict=True)
    )
    provenance = {"versions": {"jax": "1"}, "grid": {(0, 1.5): np.arange(2)}}
    return Solution("limit", stages, records, (), tasks, provenance=provenance)


def test_times_and_attributes(solution):
    ds = solution.to_xarray()
    assert ds.stage.values.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert ds.stage_time.values.tolist() == [0, 1, 2, 0, 5, 0, 4]
    assert ds.total_time.values.tolist() == [0, 1, 2, 2, 7, 7, 11]
    assert ds.attrs["kind"] == "limit"
    assert json.loads(ds.attrs["outcomes"]) == ["converged"] * 3
    assert json.loads(ds.attrs["versions"]) == {"jax": "1"}
    assert "(0, 1.5)" in json.loads(ds.attrs["provenance"])["grid"]


def test_values_are_those_of_the_solution(solution):
    ds = solution.to_xarray()
    assert ds.loss.dims == ds.accuracy.dims == ("time", "task", "split", "member")
    first = ds.sel(task="digits:3/5", split="test").isel(time=slice(0, 3))
    np.testing.assert_array_equal(first.loss, solution.losses("digits:3/5", "test", 0))
    f = solution.predictions("digits:3/5", "test", 0)[..., 0]
    by_hand = (np.sign(f) == [-1, 1, 1, -1]).mean(-1)
    np.testing.assert_array_equal(first.accuracy, by_hand)
    estimate = solution.loss("digits:3/5", "test", 1)
    end = ds.sel(task="digits:3/5", split="test").isel(time=4)
    np.testing.assert_allclose(end.loss_mean, estimate.value, rtol=1e-6)
    np.testing.assert_allclose(end.loss_standard_error, estimate.standard_error, rtol=1e-6)
    multi = ds.sel(task="three", split="train").isel(time=slice(5, 7))
    f = solution.predictions("three", "train", 2)
    np.testing.assert_array_equal(multi.accuracy, (f.argmax(-1) == [0, 1, 2] * 2).mean(-1))


def test_nan_where_undefined(solution):
    ds = solution.to_xarray()
    loss = ds.loss.isel(member=0)
    assert np.isnan(loss.sel(task="digits:3_5", split="test")).all()  # no test data
    assert np.isfinite(loss.sel(task="digits:3_5", split="train")).sum() == 5
    assert np.isnan(ds.accuracy.sel(task="digits:3_5")).all()  # regression
    assert (
        np.isnan(loss.sel(task="three", split="train")).values.tolist() == [True] * 5 + [False] * 2
    )
    assert (
        np.isnan(loss.sel(task="digits:3/5", split="train")).values.tolist()
        == [False] * 5 + [True] * 2
    )
    assert np.isfinite(ds.accuracy.sel(task="three", split="test")).all("member").sum() == 2


def test_predictions(solution):
    ds = solution.to_xarray()
    # Two names that differ in the slash only stay apart.
    expected = {
        "digits:3_5__train",
        "digits:3_5__test",
        "digits:3_5___train",
        "three__train",
        "three__test",
    }
    assert {v.removeprefix("prediction__") for v in ds if v.startswith("prediction")} == expected
    f = ds["prediction__digits:3_5__test"]
    assert f.dims == ("time", "member", "sample__digits:3_5__test", "output__digits:3_5")
    assert f.attrs["task"] == "digits:3/5"
    np.testing.assert_array_equal(f[:3], solution.predictions("digits:3/5", "test", 0))
    assert ds["prediction__three__train"].shape == (7, MEMBERS, 6, 3)
    assert np.isnan(ds["prediction__three__train"][:5]).all()


@pytest.mark.filterwarnings("ignore:.*Zarr V3 specification")
def test_zarr_round_trip(solution, tmp_path):
    ds = solution.to_xarray()
    ds.to_zarr(tmp_path / "x.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "x.zarr", consolidated=False) as back:
        xr.testing.assert_identical(ds, back.load())
