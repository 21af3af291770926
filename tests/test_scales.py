"""Scales of hidden weights and of fresh heads: theory section 1, on both sides."""

from dataclasses import replace

import numpy as np
import pytest
from tests.beside_networks import against_networks

import adaptik as ak
from adaptik.kernels import lazy
from adaptik.mathematics import activations

ETA, SIGMA, HEAD = 4.0, 0.6, 1.7
SOURCE, TARGET = ak.tasks.hermite_pair(1, 2, 0.5, n_source=6, n_target=6, dimension=5, n_test=5)
FINE = dict(dtype="float64", particles=64, replicates=2)
MODELS = {
    "TwoLayer": (ak.solve, ak.TwoLayer("tanh", **FINE)),
    "Convolutional": (ak.solve, ak.Convolutional("tanh", patch=(1, 3), image=(1, 5), **FINE)),
    "Linear": (ak.solve, ak.Linear()),
    "DeepLinear": (ak.solve, ak.DeepLinear(2)),
    "train": (ak.train, ak.Network(32, "tanh", dtype="float64")),
    "train convolution": (ak.train, ak.ConvolutionalNetwork(16, "tanh", (1, 3), image=(1, 5))),
}


def solved(name, *stages, scale=1.0, **settings):
    run, model = MODELS[name]
    return run(list(stages), replace(model, scale=scale, **settings), record=2)


@pytest.mark.parametrize("name", ["TwoLayer", "Convolutional"])
def test_scales_multiply_what_is_drawn_and_draw_nothing_more(name):
    limit, stage = MODELS[name][1], ak.Stage(SOURCE, 0.0, head_scale=4.0)
    one, half = (
        replace(limit, scale=s).start([stage], {"s": SOURCE}, np.random.default_rng(0))
        for s in (1.0, 0.5)
    )
    np.testing.assert_array_equal(half.particles.w, 0.5 * one.particles.w)
    np.testing.assert_array_equal(half.particles.z, one.particles.z)
    assert (one.particles.shrink, half.particles.shrink) == (1.0, 0.5)
    later = replace(one, terms=(), particles=replace(one.particles, initial_head=False))
    for state in (one, later):  # drawn at the start, and anew
        plain, large = (
            limit._with_fresh_head(state, s, np.random.default_rng(1)).particles
            for s in (replace(stage, head_scale=1.0), stage)
        )
        np.testing.assert_array_equal(large.z, 4.0 * plain.z)


@pytest.mark.parametrize("name", ["train", "train convolution"])
def test_scales_multiply_weights_of_networks(name):
    network = MODELS[name][1]
    network = network.fitted(5) if name == "train convolution" else network
    one, half = (
        (*replace(network, scale=s).initial_hidden(5, rng), network.initial_head(2, rng, s))
        for s, rng in ((s, np.random.default_rng(0)) for s in (1.0, 0.5))
    )
    for whole, part in zip(one, half, strict=True):
        np.testing.assert_array_equal(part, 0.5 * whole)


@pytest.mark.parametrize(
    "name", ["TwoLayer", "Linear", pytest.param("train", marks=pytest.mark.evidence)]
)
def test_a_fast_head_is_a_small_one(name):
    """(eta, gamma, t) is (1/sqrt(eta), gamma/sqrt(eta), eta t), of one draw, in two stages."""

    def fast(task, gamma):
        return ak.Stage(task, gamma, 0.5, head_rate=ETA)

    def small(task, gamma):
        return ak.Stage(task, gamma / ETA**0.5, 0.5 * ETA, head_scale=ETA**-0.5)

    fine = dict(Linear={}, TwoLayer=dict(tol=1e-11), train=dict(tol=1e-8))[name]
    found, expected, without = (
        solved(name, stage(SOURCE, 1.5), stage(TARGET, 1.0), scale=SIGMA, **fine)
        for stage in (fast, small, lambda task, gamma: ak.Stage(task, gamma, 0.5))
    )
    for i in (0, 1):
        f, g, other = (s.predict(TARGET.X_test, stage=i).value for s in (found, expected, without))
        assert np.abs(f - other).max() > 0.02
        np.testing.assert_allclose(f, g, atol=1e-5 if name == "train" else 1e-10)


