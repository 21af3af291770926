"""Where flows under weight decay come to rest."""

import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import adaptik as ak
from adaptik.limits.deep.ensemble import EnsembleFlow, Layers
from adaptik.limits.two_layer import kinks, rest
from adaptik.limits.two_layer import limit as two_layer
from adaptik.limits.two_layer.flow import Anchors, Coordinates, Law, ParticleFlow
from adaptik.mathematics.losses import Objective, get
from adaptik.networks.flows import RichFlow

DECAY, RICHNESS = 0.05, 2.0
SOURCE, TARGET = ak.tasks.linear_pair(0.7, n_source=8, n_target=6, dimension=12, n_test=20)
DIGITS = ak.tasks.load("digits", classes=(3, 5), n_train=10, n_test=20)
LIMITS = dict(particles=256, replicates=2, tol=1e-3)


def at_rest(phi, task=SOURCE, **options):
    stages = [ak.Stage(task, RICHNESS, weight_decay=DECAY)]
    return ak.solve(stages, ak.TwoLayer(phi, **(LIMITS | options)), record=3)


@pytest.mark.evidence
@pytest.mark.parametrize(
    ("phi", "task"),
    [pytest.param("relu", DIGITS, id="relu"), pytest.param("erf", SOURCE, id="erf")],
)
def test_rest_is_where_a_long_flow_ends(phi, task):
    found = at_rest(phi, task)
    record = found.records[0]
    assert found.outcome is ak.Outcome.CONVERGED and record.duration == math.inf
    assert "Newton steps" in record.cost.method and abs(record.rate) < 1e-10
    assert math.isfinite(record.times[-2])
    stage = ak.Stage(task, RICHNESS, duration=4000.0, weight_decay=DECAY)
    flow = ak.solve([stage], ak.TwoLayer(phi, dtype="float64", **LIMITS), record=3)
    X = task.X_test
    # Steps of both ways leave up to 3e-4 (docs/notes/speed.md).
    assert np.abs(found.states[0].predict(X) - flow.states[0].predict(X)).max() < 3e-4
    kernels = [s.kernel(task.X).value for s in (found, flow)]
    # A neuron that comes to rest beside a kink is moved by rounding: 6e-6 to 2e-4 seen.
    assert np.abs(kernels[0] - kernels[1]).max() < 3e-4 * np.abs(kernels[1]).max()


@pytest.mark.evidence
def test_predictors_at_rest_are_ridge_regression_on_their_own_kernels():
    found, task = at_rest("relu", DIGITS), DIGITS
    f, y, eye = found.predict(task.X).value, task.y[:, 0], np.eye(task.n_train)
    for kind, ridge in (("feature", DECAY), ("ntk", 2 * DECAY)):
        K = found.kernel(task.X, kind=kind).value
        regression = K @ np.linalg.solve(K + ridge * task.n_train * eye, y)
        np.testing.assert_allclose(f, regression, atol=1e-5)


@pytest.mark.evidence
def test_linear_neurons_at_rest_solve_a_scalar_equation():
    X, y = SOURCE.X / np.sqrt(SOURCE.dimension), SOURCE.y[:, 0]
    P = len(y)

    def beta(size):  # the penalty (lambda/gamma) |beta|, as a ridge that depends on |beta|
        ridge = DECAY / (RICHNESS * size) * np.eye(X.shape[1])
        return np.linalg.solve(X.T @ X / P + ridge, X.T @ y / P)

    size = brentq(lambda s: np.linalg.norm(beta(s)) - s, 1e-6, 10.0, xtol=1e-14)
    exact = SOURCE.X_test / np.sqrt(SOURCE.dimension) @ beta(size)
    np.testing.assert_allclose(at_rest("linear").predict(SOURCE.X_test).value, exact, atol=2e-6)


@pytest.mark.evidence
def test_what_was_sampled_is_forgotten():
    found = at_rest("relu", DIGITS)
    assert found.predict(DIGITS.X_test).standard_error.max() < 1e-5


