"""Readouts of an infinite rate, at their optimum at every time: theory section 2, on both sides."""

from dataclasses import replace

import numpy as np
import pytest

import adaptik as ak
from adaptik.solution import Request

SOURCE, TARGET = ak.tasks.hermite_pair(1, 2, 0.5, n_source=6, n_target=6, dimension=5, n_test=5)
FINE = dict(dtype="float64", particles=64, replicates=2)
GAMMA, DECAY, TIME = 1.5, 0.3, 1.0


def optimal(task, **options):
    given = dict(richness=GAMMA, duration=TIME, weight_decay=DECAY, head_rate=np.inf)
    return ak.Stage(task, **given | options)


def by_hand(w, a, y, weights, b_r, steps=400):
    """Runge and Kutta on weights alone, in NumPy, of one replicate; readouts follow."""
    P = len(a)

    def head(w):
        h = w @ a.T
        phi = np.tanh(h)
        Phi = phi.T @ phi / len(w) + b_r**2
        root = np.sqrt(weights)
        Delta = [
            r * np.linalg.solve(r[:, None] * Phi * r / DECAY + P * np.eye(P), r * of)
            for r, of in zip(root.T, y.T, strict=True)
        ]
        Delta = np.stack(Delta, axis=1)
        return h, Delta, GAMMA / DECAY * phi @ Delta, Phi @ Delta / DECAY

    def slope(w):
        h, Delta, z, _ = head(w)
        g = (1 - np.tanh(h) ** 2) * (z @ Delta.T)
        return GAMMA * g @ a - DECAY * w

    dt = TIME / steps
    for _ in range(steps):
        k1 = slope(w)
        k2 = slope(w + dt / 2 * k1)
        k3 = slope(w + dt / 2 * k2)
        k4 = slope(w + dt * k3)
        w = w + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    _, _, z, f = head(w)
    return w, z, f


@pytest.mark.parametrize("name", ["one task", pytest.param("joint", marks=pytest.mark.evidence)])
def test_weights_follow_the_flow_whose_readout_is_a_ridge_regression(name):
    joint = name == "joint"
    stage = optimal([SOURCE, TARGET] if joint else SOURCE)
    b_r = 0.8 if joint else 0.0
    limit = ak.TwoLayer("tanh", tol=1e-7, bias=(0.0, b_r), **FINE)
    tasks = {task.name: task for task in (SOURCE, TARGET, stage.task)}
    start = limit.start([stage], tasks, np.random.default_rng(3))
    request = Request(tasks, np.array([0.0]), (), np.random.default_rng(0))
    record, end, _ = limit.advance(start, stage, request)
    a, y = start.span.training_points(stage.task.X), stage.task.y
    weights = np.ones_like(y) if stage.loss_weights is None else stage.loss_weights
    for r in (0, 1):
        w, z, f = by_hand(start.particles.w[r], a, y, weights, b_r)
        assert np.abs(w - np.exp(-DECAY * TIME) * start.particles.w[r]).max() > 0.05
        np.testing.assert_allclose(end.particles.w[r], w, atol=2e-4)
        np.testing.assert_allclose(end.particles.z[r], z, atol=1e-4)
        np.testing.assert_allclose(end.predict(stage.task.X)[r], f, atol=1e-4)
    recorded = record.predictions[SOURCE.name, "train"]
    rows = [np.flatnonzero((x == stage.task.X).all(1))[0] for x in SOURCE.X]
    np.testing.assert_allclose(recorded[-1], end.predict(stage.task.X)[:, rows], atol=1e-9)
    assert np.abs(recorded[0]).max() > 0.05  # from the first moment on


@pytest.mark.evidence
def test_fast_readouts_tend_to_it_like_one_over_their_rate():
    limit = ak.TwoLayer("tanh", tol=1e-6, sampling="iid", **FINE)
    f, near, far = (
        ak.solve([optimal(SOURCE, head_rate=rate)], limit, record=2).predict(SOURCE.X_test).value
        for rate in (np.inf, 400.0, 100.0)
    )
    gaps = [np.abs(g - f).max() for g in (near, far)]
    assert gaps[1] < 0.05 * np.abs(f).max()
    assert 3 < gaps[1] / gaps[0] < 5


