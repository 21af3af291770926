"""Joint stages of finite networks (theory section 1), redone by plain steps, and beside theory."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.joint_tasks import CODES, OTHER, SIGNS, A, B

import adaptik as ak
from adaptik.networks.flows import _rich
from adaptik.networks.train import _start

evidence = pytest.mark.evidence

# -- finite networks, redone by plain steps --------------------------------------------------------


def redone(layers, stage, shares, columns, base, X, steps=300):
    """f at X after d theta/dt = -gamma^2 N grad L - lambda theta.

    L is sum_k w_k/(2 P_k) sum (y - f_k)^2, or that of log-losses; ``base`` is f at the start.
    """
    gamma, start = stage.richness, tuple(jnp.asarray(w, float) for w in layers)
    before = [base(task.X) for task in stage.tasks]

    def raw(theta, x):
        return jnp.tanh(x @ theta[0].T / x.shape[1] ** 0.5) @ theta[1] / len(theta[1])

    def f(theta, x, f0):
        return f0 + (raw(theta, x) - raw(start, x)) / gamma

    def loss(theta):
        total = 0.0
        for share, task, c, f0 in zip(shares, stage.tasks, columns, before, strict=True):
            out = f(theta, task.X, f0)[:, c]
            if stage.loss == "squared":
                total += share * jnp.mean(jnp.sum((task.y - out) ** 2, 1)) / 2
            elif task.outputs == 1:
                total += share * jnp.mean(jnp.log1p(jnp.exp(-task.y * out)))
            else:
                total -= share * jnp.mean(jnp.sum(task.y * jax.nn.log_softmax(out), 1))
        return total

    def slope(theta):
        w, z = jax.grad(loss)(theta)
        pace = gamma**2 * len(z)
        dw = 0 * w if stage.trains == "readout" else -pace * w - stage.weight_decay * theta[0]
        return dw, -pace * z - stage.weight_decay * theta[1]

    h = stage.duration / steps

    def step(theta, _):
        def at(k, c):
            return tuple(w + c * h * d for w, d in zip(theta, k, strict=True))

        k1 = slope(theta)
        k2 = slope(at(k1, 0.5))
        k3 = slope(at(k2, 0.5))
        k4 = slope(at(k3, 1.0))
        parts = zip(theta, k1, k2, k3, k4, strict=True)
        return tuple(w + h / 6 * (a + 2 * b + 2 * c + d) for w, a, b, c, d in parts), None

    end, _ = jax.jit(lambda t: jax.lax.scan(step, t, None, length=steps))(start)
    return np.asarray(f(end, X, base(X)))


def test_networks_descend_the_weighted_loss():
    """The vector field against the gradient of section 1, written down here."""
    stage = ak.Stage([A, B, OTHER], 1.3, 1.0, weight_decay=0.2, weights=[1, 2, 3])
    network = ak.Network(16, "tanh", dtype="float64")
    member = _start(network, stage, None, 0, 0)
    with jax.enable_x64(True):
        moving = _rich(network, stage, member, A.X_test)
        start = moving.y0
        theta = tuple(1.1 * w for w in start)

        def loss(theta):
            def f(of, x):
                return jnp.tanh(x @ of[0].T / x.shape[1] ** 0.5) @ of[1] / (1.3 * 16)

            gaps = (t.y[:, 0] - (f(theta, t.X) - f(start, t.X))[:, k]
                    for k, t in enumerate(stage.tasks))  # fmt: skip
            return sum((k + 1) / 12 * jnp.mean(gap**2) for k, gap in enumerate(gaps))

        move, gradient = moving.flow(theta), jax.grad(loss)(theta)
    for mine, slope, w in zip(move, gradient, theta, strict=True):
        expected = -(1.3**2) * 16 * np.asarray(slope) - 0.2 * np.asarray(w)
        np.testing.assert_allclose(mine, expected, atol=1e-10)


@evidence
@pytest.mark.parametrize(
    ("tasks", "option"),
    [
        ((A, B, OTHER), {}),
        ((A, CODES), dict(trains="readout")),
        pytest.param((SIGNS, CODES), dict(loss="logistic"), marks=pytest.mark.wide),
        pytest.param((A, CODES), dict(weight_decay=0.3), marks=pytest.mark.wide),
        pytest.param(
            (SIGNS, CODES), dict(loss="logistic", trains="readout"), marks=pytest.mark.wide
        ),
    ],
)
def test_networks_follow_the_weighted_loss(tasks, option):
    """Also with the kept head of one, whose others stay."""
    network = ak.Network(32, "tanh", dtype="float64", tol=1e-6)
    last = ak.Stage(tasks[1], 1.2, 1.0, head="kept", **(option | dict(weight_decay=0.0)))
    shares = np.arange(1.0, len(tasks) + 1)
    stages = [ak.Stage(tasks, 1.2, 2.0, weights=shares, **option), last]
    solution = ak.train(stages, network, seeds=[3], snapshots=[(0, 0.0), (1, 0.0)], record=3)
    columns = list(stages[0].task.columns.values())
    X = np.concatenate([A.X_test, B.X])

    def base(x, i):
        return solution.states[0].predict(x)[0] if i else np.zeros((len(x), columns[-1].stop))

    for i, of, cuts in ((0, shares / shares.sum(), columns), (1, [1.0], columns[1:2])):
        weights = solution.state(i, 0.0).members[0].weights.layers
        with jax.enable_x64(True):
            f = redone(weights, stages[i], of, cuts, lambda x, i=i: base(x, i), X)
        assert (np.abs(f - base(X, i)).max(0)[columns[1]] > 0.02).all()
        np.testing.assert_allclose(solution.predict(X, i).value, f, atol=2e-4)


@evidence
def test_lazy_networks_are_those_of_little_richness():
    network = ak.Network(64, "tanh", tol=1e-5)
    stage = ak.Stage([A, CODES], 0.0, duration=1.0, weights=[1, 3])
    lazily, nearly, alike = (
        ak.train([s], network).predict(A.X_test).value
        for s in (stage, replace(stage, richness=2e-3), replace(stage, weights=[1, 1]))
    )
    assert np.abs(lazily - alike).max() > 0.02
    np.testing.assert_allclose(nearly, lazily, atol=5e-3)


# -- theory against networks -----------------------------------------------------------------------

SOURCES = ak.tasks.hermite_pair(1, 2, 0.8, n_source=20, n_target=15, dimension=8, n_test=100)
LAST = ak.tasks.hermite_pair(2, 2, 0.8, n_source=12, n_target=12, dimension=8, n_test=100, seed=5)[
    0
]
FIRST, SECOND, THIRD = (
    replace(task, name=name)
    for task, name in zip((*SOURCES, LAST), ("one", "two", "three"), strict=True)
)
AFTER = {
    "kept": dict(task=SECOND, head="kept"),
    "fresh": dict(task=THIRD, head="fresh"),
}


def stages_of(after):
    joint = ak.Stage([FIRST, SECOND], 2.0, 6.0, weights=[1, 2])
    return [joint, ak.Stage(richness=1.0, duration=6.0, **AFTER[after])]


@evidence
@pytest.mark.wide
@pytest.mark.parametrize("after", AFTER)
def test_wide_networks_within_error_bars(after):
    stages = stages_of(after)
    theory = ak.solve(stages, ak.TwoLayer("relu", particles=4096, replicates=8), record=2)
    sizes, gaps = {}, {}
    for width in (256, 1024, 4096):
        network = ak.train(stages, ak.Network(width, "relu"), seeds=8, record=2)
        for i, task in ((0, FIRST), (0, SECOND), (1, stages[1].task)):
            f = theory.predictions(task, stage=i)[-1]
            g = network.predictions(task, stage=i)[-1]
            gap = f.mean(0) - g.mean(0)
            error = np.sqrt(f.var(0, ddof=1) / 8 + g.var(0, ddof=1) / 8)
            if width == 4096:
                spread = np.std(task.y)
                assert np.std(f.mean(0)) > 0.1
                assert np.sqrt(np.mean(error**2)) < 0.05 * spread
                assert np.mean(gap**2) < 9 * np.mean(error**2)
                assert np.mean(np.abs(gap) < 3 * error) > 0.95
            gaps.setdefault((i, task.name), []).append(np.mean((g - f.mean(0)) ** 2, axis=(1, 2)))
    for key, squares in gaps.items():
        logs = np.log(np.array(squares))  # widths, seeds
        slopes = [np.polyfit(np.log([256, 1024, 4096]), row, 1)[0] for row in logs.T]
        sizes[key] = np.mean(slopes), np.std(slopes, ddof=1) / 8**0.5
        assert abs(sizes[key][0] + 1) < max(3 * sizes[key][1], 0.1), (key, sizes[key])
