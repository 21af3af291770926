"""The lazy limit as a control variate: less noise, no bias, and the same answer everywhere."""

import numpy as np
import pytest

import adaptik as ak
from adaptik.kernels.particles import frozen

SOURCE, TARGET = ak.tasks.hermite_pair(
    1, 2, 0.5, n_source=30, n_target=30, dimension=10, n_test=60, seed=3
)


def solve(richness, particles=96, key=0, replicates=12, stages=1, **settings):
    chain = [ak.Stage(SOURCE, richness, duration=10.0), ak.Stage(TARGET, 1.0, duration=5.0)]
    limit = ak.TwoLayer("relu", particles=particles, replicates=replicates, **settings)
    return ak.solve(chain[:stages], limit, key=key, record=3)


@pytest.mark.evidence
def test_sampling_errors_vanish_with_the_richness():
    exact = solve(0.0, replicates=3).predictions(SOURCE)[-1].mean(0)
    size = np.sqrt(np.mean(exact**2))
    errors = []
    for richness in (0.01, 0.1):
        f = solve(richness, dtype="float64", tol=1e-4).predictions(SOURCE)[-1]
        errors.append(np.sqrt(np.mean((f - exact) ** 2)) / size)
    assert errors[0] < 0.012 and errors[0] < 0.4 * errors[1]
    plain = solve(0.01, sampling="iid").predictions(SOURCE)[-1]
    assert np.sqrt(np.mean((plain - exact) ** 2)) / size > 0.1


@pytest.mark.evidence
def test_it_takes_noise_away_and_adds_no_bias(monkeypatch):
    reference = solve(1.0, particles=4096, key=7, replicates=3)
    better = solve(1.0)
    monkeypatch.setattr(frozen.LazyControl, "applies", lambda state, stage: False)
    plain = solve(1.0)

    def error(solution):
        truth = reference.predictions(SOURCE)[-1].mean(0)
        return solution.predictions(SOURCE)[-1] - truth

    assert np.mean(error(better) ** 2) < 0.7 * np.mean(error(plain) ** 2)
    for solution in (better, plain):
        bias = error(solution).mean(0)
        spread = error(solution).std(0, ddof=1) / np.sqrt(12)
        assert np.mean(bias**2) < 2 * np.mean(spread**2)


def test_recorded_predictions_are_those_of_the_state():
    solution = solve(1.5, stages=2)
    for task in (SOURCE, TARGET):
        for split in ("train", "test"):
            X, _ = task.split(split)
            for stage in range(2):
                np.testing.assert_allclose(
                    solution.predictions(task, split, stage)[-1],
                    solution.state(stage).predict(X),
                    atol=2e-5,
                )


@pytest.mark.evidence
def test_snapshots_are_corrected_like_what_is_recorded():
    stage = ak.Stage(SOURCE, 1.5, duration=2.0)
    limit = ak.TwoLayer("relu", particles=96, replicates=12)
    times = ak.solve([stage], limit, record=4).records[0].times[1:]
    solution = ak.solve([stage], limit, record=4, snapshots=[(0, t) for t in times])
    for recorded, t in zip(solution.predictions(SOURCE)[1:], times, strict=True):
        state = solution.state(0, t)
        np.testing.assert_allclose(recorded, state.predict(SOURCE.X_test), atol=2e-5)


def test_shares_are_regression_coefficients_over_the_other_replicates():
    rng = np.random.default_rng(0)
    error = rng.standard_normal((6, 50, 1))
    f = 3.0 + 0.4 * error
    np.testing.assert_allclose(frozen.shares(f, error), 0.4)
    changed = f.copy()
    changed[2] += rng.standard_normal((50, 1))
    share = frozen.shares(changed, error)
    np.testing.assert_allclose(share[2], 0.4)
    assert np.all(np.delete(np.abs(share - 0.4), 2) > 1e-6)
    assert np.all(frozen.shares(f, 1e-12 * error) == 0)  # nothing to correct
    assert np.all(frozen.shares(f, -error) == 0) and np.all(frozen.shares(9 * f, error) == 1)


@pytest.mark.parametrize(
    "change",
    [dict(weight_decay=0.1), dict(loss="logistic")],
    ids=["weight decay", "logistic"],
)
def test_stages_without_an_exact_lazy_limit_go_without(change):
    source = SOURCE
    if "loss" in change:
        source = ak.Task(source.X, np.sign(source.y), name="signs")
    limit = ak.TwoLayer("relu", particles=64)
    stage = ak.Stage(source, 1.0, duration=1.0, **change)
    state = limit.start([stage], {source.name: source}, np.random.default_rng(0))
    assert not frozen.LazyControl.applies(state, stage)
    assert frozen.LazyControl.applies(state, ak.Stage(source, 1.0, duration=1.0))
