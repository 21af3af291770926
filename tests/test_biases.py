"""Biases of hidden layers and of the readout: theory section 1, on both sides."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.beside_networks import against_networks

import adaptik as ak
from adaptik.kernels import lazy
from adaptik.limits.deep.reveal_flow import PopulationFlow
from adaptik.networks.flows import flow_through
from adaptik.networks.frozen import solve_frozen
from adaptik.networks.mup import Member, Weights
from adaptik.solution import Request
from adaptik.tasks.span import Span

B, READOUT = 0.7, 0.9
BIAS = (B, READOUT)
RNG = np.random.default_rng(5)
X, LABELS = RNG.standard_normal((3, 6, 5)), RNG.standard_normal((2, 6, 2)) + 0.8
SOURCE = ak.Task(X[0], LABELS[0], X[2], LABELS[0], name="source")
TARGET = ak.Task(X[1], LABELS[1], X[2], LABELS[1], name="target")


def request(task):
    return Request({task.name: task}, np.array([0.0]), (), np.random.default_rng(0))


def few(names, *kept: str):
    """All of them, those that are not kept as evidence: each compiles a flow of its own."""
    marks = {name: () if name in kept else pytest.mark.evidence for name in names}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


def predictor(parts, X, richness: float, width: int):
    """<z phi>/gamma + c of networks whose biases are numbers of their own, b beta and c."""
    hidden, biases, head, c = parts
    for W, bias in zip(hidden, biases, strict=True):
        X = jnp.tanh(X @ W.T / np.sqrt(X.shape[1]) + bias)
    return X @ head / (richness * width) + c


def stepped(stage: ak.Stage, parts, base, width: int, steps=100):
    """Runge and Kutta: weights learn at the rate gamma^2 N, biases at b^2 of that, c at b_r^2."""
    gamma, task = stage.richness, stage.task
    weights = gamma**2 * width
    rates = (weights, weights * B**2, weights, READOUT**2)

    def loss(parts):
        f = base + predictor(parts, task.X, gamma, width)
        return jnp.sum(jnp.square(task.y - f)) / (2 * len(f))

    def slope(parts):
        downhill = jax.grad(loss)(parts)
        moves = [
            jax.tree.map(lambda g, r=r: -r * g, g) for g, r in zip(downhill, rates, strict=True)
        ]
        return jax.tree.map(lambda m, w: m - stage.weight_decay * w, tuple(moves), parts)

    def ahead(parts, k, h):
        return jax.tree.map(lambda w, d: w + h * d, parts, k)

    @jax.jit
    def step(parts):
        h = stage.duration / steps
        k = [slope(parts)]
        for part in (0.5, 0.5, 1.0):
            k.append(slope(ahead(parts, k[-1], part * h)))
        for share, each in zip((1 / 6, 1 / 3, 1 / 3, 1 / 6), k, strict=True):
            parts = ahead(parts, each, share * h)
        return parts

    for _ in range(steps):
        parts = step(parts)
    return parts


def by_hand(stages: list[ak.Stage], parts, width: int) -> np.ndarray:
    """f(t) = f(t_1) + what the readout's average has moved, over every stage's richness."""
    terms = []  # of f: factor, parts, richness

    def f(X):
        return sum(c * predictor(p, X, gamma, width) for c, p, gamma in terms)

    for stage in stages:
        start = (-1.0, parts, stage.richness)
        terms.append(start)
        parts = stepped(stage, parts, f(stage.task.X), width)
        terms.append((1.0, parts, stage.richness))
    return f(X[2])


@pytest.mark.parametrize("depth", [pytest.param(1, marks=pytest.mark.evidence), 2])
def test_networks_are_those_with_biases_of_their_own(depth):
    """Two stages of unequal richness, the second with a kept head; and one with weight decay."""
    width = 12
    network = ak.Network(width, "tanh", depth, dtype="float64", tol=1e-8, bias=BIAS)
    kept = [ak.Stage(SOURCE, 1.0, 1.0), ak.Stage(TARGET, 0.6, 1.0, head="kept")]
    for stages in (kept, [ak.Stage(SOURCE, 1.0, 1.0, weight_decay=0.4)]):
        found = ak.train(stages, network).predict(X[2]).value
        rng = np.random.default_rng(np.random.SeedSequence([0, 0]))
        hidden, head = network.initial_hidden(5, rng), network.initial_head(2, rng)
        assert [W.shape[1] for W in hidden] == [6, width + 1][:depth]
        assert head.shape == (width + 1, 2)
        with jax.enable_x64(True):
            parts = (
                [W[:, :-1] for W in hidden],
                [B * W[:, -1] for W in hidden],
                head[:-1],
                np.zeros(2),
            )
            expected = by_hand(stages, jax.tree.map(jnp.asarray, parts), width)
        np.testing.assert_allclose(found, expected, atol=2e-5)


def as_network(state) -> Member:
    """A network whose neurons are a replicate's particles; of weights in the span, a bias last."""
    p = state.particles
    c = np.sqrt(p.w.shape[1]) * p.c[0, :1]
    return Member(Weights((p.w[0] @ state.span.basis.T, np.concatenate([p.z[0], c]))))


