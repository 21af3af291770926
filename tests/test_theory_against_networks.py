"""Two independent routes to one answer: the infinite-width limit and real networks."""

import numpy as np
import pytest

import adaptik as ak


def reduced_chi_square(theory: ak.Solution, network: ak.Solution, task: ak.Task) -> float:
    """Mean squared difference of predictions over its mean expected square.

    Sampling error alone gives about 1 (fluctuating, since test points are correlated); a wrong
    factor of 2 anywhere gives hundreds.
    """
    gap = theory.predict(task.X_test) - network.predict(task.X_test)
    return float(np.mean(gap.value**2) / np.mean(gap.standard_error**2))


def both(stages, limit, network, seeds):
    theory = ak.solve(stages, limit, record=2)
    return theory, ak.train(theory.timed_stages, network, seeds=range(seeds), record=2)


@pytest.mark.evidence
@pytest.mark.parametrize("head", ["fresh", "kept"])
def test_hermite_pair_within_error_bars(head):
    source, target = ak.tasks.hermite_pair(
        1, 2, 0.8, n_source=20, n_target=15, dimension=8, n_test=100
    )
    stages = [ak.Stage(source, 2.0, duration=8.0), ak.Stage(target, 1.0, duration=8.0, head=head)]
    theory, network = both(
        stages, ak.TwoLayer("relu", replicates=8), ak.Network(1024, "relu"), seeds=8
    )
    assert np.std(theory.predict(target.X_test).value) > 0.1
    assert 0.3 < reduced_chi_square(theory, network, target) < 2.5


@pytest.mark.evidence
@pytest.mark.wide
@pytest.mark.parametrize("head", ["fresh", "kept"])
@pytest.mark.parametrize(
    "pair", [("digits:3,5", "digits:8,9"), ("fashion-mnist:0,1", "fashion-mnist:0,9")]
)
def test_real_pairs_at_width_4096(pair, head, shared_data):
    shared_data("fashion_mnist")
    source, target = ak.tasks.load_pair(*pair, n_source=60, n_target=30, n_test=200)
    stages = [ak.Stage(source, 2.0), ak.Stage(target, 1.0, head=head)]
    limit = ak.TwoLayer("relu", particles=2048, replicates=8)
    theory, network = both(stages, limit, ak.Network(4096, "relu"), seeds=8)
    assert theory.outcome is ak.Outcome.CONVERGED
    for task in (source, target):
        assert 0.5 < reduced_chi_square(theory, network, task) < 2


@pytest.mark.evidence
@pytest.mark.wide
def test_single_networks_approach_the_limit_like_one_over_root_width():
    source, target = ak.tasks.hermite_pair(
        1, 2, 0.8, n_source=20, n_target=15, dimension=8, n_test=100
    )
    stages = [ak.Stage(source, 2.0, duration=8.0), ak.Stage(target, 1.0, duration=8.0)]
    limit = ak.TwoLayer("relu", particles=8192, replicates=8)
    f = ak.solve(stages, limit, record=2).predict(target.X_test).value
    widths = 2 ** np.arange(8, 14)
    rms = []
    for width in widths:
        network = ak.train(stages, ak.Network(int(width), "relu"), seeds=range(6), record=2)
        gaps = network.states[-1].predict(target.X_test)[..., 0] - f
        rms.append(np.sqrt(np.mean(gaps**2, axis=1)))
    slopes = [np.polyfit(np.log(widths), np.log(r), 1)[0] for r in np.array(rms).T]
    error = np.std(slopes, ddof=1) / np.sqrt(len(slopes))
    assert abs(np.mean(slopes) + 0.5) < max(3 * error, 0.05)