@pytest.mark.evidence
def test_several_outputs_at_rest():
    y = np.column_stack([DIGITS.y[:, 0], np.sign(DIGITS.X[:, 20]), DIGITS.X[:, 36]])
    task = ak.Task(DIGITS.X, y, name="three")
    found = at_rest("erf", task)
    assert found.records[0].duration == math.inf
    K = found.kernel(task.X).value
    regression = K @ np.linalg.solve(K + DECAY * task.n_train * np.eye(task.n_train), y)
    np.testing.assert_allclose(found.predict(task.X).value, regression, atol=1e-4)


def flow_of(X, y, richness=1.0, decay=1e-3, elastic=0.0, home=((0.0,),)):
    """Of ReLU neurons with a pull to ``home``, one replicate."""
    X, y, home = jnp.asarray(X), jnp.asarray(y), jnp.asarray(home)[None]
    numbers = dict(richness=richness, decay=decay, elastic=elastic)
    anchors = Anchors(Coordinates(X), y, jnp.sum(X * X, 1), X @ X.T)
    return ParticleFlow(
        ak.activations.get("relu"), Objective(get("squared")), anchors,
        jnp.zeros((1, *y.shape)), home=home, **{k: jnp.asarray(v) for k, v in numbers.items()},
    )  # fmt: skip


def relu_flow(rng, samples, coordinates, outputs):
    X, y = (rng.standard_normal((samples, n)) for n in (coordinates, outputs))
    return flow_of(X, y, richness=0.7, decay=2.0, elastic=0.5)


def normal_law(rng, particles, coordinates, outputs):
    shapes = [(1, particles, n) for n in (coordinates, outputs)]
    return Law(*(jnp.asarray(rng.standard_normal(s)) for s in shapes))


@pytest.mark.parametrize("outputs", [1, 3])
def test_what_newton_steps_allocate_is_predicted(outputs):
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        flow, law = relu_flow(rng, 12, 8, outputs), normal_law(rng, 256, 8, outputs)
        free = jnp.zeros((256, 12), bool)
        given = (flow, law, free, free, jnp.asarray(1.0))
        compiled = rest._attempt.lower(*given).compile().compiled
        allocated = compiled.memory_analysis().temp_size_in_bytes
    assert allocated < rest.peak_bytes(256, 8, 12, outputs) < 4 * allocated
    stage = ak.Stage(SOURCE, RICHNESS, weight_decay=DECAY)
    limit, tasks = ak.TwoLayer("relu", particles=2048, replicates=1), {SOURCE.name: SOURCE}
    flowing = limit.predicted_bytes([replace(stage, rate_tol=1e-3)], tasks)
    assert limit.predicted_bytes([stage], tasks) > flowing


@pytest.mark.parametrize("bias", [None, 0.8])
def test_the_curvature_of_relu_neurons_is_inverted_exactly(bias):
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        flow, law, v = relu_flow(rng, 5, 4, 2), normal_law(rng, 7, 4, 2), normal_law(rng, 7, 4, 2)
        if bias is not None:
            flow = replace(flow, bias=jnp.asarray(bias))
            law, v = (one._replace(c=normal_law(rng, 7, 4, 2).z) for one in (law, v))
        sigma = jnp.asarray(3.0)
        change = jax.jvp(flow, (law,), (v,))[1]
        bent = jax.tree.map(lambda a, b: sigma * a - b, v, change)
        back = rest.Curvature.at(flow, law, jnp.zeros((7, 5), bool), sigma).solve(bent)
        for found, exact in zip(*map(jax.tree.leaves, (back, v)), strict=True):
            np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.evidence
