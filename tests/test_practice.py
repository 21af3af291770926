"""The benchmark of practice: its pairs, its networks and the scores that others proposed."""

from dataclasses import astuple
from itertools import pairwise

import jax
import numpy as np
import pytest
from benchmarks.practice import analysis, ladder, networks, pairs, realised, scores
from scipy.optimize import minimize
from scipy.stats import multivariate_normal


@pytest.fixture
def labelled():
    rng = np.random.default_rng(1)
    F = rng.normal(size=(12, 30))
    y = np.where(np.arange(12) % 2, 1.0, -1.0)
    F[:, 0] += y
    return F, y


def test_halves_share_no_class_and_no_table():
    first, second = (pairs.pairs(half) for half in pairs.HALVES)

    def classes(chosen):
        problems = {p for pair in chosen for p in (pair.source, pair.target)}
        tables = {p.dataset for p in problems if p.is_table}
        images = {
            (p.dataset, c) for p in problems if not p.is_table for group in p.groups for c in group
        }
        return tables | images

    assert len(classes(first)) == len(classes(second)) == 16
    assert not classes(first) & classes(second)
    assert len({(p.source, p.target) for p in first + second}) == 198


@pytest.mark.parametrize("half", pairs.HALVES)
def test_samples_of_source_target_and_test_are_different_rows(half):
    for dataset in ("digits", pairs.TABLES[half]):
        chosen = [p for p in pairs.pairs(half) if p.target.dataset == dataset]
        target = chosen[0].target
        sources = [p.source for p in chosen if p.source.dataset == dataset]
        parts = [pairs.target_rows(target), pairs.test_rows(target)]
        parts += [pairs.source_rows(sources[0])]
        seen = [{row.tobytes() for row in part.X.round(9)} for part in parts]
        assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
        for samples in pairs.sizes(target):
            rows = pairs.draw(target, samples, 3)
            assert len(set(rows)) == samples and parts[0].y[rows].sum() == 0


def test_hidden_columns_are_hidden_from_the_source_alone():
    chosen = [p for p in pairs.pairs("development") if p.target.is_table]
    source = next(p.source for p in chosen if p.source.groups[0] == ("mean texture",))
    seen = (pairs.source_rows(source).X != 0).any(0)
    assert (pairs.target_rows(chosen[0].target).X != 0).any(0).sum() == 30 and seen.sum() == 27


