"""Stages whose readout has a rate of its own: theory section 1, on both sides."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import adaptik as ak
from adaptik.kernels import lazy
from adaptik.mathematics import activations
from adaptik.networks.flows import flow_through
from adaptik.networks.mup import Member, Weights
from adaptik.networks.train import _start
from adaptik.solution import Request

ETA = 4.0
SOURCE, TARGET = ak.tasks.hermite_pair(1, 2, 0.5, n_source=6, n_target=6, dimension=5, n_test=5)
WIDE = ak.Task(SOURCE.X, np.eye(2)[[0, 1, 1, 0, 1, 0]], SOURCE.X_test, np.eye(2)[[0, 1, 1, 0, 1]])
FINE = dict(dtype="float64", particles=64, replicates=2)


def request(task, seed=0):
    return Request({task.name: task}, np.array([0.0]), (), np.random.default_rng(seed))


def shrunk(state, factor):
    """With readouts ``factor`` times as large, and no predictor yet."""
    particles = replace(state.particles, z=factor * state.particles.z, initial_head=False)
    return replace(state, particles=particles)


@pytest.mark.parametrize("activation", [pytest.param("relu", marks=pytest.mark.evidence), "tanh"])
def test_a_rate_is_a_scale_of_the_readouts_and_another_time(activation):
    """(eta, z, gamma, t) is (1, z/sqrt(eta), gamma/sqrt(eta), eta t), of the same particles."""
    limit = ak.TwoLayer(activation, tol=1e-6, sampling="iid", **FINE)
    own = ak.Stage(SOURCE, 1.5, duration=2.0, head="kept", head_rate=ETA)
    plain = ak.Stage(SOURCE, 1.5 / ETA**0.5, duration=2.0 * ETA, head="kept")
    start = shrunk(limit.start([own], {SOURCE.name: SOURCE}, np.random.default_rng(3)), 1.0)
    _, there, _ = limit.advance(start, own, request(SOURCE))
    _, expected, _ = limit.advance(shrunk(start, ETA**-0.5), plain, request(SOURCE))
    X = np.concatenate([SOURCE.X, SOURCE.X_test])
    unchanged, _, _ = limit.advance(start, replace(own, head_rate=1.0), request(SOURCE))
    f = there.predict(X)
    assert np.abs(unchanged.predictions[SOURCE.name, "train"][-1] - f[:, :6]).max() > 0.01
    np.testing.assert_allclose(f, expected.predict(X), atol=2e-4)
    z = ETA**-0.5 * there.particles.z
    np.testing.assert_allclose(z, expected.particles.z, atol=1e-3)


def test_the_same_holds_of_networks():
    network, own = ak.Network(32, "tanh", tol=1e-6), ak.Stage(SOURCE, 1.5, 2.0, head_rate=ETA)
    plain = replace(own, richness=1.5 / ETA**0.5, duration=2.0 * ETA, head_rate=1.0)
    start = _start(network, own, None, 0, 0)
    *hidden, head = start.weights.layers
    small = Member(Weights((*hidden, (ETA**-0.5 * head).astype(head.dtype))))
    with jax.enable_x64(True):
        found, expected = (
            flow_through(network, stage, member, SOURCE.X, np.array([0.0]), ())
            for stage, member in ((own, start), (plain, small))
        )
    np.testing.assert_allclose(found.predictions[-1], expected.predictions[-1], atol=2e-4)


def test_linear_source_stage_in_closed_form():
    """M = I + chi n n^T and A along a conserved quantity, theory section 3.1."""
    solution = ak.solve([ak.Stage(SOURCE, 1.5, head_rate=ETA)], ak.Linear())
    state = solution.states[-1]
    size = float(np.sum(state.v**2))
    a = (1 - ETA + np.sqrt((1 + ETA) ** 2 + 4 * ETA * size)) / 2
    n = state.v / np.sqrt(size)
    assert size > 0.1
    np.testing.assert_allclose(state.A, [[a]], rtol=1e-4)
    np.testing.assert_allclose(state.M, np.eye(len(state.M)) + (a - 1) / ETA * n @ n.T, atol=1e-4)


STAGES = {
    "rich": dict(richness=1.5, duration=1.0),
    "decay": dict(richness=1.5, duration=1.0, weight_decay=0.3),
    "lazy": dict(richness=0.0, duration=1.0),
    "lazy decay": dict(richness=0.0, duration=1.0, weight_decay=0.3),
    "readout": dict(richness=1.5, duration=0.5, trains="readout", weight_decay=0.3),
}


@pytest.mark.evidence
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", STAGES)
def test_particles_are_the_linear_closed_form(name, outputs):
    """Two stages, of which the second starts from features that have moved."""
    task = WIDE if outputs == 2 else SOURCE
    stages = [ak.Stage(task, 1.0, 1.0), ak.Stage(task, head_rate=ETA, **STAGES[name])]
    exact = ak.solve(stages, ak.Linear())
    theory = ak.solve(stages, ak.TwoLayer("linear", particles=512, tol=1e-4, replicates=4))
    for split in ("train", "test"):
        f, expected = (s.predictions(task, split)[-1] for s in (theory, exact))
        error = f.std(0) / np.sqrt(len(f)) + 2e-3
        assert (np.abs(f.mean(0) - expected[0]) < 5 * error).all()
    without = ak.solve([stages[0], replace(stages[1], head_rate=1.0)], ak.Linear())
    assert np.abs(without.predictions(task)[-1] - exact.predictions(task)[-1]).max() > 0.02


def test_lazy_stages_run_on_the_kernel_of_both_rates():
    """eta Phi + G K_x, of the analytic kernels; and rich stages of little richness tend to it."""
    stage = ak.Stage(SOURCE, 0.0, duration=3.0, head_rate=ETA)
    limit = ak.TwoLayer("relu", particles=128, replicates=4, tol=1e-4)
    lazily = ak.solve([stage], limit)
    K = SOURCE.X @ SOURCE.X.T / SOURCE.dimension
    feature, gradient = lazy.two_layer(activations.get("relu"), np.diag(K), K, np.diag(K))
    rates, modes = np.linalg.eigh(ETA * feature + gradient * K)
    seen = (1 - np.exp(-rates * 3.0 / len(K))) * (modes.T @ SOURCE.y[:, 0])
    f = lazily.predictions(SOURCE, "train")[-1]
    np.testing.assert_allclose(f[..., 0], np.broadcast_to(modes @ seen, f.shape[:2]), atol=1e-6)
    nearly = ak.solve([replace(stage, richness=1e-3)], limit)
    for split in ("train", "test"):
        np.testing.assert_allclose(
            nearly.predictions(SOURCE, split)[-1], lazily.predictions(SOURCE, split)[-1], atol=3e-3
        )


@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.evidence)])
def test_lazy_networks_are_those_of_little_richness(depth):
    network = ak.Network(64, "tanh", depth, tol=1e-5)
    stage = ak.Stage(WIDE, 0.0, duration=1.0, head_rate=ETA)
    lazily, nearly, without = (
        ak.train([s], network).predict(WIDE.X_test).value
        for s in (stage, replace(stage, richness=2e-3), replace(stage, head_rate=1.0))
    )
    assert np.abs(lazily - without).max() > 0.02
    np.testing.assert_allclose(nearly, lazily, atol=5e-3)


@pytest.mark.evidence
@pytest.mark.wide
def test_lazy_decaying_networks_are_those_of_little_richness():
    """Of pairs (w, z), (w, -z): their readout is 0, so that nothing that decays is over gamma."""
    network, stage = ak.Network(64, "tanh", tol=1e-5), ak.Stage(SOURCE, 0.0, 1.0, head_rate=ETA)
    stage = replace(stage, weight_decay=0.4)
    w, z = _start(network, stage, None, 0, 0).weights.layers
    start = Member(Weights((np.concatenate([w, w]), np.concatenate([z, -z]))))
    with jax.enable_x64(True):
        lazily, nearly, without = (
            flow_through(network, s, start, SOURCE.X_test, np.array([0.0]), ()).predictions[-1]
            for s in (stage, replace(stage, richness=2e-3), replace(stage, head_rate=1.0))
        )
    assert np.abs(lazily - without).max() > 0.02
    np.testing.assert_allclose(nearly, lazily, atol=5e-3)


@pytest.mark.parametrize(
    "run",
    [
        lambda stages: ak.solve(stages, ak.TwoLayer("tanh", **FINE)),
        lambda stages: ak.solve(stages, ak.Linear(tol=1e-9)),
        lambda stages: ak.train(stages, ak.Network(32, "tanh", dtype="float64")),
    ],
    ids=["TwoLayer", "Linear", "train"],
)
def test_readouts_alone_see_another_time(run):
    first = ak.Stage(SOURCE, 1.0, 0.5)
    own = ak.Stage(TARGET, 2.0, 0.7, trains="readout", weight_decay=0.2, head_rate=ETA)
    found, expected = run([first, own]), run([first, replace(own, duration=0.7 * ETA, head_rate=1)])
    np.testing.assert_allclose(
        found.predict(TARGET.X_test).value, expected.predict(TARGET.X_test).value, atol=1e-6
    )
    going_on = ak.Stage(TARGET, 2.0, 0.3, head="kept")  # the readouts themselves, too
    f, g = (run([*s.stages, going_on]).predict(TARGET.X_test).value for s in (found, expected))
    np.testing.assert_allclose(f, g, atol=1e-4)


@pytest.mark.evidence
def test_where_a_flow_comes_to_rest_does_not_depend_on_the_rate():
    limit = ak.TwoLayer("tanh", particles=64, replicates=2)
    rests = [
        ak.solve([ak.Stage(SOURCE, 2.0, weight_decay=0.05, head_rate=eta)], limit)
        for eta in (1.0, ETA)
    ]
    assert [s.outcome.value for s in rests] == ["converged"] * 2
    f, g = (s.predict(SOURCE.X_test).value for s in rests)
    assert np.abs(f).max() > 0.1
    np.testing.assert_allclose(f, g, atol=0.02)


@pytest.mark.parametrize("rate", [0, -1.0, np.nan, True, "fast", None])
def test_rates_that_are_none_are_refused(rate):
    with pytest.raises(ak.InputError, match=r"^head_rate must be"):
        ak.Stage(SOURCE, 1.0, head_rate=rate)


def test_limits_without_rates_say_who_has_them():
    with pytest.raises(ak.InputError, match=r"head_rate=2.0 is not .*: Linear, TwoLayer$"):
        ak.solve([ak.Stage(SOURCE, 1.0, head_rate=2)], ak.Deep(2, "tanh"))