def test_elastic_pull_at_rest():
    def solution(duration):
        first = ak.Stage(SOURCE, RICHNESS, duration=3.0)
        options = dict(duration=duration, weight_decay=0.2, elastic=2.0)
        stages = [first, ak.Stage(TARGET, RICHNESS, **options)]
        precise = LIMITS | dict(dtype="float64", tol=1e-5)
        return ak.solve(stages, ak.TwoLayer("erf", **precise), record=3)

    found, flow = solution(None), solution(100.0)
    assert found.records[1].duration == math.inf
    X = TARGET.X_test
    assert np.abs(found.states[1].predict(X) - flow.states[1].predict(X)).max() < 1e-4


@pytest.mark.evidence
def test_rest_that_is_not_found_leaves_the_flow(monkeypatch):
    monkeypatch.setattr(rest, "STEPS", 1)  # of smooth neurons
    assert at_rest("relu", DIGITS).records[0].duration == math.inf
    monkeypatch.setattr(rest, "KINKED_STEPS", 1)
    record = at_rest("relu", DIGITS).records[0]
    assert math.isfinite(record.duration) and "Newton" not in record.cost.method
    assert record.outcome is ak.Outcome.CONVERGED and record.rate < 1e-6
    monkeypatch.setattr(rest, "RATE", 1e-3)  # steps run out, but nothing moves
    assert at_rest("relu", DIGITS).records[0].duration == math.inf


def test_short_steps_alone_are_no_rest(monkeypatch):
    """Steps that creep along a valley are short as well: only where E stands still is rest."""
    monkeypatch.setattr(rest, "CG_STEPS", 1)
    monkeypatch.setattr(rest, "CHANGE", math.inf)
    limit = ak.TwoLayer("erf", particles=40, replicates=1, tol=1e-3)
    stage = ak.Stage(SOURCE, RICHNESS, weight_decay=DECAY)
    record = ak.solve([stage], limit, record=3).records[0]
    assert record.outcome is ak.Outcome.CONVERGED
    assert math.isfinite(record.duration) or record.rate <= rest.RATE * stage.unit**2


def test_tolerances_that_are_given_end_the_flow():
    stage = ak.Stage(SOURCE, RICHNESS, weight_decay=DECAY, rate_tol=1e-3)
    record = ak.solve([stage], ak.TwoLayer("erf", **LIMITS), record=3).records[0]
    assert math.isfinite(record.duration) and 0 < record.rate < 1e-3 * stage.unit**2


@pytest.mark.evidence
def test_stages_follow_a_stage_at_rest(tmp_path):
    stages = [
        ak.Stage(SOURCE, RICHNESS, weight_decay=DECAY),
        ak.Stage(TARGET, 1.0, duration=2.0),
    ]
    found = ak.solve(stages, ak.TwoLayer("erf", **LIMITS), record=3)
    assert np.isfinite(found.loss(TARGET).value)
    total = found.to_xarray().total_time.values
    assert np.isinf(total).sum() == 1 and np.diff(total[np.isfinite(total)]).min() >= 0
    found.save(tmp_path / "found")
    again = ak.Solution.load(tmp_path / "found")
    assert again.records[0].duration == math.inf


@pytest.mark.evidence
def test_moments_and_particles_have_the_same_rate_under_decay():
    stage = ak.Stage(SOURCE, 1.5, duration=3.0, weight_decay=0.2)
    particles = ak.TwoLayer("linear", dtype="float64", **(LIMITS | dict(tol=1e-6)))
    rates = [ak.solve([stage], limit).records[0].rate for limit in (ak.Linear(), particles)]
    assert rates[0] > 1e-3
    assert rates[1] == pytest.approx(rates[0], rel=1e-4)