@pytest.mark.parametrize(
    ("name", "depth"),
    [("Linear", 1), ("DeepLinear", 2), pytest.param("train", 2, marks=pytest.mark.evidence)],
)
def test_scales_of_all_weights_are_another_richness(name, depth):
    """Where phi(s h) = s phi(h): (sigma, gamma, t) is (1, gamma/sigma^(L+1), sigma^(2L) t)."""
    settings = dict(depth=2, activation="relu", tol=1e-7) if name == "train" else {}

    def scaled(task, gamma, **options):
        return ak.Stage(task, gamma, 2.0, head_scale=SIGMA, **options)

    def plain(task, gamma, **options):
        return ak.Stage(task, gamma / SIGMA ** (depth + 1), 2.0 * SIGMA ** (2 * depth), **options)

    found, expected = (
        solved(name, stage(SOURCE, 1.0), stage(TARGET, 0.7), scale=scale, **settings)
        for stage, scale in ((scaled, SIGMA), (plain, 1.0))
    )
    f = found.predict(TARGET.X_test).value
    assert np.abs(f).max() > 0.01
    np.testing.assert_allclose(f, expected.predict(TARGET.X_test).value, atol=1e-5)
    for kind, power in (("feature", 2 * depth), ("ntk", 2 * depth)):
        K, unit = (s.kernel(TARGET.X, kind=kind).value for s in (found, expected))
        np.testing.assert_allclose(K, SIGMA**power * unit, atol=1e-4)


def test_depth_1_is_the_linear_limit():
    stages = [
        ak.Stage(SOURCE, 1.0, 1.0, head_scale=HEAD),
        ak.Stage(TARGET, 0.5, 1.0, head="kept"),
    ]
    limits = (ak.DeepLinear(1, scale=SIGMA), ak.Linear(scale=SIGMA))
    found, expected = (ak.solve(stages, limit, record=2) for limit in limits)
    for kind in ("feature", "gradient", "ntk"):
        K, other = (s.kernel(TARGET.X_test, kind=kind).value for s in (found, expected))
        np.testing.assert_allclose(K, other, atol=1e-4)
    f, other = (s.predict(TARGET.X_test).value for s in (found, expected))
    assert np.abs(f).max() > 0.1
    np.testing.assert_allclose(f, other, atol=1e-4)


def test_linear_source_stage_in_closed_form():
    """M = sigma^2 (I + chi n n^T) and A, theory section 3.1; and the lazy kernel that follows."""
    stage = ak.Stage(SOURCE, 1.5, head_rate=ETA, head_scale=HEAD)
    solution = ak.solve([stage], ak.Linear(scale=SIGMA), record=2)
    state, weights = solution.states[-1], ETA * SIGMA**2
    size = float(np.sum(state.v**2))
    a = (HEAD**2 - weights + np.sqrt((HEAD**2 + weights) ** 2 + 4 * ETA * size)) / 2
    n, chi = state.v / np.sqrt(size), (a - HEAD**2) / weights
    assert chi > 0.1
    np.testing.assert_allclose(state.A, [[a]], rtol=1e-4)
    expected = SIGMA**2 * (np.eye(len(state.M)) + chi * n @ n.T)
    np.testing.assert_allclose(state.M, expected, atol=1e-4)


