"""The richness of a network's training, from its features before and after."""

import numpy as np
import pytest

import adaptik as ak
from adaptik.transfer import movement as moved


@pytest.fixture(scope="module")
def task():
    return ak.tasks.load("digits", classes=(3, 5), n_train=12, n_test=10)


def features(task, richness, width, seed):
    stage = ak.Stage(task, richness=richness)
    network = ak.train([stage], ak.Network(width), seeds=[seed], snapshots=[(0, 0.0)])
    return [np.maximum(network.preactivations(task.X, time=t)[0].T, 0) for t in (0.0, None)]


def test_movement_is_that_of_the_centred_kernel():
    rng = np.random.default_rng(0)
    F = rng.normal(size=(10, 4800))
    turn = np.eye(10)
    turn[0, 1], turn[2, 2] = 1.0, 2.0
    centre = np.eye(10) - 0.1
    K = centre @ centre
    expected = np.linalg.norm(centre @ turn @ turn.T @ centre - K) / np.linalg.norm(K)
    # A shift that all samples share is no movement, a scale of both no other one.
    found = moved.movement(5 * F, 5 * turn @ F + 2.0 * np.arange(4800))
    np.testing.assert_allclose(found.value, expected, rtol=0.05)
    assert abs(found.value - expected) < 3 * found.standard_error < 0.15 * expected
    assert float(moved.movement(F, F).value) == 0.0


def test_few_units_do_not_look_like_movement():
    """Kernels of 64 units differ by what was sampled: in the mean as far as those of all."""
    rng = np.random.default_rng(1)
    W, small = rng.normal(size=(2, 6, 64 * 400))
    X = np.eye(6) + 1.0
    before, after = (np.maximum(X @ V, 0) for V in (W, W + 0.5 * small))
    whole = float(moved.movement(before, after).value)
    parts = [float(moved.movement(before[:, i::400], after[:, i::400]).value) for i in range(400)]
    np.testing.assert_allclose(np.mean(parts), whole, rtol=0.1)


@pytest.mark.evidence
@pytest.mark.parametrize("richness", [0.5, 2.0])
def test_richness_of_a_wide_network_is_recovered(task, richness):
    limit = ak.TwoLayer("relu", particles=256)
    found = ak.richness_of(*features(task, richness, 4096, 1), task, limit=limit)
    assert found.standard_error < 0.12 * richness
    assert abs(found.value - richness) < 0.1 * richness + 2 * found.standard_error


def test_what_does_not_fit_is_refused(task):
    F = np.random.default_rng(0).normal(size=(12, 64))
    with pytest.raises(ak.InputError, match=r"after has shape \(12, 32\)"):
        ak.richness_of(F, F[:, :32], task)
    with pytest.raises(ak.InputError, match=r"before has 6 rows, task\.X 12"):
        ak.richness_of(F[:6], F[:6], task)
    with pytest.raises(ak.InputError, match="at least 3 samples and 16 units"):
        moved.movement(F[:, :8], F[:, :8])
    with pytest.raises(ak.InputError, match="larger value of largest"):
        ak.richness_of(F, 100 * F, task, limit=ak.TwoLayer("relu", particles=64), largest=0.1)