def test_a_pull_weighs_dual_coefficients_as_the_weights_they_stand_for():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        X, y = rng.standard_normal((5, 7)), jnp.asarray(rng.standard_normal((5, 1)))
        start, dual = rng.standard_normal((1, 20, 7)), rng.standard_normal((1, 20, 5))
        gram, z = jnp.asarray(X @ X.T), jnp.asarray(rng.standard_normal((1, 20, 1)))
        coefficients = Coordinates(gram, jnp.asarray(start @ X.T), dual=True)
        cases = [
            (Coordinates(jnp.asarray(X)), start, start + dual @ X),
            (coefficients, np.zeros_like(dual), dual),
        ]
        burdens = []
        for coordinates, home, w in cases:
            anchors = Anchors(coordinates, y, jnp.diag(gram), gram)
            flow = ParticleFlow(
                ak.activations.get("relu"), Objective(get("squared")), anchors,
                jnp.zeros((1, 5, 1)), home=jnp.asarray(home), richness=jnp.asarray(0.7),
                decay=jnp.asarray(0.0), elastic=jnp.asarray(0.5),
            )  # fmt: skip
            burdens.append(float(flow.burden(Law(jnp.asarray(w), z))))
        assert burdens[1] == pytest.approx(burdens[0], rel=1e-12) and burdens[0] > 0


