"""The deep linear limit against the two-layer one, networks, and the two-time equations."""

import dataclasses

import jax
import numpy as np
import pytest

import adaptik as ak
from adaptik import linear_theory

SOURCE, TARGET = ak.tasks.linear_pair(0.5, n_source=8, n_target=8, dimension=20, n_test=40)
FIRST = ak.Stage(SOURCE, 2.0, duration=3.0)
SEQUENCES = {
    "rich kept": [FIRST, ak.Stage(TARGET, 1.0, duration=3.0, head="kept")],
    "rich fresh with decay": [FIRST, ak.Stage(TARGET, 1.5, duration=3.0, weight_decay=0.1)],
    "lazy fresh": [FIRST, ak.Stage(TARGET, 0.0, duration=3.0)],
    "lazy kept": [FIRST, ak.Stage(TARGET, 0.0, duration=3.0, head="kept")],
    "lazy with decay": [FIRST, ak.Stage(TARGET, 0.0, duration=3.0, weight_decay=0.1)],
    "readout": [FIRST, ak.Stage(TARGET, 0.0, duration=3.0, trains="readout")],
    "three stages": [
        FIRST,
        ak.Stage(TARGET, 2.0, trains="readout", duration=3.0),
        ak.Stage(SOURCE, 1.0, duration=2.0, head="kept"),
    ],
}


def three_outputs() -> ak.Task:
    rng = np.random.default_rng(0)
    y, y_test = (X @ rng.standard_normal((20, 3)) / 4 for X in (SOURCE.X, SOURCE.X_test))
    return ak.Task(SOURCE.X, y, SOURCE.X_test, y_test, name="three outputs")


@pytest.mark.parametrize("name", SEQUENCES)
def test_one_layer_is_the_two_layer_linear_limit(name):
    moments = ak.solve(SEQUENCES[name], ak.Linear(tol=1e-8))
    revealed = ak.solve(SEQUENCES[name], ak.DeepLinear(1, tol=1e-7, reveal_tol=1e-7))
    for task in (SOURCE, TARGET):
        f = moments.predict(task.X_test).value
        assert np.std(f) > 0.05
        np.testing.assert_allclose(revealed.predict(task.X_test).value, f, atol=1e-6)
    for kind in ("feature", "gradient", "ntk"):
        np.testing.assert_allclose(
            revealed.kernel(TARGET.X_test, TARGET.X, kind=kind).value,
            moments.kernel(TARGET.X_test, TARGET.X, kind=kind).value,
            atol=2e-6,
        )
    first, second = moments.records[-1], revealed.records[-1]
    np.testing.assert_allclose(second.train_loss, first.train_loss, atol=1e-5)
    # Under decay the rate of DeepLinear leaves out the initial matrices, which fade by themselves.
    if np.isfinite(second.rate) and SEQUENCES[name][-1].weight_decay == 0:
        np.testing.assert_allclose(second.rate, first.rate, atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_reported_step_error_covers_the_error(outputs):
    stage = FIRST if outputs == 1 else ak.Stage(three_outputs(), 1.5, duration=3.0)
    fine = ak.solve([stage], ak.DeepLinear(3, tol=1e-8, reveal_tol=1e-7))
    plain = ak.solve([stage], ak.DeepLinear(3, tol=1e-4, reveal_tol=1e-4))
    X = stage.task.X_test
    error = np.abs(fine.predict(X).value - plain.predict(X).value).max()
    assert 1e-6 < error < plain.records[0].step_error < 0.1
    assert fine.records[0].step_error < 1e-4
    assert np.all(plain.predict(X).standard_error == 0)


def two_time_spikes(depth: int, steps: int, dt: float, response: bool = True):
    """chi_l and <z_L h_L> of one direction under signal 1 by two-time equations (theory section 5).

    Explicit Euler; operators are (time, time) matrices. All are causal, so sweeps reach the
    solution exactly after as many of them as there are times.
    """
    one, later = np.ones((steps + 1, steps + 1)), np.tri(steps + 1, k=-1)
    phi, G = [one] * (depth + 1), [one] * (depth + 2)
    A, B = [0 * one] * (depth + 1), [0 * one] * (depth + 1)
    eye = np.eye(steps + 1)
    for _ in range(2 * (steps + 1)):
        for k in range(1, depth + 1):
            C = later * (A[k - 1] + dt * phi[k - 1])
            D = later * (B[k] + dt * G[k + 1])
            R, S = np.linalg.inv(eye - C @ D), np.linalg.inv(eye - D @ C)
            phi[k] = R @ (phi[k - 1] + C @ G[k + 1] @ C.T) @ R.T
            G[k] = S @ (G[k + 1] + D @ phi[k - 1] @ D.T) @ S.T
            if response:
                A[k], B[k - 1] = R @ C, D @ R
        B[depth] = A[0] = 0 * one
    raw = (G[depth + 1] @ C.T @ R.T + D @ phi[depth])[-1, -1]
    return raw, np.array([phi[k][-1, -1] - 1 for k in range(1, depth + 1)])


@pytest.mark.parametrize("depth", [2, 3])
def test_spikes_solve_the_two_time_equations_and_need_their_response(depth):
    def gaps(steps, response=True):
        raw, chi = two_time_spikes(depth, steps, 0.45 / steps, response)
        return chi / linear_theory.layer_spikes(raw, depth=depth) - 1

    coarse, fine = gaps(24), gaps(48)
    extrapolated = 2 * fine - coarse  # explicit Euler errs in proportion to its step
    assert np.abs(coarse).max() > 0.003
    assert np.abs(extrapolated).max() < 0.001
    without = 2 * gaps(32, response=False) - gaps(16, response=False)
    assert np.abs(without).max() > 0.05


def test_spikes_are_the_reference_numbers_and_those_of_the_exact_solve():
    reference = {  # theory section 5: converged to 1e-4
        0.5: (0.0756, 0.2330), 1.0: (0.2468, 0.8072), 2.0: (0.6572, 2.4394), 4.0: (1.4521, 6.6003)
    }  # fmt: skip
    richness = np.array(list(reference))
    spikes = linear_theory.layer_spikes(richness, depth=2)
    np.testing.assert_allclose(spikes, list(reference.values()), atol=1e-4)
    one = linear_theory.layer_spikes(richness, 0.7)
    np.testing.assert_allclose(one[:, 0], np.sqrt(1 + 0.7 * richness**2) - 1, rtol=1e-5)
    white = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0] * np.sqrt(12)
    beta = np.random.default_rng(2).standard_normal(12)
    beta *= np.sqrt(12) / np.linalg.norm(beta)
    task = ak.Task(white, white @ beta / np.sqrt(12))
    stage = ak.Stage(task, 2.0 / np.sqrt(12), loss_tol=1e-9, rate_tol=1e-7)
    solution = ak.solve([stage], ak.DeepLinear(3, tol=1e-6), record=2)
    spike = (beta @ solution.kernel(np.eye(12)).value @ beta) - 1
    np.testing.assert_allclose(spike, linear_theory.layer_spikes(2.0, depth=3)[-1], rtol=1e-3)


