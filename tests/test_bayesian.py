"""The Bayesian limit: against closed forms, quadrature and its own limits."""

import doctest
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import root

import adaptik as ak
from adaptik.limits.bayesian import deep_saddle, saddle
from adaptik.mathematics.chains import Chains, Site
from adaptik.system.errors import InputError

SOURCE, TARGET = ak.tasks.linear_pair(0.8, n_source=8, n_target=6, dimension=10, n_test=40, seed=0)
LINE = ak.Task([[1.0], [-0.7], [1.6]], [1.0, 0.4, 0.3], name="line")
LINE2 = ak.Task([[0.8], [-1.3], [0.3]], [-0.5, 0.6, 0.2], name="line2")
PHI = {"tanh": np.tanh, "relu": lambda h: np.maximum(h, 0)}


def distance(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def limit(activation="erf", temperature=0.05, particles=1024, replicates=2, **more):
    return ak.Bayesian(
        activation, temperature=temperature, particles=particles, replicates=replicates, **more
    )


@pytest.mark.parametrize("richness", [0.4, 2.0])
@pytest.mark.parametrize("elastic", [pytest.param(0.0, marks=pytest.mark.evidence), 1.0])
def test_linear_neurons_against_the_closed_form(elastic, richness):
    stages = [ak.Stage(SOURCE, richness), ak.Stage(TARGET, richness, elastic=elastic)]
    sampled = ak.solve(stages, limit("linear", particles=2048))
    exact = ak.solve(stages, ak.BayesianLinear(temperature=0.05))
    assert sampled.outcome is exact.outcome is ak.Outcome.CONVERGED
    for i, task in enumerate((SOURCE, TARGET)):
        X = np.concatenate([task.X, task.X_test])
        f, g = (s.predict(X, stage=i).value for s in (sampled, exact))
        assert distance(f, g) < 0.005
        for kind in ("feature", "ntk"):
            K, M = (s.kernel(X, task.X, kind=kind, stage=i).value for s in (sampled, exact))
            assert distance(K, M) < 0.01
        # A lazy kernel would be far off.
        assert distance(X @ task.X.T / 10, exact.kernel(X, task.X, stage=i).value) > 0.05


def test_the_linear_closed_form_is_a_fixed_point_of_its_equations():
    gamma, T, elastic = 1.5, 0.02, 0.7
    stages = [ak.Stage(SOURCE, gamma), ak.Stage(TARGET, gamma, elastic=elastic)]
    solution = ak.solve(stages, ak.BayesianLinear(temperature=T))
    S = np.eye(10)
    for i, (task, pull) in enumerate(((SOURCE, 0.0), (TARGET, elastic))):
        A, S1, b = task.X / np.sqrt(10), S, np.zeros((10, 1))
        for _ in range(4000):  # slow, but nothing else than theory section 6
            Q = np.linalg.inv((1 + pull) * np.eye(10) - gamma**2 * b @ b.T)
            S = Q + pull**2 * Q @ S1 @ Q
            b = 0.95 * b + 0.05 * A.T @ np.linalg.solve(A @ S @ A.T + T * np.eye(len(A)), task.y)
        assert distance(solution.kernel(task.X, stage=i).value, A @ S @ A.T) < 1e-6
        f = task.X_test / np.sqrt(10) @ S @ b
        assert distance(solution.predict(task.X_test, stage=i).value, f[:, 0]) < 1e-6


def on_a_line(activation, gamma, T, elastic):
    """Kernels and predictions of both stages for inputs on a line, by quadrature in w."""
    phi, w = PHI[activation], np.linspace(-14, 14, 1401)
    x_new = np.array([0.5, -1.0])

    def solved(task, base):
        """``base``: rows are laws of w before the tilt with their total masses."""
        features, mass = phi(np.outer(w, task.X[:, 0])), base.sum(1, keepdims=True)

        def law(delta):
            log = 0.5 * gamma**2 * np.sum((features @ delta) ** 2, -1)
            tilted = base * np.exp(log - log.max())
            return (tilted * mass / tilted.sum(1, keepdims=True)).sum(0)

        def gap(flat):
            delta = flat.reshape(task.y.shape)
            return (task.y - T * delta - (features.T * law(delta)) @ features @ delta).ravel()

        start = np.linalg.solve((features.T * base.sum(0)) @ features + T * np.eye(3), task.y)
        best = None
        for part in (0.3, 0.1, 0.6, 1.0):
            found = root(gap, part * start.ravel(), tol=1e-12)
            best = found if found.success else best
        delta = best.x.reshape(task.y.shape)
        p = law(delta)
        f = (phi(np.outer(w, x_new)).T * p) @ features @ delta
        return p, (features.T * p) @ features, f

    prior = np.exp(-(w**2) / 2)
    p1, K1, f1 = solved(LINE, (prior / prior.sum())[None])
    scale, pull = 1 / (1 + elastic), elastic / (1 + elastic)
    base = np.exp(-((w[None] - pull * w[:, None]) ** 2) / (2 * scale))
    base = p1[:, None] * base / base.sum(1, keepdims=True)
    if elastic == 0:
        base = base.sum(0, keepdims=True)
    _, K2, f2 = solved(LINE2, base)
    return x_new[:, None], (K1, K2), (f1, f2)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("elastic", [0.0, 1.5])
def test_nonlinear_neurons_against_quadrature(activation, elastic):
    gamma, T = 1.2, 0.05
    X, kernels, predictions = on_a_line(activation, gamma, T, elastic)
    stages = [ak.Stage(LINE, gamma), ak.Stage(LINE2, gamma, elastic=elastic)]
    solution = ak.solve(stages, limit(activation, T, particles=4096, replicates=4))
    assert solution.outcome is ak.Outcome.CONVERGED
    for i, (task, K, f) in enumerate(zip((LINE, LINE2), kernels, predictions, strict=True)):
        assert distance(solution.kernel(task.X, stage=i).value, K) < 0.02
        assert distance(solution.predict(X, stage=i).value, f[:, 0]) < 0.02


def test_several_outputs_against_quadrature(monkeypatch):
    y = np.array([[1.0, 0.2], [0.4, -0.8], [0.3, 0.5]])
    task = ak.Task(LINE.X, y, name="line")
    monkeypatch.setitem(globals(), "LINE", task)
    X, (K, _), (f, _) = on_a_line("tanh", 1.2, 0.05, 0.0)
    solution = ak.solve([ak.Stage(task, 1.2)], limit("tanh", particles=4096))
    assert distance(solution.kernel(task.X).value, K) < 0.02
    assert distance(solution.predict(X).value, f) < 0.02
    assert solution.kernel(task.X, kind="ntk").value.shape == (3, 3, 2, 2)


@pytest.mark.parametrize("activation", ["linear", "tanh", "relu"])
def test_moves_leave_a_law_with_two_directions_as_it_is(activation):
    """Reflections carry particles between modes; of two, neither may prefer the likelier side."""
    phi = (PHI | {"linear": lambda h: h})[activation]
    A = np.array([[1.0, 0.3], [-0.4, 0.8], [0.2, -1.0]])
    d = np.array([[0.3, 0.5], [0.4, -0.4], [-0.5, 0.2]])
    d *= 0.8 if activation == "linear" else 1.0  # normalisable
    grid = np.linspace(-9, 9, 401)
    w = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    p = np.exp(0.5 * np.sum((phi(w @ A.T) @ d) ** 2, 1) - 0.5 * np.sum(w**2, 1))
    p /= p.sum()
    with jax.enable_x64(True):
        site = Site(jnp.zeros((1, 2)), jnp.ones(()), *map(jnp.asarray, (A, d, np.ones(2))))
        rng = np.random.default_rng(0)
        chains = Chains(ak.activations.get(activation), rng.standard_normal((20_000, 2)), rng)
        for _ in range(40):
            chains.move(site)
        xi = np.asarray(chains.xi)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        found, exact = xi[:, i] * xi[:, j], p @ (w[:, i] * w[:, j])
        assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(len(xi))


def test_the_action_is_that_of_the_closed_form():
    gamma, T = 1.5, 0.05
    stages = [ak.Stage(SOURCE, gamma)]
    sampled = ak.solve(stages, limit("linear")).states[0].action.mean()
    exact = ak.solve(stages, ak.BayesianLinear(temperature=T))
    K, M = (np.asarray(exact.kernel(SOURCE.X)), exact.states[0].M)
    delta = np.linalg.solve(K + T * np.eye(8), SOURCE.y)
    # theory section 6: -Tr Phi Phihat / 2 + gamma^2/2 y.Delta - ln E exp(...)
    action = 0.5 * gamma**2 * np.sum(delta * (K @ delta) + SOURCE.y * delta)
    action -= 0.5 * np.linalg.slogdet(M)[1]
    assert sampled == pytest.approx(action, rel=0.02)


@pytest.mark.evidence
def test_strong_coupling_keeps_the_features_and_none_forgets_them():
    source, gamma = ak.Stage(SOURCE, 2.0), 2.0
    solve = {
        name: ak.solve([*before, ak.Stage(TARGET, gamma, **more)], limit())
        for name, before, more in (
            ("strong", [source], dict(elastic=1e7)),
            ("readout", [source], dict(trains="readout")),
            ("none", [source], dict(elastic=0.0)),
            ("scratch", [], {}),
        )
    }
    f = {name: s.predict(TARGET.X_test) for name, s in solve.items()}
    assert distance(f["strong"].value, f["readout"].value) < 0.015
    assert distance(f["none"].value, f["scratch"].value) < 0.03
    assert distance(f["strong"].value, f["none"].value) > 0.1


def test_without_richness_it_is_kernel_regression_with_the_ridge_of_the_temperature():
    solution = ak.solve([ak.Stage(SOURCE, 0.0)], limit("relu", 0.1, particles=8192, replicates=4))
    K = ak.kernels.lazy.nngp(SOURCE.X, depth=1, activation="relu")
    k = ak.kernels.lazy.nngp(SOURCE.X_test, SOURCE.X, depth=1, activation="relu")
    f = k @ np.linalg.solve(K + 0.1 * np.eye(8), SOURCE.y)
    assert distance(solution.predict(SOURCE.X_test).value, f[:, 0]) < 0.02
    assert distance(solution.kernel(SOURCE.X).value, K) < 0.01


def test_kernels_are_symmetric_and_positive_and_solutions_are_stored(tmp_path):
    stages = [ak.Stage(SOURCE, 1.0), ak.Stage(TARGET, 1.0, elastic=1.0)]
    solution = ak.solve(stages, limit("tanh", particles=256))
    X = np.concatenate([TARGET.X_test[:5], TARGET.X])
    for kind in ("feature", "gradient", "ntk"):
        K = solution.kernel(X, kind=kind).value
        assert np.allclose(K, K.T) and np.linalg.eigvalsh(K).min() > -1e-10
    solution.save(tmp_path / "posterior.zip")
    loaded = ak.Solution.load(tmp_path / "posterior.zip")
    assert np.array_equal(loaded.predict(X).value, solution.predict(X).value)
    assert np.array_equal(loaded.states[1].action, solution.states[1].action)


def test_too_few_steps_are_reported():
    solution = ak.solve([ak.Stage(SOURCE, 2.0)], limit("tanh", particles=256, max_iterations=3))
    assert solution.outcome is ak.Outcome.OUT_OF_STEPS
    assert np.isfinite(solution.predict(SOURCE.X_test).value).all()


@pytest.mark.parametrize("temperature", [0, -1.0, np.nan, np.inf])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(InputError, match="temperature"):
        ak.Bayesian(temperature=temperature)


@pytest.mark.parametrize(
    ("stages", "activation", "names"),
    [
        ([ak.Stage(SOURCE, 1.0, elastic=1.0)], "erf", "stage 0: elastic=1"),
        ([ak.Stage(SOURCE, 1.0, duration=3.0)], "erf", "stage 0: duration=3"),
        ([ak.Stage(SOURCE, 1.0, weight_decay=0.1)], "erf", "weight_decay=0.1"),
        ([ak.Stage(SOURCE, 1.0), ak.Stage(TARGET, 1.0, head="kept")], "erf", "head='kept'"),
        ([ak.Stage(SOURCE, 3.0)], "hermite(2)", "richness 3 and temperature 0.05 of stage 0"),
        ([ak.Stage(SOURCE, 3.0)], "exp(0.1)", "grows faster than linearly"),
        ([ak.Stage(SOURCE, 3.0)], lambda h: h**3, "grows faster than linearly"),
        (
            [ak.Stage(SOURCE, 1.0), ak.Stage(TARGET, 1.0, elastic=1.0, trains="readout")],
            "erf",
            "stage 1: elastic=1",
        ),
    ],
)
def test_what_has_no_posterior_is_refused(stages, activation, names):
    with pytest.raises(InputError, match=names) as refusal:
        ak.solve(stages, limit(activation))
    assert "\n" not in str(refusal.value)


def test_stages_that_continue_are_checked_too():
    before = ak.solve([ak.Stage(SOURCE, 1.0)], ak.BayesianLinear())
    with pytest.raises(InputError, match="stage 1: weight_decay"):
        ak.solve([ak.Stage(TARGET, 1.0, weight_decay=0.1)], ak.BayesianLinear(), after=before)


@pytest.mark.parametrize("other", [ak.Linear(), ak.DeepLinear(2)])
def test_limits_without_the_coupling_refuse_it(other):
    stages = [ak.Stage(SOURCE, 1.0), ak.Stage(TARGET, 1.0, elastic=1.0)]
    with pytest.raises(InputError, match=r"stage 1: .*elastic"):
        ak.solve(stages, other)


def test_the_page_about_it_says_what_is_so():
    page = Path(__file__).parents[1] / "docs" / "notes" / "bayesian.md"
    assert doctest.testfile(str(page), module_relative=False) == (0, 4)


@pytest.mark.parametrize(
    ("limit", "error"),  # the second draws what no sample sees
    [
        (ak.BayesianLinear(0.1), 1e-9),
        (ak.Bayesian("linear", temperature=0.1, particles=2048, replicates=2), 0.1),
    ],
)
def test_weights_that_no_sample_sees_follow_the_source_sample(limit, error):
    """Their variance is 1/(1 + delta) + (delta/(1 + delta))^2: the source sample's is 1."""
    seen, unseen = np.eye(6)[:3], np.eye(6)[5:]
    source = ak.Task(np.sqrt(6) * seen, [1.0, -1.0, 0.5], name="source")
    target = ak.Task(np.sqrt(6) * seen[:2], [1.0, 0.5], name="target")
    stages = [ak.Stage(source, 1.0), ak.Stage(target, 1.0, elastic=2.0)]
    kernel = ak.solve(stages, limit).kernel(np.sqrt(6) * unseen).value
    assert kernel.item() == pytest.approx(1 / 3 + (2 / 3) ** 2, rel=error)


def tilted_site(direction, scale=0.8, seed=0):
    points = np.random.default_rng(seed).standard_normal((6, 3)) / 2
    return Site(
        jnp.zeros((1, 3)), jnp.asarray(scale), jnp.asarray(points),
        jnp.asarray(direction)[:, None], jnp.ones(1),
    )  # fmt: skip


@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_where_laws_stop_being_normalisable(activation):
    rng = np.random.default_rng(1)
    phi = ak.activations.get(activation)
    with jax.enable_x64(True):
        site = tilted_site(rng.standard_normal(6))
        chains = Chains(phi, rng.standard_normal((300, 3)), rng)
        u = rng.standard_normal((400_000, 3))
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        far = 1e6 * 0.8 * u @ np.asarray(site.points).T
        reached = ((np.asarray(phi.phi(jnp.asarray(far))) @ np.asarray(site.directions)) ** 2).max()
        assert chains.steepness(site) == pytest.approx(reached / 1e12, rel=1e-3, abs=1e-9)
        edge = max(chains.steepness(site), 1e-9) ** -0.5
        near = site._replace(directions=0.9 * edge * site.directions)
        beyond = site._replace(directions=1.01 * edge * site.directions)
        assert chains.allows(site, site)
        assert chains.allows(near, beyond) == (activation == "tanh")


@pytest.fixture
def blind():
    """Linear particles so near the origin that no step moves their tilt."""
    rng = np.random.default_rng(2)
    points, phi = rng.standard_normal((3, 3)), ak.activations.get("linear")
    with jax.enable_x64(True):
        yield points, [Chains(phi, 1e-6 * rng.standard_normal((300, 3)), rng) for _ in range(2)]


def test_steps_that_particles_do_not_feel_stop_before_the_edge(blind):
    points, (chains, _) = blind
    y, richness, scale = np.ones((3, 1)), 1.5, 0.5
    site = Site(
        jnp.zeros((1, 3)), jnp.asarray(scale), jnp.asarray(points), jnp.zeros((3, 1)), jnp.ones(1)
    )
    phi = chains.features(site)
    part = saddle._reach(chains, site, phi, phi @ (0 * y), 100 * y, richness)
    reached = (richness * scale * np.linalg.norm(points.T @ (part * 100 * y))) ** 2
    assert 0.25 < reached < 1  # at most half of the way, in parts of 0.8


def test_steps_of_deep_laws_stop_before_the_edge(blind):
    points, chains = blind
    y, richness = np.ones((3, 1)), 1.5
    layers = deep_saddle.Layers(chains, points, y, richness, 0.1)
    kernel = np.diag([1.0, 2.0, 3.0])[None]
    at = deep_saddle.Unknowns(0 * y, kernel, 0 * kernel)
    step = deep_saddle.Unknowns(100 * y, 0 * kernel, 0 * kernel)
    sites = layers.sites(at)
    after, *_ = deep_saddle._reached(layers, at, sites, step, layers.log_tilts(sites))
    reached = richness**2 * float(np.sum(after.delta * (kernel[0] @ after.delta)))
    assert 0.25 < reached <= 0.5 + 1e-9


@pytest.mark.evidence
def test_averaging_starts_over_while_particles_find_new_places():
    # Cosine neurons on a quadratic: a small region of weights takes over slowly.
    task, _ = ak.tasks.hermite_pair(
        2, 2, 0.5, n_source=30, n_target=2, dimension=4, n_test=2, seed=0
    )
    limit = ak.Bayesian("cos(1)", temperature=0.1, particles=1024, replicates=1)
    solution = ak.solve([ak.Stage(task, 0.7)], limit, record=2)
    assert solution.outcome.ok and solution.states[-1].residual.max() < 0.02


def test_every_output_is_judged_in_its_own_unit():
    """The first output alone, mostly noise that no tilt changes, would meet the tolerance."""
    X = np.random.default_rng(0).standard_normal((9, 3))
    inside, noise = X[:, 0] / np.linalg.norm(X[:, 0]), np.linalg.svd(X)[0][:, -1]
    y = np.column_stack([0.01 * inside + noise, 1e-6 * inside])
    stages = [ak.Stage(ak.Task(X, y), richness=100.0)]
    solution = ak.solve(stages, ak.BayesianLinear(temperature=0.5, tol=0.01))
    K, f = solution.kernel(X).value, solution.predict(X).value
    expected = K @ np.linalg.solve(K + 0.5 * np.eye(len(X)), y)
    assert solution.outcome is ak.Outcome.CONVERGED
    assert max(distance(f[:, c], expected[:, c]) for c in range(2)) < 0.02


@pytest.mark.parametrize("layers", [1, 2])
def test_residuals_of_samplers_are_those_of_the_worst_output(layers):
    y, left = np.array([[3.0, 0.0], [4.0, 1e-6]]), np.array([[0.05, 0.0], [0.0, 3e-7]])
    none = np.zeros((0, 2, 2))
    if layers == 1:
        found = saddle.Averages(residuals=[left] * 4).residual(y)
    else:
        step = deep_saddle.Unknowns(left, none, none)
        found = deep_saddle.Averages(asked=[step] * 4).residual(step, y)[0]
    assert found == pytest.approx(0.3)
