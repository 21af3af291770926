import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from adaptik import losses, regression
from adaptik.regression import SquaredFlow, dual_flow, settling_time
from adaptik.solution import Outcome


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