MOVING = {
    "kept": ak.Stage(TARGET, 0.6, 1.0, head="kept"),
    "decay": ak.Stage(TARGET, 1.5, 1.0, head="kept", weight_decay=0.3, head_rate=2.0),
    "lazy decay": ak.Stage(TARGET, 0.0, 1.0, head="kept", weight_decay=0.3, head_rate=2.0),
    "readout": ak.Stage(TARGET, 1.5, 1.0, head="kept", trains="readout", weight_decay=0.3),
}


@pytest.mark.parametrize("name", few(MOVING, "decay"))
def test_particles_are_a_network(name):
    """Of as many neurons, from the same weights, where the readout's bias is not 0 any more."""
    limit = ak.TwoLayer("tanh", 24, 1, "float64", 1e-6, bias=BIAS)
    network = ak.Network(24, "tanh", dtype="float64", tol=1e-6, bias=BIAS)
    first, stage = ak.Stage(SOURCE, 1.0, 1.0, head="kept"), MOVING[name]
    tasks = {SOURCE.name: SOURCE, TARGET.name: TARGET}
    state = limit.start([first, stage], tasks, np.random.default_rng(3))
    member, grid = as_network(state), np.array([0.0])
    _, state, _ = limit.advance(state, first, request(SOURCE))
    if name == "lazy decay":  # where f at the start is 0
        state = replace(state, terms=())
    with jax.enable_x64(True):
        member = flow_through(network, first, member, X[2], grid, ()).end
        if name == "lazy decay":
            member = replace(member, terms=())
        run = solve_frozen if stage.has_fixed_kernel else flow_through
        expected = run(network, stage, member, X[2], grid, ()).end
    _, found, _ = limit.advance(state, stage, request(TARGET))
    assert np.abs(found.particles.c).max() > 0.01
    f = expected.predict(X[2], network.phi, network.biases)
    np.testing.assert_allclose(found.predict(X[2])[0], f, atol=5e-5)
    own = as_network(found).weights.layers
    for ours, theirs in zip(own, expected.weights.layers, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-4)
    theirs = ak.networks.NetworkState(network.phi, (expected,), biases=BIAS)
    for kind in ("feature", "gradient", "ntk"):
        K = found.kernel(X[2], None, kind)
        np.testing.assert_allclose(K, theirs.kernel(X[2], None, kind), atol=2e-3)


def as_deep_network(state) -> Member:
    """A network with the weights of a replicate of an ensemble."""
    w, (b, b_r) = state.weights, state.bias
    root = np.sqrt(w.head.shape[1])
    first = w.first[0] @ state.span.basis.T
    hidden = np.concatenate([root * w.hidden[:, 0], w.biases[:, 0, :, None] / b], axis=2)
    head = np.concatenate([w.head[0], root * w.c[:1] / b_r])
    return Member(Weights((first, *hidden, head)))


