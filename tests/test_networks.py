"""Finite networks against brute force: every case is redone by naive RK4 on autodiff gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptik.mathematics import losses
from adaptik.networks import Network, train
from adaptik.networks.mup import empirical_kernel
from adaptik.solution import Outcome
from adaptik.system.errors import InputError
from adaptik.tasks import Task
from adaptik.tasks.stages import Stage

PHI = {"tanh": jnp.tanh, "relu": jax.nn.relu, "linear": lambda h: h}
D, P = 5, 8


def make_task(outputs=1, seed=0, labels=None):
    rng = np.random.default_rng(seed)
    X, Xt = rng.standard_normal((P, D)), rng.standard_normal((6, D))
    y = rng.standard_normal((P, outputs)) if labels is None else labels
    return Task(X, y, Xt, rng.standard_normal((6, outputs)), name=f"task{seed}")


def forward(layers, X, phi):
    """w . phi(h_L)/N, written from theory section 1."""
    h = layers[0] @ X.T / X.shape[1] ** 0.5
    for W in layers[1:-1]:
        h = W @ phi(h) / W.shape[0] ** 0.5
    return (layers[-1].T @ phi(h) / h.shape[0]).T


def brute_force(layers, stage, phi, base, inputs, steps=400, fading_centre=False, only_head=False):
    """f at ``inputs`` and the weights after d theta/dt = -gamma^2 N grad L - lambda theta.

    ``base(x)`` is the predictor at the start. ``fading_centre`` subtracts raw at the decayed
    initial weights in place of raw at the initial ones.
    """
    with jax.enable_x64(True):
        start = tuple(jnp.asarray(w, float) for w in layers)
        X, y, g = jnp.asarray(stage.task.X), jnp.asarray(stage.task.y), stage.richness
        name, lam = stage.loss, stage.weight_decay
        f0 = base(stage.task.X)

        def f(theta, t, x, before):
            fade = jnp.exp(-lam * t) if fading_centre else 1.0
            centre = (*start[:-1], fade * start[-1]) if only_head else [fade * w for w in start]
            return before + (forward(theta, x, phi) - forward(centre, x, phi)) / g

        def objective(theta, t):
            out = f(theta, t, X, f0)
            if name == "logistic":
                return jnp.mean(jnp.log1p(jnp.exp(-y * out)))
            return jnp.sum((y - out) ** 2) / (2 * len(y))

        def slope(theta, t):
            gradient = jax.grad(objective)(theta, t)
            N = start[0].shape[0]
            moves = [-(g**2) * N * d - lam * w for d, w in zip(gradient, theta, strict=True)]
            if only_head:
                moves[:-1] = [jnp.zeros_like(m) for m in moves[:-1]]
            return tuple(moves)

        h = stage.duration / steps

        def step(theta, t):
            def at(k, c):
                return tuple(w + c * h * d for w, d in zip(theta, k, strict=True))

            k1 = slope(theta, t)
            k2 = slope(at(k1, 0.5), t + h / 2)
            k3 = slope(at(k2, 0.5), t + h / 2)
            k4 = slope(at(k3, 1.0), t + h)
            parts = zip(theta, k1, k2, k3, k4, strict=True)
            return tuple(w + h / 6 * (a + 2 * b + 2 * c + d) for w, a, b, c, d in parts), None

        end, _ = jax.jit(lambda th: jax.lax.scan(step, th, jnp.arange(steps) * h))(start)
        f_end = f(end, stage.duration, jnp.asarray(inputs), base(inputs))
        return np.asarray(f_end), [np.asarray(w) for w in end]


def check_all_stages(stages, network, phi, tol=1e-3):
    """Each stage redone by brute force from its recorded start: predictions and weights."""
    solution = train(stages, network, seeds=[3], snapshots=[(i, 0.0) for i in range(len(stages))])
    for i, stage in enumerate(stages):
        start, end = solution.state(i, 0.0), solution.states[i]
        inputs = stage.task.X_test

        def base(x, i=i, stage=stage):
            kept = stage.head == "kept"
            return (
                solution.states[i - 1].predict(x)[0]
                if kept
                else np.zeros((len(x), stage.task.outputs))
            )

        weights = start.members[0].weights.layers
        f, layers = brute_force(weights, stage, phi, base, inputs)
        moved = np.abs(f - base(inputs)).max()
        assert moved > 50 * tol  # a wrong factor of 2 in the flow moves f by tens of tolerances
        np.testing.assert_allclose(end.predict(inputs)[0], f, atol=tol * max(1, moved))
        recorded = solution.predictions(stage.task, "test", i)
        np.testing.assert_allclose(recorded[-1, 0], f, atol=tol * max(1, moved))
        for mine, theirs in zip(end.members[0].weights.layers, layers, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=20 * tol)
    return solution


def test_kept_head_with_another_richness():
    first, second = make_task(seed=0), make_task(seed=1)
    stages = [
        Stage(first, richness=0.5, duration=3.0),
        Stage(second, richness=2.0, duration=3.0, head="kept"),
        Stage(first, richness=2.0, duration=2.0, head="kept"),
    ]
    network = Network(width=40, activation="tanh", dtype="float64", tol=1e-5)
    whole = check_all_stages(stages, network, PHI["tanh"])
    # Same weights at the end of one stage and the start of the next merge: theta, start, two ends.
    assert len(whole.states[1].members[0].terms) == 3
    assert len(whole.states[2].members[0].terms) == 3

    part = train(stages[:1], network, seeds=[3], observe=[second], snapshots=[(0, 0.0)])
    joined = train(stages[1:], network, seeds=[3], after=part, snapshots=[(1, 0.0), (2, 0.0)])
    X = second.X_test
    np.testing.assert_array_equal(joined.states[-1].predict(X), whole.states[-1].predict(X))
    assert [len(r.times) for r in joined.records] == [len(r.times) for r in whole.records]


def test_deep_relu_with_weight_decay_and_three_outputs():
    first, second = make_task(3, seed=0), make_task(3, seed=1)
    stages = [
        Stage(first, richness=1.0, duration=2.0, weight_decay=0.2),
        Stage(second, richness=1.0, duration=2.0, weight_decay=0.3, head="kept"),
        Stage(first, richness=2.0, duration=2.0),
    ]
    network = Network(width=32, activation="relu", depth=2, dtype="float64", tol=1e-5)
    check_all_stages(stages, network, PHI["relu"])


def test_logistic_loss():
    signs = np.where(np.arange(P) % 2, 1.0, -1.0)
    stage = Stage(make_task(labels=signs), richness=1.5, duration=4.0, loss="logistic")
    network = Network(width=40, activation="tanh", dtype="float64", tol=1e-5)
    solution = check_all_stages([stage], network, PHI["tanh"])
    f = solution.states[0].predict(stage.task.X)[0]
    value = float(np.mean(np.asarray(losses.get("logistic").value(f, stage.task.y))))
    assert solution.records[0].train_loss == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "head", "gamma"),
    [("squared", "kept", 1.5), ("squared", "fresh", 0.0), ("logistic", "kept", 1.5)],
)
def test_readout_is_the_flow_of_the_head_alone(loss, head, gamma):
    signs = np.where(np.arange(P) % 2, 1.0, -1.0)
    first, second = (make_task(seed=s, labels=signs) for s in (0, 1))
    readout = dict(trains="readout", richness=gamma)
    stages = [
        Stage(first, duration=20.0, **readout),
        Stage(second, duration=20.0, head=head, weight_decay=0.03, loss=loss, **readout),
    ]
    network = Network(width=48, activation="relu", dtype="float64")
    solution = train(stages, network, seeds=[1], snapshots=[(1, 0.0), (1, 20.0)])
    X, start = second.X_test, solution.state(1, 0.0).members[0]
    layers, base = start.weights.layers, solution.states[0].predict
    if head == "kept":  # a head whose raw output is gamma f_0, so that f_0 fades with it
        head0 = sum(gamma * t.coefficient * t.weights.layers[-1] for t in start.terms)
        layers, stage = (*layers[:-1], head0), stages[1]
        f, ended = brute_force(layers, stage, PHI["relu"], lambda x: base(x)[0], X, only_head=True)
    else:  # the readout's flow does not depend on the richness
        stage = Stage(second, duration=20.0, weight_decay=0.03, trains="readout", richness=0.7)
        f, ended = brute_force(
            layers, stage, PHI["relu"], lambda x: np.zeros((len(x), 1)), X,
            only_head=True, fading_centre=True,
        )  # fmt: skip
    assert np.abs(f).max() > 0.05
    np.testing.assert_allclose(solution.states[1].predict(X)[0], f, atol=1e-5)
    np.testing.assert_allclose(solution.state(1, 20.0).predict(X)[0], f, atol=1e-5)
    np.testing.assert_allclose(solution.predictions(second, "test", 1)[-1, 0], f, atol=1e-5)
    moved = solution.states[1].members[0].weights.layers
    np.testing.assert_array_equal(moved[0], layers[0])
    if head == "fresh":  # richness 0: the head only decays
        np.testing.assert_allclose(moved[-1], np.exp(-0.6) * layers[-1])
    else:
        fresh = start.weights.layers[-1] - layers[-1]  # what the network's own head has besides
        np.testing.assert_allclose(moved[-1], ended[-1] + np.exp(-0.6) * fresh, atol=1e-4)


def test_lazy_is_regression_on_the_brute_force_ntk():
    first, second = make_task(3, seed=0), make_task(3, seed=1)
    network = Network(width=32, activation="tanh", depth=2, dtype="float64")
    long = float("inf")
    stages = [
        Stage(first, richness=0.0, duration=long),
        Stage(second, richness=0.0, duration=5.0, head="kept"),
    ]
    solution = train(stages, network, snapshots=[(0, 0.0)])
    layers = solution.states[0].members[0].weights.layers
    inputs = np.concatenate([first.X, second.X, second.X_test])
    with jax.enable_x64(True):
        jacobian = jax.jacobian(lambda w: forward(w, jnp.asarray(inputs), PHI["tanh"]))(
            tuple(jnp.asarray(w) for w in layers)
        )
        flat = np.concatenate(
            [np.asarray(j).reshape(len(inputs) * 3, -1) for j in jacobian], axis=1
        )
    ntk = 32 * flat @ flat.T
    got = solution.kernel(inputs, kind="ntk").value.transpose(0, 2, 1, 3).reshape(ntk.shape)
    np.testing.assert_allclose(got, ntk, atol=1e-10)
    block = solution.kernel(inputs[:4], inputs[4:9], kind="ntk").value
    np.testing.assert_allclose(
        block.transpose(0, 2, 1, 3).reshape(12, 15), ntk[:12, 12:27], atol=1e-10
    )

    n = 3 * P
    a, b, test = slice(0, n), slice(n, 2 * n), slice(2 * n, None)
    dual = np.linalg.solve(ntk[a, a], first.y.ravel())
    f1 = ntk[:, a] @ dual
    values, vectors = np.linalg.eigh(ntk[b, b])
    gain = vectors @ np.diag((1 - np.exp(-values * 5.0 / P)) / values) @ vectors.T
    f2 = f1 + ntk[:, b] @ gain @ (second.y.ravel() - f1[b])
    np.testing.assert_allclose(
        solution.states[0].predict(second.X_test)[0].ravel(), f1[test], atol=1e-6
    )
    np.testing.assert_allclose(
        solution.states[1].predict(second.X_test)[0].ravel(), f2[test], atol=1e-6
    )
    recorded = solution.predictions(second, "test", 1)[-1, 0]
    np.testing.assert_allclose(recorded.ravel(), f2[test], atol=1e-6)


def test_lazy_with_weight_decay_is_the_small_richness_flow():
    task = make_task()
    lazy = Stage(task, richness=0.0, duration=3.0, weight_decay=0.2)
    network = Network(width=40, activation="tanh", dtype="float64", tol=1e-5)
    solution = train([lazy], network, snapshots=[(0, 0.0)])
    small = Stage(task, richness=1e-5, duration=3.0, weight_decay=0.2)
    f, layers = brute_force(
        solution.state(0, 0.0).members[0].weights.layers, small, PHI["tanh"],
        lambda x: np.zeros((len(x), 1)), task.X_test, fading_centre=True,
    )  # fmt: skip
    assert np.abs(f).max() > 0.1
    np.testing.assert_allclose(solution.states[0].predict(task.X_test)[0], f, atol=5e-4)
    for mine, theirs in zip(solution.states[0].members[0].weights.layers, layers, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-3)  # exp(-0.6) theta_0


def test_wide_linear_network_spikes_along_its_predictor():
    """Theory section 3.1: M = I + (a - 1) n n^T, a = sqrt(1 + |v|^2); at N = 8192 to about 3 %."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, D))
    task = Task(X, X @ rng.standard_normal(D))
    gamma = 1.5
    solution = train([Stage(task, richness=gamma)], Network(8192, "linear"))
    assert solution.outcome is Outcome.CONVERGED
    W0, head = (w.astype(float) for w in solution.states[0].members[0].weights.layers)
    M, v = W0.T @ W0 / 8192, W0.T @ head[:, 0] / 8192
    a = np.sqrt(1 + v @ v)
    assert a > 2
    np.testing.assert_allclose(M, np.eye(D) + (a - 1) * np.outer(v, v) / (v @ v), atol=0.05 * a)
    assert head[:, 0] @ head[:, 0] / 8192 == pytest.approx(a, rel=0.05)
    np.testing.assert_allclose(
        solution.states[0].predict(np.eye(D))[0, :, 0], v / gamma / D**0.5, atol=0.05
    )


