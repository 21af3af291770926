import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import adaptik as ak
from adaptik.kernels import regression
from adaptik.kernels.regression import (
    GramRegression,
    SquaredFlow,
    dual_flow,
    settling_time,
)
from adaptik.mathematics import losses
from adaptik.solution import Outcome
from adaptik.system.errors import InputError


def problem(samples=6, outputs=2, seed=0, rank=None):
    rng = np.random.default_rng(seed)
    n = samples * outputs
    root = rng.normal(size=(n, rank or n))
    labels, start = rng.normal(size=(2, samples, outputs))
    return root @ root.T / n, labels, start


def integrated(gram, labels, start, decay, t):
    """The predictor on the samples by direct integration of df/dt = K (y - f)/P - decay f."""
    samples, y = len(labels), labels.ravel()
    done = solve_ivp(
        lambda _, f: gram @ (y - f) / samples - decay * f,
        (0, t), start.ravel(), method="DOP853", rtol=1e-11, atol=1e-12,
    )  # fmt: skip
    return done.y[:, -1]


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("t", [0.1, 3.0, 40.0])
def test_flow_in_time(decay, rank, t):
    gram, labels, start = problem(rank=rank)
    flow = SquaredFlow.on(gram, labels, start, decay)
    f = math.exp(-decay * t) * start.ravel() + gram @ flow.dual(t)
    expected = integrated(gram, labels, start, decay, t)
    np.testing.assert_allclose(f, expected, atol=1e-8)

    loss, rate = flow.loss_and_rate(t)
    residual = labels.ravel() - expected
    assert loss == pytest.approx(residual @ residual / len(labels), rel=1e-7)
    step = 1e-4 * t
    before, after = (flow.loss_and_rate(t + s)[0] for s in (-step, step))
    assert rate == pytest.approx((before - after) / (2 * step), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_end_is_ridge_regression(decay):
    gram, labels, start = problem()
    P = len(labels)
    dual = SquaredFlow.on(gram, labels, start, decay).dual(math.inf)
    rest = labels if decay else labels - start  # decay forgets the start
    expected = np.linalg.solve(gram + P * decay * np.eye(len(gram)), rest.ravel())
    np.testing.assert_allclose(dual, expected, rtol=1e-7)


def test_at_rest_nothing_has_moved():
    gram, labels, start = problem()
    assert np.abs(SquaredFlow.on(gram, labels, start, 0.2).dual(0.0)).max() == 0


def test_without_full_rank_the_solution_has_least_norm():
    gram, labels, start = problem(rank=4)
    dual = SquaredFlow.on(gram, labels, start).dual(math.inf)
    expected = np.linalg.pinv(gram, rcond=1e-10) @ (labels - start).ravel()
    np.testing.assert_allclose(dual, expected, atol=1e-8)


def test_a_kernel_blind_to_a_sample_gives_no_warning():
    labels = np.array([[0.0], [1.0]])
    flow = SquaredFlow.on(np.diag([0.0, 2.0]), labels, np.zeros((2, 1)))
    np.testing.assert_allclose(flow.dual(math.inf), [0, 0.5])


def test_settling_of_a_single_mode():
    # One sample, kernel 1: loss exp(-2t), rate 2 exp(-2t).
    flow = SquaredFlow.on(np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1)))
    end, outcome = settling_time([flow], 1e-4, 1.0, 1e-12, 1e8)
    assert outcome is Outcome.CONVERGED and end == pytest.approx(math.log(1e4) / 2, rel=1e-6)
    end, outcome = settling_time([flow], 1.0, 1e-4, 1e-12, 1e8)
    assert outcome is Outcome.CONVERGED and end == pytest.approx(math.log(2e4) / 2, rel=1e-6)
    end, outcome = settling_time([flow, flow], 1e-4, 1.0, 1e-12, 1.0)
    assert outcome is Outcome.OUT_OF_STEPS and end == 1.0


def test_settling_averages_the_loss_over_flows():
    flows = [SquaredFlow.on(np.ones((1, 1)), np.full((1, 1), y), np.zeros((1, 1))) for y in (1, 3)]
    end, _ = settling_time(flows, 1e-4, 10.0, 1e-12, 1e8)
    assert end == pytest.approx(math.log(5e4) / 2, rel=1e-6)  # mean loss (1 + 9)/2 exp(-2t)


