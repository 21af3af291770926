"""Joint stages, low ranks, biases and rates of the readout in one stage, on both sides."""

import numpy as np
import pytest

import adaptik as ak

A, B = ak.tasks.hermite_pair(1, 2, 0.5, n_source=10, n_target=8, dimension=6, n_test=6)
BIASED = (0.6, 0.8)
CASES = {
    "joint, biases": (BIASED, dict(task=[A, B], weights=[1, 2])),
    "joint, low rank, readout's bias and rate": (
        (0.0, 0.8),
        dict(task=[A, B], rank=3, head_rate=2.0),
    ),
    "low rank, readout's bias, lazy": ((0.0, 0.8), dict(task=B, rank=3, richness=0.0)),
}


def stages(options: dict, head: str = "fresh") -> list[ak.Stage]:
    first = ak.Stage(A, 1.0, duration=1.0)
    return [first, ak.Stage(**dict(richness=1.0, duration=2.0, head=head) | options)]


@pytest.mark.evidence
def test_linear_neurons_with_biases_learn_tasks_together_in_closed_form():
    """Particles against the exact law, on both tasks, with weights that differ."""
    bias, options = CASES["joint, biases"]
    exact = ak.solve(stages(options), ak.Linear(bias=bias, tol=1e-8))
    limit = ak.TwoLayer("linear", particles=512, replicates=4, tol=1e-4, bias=bias)
    theory = ak.solve(stages(options), limit)
    alone = ak.solve(stages(options), ak.Linear(tol=1e-8))
    for task in (A, B):
        f, expected = (s.predictions(task, "test")[-1] for s in (theory, exact))
        error = f.std(0, ddof=1) / 2 + 2e-3
        assert (np.abs(f.mean(0) - expected[0]) < 5 * error).all()
        assert np.abs(expected - alone.predictions(task, "test")[-1]).max() > 0.05


@pytest.mark.evidence
@pytest.mark.parametrize("name", CASES)
def test_networks_are_the_limit(name):
    bias, options = CASES[name]
    theory = ak.solve(stages(options), ak.TwoLayer("tanh", particles=4096, tol=1e-3, bias=bias))
    network = ak.train(stages(options), ak.Network(4096, "tanh", bias=bias), seeds=6)
    for task in (A, B) if isinstance(options["task"], list) else (B,):
        f, g = (s.predictions(task, "test")[-1] for s in (theory, network))
        error = np.hypot(f.std(0, ddof=1) / 2, g.std(0, ddof=1) / 6**0.5)
        assert error.max() < 0.05
        assert np.sqrt(np.mean(((f.mean(0) - g.mean(0)) / error) ** 2)) < 2
        assert (np.abs(f.mean(0) - g.mean(0)) < 5 * error + 2e-3).all()