def flows():
    """A flow of each kind with weight decay, and a point on it."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        X, y = SOURCE.X / np.sqrt(SOURCE.dimension), SOURCE.y
        numbers = dict(richness=jnp.asarray(1.5), decay=jnp.asarray(0.2))
        elastic = dict(elastic=jnp.asarray(0.4))
        phi = ak.activations.get("tanh")
        w, z = rng.standard_normal((1, 20, 12)), rng.standard_normal((1, 20, 1))
        zero = jnp.zeros((1, len(y), 1))
        anchors = Anchors(
            Coordinates(jnp.asarray(X)), *map(jnp.asarray, (y, np.sum(X * X, 1), X @ X.T))
        )
        squared = Objective(get("squared"))
        particles = ParticleFlow(
            phi, squared, anchors, zero, home=jnp.asarray(w[:, ::-1]), **numbers, **elastic
        )
        law = Law(jnp.asarray(w), jnp.asarray(z))
        yield "particles", particles, law, (1 / 20, 1 / 20)
        biased, b, b_r = replace(particles, bias=jnp.asarray(0.8)), 0.6, 0.8
        yield "biased particles", biased, law._replace(c=law.z[:, ::-1]), (1 / 20,) * 3
        layers = tuple(jnp.asarray(rng.standard_normal(s)) for s in ((20, 12), (20, 20), (20, 1)))
        network = RichFlow(
            jnp.asarray(SOURCE.X), jnp.asarray(y), zero[0], home=layers[0][::-1], phi=phi.phi,
            objective=squared, frozen=0, **numbers, **elastic,
        )  # fmt: skip
        yield "network", network, layers, (1 / 20,) * 3
        wide = tuple(jnp.asarray(rng.standard_normal(s)) for s in ((20, 13), (20, 21), (21, 1)))
        yield (
            "biased network",
            replace(network, home=wide[0][::-1], biases=(b, b_r)),
            wide,
            (1 / 20,) * 3,
        )
        dense = Layers(layers[0][None], layers[1][None, None] / np.sqrt(20), layers[2][None])
        ensemble = EnsembleFlow(
            jnp.asarray(X), jnp.asarray(y), zero, phi=phi.phi, objective=squared, **numbers
        )
        yield "ensemble", ensemble, dense, (1 / 20, 1.0, 1 / 20)
        betas, c = (jnp.asarray(rng.standard_normal(s)) for s in ((1, 1, 20), (1, 1)))
        weights = (1 / 20, 1.0, 1 / 20, 1 / (20 * b**2), 1 / b_r**2)
        dense = dense._replace(biases=betas, c=c)
        yield "biased ensemble", replace(ensemble, bias=(b, b_r)), dense, weights


@pytest.mark.parametrize("case", list(flows()), ids=lambda case: case[0])
def test_rates_are_those_of_what_flows_descend(case):
    _, flow, y, weights = case
    with jax.enable_x64(True):
        squares = [jnp.sum(jnp.square(move)) for move in jax.tree.leaves(flow(y))]
        speed = sum(w * s for w, s in zip(weights, squares, strict=True))
        _, rate = flow.loss_and_rate(y)
        assert float(rate) == pytest.approx(2 * float(speed) / 1.5**2, rel=1e-9)


KINKED = ak.tasks.linear_pair(0.7, n_source=8, n_target=8, dimension=12, n_test=20, seed=1)[0]


def kinked(duration=None, **options):
    stages = [ak.Stage(KINKED, 3.0, weight_decay=DECAY, duration=duration)]
    return ak.solve(stages, ak.TwoLayer("relu", **(LIMITS | options)), record=3)


@pytest.mark.evidence
def test_neurons_rest_on_kinks():
    found = kinked()
    record = found.records[0]
    assert found.outcome is ak.Outcome.CONVERGED and record.duration == math.inf
    assert "neurons on kinks" in record.cost.method and abs(record.rate) < 1e-12
    f, K = found.predict(KINKED.X), found.kernel(KINKED.X).value
    ridge = DECAY * KINKED.n_train * np.eye(KINKED.n_train)
    np.testing.assert_allclose(f.value, K @ np.linalg.solve(K + ridge, KINKED.y[:, 0]), atol=1e-5)
    assert found.predict(KINKED.X_test).standard_error.max() < 1e-5
    exact, precise = found.states[0].predict(KINKED.X_test), dict(dtype="float64")
    off = [
        np.sqrt(np.mean((kinked(t, **precise).states[0].predict(KINKED.X_test) - exact) ** 2))
        for t in (100.0, 1000.0)
    ]
    assert off[1] < 3e-3 and off[0] > 3 * off[1]


@pytest.mark.evidence
def test_kinks_are_tried_before_all_steps_are_taken(monkeypatch):
    monkeypatch.setattr(two_layer, "PATIENCE", 60)
    record = kinked().records[0]
    assert record.duration == math.inf and record.cost.steps < 1000


def two_samples(pushes):
    """One neuron, two samples that are not orthogonal, and what they push per unit of slope."""
    X = np.array([[1.0, 0.0], [1.0, 1.0]])
    law = Law(jnp.asarray([[[0.01, 2.0]]]), jnp.ones((1, 1, 1)))
    flow = flow_of(X, np.zeros((2, 1)))

    def at(h):  # the neuron with this preactivation on the first sample, pushed as asked
        there = Law(law.w.at[0, 0, 0].set(h), law.z)
        f = flow.forward(there)[2]
        labels = f[0] + 2 * jnp.asarray(pushes)[:, None]
        return eqx.tree_at(lambda f: f.anchors.labels, flow, labels), there

    return at


@pytest.mark.parametrize(
    ("pushes", "held", "side"),
    [
        ((-3.0, 1.0), True, 0),  # down by 2 above, up by 1 below
        ((-0.5, 1.0), False, 1),
        ((-3.0, -1.0), False, -1),
        ((0.5, -0.2), False, 1),  # both sides push away
    ],
)
def test_kinks_hold_what_both_sides_push_to_them(pushes, held, side):
    with jax.enable_x64(True):
        at = two_samples(pushes)
        free, first = jnp.zeros((1, 2), bool), jnp.asarray([[True, False]])
        for after in (0.01, -0.01):
            flow, there = at(after)
            _, before = at(-after)
            hits = kinks.caught(flow, kinks.Held.at(flow, free), before, there)
            np.testing.assert_array_equal(hits, [[held, False]])
            assert not kinks.caught(flow, kinks.Held.at(flow, free), there, there).any()
        law, on = kinks.let_go(*at(0.0), first, free)
        np.testing.assert_array_equal(on, [[held, False]])
        assert np.sign(float(law.w[0, 0, 0])) == side and abs(law.w[0, 0, 0]) < 1e-6


def test_a_second_kink_is_judged_by_what_the_first_leaves():
    X = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 1.0, 1.0]])
    with jax.enable_x64(True):
        flow = flow_of(X, np.zeros((3, 1)))
        one = jnp.ones((1, 1, 1))
        on = jnp.asarray([[True, False, False]])
        before, after = (Law(jnp.asarray([[[1e-12, h, 2.0]]]), one) for h in (0.01, -0.01))
        # The first kink alone pushes by 5 against the first sample; along it the second sample
        # feels (0, 0.6, 0): the third pushes it up by 0.6, itself down by 2 * 0.36 above.
        pushes = jnp.asarray([[-5.0], [-2.0], [1.0]])
        labels = flow.forward(after)[2][0] + 3 * pushes
        flow = eqx.tree_at(lambda f: f.anchors.labels, flow, labels)
        hits = kinks.caught(flow, kinks.Held.at(flow, on), before, after)
        np.testing.assert_array_equal(hits, [[False, True, False]])
        weaker = labels + jnp.asarray([[0.0], [3.0], [0.0]])  # 1 * 0.36 cannot hold 0.6
        flow = eqx.tree_at(lambda f: f.anchors.labels, flow, weaker)
        hits = kinks.caught(flow, kinks.Held.at(flow, on), before, after)
        assert not hits.any()


def test_kinks_let_go_one_at_a_time():
    X = np.array([[1.0, 0.0], [0.9, np.sqrt(0.19)]])
    with jax.enable_x64(True):
        law = Law(jnp.asarray([[[0.0, 0.0], [1.0, 1.0]]]), jnp.asarray([[[1.0], [0.0]]]))
        home = [[-1.0, -np.sqrt(0.19)], [0.0, 0.0]]  # less 0.1 of the first and 1 of the second
        flow = flow_of(X, [[-2.0], [-4.0]], elastic=1.0, home=home)
        # Neither kink can hold that, since it would have to push upwards.
        both, none = jnp.asarray([[True, True], [False, False]]), jnp.zeros((2, 2), bool)
        moved, on = kinks.let_go(flow, law, both, none)
        h = np.asarray(moved.w[0] @ X.T)
        np.testing.assert_array_equal(on, [[True, False], [False, False]])
        assert h[0, 1] < 0 and abs(h[0, 0]) < 1e-12
        np.testing.assert_array_equal(h[1], law.w[0, 1] @ X.T)
        fresh = jnp.asarray([[True, False], [False, False]])  # the other one may let go next time
        np.testing.assert_array_equal(kinks.let_go(flow, law, both, fresh)[1], both)


def test_what_is_held_stays_on_its_kinks():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        flow, law = relu_flow(rng, 6, 8, 1), normal_law(rng, 20, 8, 1)
        on = rng.random((20, 6)) < 0.3
        on[0], on[1] = True, False
        held = kinks.Held.at(flow, jnp.asarray(on))
        X = np.asarray(flow.anchors.coordinates.lift)
        kept = held.along(law)
        assert np.abs(np.where(on, kept.w[0] @ X.T, 0.0)).max() < 1e-12
        assert np.abs(held.along(kept).w - kept.w).max() < 1e-12
        samples = X[held.which] * np.asarray(held.used)[..., None]
        across = np.einsum("mkc,mk->mc", samples, held.shares(law.w))
        np.testing.assert_allclose(across, (law.w - kept.w)[0], atol=1e-12)
        h = rng.standard_normal(held.used.shape) * np.asarray(held.used)
        moved = np.einsum("mkc,mc->mk", samples, held.moves(jnp.asarray(h))[0])
        np.testing.assert_allclose(moved, h, atol=1e-12)
        left = [np.sum(np.square(held.along(Law(jnp.asarray(np.tile(x, (1, 20, 1))), law.z)).w), -1)
                for x in X]  # fmt: skip
        np.testing.assert_allclose(held.squares(flow), np.stack(left, -1)[0], atol=1e-12)