@pytest.mark.evidence
def test_networks_of_fast_readouts_agree():
    """Whose decay is multiplied by the rate as well; and a kept stage goes on at another rate."""
    limit = ak.TwoLayer("tanh", particles=2048, replicates=4)
    then = optimal(SOURCE, head="kept", head_rate=2.0, duration=0.5)
    for stages, fast in (
        ([optimal(SOURCE)], [optimal(SOURCE, head_rate=300.0)]),
        ([optimal(SOURCE), then], [optimal(SOURCE, head_rate=300.0), then]),
    ):
        f = ak.solve(stages, limit, record=2).predict(SOURCE.X_test)
        g = ak.train(fast, ak.Network(2048, "tanh"), seeds=4, record=2).predict(SOURCE.X_test)
        error = np.hypot(f.standard_error, g.standard_error) + 0.005
        assert (np.abs(f.value - g.value) < 4 * error).all()


@pytest.mark.evidence
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_it_comes_to_rest_where_all_rates_do(activation):
    limit = ak.TwoLayer(activation, particles=64, replicates=2)
    found, expected = (
        ak.solve([ak.Stage(SOURCE, 2.0, weight_decay=0.05, head_rate=eta)], limit)
        for eta in (np.inf, 1.0)
    )
    assert found.outcome.value == expected.outcome.value == "converged"
    f = found.predict(SOURCE.X_test).value
    assert np.abs(f).max() > 0.1
    np.testing.assert_allclose(f, expected.predict(SOURCE.X_test).value, atol=0.02)


def test_without_decay_it_is_the_readout_to_its_end():
    stage = optimal(SOURCE, weight_decay=0.0)
    assert (stage.trains, stage.head_rate, stage.duration) == ("readout", 1.0, np.inf)
    assert stage.richness == GAMMA
    decaying = optimal(SOURCE, trains="readout")
    assert (decaying.head_rate, decaying.duration, decaying.weight_decay) == (1.0, np.inf, DECAY)
    limit = ak.TwoLayer("tanh", **FINE)
    solution = ak.solve([stage], limit, record=2)
    np.testing.assert_allclose(solution.predictions(SOURCE, "train")[-1], [SOURCE.y] * 2, atol=1e-6)


def test_what_has_no_optimum_is_refused():
    for options, message in (
        (dict(loss="logistic", weight_decay=0.0), "no optimal readout on separable data"),
        (dict(loss="logistic"), "none in closed form"),
        (
            dict(rank=2, weight_decay=0.0),
            "rank=2 is not computed; use a finite rate",
        ),
        (dict(richness=0.0), "use a small richness or a finite rate$"),
        (dict(head_rate=-np.inf), "^head_rate must be a finite number > 0"),
    ):
        labels = ak.Task(SOURCE.X, np.sign(SOURCE.y)) if "loss" in options else SOURCE
        with pytest.raises(ak.InputError, match=message):
            optimal(labels, **options)
    with pytest.raises(
        ak.InputError, match=r"head_rate=inf, weight_decay=0\.3 is not .* TwoLayer$"
    ):
        ak.solve([optimal(SOURCE)], ak.Linear())
    with pytest.raises(ak.InputError, match=r"^stage 0: head_rate=inf .* such as 100$"):
        ak.train([optimal(SOURCE)], ak.Network(16))


def test_a_kept_stage_goes_on_from_it():
    limit = ak.TwoLayer("tanh", tol=1e-6, **FINE)
    then = replace(optimal(SOURCE), head="kept")
    halves = [optimal(SOURCE, duration=TIME / 2), replace(then, duration=TIME / 2)]
    f, g = (
        ak.solve(stages, limit, record=2).predict(SOURCE.X_test).value
        for stages in ([optimal(SOURCE)], halves)
    )
    np.testing.assert_allclose(f, g, atol=1e-4)