DEEP = {
    "kept": ak.Stage(TARGET, 0.6, 1.0, head="kept"),
    "decay": ak.Stage(TARGET, 1.0, 1.0, head="kept", weight_decay=0.3),
    "lazy": ak.Stage(TARGET, 0.0, 1.0, head="kept"),
    "readout": ak.Stage(TARGET, 1.5, 1.0, head="kept", trains="readout"),
    "above": ak.Stage(TARGET, 1.5, 1.0, head="kept", trains=1),
}


@pytest.mark.parametrize("name", few(DEEP, "readout"))
def test_ensembles_are_networks(name):
    """As particles above, with a bias of the second layer too."""
    limit = ak.Ensemble(2, "tanh", 24, 1, "float64", 1e-6, bias=BIAS)
    network = ak.Network(24, "tanh", 2, dtype="float64", tol=1e-6, bias=BIAS)
    first, stage = ak.Stage(SOURCE, 1.0, 1.0, head="kept"), DEEP[name]
    tasks = {SOURCE.name: SOURCE, TARGET.name: TARGET}
    state = limit.start([first, stage], tasks, np.random.default_rng(3))
    _, state, _ = limit.advance(state, first, request(SOURCE))
    member, grid = as_deep_network(state), np.array([0.0])
    old = replace(state, terms=())  # the predictor since then
    _, found, _ = limit.advance(old, stage, request(TARGET))
    assert np.abs(found.weights.c).max() > 0.01
    run = solve_frozen if stage.has_fixed_kernel else flow_through
    with jax.enable_x64(True):
        expected = run(network, stage, member, X[2], grid, ()).end
    f = expected.predict(X[2], network.phi, network.biases)
    np.testing.assert_allclose(found.predict(X[2])[0], f, atol=5e-5)
    theirs = ak.networks.NetworkState(network.phi, (expected,), biases=BIAS)
    own = as_deep_network(found).weights.layers
    for ours, layer in zip(own, expected.weights.layers, strict=True):
        np.testing.assert_allclose(ours, layer, atol=5e-4)
    np.testing.assert_allclose(
        found.kernel(X[2], None, "ntk"), theirs.kernel(X[2], None, "ntk"), atol=2e-3
    )


@pytest.mark.parametrize("frozen", [0, 1])
def test_populations_descend_the_loss_along_their_biases(frozen):
    """The loss falls at the rate |y'|^2 of all that moves: every part follows its gradient."""
    limit = ak.Reveal(2, "tanh", particles=256, replicates=1, dtype="float64", bias=BIAS)
    stage = ak.Stage(SOURCE, 1.5, 1.0)
    with jax.enable_x64(True):
        state = limit.start([stage], {SOURCE.name: SOURCE}, np.random.default_rng(1))
        start = replace(state.members[0], c=np.ones((1, 2)))
        X, objective = state.span.training_points(SOURCE.X), stage.objective
        rng = np.random.default_rng(0)
        given = (start, X, SOURCE.y, 0.0, [], limit.phi, objective, 1.5, 0.0, frozen, 1e-6, rng)
        flow = PopulationFlow(*given)
        y = flow.start()
        flow.slope(0.0, y)  # reveals what is met
        y, h = flow.enlarge(y), 1e-5
        slope = flow.slope(0.0, y)
        ahead, behind = (np.sum(flow.losses(0.0, y + s * slope)) for s in (h, -h))
        moved = flow._unpack(0.0, slope)
    assert np.abs(moved.c).max() > 0.01 and np.abs(moved.betas).max() > 0.01
    assert np.abs(moved.first).max() > 0.01 or frozen
    assert (behind - ahead) / (2 * h) == pytest.approx(flow.rate(0.0, y, slope), rel=1e-3)


STAGES = {
    "rich": dict(richness=1.5, duration=1.0),
    "decay": dict(richness=1.5, duration=1.0, weight_decay=0.3, head_rate=2.0),
    "lazy": dict(richness=0.0, duration=1.0),
    "lazy decay": dict(richness=0.0, duration=1.0, weight_decay=0.3, head_rate=2.0),
    "readout": dict(richness=1.5, duration=1.0, trains="readout", weight_decay=0.3),
}