def test_a_label_out_of_reach_stalls():
    flow = SquaredFlow.on(np.diag([1.0, 0.0]), np.ones((2, 1)), np.zeros((2, 1)))
    end, outcome = settling_time([flow], 1e-4, 1e-6, 1e-10, 1e8)
    assert outcome is Outcome.STALLED
    # Mode of rate 1/2: the loss falls at exp(-t)/2 per unit time.
    assert end == pytest.approx(math.log(0.5e10), rel=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_dual_flow_of_the_squared_loss_is_the_closed_form(decay):
    gram, labels, start = problem()
    times = np.array([0.0, 0.2, 1.0, 8.0])
    duals = dual_flow(gram, labels, start, losses.SQUARED, decay, times)
    flow = SquaredFlow.on(gram, labels, start, decay)
    assert duals.shape == (4, 12)
    for dual, t in zip(duals, times, strict=True):
        np.testing.assert_allclose(gram @ dual, gram @ flow.dual(t), atol=2e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_dual_flow_of_the_logistic_loss(outputs):
    gram, _, start = problem(outputs=outputs)
    rng = np.random.default_rng(1)
    labels = rng.choice([-1.0, 1.0], (6, 1)) if outputs == 1 else np.eye(3)[rng.integers(3, size=6)]
    decay, t = 0.1, 5.0

    def signal(f):
        if outputs == 1:
            return labels / (1 + np.exp(labels * f))
        p = np.exp(f)
        return labels - p / p.sum(-1, keepdims=True)

    def slope(_, f):
        return gram @ signal(f.reshape(labels.shape)).ravel() / len(labels) - decay * f

    expected = solve_ivp(slope, (0, t), start.ravel(), rtol=1e-10, atol=1e-11).y[:, -1]
    dual = dual_flow(gram, labels, start, losses.LOGISTIC, decay, np.array([1.0, t]))[-1]
    f = math.exp(-decay * t) * start.ravel() + gram @ dual
    np.testing.assert_allclose(f, expected, atol=2e-5)


def test_dual_flow_is_in_double_precision_without_asking():
    assert not jax.config.jax_enable_x64
    gram, labels, start = problem()
    seen = []

    def signal(f, y):
        value = losses.SQUARED.signal(jax.numpy.asarray(f), jax.numpy.asarray(y))
        seen.append(value.dtype)
        return value

    loss = losses.Loss(
        "probe", losses.SQUARED.value, signal, 2.0, losses.SQUARED.curvature_root, True
    )
    dual_flow(gram, labels, start, loss, 0.0, np.array([0.1]))
    assert set(map(str, seen)) == {"float64"}


def test_times_that_implicit_steps_do_not_reach_are_nan(monkeypatch):
    def stops_early(*arguments, t_eval, **options):
        return SimpleNamespace(y=np.zeros((3, len(t_eval) - 1)))

    monkeypatch.setattr(regression, "solve_ivp", stops_early)
    path = dual_flow(
        np.eye(3), np.ones((3, 1)), np.zeros((3, 1)), losses.LOGISTIC, 0.0, np.arange(1, 4.0)
    )
    assert np.isnan(path[-1]).all() and np.isfinite(path[:-1]).all()


def features_problem(samples=12, features=30, tests=4, outputs=2, seed=0):
    """A linear kernel with its features, so that everything can be done in feature space."""
    rng = np.random.default_rng(seed)
    Z, Z_new = rng.normal(size=(samples, features)), rng.normal(size=(tests, features))
    y, start = rng.normal(size=(2, samples, outputs))
    return Z, Z_new, y, start


def ridge_in_features(Z, y, ridge):
    """argmin |Z b - y|^2 + ridge |b|^2, of least norm for ridge 0."""
    if ridge == 0:
        return np.linalg.pinv(Z, rcond=1e-10) @ y
    return np.linalg.solve(Z.T @ Z + ridge * np.eye(Z.shape[1]), Z.T @ y)


@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("features", [5, 30])
def test_ridge_regression_is_that_of_the_features(ridge, features):
    Z, Z_new, y, start = features_problem(features=features)
    fit = GramRegression.on(Z @ Z.T, y, ridge=ridge)
    expected = Z_new @ ridge_in_features(Z, y, ridge)
    np.testing.assert_allclose(fit.predict(Z_new @ Z.T), expected, atol=1e-10)
    kept = GramRegression.on(Z @ Z.T, y, ridge=ridge, start=start)
    f0 = np.ones((4, 2))
    expected = f0 + Z_new @ ridge_in_features(Z, y - start, ridge)
    np.testing.assert_allclose(kept.predict(Z_new @ Z.T, start=f0), expected, atol=1e-10)


@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("features", [5, 30])
@pytest.mark.parametrize("t", [0.0, 0.3, 20.0])
def test_gradient_flow_in_feature_space(ridge, features, t):
    Z, Z_new, y, _ = features_problem(features=features, outputs=1)
    P = len(Z)
    done = solve_ivp(
        lambda _, b: (Z.T @ (y[:, 0] - Z @ b) - ridge * b) / P,
        (0, t), np.zeros(features), method="DOP853", rtol=1e-11, atol=1e-12,
    )  # fmt: skip
    fit = GramRegression.on(Z @ Z.T, y[:, 0], ridge=ridge)
    expected = (Z_new @ done.y[:, -1])[:, None]
    np.testing.assert_allclose(fit.predict(Z_new @ Z.T, time=t), expected, atol=1e-8)


def test_flow_without_ridge_is_that_of_stages():
    gram, labels, start = problem(samples=12, outputs=1)
    dual = GramRegression.on(gram, labels, start=start).dual(3.0)
    np.testing.assert_allclose(dual.ravel(), SquaredFlow.on(gram, labels, start).dual(3.0))


@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("features", [5, 30])
def test_leave_one_out_is_what_refits_leave(ridge, features):
    Z, _, y, start = features_problem(features=features)
    fit = GramRegression.on(Z @ Z.T, y, ridge=ridge, start=start)
    expected = []
    for i in range(len(Z)):
        rest = np.arange(len(Z)) != i
        b = ridge_in_features(Z[rest], (y - start)[rest], ridge)
        expected.append((y - start)[i] - Z[i] @ b)
    np.testing.assert_allclose(fit.leave_one_out(), expected, atol=1e-9)


def test_leave_one_out_of_a_sample_that_the_kernel_does_not_see():
    fit = GramRegression.on(np.diag([0.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0]))
    np.testing.assert_allclose(fit.leave_one_out().ravel(), [3, 1, 2])


@pytest.mark.parametrize("ridge", [0.0, 0.4])
def test_posterior_variance_is_that_of_the_conditional_gaussian(ridge):
    Z, Z_new, y, _ = features_problem()
    joint = np.concatenate([Z, Z_new])
    K = joint @ joint.T
    n = len(Z)
    K11 = K[:n, :n] + ridge * np.eye(n)
    expected = np.diag(K[n:, n:] - K[n:, :n] @ np.linalg.inv(K11) @ K[:n, n:])
    fit = GramRegression.on(K[:n, :n], y, ridge=ridge)
    found = fit.variance(K[n:, :n], np.diag(K[n:, n:]))
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    at_samples = fit.variance(K[:n, :n], np.diag(K[:n, :n]))
    assert (at_samples >= 0).all() and (at_samples < ridge + 1e-9).all()


def test_an_ill_conditioned_matrix_gives_the_least_norm_fit():
    # A smooth kernel: 40 points, condition number beyond 1e16.
    x = np.linspace(0, 1, 40)
    gram = np.exp(-((x[:, None] - x) ** 2))
    fit = GramRegression.on(gram, np.sin(3 * x))
    cut = regression.spectral_cut(np.linalg.eigvalsh(gram))
    assert 0 < np.sum(fit.eigenvalues == 0) < 40 and fit.eigenvalues[-1] > 1
    assert fit.eigenvalues[fit.eigenvalues > 0].min() > cut
    new = np.array([0.111, 0.77])
    found = fit.predict(np.exp(-((new[:, None] - x) ** 2)))[:, 0]
    np.testing.assert_allclose(found, np.sin(3 * new), atol=1e-5)
    assert np.isfinite(fit.leave_one_out()).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(gram=np.ones((2, 3))), "gram must have shape"),
        (dict(gram=np.array([[1.0, 2.0], [0.0, 1.0]])), "not symmetric"),
        (dict(gram=np.diag([1.0, -1.0])), "below zero"),
        (dict(gram=np.full((2, 2), np.nan)), "gram has NaN"),
        (dict(y=np.ones(3)), "y has 3 samples"),
        (dict(y=np.array([1, np.inf])), "y has NaN"),
        (dict(ridge=-1.0), "ridge"),
        (dict(start=np.ones((2, 2))), "start must have the shape"),
    ],
)
def test_gram_matrices_that_are_none(changes, message):
    arguments = dict(gram=np.eye(2), y=np.ones(2)) | changes
    with pytest.raises(InputError, match=message):
        GramRegression.on(arguments.pop("gram"), arguments.pop("y"), **arguments)