def test_convolutions_by_patches_are_convolutions():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 256)).astype(np.float32)
    layers = networks.start("conv", rng)
    maps = X.reshape(3, 16, 16, 1)
    for W, b in layers[:2]:
        kernel = W.reshape(3, 3, -1, W.shape[1])
        axes = ("NHWC", "HWIO", "NHWC")
        maps = jax.lax.conv_general_dilated(maps, kernel, (1, 1), "SAME", dimension_numbers=axes)
        maps = np.maximum(maps + b, 0)
        n, side, _, channels = maps.shape
        maps = maps.reshape(n, side // 2, 2, side // 2, 2, channels).max((2, 4))
    expected = np.maximum(maps.reshape(3, -1) @ layers[2][0] + layers[2][1], 0)
    np.testing.assert_allclose(networks.features("conv", layers, X), expected, atol=1e-5)


def test_minibatches_pass_over_all_rows():
    schedule = networks.Schedule(batch=4, epochs=3, steps=2)
    batches = networks.minibatches(np.arange(8), schedule, np.random.default_rng(0))
    assert batches.shape == (3, 2, 4)
    assert all(sorted(epoch.ravel()) == list(range(8)) for epoch in batches)
    train, aside = networks.split(np.tile([-1.0, 1.0], 5), schedule)
    assert sorted([*train, *aside]) == list(range(10)) and len(aside) == 2


def test_the_best_validated_epoch_is_kept():
    # The head learns labels that the samples set aside contradict: best is the first epoch.
    rng = np.random.default_rng(0)
    y = np.tile([-1.0, 1.0], 8).astype(np.float32)
    X = y[:, None] * np.ones((16, 4), np.float32)
    head = [(np.zeros((4, 1), np.float32), np.zeros(1, np.float32))]
    schedule = networks.Schedule(batch=8, epochs=5, steps=2)
    batches = networks.minibatches(np.arange(16), schedule, rng)
    found = []
    for sign in (-1, 1):
        problem = (head, X, y, batches, X, sign * y, np.ones(16, np.float32))
        stacks = [jax.tree.map(lambda a: np.asarray(a)[None], part) for part in problem]
        ((W, _),) = networks.trainer(None, 0.1)(*stacks)
        found.append(float(W[0].mean()))
    assert 0.1 < found[0] < 0.25 and found[1] > 0.7  # two steps of Adam, and ten


def test_tables_of_results_survive_a_cut(tmp_path):
    path = tmp_path / "results" / "table.csv"
    assert realised.rows_kept(path, ("a", "b", "c"), 2) == set()
    realised.append(path, [("x", "1", "2 3"), ("y", "1", "4 5")])
    path.write_text(path.read_text() + "z,1,")
    assert realised.rows_kept(path, ("a", "b", "c"), 2) == {("x", "1"), ("y", "1")}
    realised.append(path, [("z", "1", "6 7")])
    assert path.read_text().splitlines() == ["a,b,c", "x,1,2 3", "y,1,4 5", "z,1,6 7"]


def test_logme_is_the_greatest_evidence(labelled):
    F, y = labelled

    def minus(logs, target):
        covariance = F @ F.T / np.exp(logs[0]) + np.eye(12) / np.exp(logs[1])
        return -multivariate_normal(cov=covariance).logpdf(target) / 12

    best = [
        -minimize(minus, np.zeros(2), args=((y == c).astype(float),), method="Nelder-Mead").fun
        for c in (-1, 1)
    ]
    np.testing.assert_allclose(scores.logme(F, y), np.mean(best), atol=2e-4)


def test_leep_of_sure_networks_is_nce_and_nce_a_conditional_entropy(labelled):
    _, y = labelled
    z = np.arange(12) % 4 == 1  # answered for half of +1 alone: H(Y | Z) by hand
    expected = 0.25 * np.log(1) + 0.75 * (np.log(3 / 9) * 3 / 9 + np.log(6 / 9) * 6 / 9)
    np.testing.assert_allclose(scores.nce(z, y), expected)
    sure = np.stack([~z, z], 1).astype(float)
    np.testing.assert_allclose(scores.leep(sure, y), expected)
    assert scores.leep(np.full((12, 2), 0.5), y) == pytest.approx(np.log(0.5))


def test_h_score_is_the_trace_of_its_definition(labelled):
    from sklearn.covariance import ledoit_wolf

    F, y = labelled
    covariance, shrinkage = ledoit_wolf(F)
    means = np.stack([F[y == c].mean(0) - F.mean(0) for c in (-1, 1)])
    between = means.T @ means / 2
    expected = np.trace(np.linalg.solve(covariance, between)) * (1 - shrinkage)
    np.testing.assert_allclose(scores.h_score(F, y), expected, rtol=1e-8)


def test_transrate_is_the_rate_of_its_definition(labelled):
    F, y = labelled
    Z = F - F.mean(0)
    Z /= np.linalg.norm(Z)

    def rate(part):
        return 0.5 * np.linalg.slogdet(np.eye(30) + part.T @ part / (len(part) * 1e-4))[1]

    expected = rate(Z) - (rate(Z[y > 0]) + rate(Z[y < 0])) / 2
    np.testing.assert_allclose(scores.transrate(F, y), expected, rtol=1e-8)


@pytest.mark.parametrize(
    "score", [scores.logme, scores.h_score, scores.transrate], ids=lambda f: f.__name__
)
def test_scores_of_features_do_not_depend_on_their_basis(labelled, score):
    F, y = labelled
    Q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(30, 30)))
    np.testing.assert_allclose(score(F @ Q, y), score(F, y), rtol=1e-6)
    assert score(F, y) > score(F[np.random.default_rng(3).permutation(12)], y)