@pytest.mark.evidence
@pytest.mark.parametrize("name", STAGES)
def test_linear_neurons_are_the_network_in_closed_form(name):
    """Moments in place of neurons, of a network whose weights have those of infinitely many."""
    kept = "kept" if name == "rich" else "fresh"
    first, stage = ak.Stage(SOURCE, 1.0, 1.0), ak.Stage(TARGET, head=kept, **STAGES[name])
    solution = ak.solve([first, stage], ak.Linear(bias=BIAS))
    limit = ak.TwoLayer("linear", 48, 2, "float64", 1e-6, bias=BIAS)
    found = ak.solve([first, stage], limit)
    for split in ("train", "test"):
        for i in (0, 1):
            f, expected = (s.records[i].predictions["target", split][-1] for s in (solution, found))
            assert np.abs(f).max() > 0.2
            np.testing.assert_allclose(np.broadcast_to(f, expected.shape), expected, atol=1e-3)


def with_constant(task: ak.Task) -> ak.Task:
    """The inputs that have K_x = x.x'/D + b^2, one coordinate more with them."""
    D = task.dimension

    def longer(X):
        return np.sqrt((D + 1) / D) * np.column_stack([X, np.full(len(X), B * np.sqrt(D))])

    return replace(task, X=longer(task.X), X_test=longer(task.X_test))


FEW = ak.tasks.hermite_pair(1, 2, 0.5, n_source=3, n_target=3, dimension=9, n_test=5)


@pytest.mark.parametrize(
    "limit",
    [
        ak.TwoLayer("tanh", particles=32, replicates=2, dtype="float64"),
    ],
    ids=lambda limit: type(limit).__name__,
)
def test_a_bias_of_the_first_layer_is_a_constant_coordinate(limit):
    """Also at inputs outside the span of those trained on, which are 6 in 10 dimensions."""
    stages = [ak.Stage(FEW[0], 1.0, 0.5), ak.Stage(FEW[1], 0.7, 0.5, head="kept")]
    longer = [with_constant(task) for task in FEW]
    found = replace(limit, bias=(B, 0.0))
    state = found.start(stages, {t.name: t for t in FEW}, np.random.default_rng(1))
    other = replace(state, span=Span(state.span.basis))  # of the longer inputs
    for stage, task in zip(stages, longer, strict=True):
        _, state, _ = found.advance(state, stage, request(stage.task))
        _, other, _ = limit.advance(other, replace(stage, task=task), request(task))
    inputs, there = FEW[0].X_test, longer[0].X_test
    for kind in ("feature", "gradient", "ntk"):
        K, expected = state.kernel(inputs, FEW[1].X, kind), other.kernel(there, longer[1].X, kind)
        np.testing.assert_allclose(K, expected, rtol=1e-8)
    f = state.predict(inputs)
    assert np.abs(f).max() > 0.05
    np.testing.assert_allclose(f, other.predict(there), atol=1e-10)


@pytest.mark.parametrize(
    "limit", [ak.TwoLayer("relu", particles=128)], ids=lambda a: type(a).__name__
)
def test_lazy_kernels_have_the_squares_of_both(limit, tmp_path):
    """Phi + b_r^2 + G (x.x'/D + b^2), Phi and G of Gaussian fields with a bias."""
    limit, D = replace(limit, bias=BIAS), SOURCE.dimension
    biased = [X[0] @ X[i].T / D + B**2 for i in (0, 2)]
    diagonal = [np.einsum("nd,nd->n", x, x) / D + B**2 for x in (X[0], X[2])]
    for trains in ("all", "readout"):
        stage = ak.Stage(SOURCE, 0.0, duration=3.0, trains=trains, head_rate=2.0)
        grams = []
        for K, other in zip(biased, diagonal, strict=True):
            feature, gradient = lazy.two_layer(limit.phi, diagonal[0], K, other)
            kernel = 2.0 * (feature + READOUT**2)
            grams.append(kernel + (gradient * K if trains == "all" else 0.0))
        rates, modes = np.linalg.eigh(grams[0])
        learned = (1 - np.exp(-rates * 3.0 / len(X[0]))) / rates
        expected = grams[1].T @ (modes * learned) @ modes.T @ SOURCE.y
        solution = ak.solve([stage], limit)
        f = solution.predict(X[2]).value
        assert np.abs(f).max() > 0.5
        np.testing.assert_allclose(f, expected, atol=1e-6)
        solution.save(tmp_path / "lazy.zip")
        loaded = ak.Solution.load(tmp_path / "lazy.zip").predict(X[2]).value
        np.testing.assert_array_equal(loaded, f)