STAGES = {
    "rich": dict(richness=1.5, duration=1.0),
    "decay": dict(richness=1.5, duration=1.0, weight_decay=0.3),
    "lazy": dict(richness=0.0, duration=1.0),
    "lazy decay": dict(richness=0.0, duration=1.0, weight_decay=0.3),
    "readout": dict(richness=1.5, duration=0.5, trains="readout", weight_decay=0.3),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "lazy" else pytest.mark.evidence) for name in STAGES],
)
def test_particles_are_the_linear_closed_form(name):
    """Two stages, of which the second has a new head of another size; r + 1 particles are exact."""
    stages = [
        ak.Stage(SOURCE, 1.0, 1.0, head_scale=0.5),
        ak.Stage(TARGET, head_scale=HEAD, **STAGES[name]),
    ]
    exact = ak.solve(stages, ak.Linear(scale=SIGMA), record=2)
    limit = ak.TwoLayer("linear", tol=1e-4, scale=SIGMA, **FINE)
    theory = ak.solve(stages, limit, record=2)
    for split in ("train", "test"):
        f, expected = (s.predictions(TARGET, split)[-1] for s in (theory, exact))
        assert np.abs(f).max() > 0.03
        np.testing.assert_allclose(f, np.broadcast_to(expected, f.shape), atol=5e-4)
    K, expected = (s.kernel(TARGET.X, kind="ntk").value for s in (theory, exact))
    np.testing.assert_allclose(K, expected, atol=1e-3)


@pytest.mark.parametrize("outside", [False, True])
def test_lazy_stages_run_on_the_scaled_kernels(outside, tmp_path):
    """Phi of weights of size sigma + s^2 G K_x, also at inputs outside the samples' span."""
    phi, task = activations.get("relu"), ak.Task(SOURCE.X[:3], SOURCE.y[:3]) if outside else SOURCE
    stage = ak.Stage(task, 0.0, duration=3.0, head_scale=HEAD)
    limit = ak.TwoLayer("relu", particles=64, replicates=2, dtype="float64", scale=SIGMA)
    solution = ak.solve([stage], limit, record=2)

    def kernel(A, B):
        inputs = A @ B.T / task.dimension
        sizes = (SIGMA**2 * np.sum(x**2, axis=1) / task.dimension for x in (A, B))
        of_a, of_b = sizes
        feature, gradient = lazy.two_layer(phi, of_a, SIGMA**2 * inputs, of_b)
        return feature + HEAD**2 * gradient * inputs

    rates, modes = np.linalg.eigh(kernel(task.X, task.X))
    learned = (1 - np.exp(-rates * 3.0 / task.n_train)) / rates
    dual = modes @ (learned * (modes.T @ task.y[:, 0]))
    f = solution.predict(TARGET.X_test).value
    np.testing.assert_allclose(f, kernel(TARGET.X_test, task.X) @ dual, atol=1e-8)
    solution.save(tmp_path / "lazy.zip")
    loaded = ak.Solution.load(tmp_path / "lazy.zip")
    np.testing.assert_array_equal(loaded.predict(TARGET.X_test).value, f)


@pytest.mark.parametrize("pooling", ["average", "none"])
def test_kernels_at_the_start_are_those_of_the_filters(pooling):
    """Of linear filters, whose samples have the moments of all of them."""
    limit = ak.Convolutional("linear", (1, 3), image=(1, 5), pooling=pooling, scale=SIGMA, **FINE)
    stage = ak.Stage(SOURCE, 1.0, head_scale=HEAD)
    state = limit.start([stage], {"s": SOURCE}, np.random.default_rng(0))
    state = limit._with_fresh_head(state, stage, np.random.default_rng(1))
    for kind in ("feature", "ntk"):
        exact, found = (
            state.frozen_kernel(state.particles, SOURCE.X, SOURCE.X, kind, estimator)
            for estimator in ("analytic", "sampled")
        )
        np.testing.assert_allclose(found, np.broadcast_to(exact, found.shape), atol=1e-10)


@pytest.mark.parametrize(
    "name",
    [
        "TwoLayer",
        *(pytest.param(n, marks=pytest.mark.evidence) for n in ("Convolutional", "train")),
    ],
)
def test_rich_stages_of_little_richness_tend_to_lazy_ones(name):
    """Linear neurons, whose samples have the moments of all of them."""
    stage = ak.Stage(SOURCE, 0.0, duration=1.0, head_scale=HEAD)
    lazily, nearly, plain = (
        solved(name, s, scale=SIGMA, tol=1e-4, activation="linear").predict(TARGET.X_test).value
        for s in (stage, replace(stage, richness=1e-3), replace(stage, head_scale=1.0))
    )
    assert np.abs(lazily - plain).max() > 0.02
    np.testing.assert_allclose(nearly, lazily, atol=5e-3)


