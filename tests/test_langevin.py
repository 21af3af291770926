"""Posterior samples of finite networks: their own consistency, and the limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import adaptik as ak
from adaptik.mathematics.hamiltonian import SMALLEST_STEP, adapted, trajectory
from adaptik.networks import langevin
from adaptik.networks.langevin import convergence
from adaptik.system.errors import InputError

SOURCE, TARGET = ak.tasks.linear_pair(0.8, n_source=10, n_target=6, dimension=12, n_test=40, seed=1)


def distance(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def cosine(a, b):
    return np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)


def both(activation, width, limit, gamma=1.0, T=0.05, samples=150):
    stages = [ak.Stage(SOURCE, gamma), ak.Stage(TARGET, gamma, elastic=1.0)]
    network = ak.sample_posterior(
        stages, ak.Network(width, activation), temperature=T, warmup=80, samples=samples, keep=8
    )
    return ak.solve(stages, limit), network


@pytest.mark.evidence
def test_linear_networks_agree_with_the_closed_form():
    limit, network = both("linear", 1000, ak.BayesianLinear(temperature=0.05))
    for i, task in enumerate((SOURCE, TARGET)):
        K, M = limit.kernel(task.X, stage=i).value, network.states[i].mean_kernel.mean(0)
        assert cosine(K, M) > 0.999 and distance(M, K) < 0.04
        f, g = (s.predict(task.X_test, stage=i).value for s in (limit, network))
        assert distance(g, f) < 0.05
        lazy = task.X @ task.X.T / 12
        assert distance(lazy, K) > 0.2


@pytest.mark.evidence
@pytest.mark.wide
@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_nonlinear_networks_agree_with_the_sampled_limit(activation):
    limit, network = both(activation, 2000, ak.Bayesian(activation, temperature=0.05))
    for i, task in enumerate((SOURCE, TARGET)):
        K, M = limit.kernel(task.X, stage=i).value, network.states[i].mean_kernel.mean(0)
        assert cosine(K, M) > 0.995 and distance(M, K) < 0.05
        f, g = (s.predict(task.X_test, stage=i).value for s in (limit, network))
        assert distance(g, f) < 0.05


@pytest.mark.parametrize("depth", [1, 2])
def test_tiny_networks_against_importance_sampling_of_all_weights(depth):
    """Draws from the prior of hidden weights and head, weighted by the likelihood."""
    N, gamma, T = 3, 1.3, 0.4
    task = ak.Task([[1.0], [-0.6]], [1.0, -0.6], name="tiny")
    x = np.array([1.0, -0.6, 0.5])
    rng = np.random.default_rng(0)
    h = rng.standard_normal((400_000, N, 1)) * x
    if depth == 2:
        h = np.einsum("sij,sjp->sip", rng.standard_normal((len(h), N, N)), np.tanh(h)) / np.sqrt(N)
    phi = np.tanh(h)
    f = np.einsum("si,sip->sp", rng.standard_normal((len(h), N)), phi) / (gamma * N)
    weights = np.exp(-N * gamma**2 / (2 * T) * np.sum((f[:, :2] - task.y[:, 0]) ** 2, 1))
    weights /= weights.sum()
    kernel = np.einsum("s,sip,siq->pq", weights, phi, phi, optimize=True) / N
    assert 1 / np.sum(weights**2) > 5_000
    network = ak.sample_posterior(
        [ak.Stage(task, gamma)], ak.Network(N, "tanh", depth=depth), temperature=T,
        chains=400, warmup=15, samples=10, keep=5,
    )  # fmt: skip
    mean = network.predict(x[:, None])
    assert np.abs(mean.value - weights @ f).max() < 4 * mean.standard_error.max() < 0.03
    found = network.kernel(x[:, None])
    assert np.abs(found.value - kernel).max() < 4 * found.standard_error.max() < 0.05
    # What the prior alone has is far away.
    assert np.abs(np.mean(phi[:, :, 0] ** 2) - kernel[0, 0]) > 0.03


@pytest.mark.parametrize("outputs", [1, 2])
def test_hidden_weights_weigh_as_the_likelihood_of_the_labels(outputs):
    """The head and the noise integrate out: y ~ N(0, (Phi + T)/(N gamma^2)), output by output."""
    rng = np.random.default_rng(0)
    N, T, gamma, samples = 5, 0.3, 1.4, 3
    points, y = rng.standard_normal((samples, 2)), rng.standard_normal((samples, outputs))
    weights = rng.standard_normal((2, N, 2))
    with jax.enable_x64(True):
        data = (points, np.zeros((2, N, 2)), 1.0, y, T, N * gamma**2)
        data = tuple(map(jnp.asarray, data))
        found = langevin._log_likelihood(jnp.tanh, data, (jnp.asarray(weights),))
    exact = []
    for W in weights:
        phi = np.tanh(points @ W.T)
        covariance = (phi @ phi.T / N + T * np.eye(samples)) / (N * gamma**2)
        law = multivariate_normal(np.zeros(samples), covariance)
        exact.append(sum(law.logpdf(column) for column in y.T))
    assert found[0] - found[1] == pytest.approx(exact[0] - exact[1], rel=1e-9)
    assert abs(exact[0] - exact[1]) > 0.1


def test_r_hat_sees_chains_that_disagree_and_effective_sizes_correlations():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 1000, 1))
    apart = noise + np.array([0.0, 3.0])[:, None, None]
    assert convergence(noise)[0][0] < 1.02 and convergence(apart)[0][0] > 1.5
    slow = np.zeros((2, 20000, 1))
    for t in range(1, slow.shape[1]):
        slow[:, t] = 0.9 * slow[:, t - 1] + rng.standard_normal((2, 1))
    # The integrated autocorrelation time of this process is (1 + 0.9)/(1 - 0.9) = 19.
    assert convergence(slow)[1][0] == pytest.approx(40000 / 19, rel=0.25)


def test_source_samples_are_quenched_and_strong_coupling_keeps_them():
    stages = [ak.Stage(SOURCE, 1.0), ak.Stage(TARGET, 1.0, elastic=1e6)]
    network = ak.sample_posterior(
        stages, ak.Network(200, "erf"), temperature=0.1, chains=2, warmup=30, samples=30, keep=3
    )
    for before, after in zip(*(s.members for s in network.states), strict=True):
        for layers in after.networks:
            assert np.abs(layers[0] - before.networks[-1][0]).max() < 0.01


def test_solutions_are_stored(tmp_path):
    network = ak.sample_posterior(
        [ak.Stage(SOURCE, 1.0)], ak.Network(50, "erf"), temperature=0.1, warmup=5, samples=5, keep=2
    )
    network.save(tmp_path / "samples.zip")
    loaded = ak.Solution.load(tmp_path / "samples.zip")
    assert np.array_equal(loaded.predict(SOURCE.X).value, network.predict(SOURCE.X).value)
    assert loaded.kernel(SOURCE.X, kind="ntk").value.shape == (10, 10)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (dict(temperature=0), "temperature"),
        (dict(samples=2), "samples"),
        (dict(keep=30), "keep=30"),
        (dict(stages=[ak.Stage(SOURCE, 0.0)]), "richness 0"),
        (dict(stages=[ak.Stage(SOURCE, 1.0, duration=2.0)]), "duration"),
        (dict(stages=[ak.Stage(SOURCE, 1.0, elastic=2.0)]), "stage 0: elastic=2"),
        (
            dict(
                stages=[ak.Stage(SOURCE, 1.0), ak.Stage(TARGET, 1.0, elastic=2.0)],
                network=ak.Network(20, depth=2),
            ),
            "stage 1: elastic=2 is for one hidden layer",
        ),
    ],
)
def test_bad_input_is_refused(arguments, names):
    full = dict(
        stages=[ak.Stage(SOURCE, 1.0)], network=ak.Network(20), temperature=0.1, samples=20, keep=2
    )
    full |= arguments
    with pytest.raises(InputError, match=names):
        ak.sample_posterior(full.pop("stages"), full.pop("network"), **full)


def test_sampling_in_two_calls_is_sampling_in_one():
    stages = [ak.Stage(SOURCE, 1.0), ak.Stage(TARGET, 1.0, elastic=2.0)]
    network, options = ak.Network(60, "tanh"), dict(temperature=0.1, warmup=5, samples=8, keep=4)
    whole = ak.sample_posterior(stages, network, **options)
    first = ak.sample_posterior(stages[:1], network, observe=[TARGET], **options)
    both = ak.sample_posterior(stages[1:], network, after=first, **options)
    assert len(both.stages) == 2
    np.testing.assert_array_equal(both.predictions(TARGET), whole.predictions(TARGET))
    free = ak.sample_posterior([ak.Stage(TARGET, 1.0)], network, after=first, **options)
    assert distance(free.predictions(TARGET), whole.predictions(TARGET)) > 0.05

    def refused(message, after=first, network=network, **changed):
        with pytest.raises(InputError, match=message):
            ak.sample_posterior(stages[1:], network, after=after, **options | changed)

    refused("after has width=60, got 50", network=ak.Network(50, "tanh"))
    refused("after has temperature=0.1", temperature=0.2)
    refused("after has chains=2", chains=3)
    refused("result of adaptik.sample_posterior", after=ak.train(stages[:1], network, record=2))


def test_refusals_shorten_steps_but_not_for_ever():
    assert adapted(0.4, 0.1) < 0.4 < adapted(0.4, 1.0)
    step = 0.4
    for _ in range(100):
        step = adapted(step, 0.0)
    assert step == SMALLEST_STEP


def test_trajectories_forget_where_they_started_whatever_their_step():
    """After a quarter of a turn positions are momenta; a whole one would return to the start."""
    with jax.enable_x64(True):
        start = jax.random.normal(jax.random.key(0), (4000, 2))
        for step in (0.05, 0.39, 0.7):
            key = jax.random.key(1)
            end, chance = trajectory(lambda x: 0.0 * x[:, 0], start, key, jnp.asarray(step))
            assert float(chance) == pytest.approx(1.0)
            assert abs(np.corrcoef(start[:, 0], end[:, 0])[0, 1]) < 0.35
            assert np.std(end) == pytest.approx(1.0, abs=0.03)