@pytest.mark.parametrize("bias", [-0.1, np.inf, np.nan, True, "wide", None, (1, 2, 3), (1, -1)])
@pytest.mark.parametrize(
    "make",
    [
        ak.TwoLayer,
        ak.Linear,
        lambda bias: ak.Deep(2, bias=bias),
        lambda bias: ak.Network(16, bias=bias),
    ],
)
def test_biases_that_are_none_are_refused(make, bias):
    with pytest.raises(ak.InputError, match=r"^bias must be"):
        make(bias=bias)


def test_only_a_model_with_the_same_biases_goes_on():
    stages = [ak.Stage(SOURCE, 0.0, duration=0.1)]
    limits = [ak.TwoLayer(particles=32, replicates=2, bias=b) for b in (0.0, 0.5, (0.5, 0.0))]
    networks = [ak.Network(16, bias=b) for b in (0.0, 0.5)]
    for run, models in ((ak.solve, limits), (ak.train, networks)):
        for model in models:
            done = run(stages, model)
            for other in models:
                if other != model:
                    with pytest.raises(ak.InputError, match=r"^after has bias="):
                        run(stages, other, after=done)
    with pytest.raises(ak.InputError, match="is not sampled by sample_posterior"):
        ak.sample_posterior([ak.Stage(SOURCE, 1.0)], networks[1], temperature=0.5)


def shifted(task: ak.Task) -> ak.Task:
    """With labels whose mean is not 0: there is something to learn for a bias."""
    return replace(task, y=task.y + 0.7, y_test=task.y_test + 0.7)


PAIR = [
    shifted(t)
    for t in ak.tasks.hermite_pair(1, 2, 0.8, n_source=20, n_target=15, dimension=8, n_test=60)
]


def two_stages(head="fresh", **options):
    return [ak.Stage(PAIR[0], 2.0, 8.0), ak.Stage(PAIR[1], 1.0, 8.0, head=head, **options)]


@pytest.mark.evidence
@pytest.mark.parametrize("head", ["fresh", "kept"])
def test_particles_agree_with_networks(head):
    limit = ak.TwoLayer("relu", particles=1024, replicates=8, bias=BIAS)
    network = ak.Network(16, "relu", bias=BIAS)
    ((_, size),) = against_networks(limit, network, [2048], two_stages(head))
    assert 0.2 < size < 2.5


@pytest.mark.evidence
@pytest.mark.wide
@pytest.mark.parametrize(
    ("head", "options"), [("fresh", {}), ("kept", {}), ("fresh", dict(weight_decay=0.05))]
)
def test_networks_approach_particles_like_one_over_width(head, options):
    limit = ak.TwoLayer("relu", particles=2048, replicates=8, bias=BIAS)
    network = ak.Network(16, "relu", bias=BIAS)
    widths = [256, 1024, 4096]
    found = against_networks(limit, network, widths, two_stages(head, **options))
    assert 0.3 < found[-1][1] < 2.5
    slopes = np.polyfit(np.log(widths), np.log([squares for squares, _ in found]), 1)[0]
    error = np.std(slopes, ddof=1) / np.sqrt(len(slopes))
    # A fresh head: -1.22 +- 0.11 with these seeds, -0.987 +- 0.050 with 24 others.
    assert abs(np.mean(slopes) + 1) < 3 * error


@pytest.mark.evidence
@pytest.mark.wide
@pytest.mark.parametrize("head", ["fresh", "kept"])
def test_deep_ensembles_agree_with_networks(head):
    limit = ak.Deep(2, "relu", width=512, replicates=8, bias=BIAS)
    network = ak.Network(16, "relu", 2, bias=BIAS)
    ((_, size),) = against_networks(limit, network, [1024], two_stages(head))
    assert 0.2 < size < 3