def test_seeds_are_members_and_reproducible():
    task = make_task(seed=2)
    stage = Stage(task, richness=0.0)
    network = Network(width=16, activation="relu", depth=2)
    both = train([stage, Stage(task, richness=0.0, head="fresh")], network, seeds=2, record=6)
    one = train([stage, Stage(task, richness=0.0, head="fresh")], network, seeds=[1], record=6)
    X = task.X_test
    np.testing.assert_array_equal(both.states[1].predict(X)[1], one.states[1].predict(X)[0])
    heads = [s.members[0].weights.layers[-1] for s in both.states]
    assert not np.array_equal(*heads)
    assert both.members == 2
    record = both.records[0]
    assert record.predictions["task2", "train"].shape == (len(record.times), 2, P, 1)
    assert record.predictions["task2", "train"][0] == pytest.approx(0.0)
    assert (np.diff(record.times) > 0).all()
    for kind, shape in (("feature", (2, P, P)), ("gradient", (2, P, P)), ("ntk", (2, P, P))):
        assert both.states[0].kernel(task.X, None, kind).shape == shape
    assert both.states[0].preactivations(task.X).shape == (2, 16, P)


def test_kernel_does_not_depend_on_the_batch(monkeypatch):
    solution = train([Stage(make_task(3), richness=0.0)], Network(16, "tanh", depth=2))
    X = np.random.default_rng(5).standard_normal((11, D))
    weights, act = solution.states[0].members[0].weights, solution.states[0].activation
    whole = [empirical_kernel(weights, X, X[:7], k, act) for k in ("feature", "ntk")]
    monkeypatch.setattr("adaptik.networks.mup.BLOCK", 600)
    for kind, expected in zip(("feature", "ntk"), whole, strict=True):
        np.testing.assert_allclose(
            empirical_kernel(weights, X, X[:7], kind, act), expected, atol=1e-12
        )


@pytest.mark.parametrize(
    "wrong", [dict(width=0), dict(width=2.5), dict(depth=0), dict(dtype="int8"), dict(tol=0.0),
              dict(activation="nope")],
)  # fmt: skip
def test_bad_networks_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Network(**{"width": 8, **wrong})


def test_bad_requests_are_refused():
    task, network = make_task(), Network(width=8)
    stage = Stage(task, richness=0.0, duration=1.0)
    done = train([stage], network, seeds=2)
    for arguments in (
        dict(seeds=0),
        dict(seeds=[1, 1]),
        dict(seeds=[-1]),
        dict(record=1),
        dict(snapshots=[(1, 0.0)]),
        dict(snapshots=[(0, 2.0)]),
        dict(after=done),  # one seed, not its two
        dict(after=done, seeds=[0, 2]),
    ):
        with pytest.raises(InputError):
            train([stage], network, **arguments)
    with pytest.raises(InputError, match="width"):
        train([stage], Network(width=9), seeds=2, after=done)
    with pytest.raises(InputError, match="memory"):
        train([stage], Network(width=10**8, depth=2))
