"""Weight decay that takes all weights to the origin, and from which richness on it does not."""

import numpy as np
import pytest

import adaptik as ak
from adaptik.limits import collapse_richness
from adaptik.system.errors import InputError

TASK, _ = ak.tasks.linear_pair(0.5, n_source=8, n_target=4, dimension=4, n_test=5, seed=0)
LAMBDA = 0.2


@pytest.mark.evidence
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_features_survive_above_the_threshold_only(activation):
    threshold = collapse_richness(TASK, LAMBDA, activation)
    limit = ak.TwoLayer(activation, particles=128, replicates=2)
    low, high = (
        ak.solve([ak.Stage(TASK, factor * threshold, weight_decay=LAMBDA)], limit, record=2)
        for factor in (0.75, 1.4)
    )
    assert low.outcome is ak.Outcome.COLLAPSED and low.outcome.ok
    assert high.outcome is not ak.Outcome.COLLAPSED
    assert np.abs(low.predict(TASK.X).value).max() < 0.1
    assert np.std(high.predict(TASK.X).value) > 0.1


def test_the_largest_growth_is_found_among_all_directions():
    """Against a fine grid of directions in the plane."""
    rng = np.random.default_rng(1)
    task = ak.Task(rng.standard_normal((7, 2)), rng.standard_normal(7))
    angles = np.linspace(0, 2 * np.pi, 20001)
    h = np.stack([np.cos(angles), np.sin(angles)], 1) @ task.X.T / np.sqrt(2)
    growth = np.abs(np.maximum(h, 0) @ task.y[:, 0] / 7).max()
    assert collapse_richness(task, LAMBDA, "relu") == pytest.approx(LAMBDA / growth, rel=1e-6)


def test_activations_with_an_offset_never_collapse_and_no_decay_is_refused():
    assert collapse_richness(TASK, LAMBDA, "sigmoid") == 0
    with pytest.raises(InputError, match="weight_decay"):
        collapse_richness(TASK, 0.0)
