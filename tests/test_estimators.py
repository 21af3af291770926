"""scikit-learn's own checks, and what transfer adds to its conventions."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import adaptik as ak
from adaptik import estimators
from adaptik.estimators import (
    AdaptiveKernelClassifier,
    AdaptiveKernelRegressor,
    TransferKernelClassifier,
    TransferKernelRegressor,
    adaptive,
)
from adaptik.system.errors import InputError

CHECKS = """
import sys, warnings
from sklearn.utils.estimator_checks import check_estimator
from adaptik import estimators
warnings.simplefilter("ignore")  # the checks provoke warnings
estimator = getattr(estimators, sys.argv[1])(richness=0.0, particles=64)
results = check_estimator(estimator, on_fail=None, on_skip=None)
bad = [(r["check_name"], r["status"], r["exception"]) for r in results if r["status"] != "passed"]
assert len(results) > 40 and not bad, bad
"""
SMALL = dict(particles=128, replicates=2)


@pytest.mark.evidence
@pytest.mark.parametrize("name", estimators.__all__)
def test_scikit_learn_conventions(name):
    # A process of its own: the check of array inputs wants this set before SciPy is imported.
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    command = [sys.executable, "-c", CHECKS, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def digits(first, second, n=40, seed=0):
    X, y = load_digits(return_X_y=True)
    rows = np.flatnonzero(np.isin(y, (first, second)))
    rows = np.random.default_rng(seed).permutation(rows)[:n]
    return X[rows], y[rows]


@pytest.fixture(scope="module")
def source():
    return AdaptiveKernelClassifier(richness=0.0, **SMALL).fit(*digits(3, 5, 60))


def test_a_fit_is_a_solve_on_scaled_data():
    X, y = digits(8, 9)
    model = AdaptiveKernelRegressor(richness=0.0, **SMALL).fit(X, y)
    centred = X - X.mean(0)
    inputs = np.column_stack([centred / np.sqrt(np.mean(centred**2)), np.ones(len(X))])
    task = ak.Task(inputs, (y - y.mean()) / y.std())
    limit = ak.TwoLayer("relu", dtype="float64", **SMALL)
    new = X[:5] + np.random.default_rng(0).standard_normal((5, 64))
    scaled = (new - X.mean(0)) / np.sqrt(np.mean(centred**2))
    solution = ak.solve([ak.Stage(task, 0.0, duration=np.inf)], limit)
    expected = solution.predict(np.column_stack([scaled, np.ones(5)])).value
    np.testing.assert_allclose((model.predict(new) - y.mean()) / y.std(), expected, atol=1e-6)
    assert model.kernel_.shape == (40, 40)
    assert isinstance(model.solution_, ak.Solution)


def test_richness_is_chosen_by_refits_and_the_fit_uses_it(monkeypatch):
    monkeypatch.setattr(adaptive, "RICHNESSES", (0.0, 1.0))
    X, y = digits(8, 9, 16)
    model = AdaptiveKernelClassifier(cv=2, duration=2.0, **SMALL).fit(X[:, 20:30], y)
    assert set(model.richness_losses_) == {0.0, 1.0}
    assert model.richness_ == min(model.richness_losses_, key=model.richness_losses_.get)
    assert model.solution_.stages[-1].richness == model.richness_
    assert all(0.01 < loss < 4 for loss in model.richness_losses_.values())


@pytest.mark.parametrize("mode", ["readout", "lazy"])
@pytest.mark.parametrize("head", ["fresh", "kept"])
def test_modes_and_heads(source, mode, head):
    X, y = digits(8, 9)
    model = TransferKernelClassifier(source, mode=mode, head=head, **SMALL).fit(X, y)
    first, second = model.solution_.stages
    assert (second.trains == "readout") == (mode == "readout")
    assert second.head == head and first.richness == source.richness_
    X_test, y_test = digits(8, 9, 200, seed=1)
    assert model.score(X_test, y_test) > 0.85


def test_a_kept_head_starts_from_the_source(source):
    # Time 0+: the target has not been learned, the source has.
    X, y = digits(3, 5, 30, seed=2)
    kept = TransferKernelClassifier(source, mode="lazy", head="kept", duration=1e-9, **SMALL)
    assert kept.fit(X, y).score(X, y) > 0.9
    assert np.abs(kept.decision_function(X)).mean() > 0.5  # its size is the source's, too
    fresh = clone(kept).set_params(head="fresh").fit(X, y)
    assert np.abs(fresh.decision_function(X)).max() < 1e-3


def test_source_data_are_as_good_as_a_fitted_source(source):
    X, y = digits(8, 9)
    options = dict(mode="readout", source_richness=0.0, **SMALL)
    by_estimator = TransferKernelClassifier(source, **options).fit(X, y)
    by_data = TransferKernelClassifier(digits(3, 5, 60), **options).fit(X, y)
    np.testing.assert_allclose(
        by_estimator.decision_function(X), by_data.decision_function(X), atol=1e-5
    )


def test_without_a_source_transfer_is_the_single_task():
    X, y = digits(8, 9)
    single = AdaptiveKernelClassifier(richness=0.0, **SMALL).fit(X, y)
    alone = TransferKernelClassifier(richness=0.0, **SMALL).fit(X, y)
    np.testing.assert_array_equal(alone.decision_function(X), single.decision_function(X))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_fitted_source_survives_clones_searches_and_pipelines(source, frozen):
    X, y = digits(8, 9)
    model = TransferKernelClassifier(
        FrozenEstimator(source) if frozen else source, mode="lazy", **SMALL
    )
    copy = clone(model)
    assert copy.source is model.source and copy.get_params()["mode"] == "lazy"
    search = GridSearchCV(model, {"mode": ["readout", "lazy"]}, cv=2, error_score="raise")
    assert search.fit(X, y).best_score_ > 0.8
    scores = cross_val_score(copy, X, y, cv=2, error_score="raise")
    assert scores.min() > 0.7
    pipeline = make_pipeline(StandardScaler(), AdaptiveKernelClassifier(richness=0.0, **SMALL))
    assert pipeline.fit(X, y).score(X, y) == 1


def test_source_richness_is_chosen_by_leave_one_out_for_readouts(monkeypatch):
    monkeypatch.setattr(
        TransferKernelClassifier, "_refit_loss", lambda *_: pytest.fail("refits are not needed")
    )
    monkeypatch.setattr(adaptive, "RICHNESSES", (0.0, 0.5, 1.0))
    X, y = (part[:16] for part in digits(8, 9))
    source = tuple(part[:20] for part in digits(3, 5))
    model = TransferKernelClassifier(
        source, mode="readout", source_richness="auto", duration=None, **SMALL
    ).fit(X, y)
    losses = model.richness_losses_
    assert set(losses) == {(0.5, 0.0), (1.0, 0.0)} and losses[0.5, 0.0] != losses[1.0, 0.0]
    assert (model.source_richness_, model.richness_) == min(losses, key=losses.get)


def test_standard_deviations_vanish_at_samples_and_grow_away_from_them():
    X, y = digits(8, 9)
    model = AdaptiveKernelRegressor(richness=0.0, **SMALL).fit(X[:30], y[:30])
    f, near = model.predict(X[:30], return_std=True)
    _, far = model.predict(X[30:], return_std=True)
    assert f.shape == near.shape == (30,)
    assert near.max() < 0.2 * far.min()
    twice = AdaptiveKernelRegressor(richness=0.0, **SMALL).fit(X[:30], 2 * y[:30])
    np.testing.assert_allclose(twice.predict(X[30:], return_std=True)[1], 2 * far, rtol=1e-6)


@pytest.mark.parametrize("transfer", [False, True])
def test_saved_without_pickles(tmp_path, source, transfer):
    X, y = digits(8, 9)
    y = np.array(["eight", "nine"])[(y == 9).astype(int)]
    model = (
        TransferKernelClassifier(source, mode="readout", **SMALL)
        if transfer
        else AdaptiveKernelClassifier(richness=0.0, **SMALL)
    ).fit(X, y)
    model.save(tmp_path / "model.zip")
    again = adaptive.AdaptiveKernel.load(tmp_path / "model.zip")
    assert type(again) is type(model)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(again.decision_function(X), model.decision_function(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


def test_several_outputs_and_constant_labels():
    X, y = digits(8, 9)
    Y = np.stack([y, -y, 0 * y + 3.0], axis=1)
    model = AdaptiveKernelRegressor(richness=0.0, **SMALL).fit(X, Y)
    np.testing.assert_allclose(model.predict(X), Y, atol=1e-5)
    constant = AdaptiveKernelRegressor(**SMALL).fit(X, 0 * y + 3.0)
    np.testing.assert_array_equal(constant.predict(X[:4], return_std=True), [[3.0] * 4, [0.0] * 4])


def test_several_classes():
    X, y = load_digits(return_X_y=True)
    model = AdaptiveKernelClassifier(richness=0.0, **SMALL).fit(X[:100], y[:100])
    assert model.decision_function(X[:5]).shape == (5, 10)
    assert model.score(X[100:400], y[100:400]) > 0.8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(source=AdaptiveKernelClassifier()), NotFittedError, "not fitted"),
        (dict(source=3), InputError, "source must be"),
        (dict(source=(np.ones((4, 3)), np.arange(4.0))), InputError, "same features"),
        (dict(source=(digits(3, 5)[0], np.ones(40))), InputError, "constant labels"),
        (dict(mode="tuned"), InputError, "mode must be"),
        (dict(head="new"), InputError, "head must be"),
        (dict(activation="swish"), InputError, "unknown activation"),
        (dict(richness=-1.0), InputError, "richness"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        TransferKernelRegressor(**(dict(richness=0.0) | SMALL | options)).fit(*digits(8, 9))