@pytest.mark.parametrize("name", [name for name in MODELS if "Linear" not in name])
def test_only_a_model_of_the_same_scale_goes_on(name):
    stage = ak.Stage(SOURCE, 0.0, 0.1)
    done = solved(name, stage, scale=0.5)
    run, model = MODELS[name]
    with pytest.raises(ak.InputError, match=r"^after has scale=0\.5, got 1\.0; use the same$"):
        run([stage], model, after=done)
    older = {k: v for k, v in done.provenance["model"].items() if k != "scale"}
    older = replace(done, provenance=done.provenance | {"model": older})
    with pytest.raises(ak.InputError, match=r"^after has scale=1\.0, got 0\.5"):
        run([stage], replace(model, scale=0.5), after=older)


@pytest.mark.parametrize("scale", [0, -1.0, np.nan, np.inf, True, "small", None, (1.0, 2.0)])
def test_scales_that_are_none_are_refused(scale):
    with pytest.raises(ak.InputError, match=r"^head_scale must be a finite number > 0, got"):
        ak.Stage(SOURCE, 1.0, head_scale=scale)
    for _, model in MODELS.values():
        with pytest.raises(ak.InputError, match=r"^scale must be a finite number > 0, got"):
            replace(model, scale=scale)


def test_scales_without_a_meaning_are_refused():
    with pytest.raises(ak.InputError, match=r"^head_scale=2 is of a head that is drawn, .* use"):
        ak.Stage(SOURCE, 1.0, head="kept", head_scale=2)
    stage = ak.Stage(SOURCE, 1.0, head_scale=2)
    with pytest.raises(ak.InputError, match=r"Convolutional, DeepLinear, Linear, TwoLayer$"):
        ak.solve([stage], ak.Deep(2, "tanh"))
    for limit in (ak.Bayesian(temperature=0.5), ak.BayesianLinear(temperature=0.5)):
        with pytest.raises(ak.InputError, match=r"^stage 0: head_scale=2\.0"):
            ak.solve([stage], limit)
    network = ak.Network(16, scale=2.0)
    with pytest.raises(ak.InputError, match=r"^scale=2 is not sampled .* use scale=1$"):
        ak.sample_posterior([ak.Stage(SOURCE, 1.0)], network, temperature=0.5)
    with pytest.raises(ak.InputError, match=r"'exp.*must be finite, .* or smaller inputs$"):
        ak.solve([ak.Stage(SOURCE, 0.0)], ak.TwoLayer("exp", particles=32, scale=50.0))


PAIR = ak.tasks.hermite_pair(1, 2, 0.8, n_source=20, n_target=15, dimension=8, n_test=60)


def of_widths(head: str, widths):
    last = dict(head="kept") if head == "kept" else dict(head_scale=0.7)
    stages = [ak.Stage(PAIR[0], 1.0, 8.0, head_scale=HEAD), ak.Stage(PAIR[1], 0.7, 8.0, **last)]
    limit = ak.TwoLayer("relu", particles=2048, replicates=8, scale=SIGMA)
    return against_networks(limit, ak.Network(16, "relu", scale=SIGMA), widths, stages)


@pytest.mark.parametrize("head", ["fresh", pytest.param("kept", marks=pytest.mark.wide)])
@pytest.mark.evidence
def test_particles_agree_with_networks(head):
    ((_, size),) = of_widths(head, [4096])
    assert 0.2 < size < 2.5


@pytest.mark.evidence
@pytest.mark.wide
@pytest.mark.parametrize("head", ["fresh", "kept"])
def test_networks_approach_particles_like_one_over_width(head):
    widths = [256, 1024, 4096]
    found = of_widths(head, widths)
    assert 0.3 < found[-1][1] < 2.5
    slopes = np.polyfit(np.log(widths), np.log([squares for squares, _ in found]), 1)[0]
    error = np.std(slopes, ddof=1) / np.sqrt(len(slopes))
    assert abs(np.mean(slopes) + 1) < 2 * error