def test_transfer_with_a_deep_source_is_that_of_its_spike():
    chi = linear_theory.layer_spikes(1.5, depth=2)[-1]
    deep = linear_theory.transfer_loss(0.8, 0.4, 1.5, depth=2)
    same = linear_theory.transfer_loss(0.8, 0.4, np.sqrt((1 + chi) ** 2 - 1))
    np.testing.assert_allclose(deep, same, rtol=1e-12)
    assert abs(deep / linear_theory.transfer_loss(0.8, 0.4, 1.5) - 1) > 0.02
    kept = dict(finetune="all", head="kept")
    a = np.sqrt(1 + 1.5**2)
    np.testing.assert_allclose(linear_theory.spike(1.5, **kept), (a - 1) / (a + 1))
    one, two = linear_theory.layer_spikes(1.5, depth=2)
    ntk = two + (1 + one) * one  # Phi_2 + G_2 Phi_1 + G_1 Phi_0 with G_2 = 1 + chi_1
    bulk = 1 + (1 + one) + (1 + two)
    np.testing.assert_allclose(linear_theory.spike(1.5, **kept, depth=2), ntk / bulk)
    fresh = linear_theory.spike(1.5, finetune="all", depth=2)
    np.testing.assert_allclose(fresh, (two + one) / 3)
    with pytest.raises(ak.InputError, match="nu_source must be infinite"):
        linear_theory.transfer_loss(0.8, 0.4, 1.5, nu_source=2.0, depth=2)
    slope = jax.grad(lambda g: linear_theory.spike(g, depth=2))(1.0)
    ahead, behind = linear_theory.spike(np.array([1.01, 0.99]), depth=2)
    np.testing.assert_allclose(slope, (ahead - behind) / 0.02, rtol=1e-3)


