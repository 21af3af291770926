"""Deep posteriors: against closed forms, quadrature and networks."""

import numpy as np
import pytest
from scipy.optimize import root

import adaptik as ak
from adaptik.limits.bayesian.linear import minimised
from adaptik.system.errors import InputError

TASK, OTHER = ak.tasks.linear_pair(0.8, n_source=8, n_target=6, dimension=10, n_test=40, seed=0)
PAIR = ak.Task(TASK.X, np.column_stack([TASK.y, 0.5 * TASK.X[:, :1]]), name="pair")
A = TASK.X / np.sqrt(10)
power = np.linalg.matrix_power


def distance(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def limit(activation, temperature=0.05, depth=2, particles=2048, replicates=2, **more):
    return ak.Bayesian(
        activation, depth, temperature, particles=particles, replicates=replicates, **more
    )


@pytest.mark.parametrize(("depth", "richness"), [(2, 0.6), (2, 1.0), (2, 2.0), (3, 1.0)])
def test_the_linear_closed_form_solves_the_equations_of_every_layer(depth, richness):
    """theory section 6 with Gaussian laws; at richness 2 the action is not convex."""
    T = 0.05
    solution = ak.solve([ak.Stage(PAIR, richness)], ak.BayesianLinear(temperature=T, depth=depth))
    state = solution.states[0]
    assert solution.outcome is ak.Outcome.CONVERGED
    inv, points = np.linalg.inv, state.span.points(PAIR.X).inside
    S = [power(state.S, layer) for layer in range(depth + 1)]
    delta = np.linalg.solve(points @ S[-1] @ points.T + T * np.eye(8), PAIR.y)
    b = points.T @ delta
    assert distance(inv(S[-2]) - richness**2 * b @ b.T, inv(S[-1])) < 1e-7
    for below, here, above in zip(S, S[1:], S[2:], strict=False):
        pull = inv(here) @ above @ inv(here) - inv(here)  # -Phihat
        assert distance(inv(below) - pull, inv(here)) < 1e-7
    f = solution.predict(PAIR.X).value
    assert distance(PAIR.y - f, T * delta) < 1e-6


def test_with_one_hidden_layer_it_is_the_two_layer_closed_form():
    S, _, residual, _ = minimised(A, TASK.y, 1.5, 0.02, 1, 1e-9, 200)
    exact = ak.solve([ak.Stage(TASK, 1.5)], ak.BayesianLinear(temperature=0.02))
    assert residual < 1e-9
    assert distance(A @ S @ A.T, exact.kernel(TASK.X).value) < 1e-7


@pytest.mark.evidence
@pytest.mark.parametrize(("task", "richness"), [(TASK, 0.5), (PAIR, 1.0)])
def test_linear_neurons_against_the_closed_form(task, richness):
    depth = 2
    stages = [ak.Stage(task, richness)]
    sampled = ak.solve(stages, limit("linear", particles=4096))
    exact = ak.solve(stages, ak.BayesianLinear(temperature=0.05, depth=depth))
    assert sampled.outcome is exact.outcome is ak.Outcome.CONVERGED
    X = np.concatenate([TASK.X, TASK.X_test])
    f, g = (s.predict(X).value for s in (sampled, exact))
    assert distance(f, g) < 0.005
    for layer in range(1, depth + 1):
        for kind in ("feature", "gradient"):
            K, M = (s.kernel(X, kind=kind, layer=layer).value for s in (sampled, exact))
            assert distance(K, M) < 0.01
    K, M = (s.kernel(X, TASK.X, kind="ntk").value for s in (sampled, exact))
    assert distance(K, M) < 0.01
    # Kernels without learning are far away, and so is the exponent of another depth.
    assert distance(X @ X.T / 10, exact.kernel(X).value) > 0.2
    assert sampled.states[0].action.mean() == pytest.approx(exact.states[0].action, rel=0.05)


def on_a_line(activation, x, y, gamma, T):
    """Kernels of both layers for two inputs, and Delta: by quadrature, Phihat from <hh>."""
    phi = {"tanh": np.tanh, "relu": lambda h: np.maximum(h, 0)}[activation]
    w = np.linspace(-9, 9, 3001)
    grid = np.linspace(-7, 7, 281)
    xi = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    first = phi(np.outer(w, x))

    def moments(features, base, pull):
        log = 0.5 * np.einsum("mi,ij,mj->m", features, pull, features) - 0.5 * base
        p = np.exp(log - log.max())
        return p / p.sum()

    def unpack(flat):
        return np.array([[flat[0], flat[1]], [flat[1], flat[2]]])

    def gap(flat, gamma=gamma):
        pull, delta = unpack(flat[:3]), flat[3:]
        p = moments(first, w**2, pull)
        K1 = (first.T * p) @ first
        R = np.linalg.cholesky(K1)
        h = xi @ R.T
        second = phi(h)
        q = moments(second, np.sum(xi**2, 1), gamma**2 * np.outer(delta, delta))
        inverse = np.linalg.inv(K1)
        asked = inverse @ ((h.T * q) @ h) @ inverse - inverse
        K2 = (second.T * q) @ second
        change = (asked - pull)[[0, 0, 1], [0, 1, 1]]
        return np.concatenate([change, y - T * delta - K2 @ delta]), K1, K2

    flat = np.zeros(5)
    for part in (0.25, 0.5, 0.75, 1.0):
        found = root(lambda u, g=part * gamma: gap(u, g)[0], flat, tol=1e-11)
        assert found.success
        flat = found.x
    _, K1, K2 = gap(flat)
    return K1, K2, flat[3:]


@pytest.mark.evidence
@pytest.mark.parametrize("activation", ["tanh", pytest.param("relu", marks=pytest.mark.wide)])
def test_nonlinear_neurons_against_quadrature(activation):
    x, gamma, T = np.array([1.0, -0.7]), 1.2, 0.05
    y = np.array([0.9, {"tanh": -0.5, "relu": 0.5}[activation]])
    K1, K2, delta = on_a_line(activation, x, y, gamma, T)
    task = ak.Task(x[:, None], y, name="line")
    solution = ak.solve([ak.Stage(task, gamma)], limit(activation, T, particles=4096, replicates=4))
    assert solution.outcome is ak.Outcome.CONVERGED
    state = solution.states[0]
    for layer, K in ((1, K1), (2, K2)):
        found = solution.kernel(task.X, layer=layer)
        assert distance(found.value, K) < 0.015
        assert np.all(np.abs(found.value - K) <= 3 * found.standard_error + 1e-12)
    assert distance(state.delta.mean(0)[:, 0], gamma * delta) < 0.03
    assert distance(solution.predict(task.X).value, K2 @ delta) < 0.01
    # Layer 1 without its pull would be this far away.
    plain = ak.kernels.lazy.nngp(task.X, depth=1, activation=activation)
    assert distance(plain, K1) > 0.1


@pytest.mark.evidence
@pytest.mark.wide
def test_without_richness_it_is_kernel_regression_with_the_deep_kernel():
    solution = ak.solve([ak.Stage(TASK, 0.0)], limit("relu", 0.1, particles=8192, replicates=4))
    K = ak.kernels.lazy.nngp(TASK.X, depth=2, activation="relu")
    k = ak.kernels.lazy.nngp(TASK.X_test, TASK.X, depth=2, activation="relu")
    f = k @ np.linalg.solve(K + 0.1 * np.eye(8), TASK.y)
    assert distance(solution.predict(TASK.X_test).value, f[:, 0]) < 0.03
    assert distance(solution.kernel(TASK.X_test, TASK.X).value, k) < 0.02
    ntk = ak.kernels.lazy.ntk(TASK.X_test, TASK.X, depth=2, activation="relu")
    assert distance(solution.kernel(TASK.X_test, TASK.X, kind="ntk").value, ntk) < 0.02


@pytest.mark.parametrize("model", [pytest.param("sampled", marks=pytest.mark.evidence), "closed"])
def test_a_readout_keeps_the_features(model):
    one = limit("linear") if model == "sampled" else ak.BayesianLinear(0.05, depth=2)
    solution = ak.solve([ak.Stage(TASK, 0.8), ak.Stage(OTHER, 0.8, trains="readout")], one)
    X = OTHER.X_test
    K = solution.kernel(OTHER.X, stage=0).value
    f = solution.kernel(X, OTHER.X, stage=0).value @ np.linalg.solve(K + 0.05 * np.eye(6), OTHER.y)
    assert distance(solution.predict(X).value, f[:, 0]) < 0.02
    for layer in (1, 2):
        kept, before = (solution.kernel(X, layer=layer, stage=i).value for i in (1, 0))
        assert distance(kept, before) < 0.02
    scratch = ak.solve([ak.Stage(OTHER, 0.8)], ak.BayesianLinear(0.05, depth=2))
    assert distance(scratch.predict(X).value, f[:, 0]) > 0.1


@pytest.mark.evidence
def test_kernels_are_symmetric_and_positive_and_solutions_are_stored(tmp_path):
    solution = ak.solve([ak.Stage(TASK, 0.8)], limit("tanh", particles=256))
    X = np.concatenate([TASK.X_test[:5], TASK.X])
    for kind in ("feature", "gradient", "ntk"):
        K = solution.kernel(X, kind=kind).value
        assert np.allclose(K, K.T) and np.linalg.eigvalsh(K).min() > -1e-10
    solution.save(tmp_path / "posterior.zip")
    loaded = ak.Solution.load(tmp_path / "posterior.zip")
    assert np.array_equal(loaded.predict(X).value, solution.predict(X).value)
    assert solution.preactivations(X).shape == (2, 256, len(X))


def test_too_few_steps_are_reported():
    solution = ak.solve([ak.Stage(TASK, 2.0)], limit("tanh", particles=256, max_iterations=3))
    assert solution.outcome is ak.Outcome.OUT_OF_STEPS
    assert np.isfinite(solution.predict(TASK.X_test).value).all()


@pytest.mark.parametrize("model", [limit("erf"), ak.BayesianLinear(depth=2)])
@pytest.mark.parametrize(
    ("more", "names"),
    [
        (dict(elastic=1.0), "stage 1: elastic=1 is for one hidden layer, not 2"),
        (dict(trains=1), "stage 1: trains=1"),
        (dict(fresh_above=1), "stage 1: fresh_above=1"),
    ],
)
def test_what_is_not_known_is_refused(model, more, names):
    with pytest.raises(InputError, match=names):
        ak.solve([ak.Stage(TASK, 1.0), ak.Stage(OTHER, 1.0, **more)], model)


@pytest.mark.evidence
@pytest.mark.wide
def test_networks_agree_with_the_sampled_limit_in_every_layer():
    stages = [ak.Stage(TASK, 1.0)]
    theory = ak.solve(stages, limit("tanh", 0.05, particles=4096))
    network = ak.sample_posterior(
        stages, ak.Network(1000, "tanh", depth=2), temperature=0.05, warmup=80, samples=200, keep=16
    )
    for layer in (1, 2):
        K, M = (s.kernel(TASK.X, layer=layer).value for s in (theory, network))
        cosine = np.sum(K * M) / np.linalg.norm(K) / np.linalg.norm(M)
        assert cosine > 0.995 and distance(M, K) < 0.05
    f, g = (s.predict(TASK.X_test).value for s in (theory, network))
    assert distance(g, f) < 0.05
    K, M = (s.kernel(TASK.X_test, TASK.X, kind="ntk").value for s in (theory, network))
    assert distance(M, K) < 0.06
    lazy = ak.kernels.lazy.nngp(TASK.X, depth=2, activation="tanh")
    assert distance(lazy, theory.kernel(TASK.X).value) > 0.2