def test_requests_without_a_meaning_on_a_gram_matrix():
    fit = GramRegression.on(np.eye(2), np.ones(2), start=np.ones(2))
    with pytest.raises(InputError, match="start: give"):
        fit.predict(np.eye(2))
    with pytest.raises(InputError, match="cross must have shape"):
        fit.predict(np.ones((1, 3)), start=np.zeros(1))
    with pytest.raises(InputError, match="start must have shape"):
        fit.predict(np.eye(2), start=np.zeros(3))
    with pytest.raises(InputError, match="time must be"):
        fit.dual(-1.0)
    with pytest.raises(InputError, match="diagonal must have shape"):
        fit.variance(np.eye(2), np.ones(3))


# -- fine-tuning (the paper's case (i)) after abundant, limited and over-rich pretraining --------


def orthogonal_population(D, beta, rng):
    """P = D rows with X'X = D I: infinite source data of a linear teacher."""
    X = np.sqrt(D) * np.linalg.qr(rng.normal(size=(D, D)))[0]
    return ak.Task(X, X @ beta / np.sqrt(D), name="source")


@pytest.mark.evidence
@pytest.mark.parametrize(
    ("nu_source", "richness"),
    [(math.inf, 2.0), (0.5, 2.0), (0.5, 30.0)],
    ids=["abundant", "limited", "over-rich"],
)
def test_fine_tuning_is_regression_on_the_adaptive_kernel(nu_source, richness):
    D, nu_target = 60, 0.4
    rng = np.random.default_rng(3)
    beta_s, beta_t = rng.normal(size=(2, D))
    beta_t += beta_s
    if nu_source == math.inf:
        source = orthogonal_population(D, beta_s, rng)
    else:
        X = rng.normal(size=(int(nu_source * D), D))
        source = ak.Task(X, X @ beta_s / np.sqrt(D), name="source")
    X, X_test = rng.normal(size=(int(nu_target * D), D)), rng.normal(size=(500, D))
    y, y_test = (inputs @ beta_t / np.sqrt(D) for inputs in (X, X_test))
    target = ak.Task(X, y, X_test, y_test, name="target")

    # With unit-variance labels gamma_1 is sqrt(D) times the richness (theory section 3.1).
    pretrained = ak.solve(
        [ak.Stage(source, richness / np.sqrt(D), loss_tol=1e-5)], ak.Linear(), observe=[target]
    )
    both = np.concatenate([X, X_test])
    kernel = np.asarray(pretrained.kernel(both, X))
    fit = GramRegression.on(kernel[: len(X)], target.y)
    cross = kernel[len(X) :]

    for duration in (math.inf, 2.0):
        stage = ak.Stage(target, 0.0, trains="readout", duration=duration)
        solved = ak.solve([stage], ak.Linear(), after=pretrained).predict(X_test).value
        found = fit.predict(cross, time=duration)[:, 0]
        np.testing.assert_allclose(found, solved, atol=1e-6)

    # The kernel itself: a spike along the least-norm source predictor (theory section 3.1).
    learned = np.linalg.pinv(source.X) @ source.y[:, 0]
    spike = np.sqrt(1 + richness**2 * (learned @ learned)) - 1
    direction = learned / np.linalg.norm(learned)
    spiked = both @ X.T / D + spike * np.outer(both @ direction, X @ direction) / D
    np.testing.assert_allclose(kernel, spiked, rtol=0, atol=0.01 * np.abs(spiked).max())
