"""Gradient flow with an elastic coupling to the source: limit and networks."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import adaptik as ak
from adaptik.system.errors import InputError

SOURCE, TARGET = ak.tasks.hermite_pair(
    1, 2, 0.8, n_source=10, n_target=10, dimension=6, n_test=60, seed=0
)


def stages(elastic, decay=0.0, duration=6.0):
    return [
        ak.Stage(SOURCE, 2.0, duration=4.0),
        ak.Stage(TARGET, 1.0, duration=duration, elastic=elastic, weight_decay=decay),
    ]


def test_linear_networks_follow_the_equations_of_the_weights():
    """Theory section 2 for the mean fields of a linear network, integrated by another solver."""
    lam, delta, gamma = 0.03, 0.4, 1.0
    given = ak.train(stages(delta, lam), ak.Network(6, "linear", dtype="float64", tol=1e-8))
    start, end = (s.members[0].weights.layers for s in given.states)
    X, y, N = TARGET.X / np.sqrt(6), TARGET.y, 6
    head0 = given.states[1].members[0].terms[-1].weights.layers[1]
    f0 = X @ start[0].T @ head0 / (gamma * N)

    def velocity(_, flat):
        W, w = flat[:36].reshape(6, 6), flat[36:, None]
        Delta = (y - X @ W.T @ w / (gamma * N) + f0) / len(y)
        dW = gamma * w @ (Delta.T @ X) - lam * W - delta * (W - start[0])
        dw = gamma * W @ X.T @ Delta - lam * w
        return np.concatenate([dW.ravel(), dw.ravel()])

    first = np.concatenate([start[0].ravel(), head0.ravel()])
    reference = solve_ivp(velocity, (0, 6.0), first, rtol=1e-9, atol=1e-9).y[:, -1]
    assert np.abs(reference[:36] - end[0].ravel()).max() < 1e-5
    assert np.abs(reference[36:] - end[1].ravel()).max() < 1e-5


@pytest.mark.evidence
@pytest.mark.parametrize(("elastic", "decay"), [(0.3, 0.0), (0.3, 0.1)])
def test_the_limit_agrees_with_networks(elastic, decay):
    """Test points lie partly outside the span of the samples, where weights have their own ODE."""
    planned = stages(elastic, decay)
    limit = ak.solve(planned, ak.TwoLayer("relu", replicates=6), record=2)
    networks = ak.train(planned, ak.Network(1024, "relu"), seeds=8, record=2)
    gap = limit.predict(TARGET.X_test) - networks.predict(TARGET.X_test)
    assert 0.2 < np.mean(gap.value**2) / np.mean(gap.standard_error**2) < 2.5
    free = ak.solve(stages(0.0, decay), ak.TwoLayer("relu", replicates=6), record=2)
    moved = limit.predict(TARGET.X_test).value - free.predict(TARGET.X_test).value
    assert np.mean(moved**2) > 10 * np.mean(gap.standard_error**2)


@pytest.mark.evidence
def test_weights_outside_the_span_rest_between_zero_and_their_start():
    pair = ak.tasks.linear_pair(0.5, n_source=3, n_target=2, dimension=9, n_test=5)
    lam, delta = 0.2, 0.5
    run = [
        ak.Stage(pair[0], 1.0, duration=1.0),
        ak.Stage(pair[1], 1.0, duration=3.0, elastic=delta, weight_decay=lam),
    ]
    shrink = ak.solve(run, ak.TwoLayer("erf", particles=64)).states[1].particles.shrink
    s = solve_ivp(lambda _, s: -lam * s - delta * (s - 1), (0, 3.0), [1.0], rtol=1e-9).y[0, -1]
    assert shrink == pytest.approx(s, rel=1e-5)


def test_strong_coupling_is_readout_training():
    source = ak.Stage(SOURCE, 2.0, duration=2.0)
    strong, readout, free = (
        ak.train([source, ak.Stage(TARGET, 1.0, duration=4.0, **more)], ak.Network(512, "erf"))
        .predict(TARGET.X_test)
        .value
        for more in (dict(elastic=100.0), dict(trains="readout"), {})
    )
    assert np.linalg.norm(strong - readout) < 0.03 * np.linalg.norm(readout)
    assert np.linalg.norm(free - readout) > 0.2 * np.linalg.norm(readout)


@pytest.mark.parametrize("more", [dict(trains="readout"), dict(richness=0.0)])
def test_features_that_stay_cannot_be_pulled(more):
    arguments = dict(task=TARGET, richness=1.0, elastic=1.0, duration=1.0) | more
    run = [ak.Stage(SOURCE, 1.0, duration=1.0), ak.Stage(**arguments)]
    with pytest.raises(InputError, match="stage 1: elastic=1"):
        ak.solve(run, ak.TwoLayer("erf"))
    with pytest.raises(InputError, match="stage 1: elastic=1"):
        ak.train(run, ak.Network(8))


def test_deep_networks_refuse_it():
    with pytest.raises(InputError, match=r"stage 1: elastic=0\.1 is for one hidden layer"):
        ak.train(stages(0.1), ak.Network(8, depth=2))
