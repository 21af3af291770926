"""The exact linear limit against the particle limit, closed forms and networks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptik as ak
from adaptik.limits.linear.two_layer import MomentFlow, Moments
from adaptik.mathematics import losses

SOURCE, TARGET = ak.tasks.linear_pair(0.5, n_source=8, n_target=8, dimension=20, n_test=40)
SHAPES = [(4, 6), (4, 2), (6, 2), (6, 2)]  # inputs, labels, predictor and a change of it
FIRST = ak.Stage(SOURCE, 2.0, duration=5.0)
SEQUENCES = {
    "rich kept": [FIRST, ak.Stage(TARGET, 1.0, duration=4.0, head="kept")],
    "rich fresh with decay": [FIRST, ak.Stage(TARGET, 1.5, duration=4.0, weight_decay=0.1)],
    "lazy fresh": [FIRST, ak.Stage(TARGET, 0.0, duration=4.0)],
    "lazy kept": [FIRST, ak.Stage(TARGET, 0.0, duration=4.0, head="kept")],
    "readout": [FIRST, ak.Stage(TARGET, 0.0, duration=4.0, trains="readout")],
    "readout kept with decay": [
        ak.Stage(SOURCE, 1.0, duration=5.0),
        ak.Stage(TARGET, 1.0, trains="readout", duration=4.0, head="kept", weight_decay=0.1),
    ],
    "three stages": [
        FIRST,
        ak.Stage(TARGET, 2.0, trains="readout", duration=3.0),
        ak.Stage(SOURCE, 1.0, duration=2.0, head="kept"),
    ],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_moments_and_particles_agree(name):
    exact = ak.solve(SEQUENCES[name], ak.Linear(tol=1e-7))
    limit = ak.TwoLayer(
        "linear", particles=20, replicates=1, dtype="float64", tol=1e-7, max_steps=20000
    )
    sampled = ak.solve(SEQUENCES[name], limit)
    for task in (SOURCE, TARGET):
        f = sampled.predict(task.X_test).value
        assert np.std(f) > 0.05
        np.testing.assert_allclose(
            exact.predict(task.X_test).value, f, rtol=0, atol=1e-6 * np.abs(f).max()
        )
    for kind in ("feature", "ntk"):
        np.testing.assert_allclose(
            exact.kernel(TARGET.X_test, TARGET.X, kind=kind).value,
            sampled.kernel(TARGET.X_test, TARGET.X, kind=kind).value,
            atol=1e-6,
        )


def test_on_frozen_features_the_stiff_part_is_all_of_the_flow():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        root, zero = rng.standard_normal((6, 6)), jnp.zeros((6, 2))
        X, y, beta, v = (jnp.asarray(rng.standard_normal((n, k))) for n, k in SHAPES)
        scalars = map(jnp.asarray, (1.5, 0.3, 2.0))  # richness, decay, rate of the readout
        flow = MomentFlow(losses.Objective(losses.get("squared")), True, X, y, *scalars)
        law = Moments(jnp.asarray(root @ root.T), zero, jnp.eye(2), beta)
        at, v = flow.linearise(law), Moments(jnp.zeros((6, 6)), zero, jnp.zeros((2, 2)), v)
        exact = jax.jvp(flow, (law,), (v,))[1].beta
        stiff = -at.decay * v.beta - at.stiff.spread(at.stiff.read(v)).beta
        np.testing.assert_allclose(stiff, exact, atol=1e-12 * float(jnp.abs(exact).max()))


def test_nothing_is_sampled():
    solution = ak.solve([FIRST], ak.Linear())
    for estimate in (solution.loss(SOURCE), solution.predict(SOURCE.X_test)):
        assert np.all(np.asarray(estimate.standard_error) == 0)
    assert (solution.to_xarray()["loss_standard_error"].dropna("time") == 0).all()


def test_features_are_a_pure_boost_along_the_predictor_that_interpolates():
    times = (0.5, 2.0, 8.0)
    stage = ak.Stage(SOURCE, 3.0, loss_tol=1e-12, rate_tol=1e-9)
    solution = ak.solve([stage], ak.Linear(tol=1e-8), snapshots=[(0, t) for t in times])
    assert solution.outcome is ak.Outcome.CONVERGED
    for state in [*(solution.state(0, t) for t in times), solution.state()]:
        v, a = state.v[:, 0], state.A[0, 0]
        n = v / np.linalg.norm(v)
        assert a > 1.01
        np.testing.assert_allclose(a, np.sqrt(1 + v @ v), atol=1e-7)
        np.testing.assert_allclose(state.M, np.eye(len(v)) + (a - 1) * np.outer(n, n), atol=1e-7)
    minimum_norm = np.linalg.pinv(SOURCE.X) @ SOURCE.y[:, 0]
    np.testing.assert_allclose(
        solution.predict(SOURCE.X_test).value, SOURCE.X_test @ minimum_norm, atol=1e-5
    )


@pytest.mark.evidence
def test_several_outputs_and_weight_decay_against_particles():
    rng = np.random.default_rng(0)
    y, y_test = (X @ rng.standard_normal((20, 3)) / 4 for X in (SOURCE.X, SOURCE.X_test))
    task = ak.Task(SOURCE.X, y, SOURCE.X_test, y_test, name="three outputs")
    stages = [ak.Stage(task, 1.5, duration=4.0, weight_decay=0.1)]
    exact = ak.solve(stages, ak.Linear(tol=1e-7))
    limit = ak.TwoLayer("linear", particles=16, replicates=1, dtype="float64", tol=1e-7)
    sampled = ak.solve(stages, dataclasses.replace(limit, max_steps=20000))
    assert exact.predict(task.X_test).value.shape == (40, 3)
    np.testing.assert_allclose(
        exact.predict(task.X_test).value, sampled.predict(task.X_test).value, atol=1e-6
    )
    np.testing.assert_allclose(
        exact.kernel(task.X, kind="ntk").value,
        sampled.kernel(task.X, task.X, kind="ntk").value,
        atol=1e-6,
    )


@pytest.mark.evidence
def test_networks_are_the_linear_limit_within_their_error():
    stages = SEQUENCES["rich kept"]
    exact = ak.solve(stages, ak.Linear(), record=2)
    network = ak.train(stages, ak.Network(8192, "linear"), seeds=range(5), record=2)
    for task in (SOURCE, TARGET):
        gap = network.predict(task.X_test) - exact.predict(task.X_test)
        assert 0.3 < np.mean(gap.value**2) / np.mean(gap.standard_error**2) < 2.5


def test_bad_settings_are_refused_and_saving_keeps_predictions(tmp_path):
    for bad in (dict(tol=0.0), dict(max_steps=0)):
        with pytest.raises(ak.InputError, match=next(iter(bad))):
            ak.Linear(**bad)
    solution = ak.solve([FIRST], ak.Linear())
    solution.save(tmp_path / "solution.zip")
    again = ak.Solution.load(tmp_path / "solution.zip")
    np.testing.assert_array_equal(
        again.predict(SOURCE.X_test).value, solution.predict(SOURCE.X_test).value
    )
    h = solution.preactivations(SOURCE.X[:3])[0]
    np.testing.assert_allclose(h.T @ h / len(h), solution.kernel(SOURCE.X[:3]).value, atol=0.15)
