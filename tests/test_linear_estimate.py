"""Estimates from data: models with a known truth, and a real pair against the exact limit."""

import numpy as np
import pytest

import adaptik as ak
from adaptik import linear_theory as lt

D, SAMPLES = 30, 300
NOISE = (0.2, 0.1)
CURVE = [5, 10, 20, 60]


def known_pair(spectrum, seed):
    rng = np.random.default_rng(100 + seed)
    frame = np.linalg.qr(rng.standard_normal((D, 2)))[0].T
    source = frame[0] / np.sqrt(frame[0] ** 2 @ spectrum)
    target = 0.7 * frame[0] + 0.7 * frame[1]
    target = target / np.sqrt(target**2 @ spectrum)
    tasks = []
    for beta, noise in zip((source, target), NOISE, strict=True):
        X = rng.standard_normal((SAMPLES, D)) * np.sqrt(spectrum)
        y = X @ beta + np.sqrt(noise) * rng.standard_normal(SAMPLES)
        tasks.append(ak.Task(X[:200], y[:200], X[200:], y[200:]))
    return *tasks, source, target


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_known_models_are_found_within_their_errors(power):
    spectrum = np.arange(1, D + 1.0) ** -power
    spectrum *= D / spectrum.sum()
    settings = dict(source_noise=NOISE[0], target_noise=NOISE[1])
    z = []
    for seed in range(12):
        source_task, target_task, source, target = known_pair(spectrum, seed)
        found = lt.estimate(
            source_task, target_task, 3.0, n_source=45, n_target=CURVE, bootstraps=20
        )
        data = (spectrum, spectrum, source, target, 45, found.n_target)
        loss, scratch = (
            NOISE[1] + lt.spectral_transfer_loss(*data, gamma, **settings) for gamma in (3.0, 0.0)
        )
        alignment = source @ (spectrum * target)
        pairs = (
            (found.loss, loss), (found.baseline, scratch), (found.alignment, alignment),
            (found.source_noise, NOISE[0]), (found.target_noise, NOISE[1]),
        )  # fmt: skip
        z.append(np.hstack([(estimate - truth).in_standard_errors for estimate, truth in pairs]))
        gain = found.gain - (1 - loss / scratch)
        assert np.abs(gain.value[:3]).max() < 0.1
        assert np.all(found.loss.standard_error < 0.15 * found.loss.value)
    z = np.array(z)
    assert np.abs(z).max() < 5, z.round(1)
    assert np.abs(z.mean(0)).max() < 1.2  # calibrated: no bias beyond the spread
    assert 0.5 < np.sqrt(np.mean(z**2)) < 1.6


@pytest.mark.evidence
def test_digits_are_predicted_as_the_exact_limit_finds_them():
    """Digits are not Gaussian, and their flow stalls early: losses agree to half their size."""
    sizes, richness = [12, 100], 4.0
    losses = []
    for seed in range(2):
        source, target = ak.tasks.load_pair(
            "digits:3,5", "digits:8,9", n_source=60, n_target=120, n_test=100, seed=seed
        )
        small = target.subset(np.arange(sizes[0]), np.arange(20, 120), "small")
        large = target.subset(np.arange(sizes[1]), np.arange(100, 120), "large")
        small, large = (
            ak.Task(t.X, t.y, target.X_test, target.y_test, name=t.name) for t in (small, large)
        )
        gamma = richness / np.sqrt(source.dimension)
        first = ak.solve(
            [ak.Stage(source, gamma)], ak.Linear(tol=1e-4), record=2, observe=[small, large]
        )
        row = []
        for task in (small, large):
            readout = ak.Stage(task, 0.0, trains="readout", head="kept")
            solution = ak.solve([readout], ak.Linear(), record=2, after=first)
            row.append(float(solution.loss(task)))
        losses.append(row)
    found = lt.estimate(source, target, richness, n_target=sizes, head="kept", bootstraps=10)
    assert found.gain.value[0] < -0.05
    np.testing.assert_allclose(np.mean(losses, axis=0), found.loss.value, rtol=0.5)


BAD = (
    (dict(bootstraps=1), "bootstraps must be an integer >= 2"),
    (dict(n_target=[200]), "n_target must be a list of numbers up to 150"),
    (dict(n_target=[0]), "n_target must be above 0"),
    (dict(n_source=0), "n_source must be above 0"),
    (dict(richness=-1.0), "richness must be finite"),
    (dict(head="new"), "head='new' is unknown"),
)


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_settings_are_refused(change, message):
    source, target, *_ = known_pair(np.ones(D), 0)
    with pytest.raises(ak.InputError, match=message):
        lt.estimate(source, target, **change)


def test_tasks_that_no_linear_pair_makes_are_refused():
    source, target, *_ = known_pair(np.ones(D), 0)
    narrow = ak.Task(source.X[:, :5], source.y, name="narrow")
    with pytest.raises(ak.InputError, match="source_task has 5 input dimensions"):
        lt.estimate(narrow, target)
    several = ak.Task(source.X, np.hstack([source.y, -source.y]), name="several")
    with pytest.raises(ak.InputError, match="'several' has 2 outputs"):
        lt.estimate(several, target)
    few = ak.Task(source.X[:3], source.y[:3], name="few")
    with pytest.raises(ak.InputError, match="'few' has 3 samples"):
        lt.estimate(few, target)