def test_scores_of_kernels(labelled):
    F, y = labelled
    K = F @ F.T
    assert scores.alignment(np.outer(y, y) + 3.0, y) == pytest.approx(1.0)
    ridge, errors = np.trace(K) / 12, []
    for i in range(12):
        rest = np.delete(np.arange(12), i)
        gram = K[np.ix_(rest, rest)] + ridge * np.eye(11)
        errors.append(y[i] - K[i, rest] @ np.linalg.solve(gram, y[rest]))
    np.testing.assert_allclose(scores.leave_one_out(K, y), -np.mean(np.square(errors)))
    assert scores.chosen_leave_one_out(K, y) >= scores.leave_one_out(K, y)

    def log_evidence(log_ridge, log_scale):
        covariance = np.exp(log_scale) * (K / ridge + np.exp(log_ridge) * np.eye(12))
        return multivariate_normal(cov=covariance).logpdf(y) / 12

    grid = [log_evidence(r, s) for r in np.linspace(-2, 2, 21) for s in np.linspace(-1, 1, 21)]
    np.testing.assert_allclose(scores.evidence(K, y), max(grid), atol=2e-3)


def test_a_perfect_predictor_is_found_to_be_one():
    rng = np.random.default_rng(0)
    targets = np.repeat(["a", "b", "c"], 6)
    gain = rng.normal(size=18)
    values = gain[:, None] + 0.01 * rng.normal(size=(18, 8))
    cell = analysis.Gains(targets, np.arange(18).astype(str), values)
    found = analysis.quality(cell.mean, cell)
    assert found.spearman == found.within == found.kendall == pytest.approx(1.0)
    assert found.sign_right == 1.0 and found.decided >= 16
    assert analysis.reliability(cell)[0] > 0.99
    noise = analysis.Gains(targets, cell.sources, rng.normal(size=(18, 8)))
    assert noise.standard_error.mean() == pytest.approx(1 / np.sqrt(8), rel=0.4)
    assert abs(analysis.reliability(noise)[0]) < 0.9


def test_the_linear_probe_is_cross_validated(labelled):
    F, y = labelled
    Z = (F - F.mean(0)) / F.std(0)
    ridge, right = np.sum(Z**2) / 12, []
    for i in range(12):
        rest = np.delete(np.arange(12), i)
        w = np.linalg.solve(Z[rest].T @ Z[rest] + ridge * np.eye(30), Z[rest].T @ y[rest])
        right.append(Z[i] @ w * y[i] > 0)
    assert scores.linear_probe(F, y) == np.mean(right) == scores.linear_probe(3 * F + 1, y)


def test_every_rung_of_the_ladder_changes_one_thing():
    for one, other in pairwise(ladder.RUNGS.values()):
        assert sum(a != b for a, b in zip(astuple(one), astuple(other), strict=True)) == 1
    last = ladder.RUNGS["early stopping"]
    sizes = [W.shape for W, _ in ladder.begin(last, np.random.default_rng(0))]
    assert sizes == networks.SHAPES["mlp"] and last.validated and last.optimiser == "adam"


def test_agreement_of_rungs_is_freed_of_noise():
    rng = np.random.default_rng(0)
    gain, other = rng.normal(size=(2, 400, 1))
    noise = rng.normal(size=(3, 400, 8))
    one, same = gain + noise[0], 3 * gain + noise[1]
    half = (gain + other) / np.sqrt(2) + noise[2]
    assert ladder.agreement(one, same) == pytest.approx(1, abs=0.1)
    assert ladder.agreement(one, half) == pytest.approx(np.sqrt(0.5), abs=0.1)
    shared = other + noise[0]  # noise that two rungs share does not count
    assert abs(ladder.agreement(one, shared)) < 0.15


@pytest.mark.parametrize(
    "change", [{}, {"start": "standard", "biases": True}, {"optimiser": "sgd"}]
)
def test_networks_of_the_ladder_learn_their_samples(change):
    rng = np.random.default_rng(0)
    rung = ladder.Rung(**({"width": 32, "depth": 2} | change))
    X = rng.normal(size=(8, pairs.D)).astype(np.float32)
    y = np.tile([-1.0, 1.0], 4).astype(np.float32)
    problem = ladder._problem(rung, ladder.begin(rung, rng), X, y, 0.2, rng)
    stack, fitted = ladder._trained(rung, "scratch", 4, [problem])
    layers = jax.tree.map(lambda leaf: leaf[0], stack)
    f = np.asarray(ladder.output(rung, False, layers, X))
    assert bool(fitted[0]) and np.mean((f - y) ** 2) <= ladder.FITTED
    assert np.abs(f).max() < 3
    head = ladder.output(rung, True, layers, ladder.features(rung, layers, X))
    np.testing.assert_allclose(head, f, rtol=1e-6)