@pytest.mark.evidence
@pytest.mark.parametrize("head", ["fresh", pytest.param("kept", marks=pytest.mark.wide)])
def test_the_spike_of_all_weights_is_that_of_the_ntk(head):
    D, rng = 8, np.random.default_rng(0)
    white = np.sqrt(D) * np.linalg.qr(rng.standard_normal((D, D)))[0]
    beta = rng.standard_normal(D)
    n = beta / np.linalg.norm(beta)
    source = ak.Task(white, white @ n, name="source")
    other = ak.Task(white[:3], rng.standard_normal(3), name="other")
    stages = [ak.Stage(source, 1.5 / np.sqrt(D), loss_tol=1e-6, rate_tol=1e-6)]
    if head == "fresh":  # a lazy moment under a new head leaves the kernel as it starts
        stages.append(ak.Stage(other, 0.0, duration=1e-3))
    expected = linear_theory.spike(1.5, finetune="all", head=head, depth=2)
    network = ak.train(stages, ak.Network(2048, "linear", 2), seeds=range(2))
    for solution, tolerance in ((ak.solve(stages, ak.DeepLinear(2)), 2e-3), (network, 0.1)):
        kernel = solution.kernel(np.sqrt(D) * np.eye(D), kind="ntk").value
        along = n @ kernel @ n
        spike = along / ((np.trace(kernel) - along) / (D - 1)) - 1
        np.testing.assert_allclose(spike, expected, rtol=tolerance)


@pytest.mark.parametrize(
    ("depth", "name"),
    [
        (2, "rich kept"),
        pytest.param(2, "lazy with decay", marks=pytest.mark.evidence),
        pytest.param(3, "three outputs", marks=pytest.mark.evidence),
        pytest.param(3, "rich kept", marks=pytest.mark.evidence),
    ],
)
def test_networks_are_the_deep_linear_limit_within_their_error(depth, name):
    several = [ak.Stage(three_outputs(), 1.5, duration=2.0, weight_decay=0.05)]
    stages = SEQUENCES.get(name, several)
    task = stages[-1].task
    exact = ak.solve(stages, ak.DeepLinear(depth), record=2)
    network = ak.train(stages, ak.Network(384, "linear", depth=depth), seeds=range(4), record=2)
    gap = network.predict(task.X_test) - exact.predict(task.X_test)
    # About 1 where sampling alone parts them, inflated by few seeds; tens without response terms.
    assert np.mean(gap.value**2) / np.mean(gap.standard_error**2) < 4
    for kind in ("gradient", "ntk"):
        seen, limit = (s.kernel(task.X, kind=kind).value for s in (network, exact))
        assert np.linalg.norm(seen - limit) < 0.1 * np.linalg.norm(limit)


@pytest.mark.evidence
def test_a_long_stage_ends_where_the_two_layer_limit_does():
    source, _ = ak.tasks.load_pair("digits:3,5", "digits:8,9", n_source=60, n_target=10)
    ended = [
        ak.solve([ak.Stage(source, 1.0)], limit, record=2)
        for limit in (ak.Linear(), ak.DeepLinear(1), ak.DeepLinear(2))
    ]
    assert ended[1].records[0].cost.steps > 100  # past the switch of steppers
    f = [solution.predict(source.X_test).value for solution in ended]
    assert {solution.outcome for solution in ended} == {ended[0].outcome}
    np.testing.assert_allclose(f[1], f[0], atol=0.02 * np.abs(f[0]).max())
    np.testing.assert_allclose(f[2], f[0], atol=0.05 * np.abs(f[0]).max())  # least norm, any depth


def test_bad_settings_are_refused_and_saving_keeps_predictions(tmp_path):
    for bad in (
        dict(depth=0),
        dict(depth=True),
        dict(depth=2, tol=0.0),
        dict(depth=2, max_steps=0),
    ):
        with pytest.raises(ak.InputError):
            ak.DeepLinear(**bad)
    with pytest.raises(ak.InputError, match="depth"):
        linear_theory.spike(1.0, depth=0)
    stage = ak.Stage(SOURCE, 1.0, duration=2.0)
    solution = ak.solve([stage], ak.DeepLinear(2), snapshots=[(0, 1.0)])
    solution.save(tmp_path / "solution.zip")
    again = ak.Solution.load(tmp_path / "solution.zip")
    for time in (None, 1.0):
        np.testing.assert_array_equal(
            again.predict(SOURCE.X_test, time=time).value,
            solution.predict(SOURCE.X_test, time=time).value,
        )
    h = solution.preactivations(SOURCE.X[:3])[0]
    np.testing.assert_allclose(h.T @ h / len(h), solution.kernel(SOURCE.X[:3]).value, atol=0.15)
    half = ak.solve([dataclasses.replace(stage, duration=1.0)], ak.DeepLinear(2))
    np.testing.assert_allclose(
        half.predict(SOURCE.X_test).value, solution.predict(SOURCE.X_test, time=1.0).value,
        atol=1e-4,
    )  # fmt: skip
