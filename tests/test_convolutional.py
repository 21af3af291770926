"""Convolution with one hidden layer: other limits in disguise, other code, and real networks."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptik as ak
from adaptik.kernels.particles import blocks
from adaptik.kernels.particles.state import ReadoutTerm
from adaptik.limits.convolutional import flow as flows
from adaptik.networks import convolution
from adaptik.tasks.patches import Patches

RNG = np.random.default_rng(0)
EXACT = dict(particles=64, replicates=2, dtype="float64")
FIRST, SECOND, NEW = (RNG.standard_normal((n, 4)) for n in (6, 5, 7))
FIRST = FIRST[:5]  # as many as of the second, so that stages share their programs
IMAGE = dict(patch=(2, 2), image=(3, 3, 2))  # four patches of 8 numbers
PIXELS = [RNG.standard_normal((n, 18)) for n in (6, 5, 40)]


def pair(X, X2, X_test) -> tuple[ak.Task, ak.Task]:
    def labels(inputs, column):
        return np.where(inputs[:, column] > np.median(inputs[:, column]), 1.0, -1.0)

    return (
        ak.Task(X, labels(X, 0), X_test, labels(X_test, 0), name="source"),
        ak.Task(X2, labels(X2, 1), X_test, labels(X_test, 1), name="target"),
    )


def two_stages(tasks, **options) -> list[ak.Stage]:
    first = ak.Stage(tasks[0], richness=1.5, duration=2.0)
    return [first, ak.Stage(**(dict(task=tasks[1], richness=1.5, duration=2.0) | options))]


def same(one: ak.Solution, other: ak.Solution, atol: float = 1e-10) -> None:
    for ours, theirs in zip(one.records, other.records, strict=True):
        assert np.abs(ours.predictions["target", "test"]).max() > 0.05
        for key, f in ours.predictions.items():
            found = theirs.predictions[key]  # of exact limits there is one replicate
            np.testing.assert_allclose(found, np.broadcast_to(f, found.shape), atol=atol)


# -- the lazy kernel ------------------------------------------------------------------------------

# Of neural-tangents 0.6.5 in double precision: stax.serial(Conv(1, (3, 2), (1, 2)), phi, pooling,
# Dense(1)) with W_std=1, b_std=0 on the images below: NNGP and NTK above the diagonal.
NEURAL_TANGENTS = {
    ("relu", "average"): (
        [0.10869081134226258, 0.08623443010598225, 0.08378292381375775,
         0.10607824064516164, 0.0870822841975832, 0.09255309620272972],
        [0.1451083969246038, 0.08858533304268082, 0.08679983349619383,
         0.14413756891499743, 0.09751061211338881, 0.11887332896040505],
    ),
    ("relu", "none"): (
        [0.2697848759789573, 0.08036924989498334, 0.0976035409400543,
         0.2658775622687567, 0.0707803197879472, 0.2531886351968586],
        [0.5395697518261593, 0.07702271251661619, 0.11493810300131968,
         0.5317551243511833, 0.060775009292112714, 0.5063772703937172],
    ),
    ("erf", "average"): (
        [0.03724151163399143, 0.0018363108380933105, -0.002328765278182276,
         0.025703795778444723, -0.0015192920403988986, 0.006661121586257192],
        [0.07879731618995213, 0.003673814684379055, -0.0046060136103404405,
         0.055068619422753685, -0.0031018400891336733, 0.015936073673615186],
    ),
    ("erf", "none"): (
        [0.3450606765053097, -0.012152024659473338, 0.031028372578625812,
         0.3434465640877956, -0.032741624489717985, 0.33478446922734767],
        [0.7297388708185628, -0.024313145398862798, 0.06273280047778149,
         0.725309743348812, -0.06581473096791829, 0.704746408194981],
    ),
}  # fmt: skip
PADDED = (  # Conv(1, (3, 3), padding="SAME"), ReLU, GlobalAvgPool
    [0.07049340365913653, 0.06547070573313607, 0.06466236877944039,
     0.07554550206305664, 0.06708008937249699, 0.06616747961486313],
    [0.08113439931320132, 0.06630762194086276, 0.0673598943919492,
     0.09220357601207411, 0.07340326267893439, 0.07539027552058762],
)  # fmt: skip


def analytic(limit: ak.Convolutional, X) -> list[list[float]]:
    """Phi and NTK at initialisation, above the diagonal."""
    task = ak.Task(X, [-1, 1, 1])
    stages = [ak.Stage(task, 0.0)]
    state = limit.start(stages, {task.name: task}, np.random.default_rng(0))
    kinds = ("feature", "ntk")
    found = (state.frozen_kernel(state.particles, X, X, kind, "analytic")[0] for kind in kinds)
    return [K[np.triu_indices(3)] for K in found]


def test_lazy_kernels_are_those_of_neural_tangents():
    at = np.arange(180)
    X = np.sin(1.7 * at + 0.3 * at**1.5).reshape(3, 60)
    for (phi, pooling), expected in NEURAL_TANGENTS.items():
        limit = ak.Convolutional(
            phi, (3, 2), (1, 2), pooling, image=(5, 6, 2), particles=64, replicates=2
        )
        np.testing.assert_allclose(analytic(limit, X), expected, rtol=1e-6, atol=1e-9)
        if pooling == "average":  # the sum over sqrt(Q) is sqrt(Q) times as large
            root = analytic(replace(limit, pooling="root"), X)
            np.testing.assert_allclose(root, 9 * np.array(expected), rtol=1e-6, atol=1e-8)
    padded = ak.Convolutional("relu", 3, image=(5, 6, 2), padding=1, particles=64, replicates=2)
    np.testing.assert_allclose(analytic(padded, X), PADDED, rtol=1e-6)


@pytest.mark.parametrize("pooling", ["average", "none"])
def test_kernels_of_particles_are_gradients_of_their_readout(pooling):
    """Against automatic differentiation, of filters that nobody has drawn for their moments."""
    limit = ak.Convolutional(
        "tanh", **IMAGE, pooling=pooling, particles=5, replicates=1, dtype="float64", sampling="iid"
    )
    tasks = pair(*PIXELS)
    named = {task.name: task for task in tasks}
    state = limit.start([ak.Stage(tasks[0], 1.0)], named, np.random.default_rng(1))
    rows = [(i, j, c) for i in (0, 1, 2) for j in (0, 1, 2) for c in (0, 1)]
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    index = [[rows.index((i + a, j + b, c)) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
             for i, j in corners]  # fmt: skip
    X, basis = PIXELS[0], state.span.basis

    def readout(w, z, shift):
        h = jnp.einsum("md,nqd->nmq", w @ basis.T, X[:, index]) / np.sqrt(8) + shift
        phi, z = jnp.tanh(h), jnp.broadcast_to(z, (5, 4))
        return jnp.einsum("nmq,mq->n", phi, z) / (4 if pooling == "average" else 2)

    with jax.enable_x64(True):
        at = tuple(map(jnp.asarray, (state.particles.w[0], state.particles.z[0], np.zeros((5, 1)))))
        parts = [np.asarray(J).reshape(6, -1) for J in jax.jacobian(readout, (0, 1, 2))(*at)]
    weights, feature, gradient = (J @ J.T / 5 for J in parts)
    for kind, expected in (
        ("feature", feature),
        ("gradient", gradient),
        ("ntk", weights + feature),
    ):
        np.testing.assert_allclose(state.kernel(X, None, kind)[0], expected, atol=1e-12)
        np.testing.assert_allclose(
            state.kernel(X[:4], X[4:], kind)[0], expected[:4, 4:], atol=1e-12
        )


# -- other limits in disguise ---------------------------------------------------------------------


@cache
def two_layers(**options) -> ak.Solution:
    stages = two_stages(pair(FIRST, SECOND, NEW), **options)
    return ak.solve(stages, ak.TwoLayer("tanh", **EXACT), record=3)


OPTIONS = [
    dict(head="kept"),
    dict(head="fresh"),
    dict(trains="readout"),
    dict(richness=0.0),
    *(
        pytest.param(options, marks=pytest.mark.evidence)
        for options in (
            dict(weight_decay=0.3),
            dict(richness=0.0, weight_decay=0.3),
            dict(elastic=0.5, loss="logistic"),
        )
    ),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_images_of_equal_patches_are_two_layers(options):
    """Averages over two patches that are the same, of the same filters: to rounding."""
    tasks = pair(*(np.tile(X, (1, 2)) for X in (FIRST, SECOND, NEW)))
    limit = ak.Convolutional("tanh", (1, 4), (1, 4), image=(1, 8), **EXACT)
    found = ak.solve(two_stages(tasks, **options), limit, record=3)
    expected = two_layers(**options)
    same(expected, found)
    for kind in ("feature", "gradient", "ntk"):
        ours, theirs = (
            s.kernel(X, kind=kind).value for s, X in ((expected, SECOND), (found, tasks[1].X))
        )
        np.testing.assert_allclose(theirs, ours, atol=1e-10)


@pytest.mark.parametrize("pooling", ["average", "root", "none"])
def test_a_patch_as_large_as_the_image_is_two_layers(pooling):
    limit = ak.Convolutional("tanh", (1, 4), 3, pooling, image=(1, 4), **EXACT)
    stages = two_stages(pair(FIRST, SECOND, NEW), head="kept")
    found, expected = ak.solve(stages, limit, record=3), two_layers(head="kept")
    same(expected, found, atol=0)
    assert found.records[1].cost.steps == expected.records[1].cost.steps


@pytest.mark.evidence
@pytest.mark.parametrize("richness", [0.0, 8.0])
def test_root_pooling_is_average_pooling_at_another_richness(richness):
    """(gamma, t) and (gamma sqrt(Q), t/Q), with Q = 4; short enough for steps in proportion."""
    tasks, found = pair(*PIXELS), []
    for pooling, gamma, t in (("average", richness, 0.08), ("root", 2 * richness, 0.02)):
        stages = [ak.Stage(task, gamma, duration=t) for task in tasks]
        limit = ak.Convolutional("tanh", **IMAGE, pooling=pooling, **EXACT)
        found.append(ak.solve(stages, limit, record=2))
    one, other = (s.predict(PIXELS[2]).value for s in found)
    assert np.abs(one).max() > 1e-4
    np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.evidence
def test_linear_filters_see_the_mean_patch():
    limit = ak.Convolutional("linear", **IMAGE, **EXACT, tol=1e-4)
    cut = Patches((3, 3, 2), (2, 2), (1, 1), 0, "average")
    means = [cut.of(X).mean(1) for X in PIXELS]
    found = ak.solve(two_stages(pair(*PIXELS), head="kept"), limit, record=3)
    labels = [(task.y, task.y_test) for task in pair(*PIXELS)]
    tasks = [
        ak.Task(means[i], y, means[2], y_test, name=name)
        for i, ((y, y_test), name) in enumerate(zip(labels, ("source", "target"), strict=True))
    ]
    same(ak.solve(two_stages(tasks, head="kept"), ak.Linear(), record=3), found, atol=1e-3)


# -- one pass over blocks -------------------------------------------------------------------------


def test_blocks_change_nothing_but_memory(monkeypatch):
    """The last of three blocks overlaps: what it sees twice counts once."""
    limit = ak.Convolutional("relu", **IMAGE, **EXACT)
    tasks = pair(*PIXELS)
    named = {task.name: task for task in tasks}
    stage = ak.Stage(tasks[1], 1.0)
    state = limit.start([stage], named, np.random.default_rng(0))
    found = []
    with jax.enable_x64(True):
        for size in (blocks.BLOCK, 2 * 64 * 2 * 4):
            monkeypatch.setattr(blocks, "BLOCK", size)
            flow, _ = limit._started(state, stage, {("target", "train"): tasks[1].X})
            law = flows.Law(*map(jnp.asarray, (state.particles.w, state.particles.z)))
            found.append([*jax.tree.leaves(flow(law)), flow.losses(law), flow.linearise(law).rates])
    assert blocks.held_at_once(found[1][0], flow.samples.images.rho.shape[1]) == 2
    for whole, parts in zip(*found, strict=True):
        np.testing.assert_allclose(parts, whole, rtol=1e-9, atol=1e-12)


def test_memory_is_bounded_where_patches_are_many():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 3072)), np.repeat([-1.0, 1.0], 100)
    task = ak.Task(X, y)
    limit = ak.Convolutional("relu", 5, 1, particles=512, replicates=2)
    needed = limit.predicted_bytes([ak.Stage(task, 1.0)], {task.name: task})
    assert 2**29 < needed < 2**32
    larger = replace(limit, particles=4096, replicates=16)
    assert larger.predicted_bytes([ak.Stage(task, 1.0)], {task.name: task}) > 2 * needed


# -- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["average", "root", "none"])
def test_networks_of_the_same_filters_are_the_same(pooling):
    """Readouts and kernels, which limits and networks compute by code of their own."""
    limit = ak.Convolutional("tanh", **IMAGE, pooling=pooling, **EXACT)
    tasks = pair(*PIXELS)
    stages = [ak.Stage(tasks[0], 1.0)]
    state = limit.start(stages, {"source": tasks[0]}, np.random.default_rng(1))
    X = convolution.Windows((3, 3, 2), (2, 2), (1, 1), 0).of(PIXELS[2])
    head = state.particles.z[0]
    layers = (
        state.particles.w[0] @ state.span.basis.T,
        head if pooling == "average" else (head.reshape(64, -1, 1)),
    )
    with jax.enable_x64(True):
        f = convolution.raw(layers, X, jnp.tanh)
        np.testing.assert_allclose(
            state.evaluate(ReadoutTerm(state.particles, 1.0), PIXELS[2])[0], f, atol=1e-12
        )
        for kind in ("feature", "gradient", "ntk"):
            K = np.asarray(convolution.kernel(layers, X, X, kind, limit.phi)).reshape(40, 40)
            np.testing.assert_allclose(state.kernel(PIXELS[2], None, kind)[0], K, atol=1e-12)


def reduced_chi_square(theory: ak.Solution, network: ak.Solution, X: np.ndarray) -> float:
    """About 1 where only sampling is left; a wrong factor of 2 gives tens."""
    gap = theory.predict(X) - network.predict(X)
    # Half of f is then at least 2.5 errors, a chi square of 6: a wrong factor of 2 is seen.
    assert np.std(theory.predict(X).value) > 5 * np.sqrt(np.mean(gap.standard_error**2))
    return float(np.mean(gap.value**2) / np.mean(gap.standard_error**2))


@pytest.mark.parametrize(
    ("pooling", "options"),
    [
        pytest.param("average", dict(head="kept"), marks=pytest.mark.evidence),
        pytest.param("average", dict(richness=0.0), marks=pytest.mark.evidence),
        pytest.param("average", dict(weight_decay=0.3), marks=pytest.mark.evidence),
        pytest.param("none", dict(head="kept"), marks=pytest.mark.evidence),
        pytest.param("none", dict(trains="readout"), marks=pytest.mark.evidence),
        pytest.param("none", dict(richness=0.0), marks=pytest.mark.evidence),
        pytest.param("root", dict(head="kept"), marks=[pytest.mark.evidence, pytest.mark.wide]),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_networks_agree_within_error_bars(pooling, options):
    limit = ak.Convolutional("relu", **IMAGE, pooling=pooling, particles=1024, replicates=4)
    theory = ak.solve(two_stages(pair(*PIXELS), **options), limit, record=2)
    network = ak.ConvolutionalNetwork(1024, "relu", **IMAGE, pooling=pooling)
    trained = ak.train(theory.timed_stages, network, seeds=6, record=2)
    assert reduced_chi_square(theory, trained, PIXELS[2]) < 2.5
    for kind in ("feature", "gradient", "ntk"):
        ours, theirs = (s.kernel(PIXELS[2][:5], kind=kind) for s in (theory, trained))
        np.testing.assert_allclose(theirs.value, ours.value, rtol=0.15, atol=0.02)


@pytest.mark.evidence
@pytest.mark.wide
@pytest.mark.parametrize("pooling", ["average", "none"])
@pytest.mark.parametrize("head", ["fresh", "kept"])
def test_wide_networks_approach_the_limit_as_one_over_their_width(head, pooling):
    """Of two stages on digits: 8 networks of width 4096 agree, and the squared distance of single
    networks falls as 1/N, down to the sampling error of the limit.
    """
    source, target = ak.tasks.load_pair(
        "digits:3,5", "digits:8,9", n_source=30, n_target=20, n_test=60
    )
    stages = [ak.Stage(source, 1.0, duration=20.0)]
    stages.append(ak.Stage(target, 1.0, duration=20.0, head=head))
    patches: dict = dict(patch=4, stride=2, pooling=pooling)
    limit = ak.Convolutional("relu", **patches, particles=4096, replicates=8)
    theory = ak.solve(stages, limit, record=2).predict(target.X_test)
    widths, squares = (256, 1024, 4096), []
    for width in widths:
        network = ak.ConvolutionalNetwork(width, "relu", **patches)
        trained = ak.train(stages, network, seeds=8, record=2)
        each = trained.states[-1].predict(target.X_test)[..., 0]
        squares.append(np.mean((each - theory.value) ** 2, axis=1))
        gap = theory - trained.predict(target.X_test)
    assert np.sqrt(np.mean(gap.standard_error**2)) < 0.05  # labels are -1 and 1
    assert np.mean(np.abs(gap.in_standard_errors) < 3) > 0.95  # of 8 seeds: Student's tails
    assert np.mean(gap.value**2) < 2 * np.mean(gap.standard_error**2)
    floor = np.mean(theory.standard_error**2)
    logs = np.log(np.array(squares) - floor)
    slopes = np.polyfit(np.log(widths), logs, 1)[0]
    error = np.std(slopes, ddof=1) / np.sqrt(len(slopes))
    assert abs(np.mean(slopes) + 1) < max(2 * error, 0.05), (np.mean(slopes), error)


# -- refusals -------------------------------------------------------------------------------------

BAD = [
    (dict(patch=0), "patch must be an integer >= 1"),
    (dict(patch=(1, 2, 3)), "patch must have 2 numbers"),
    (dict(patch=(4, 2), image=(3, 3, 2)), "larger than the image of 3 x 3 pixels"),
    (dict(stride=0), "stride must be an integer >= 1"),
    (dict(stride=1.5), "stride must be an integer >= 1"),
    (dict(pooling="max"), "pooling must be 'average' or 'root' or 'none'"),
    (dict(image=9), "image must be"),
    (dict(image=(3,)), "image must have 2 or 3 numbers"),
    (dict(image=(3, -3)), "image must be an integer >= 1"),
    (dict(patch=2, padding=2), "padding=2 makes patches of nothing but zeros"),
    (dict(padding=-1), "padding must be an integer >= 0"),
    (dict(tol=2.0), "tol must lie between 0 and 1"),
]


@pytest.mark.parametrize(("options", "said"), BAD, ids=str)
def test_bad_settings_are_refused_in_one_line(options, said):
    with pytest.raises(ak.InputError, match=said) as refusal:
        ak.Convolutional("relu", **options)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(image=(3, 3), patch=2), "image=.3, 3. has 9 numbers, inputs .* have 18"),
        (dict(patch=2), "image=None takes .* squares of one or three channels"),
        (dict(IMAGE, particles=8), "particles=8 cannot hold the second moments of 9"),
    ],
    ids=str,
)
def test_images_that_do_not_fit_are_refused_before_computing(options, said, monkeypatch):
    monkeypatch.setattr(ak.Convolutional, "start", None)
    with pytest.raises(ak.InputError, match=said):
        ak.solve(two_stages(pair(*PIXELS)), ak.Convolutional("relu", **options))
    if "particles" not in options:
        with pytest.raises(ak.InputError, match=r"takes squares|image="):
            ak.train(two_stages(pair(*PIXELS)), ak.ConvolutionalNetwork(8, "relu", **options))


def test_dense_and_convolutional_networks_do_not_go_on_from_each_other():
    first, second = two_stages(pair(*PIXELS), richness=0.0)
    first = replace(first, richness=0.0)
    dense, other = ak.Network(8, "relu"), ak.ConvolutionalNetwork(8, "relu", **IMAGE)
    for one, two in ((dense, other), (other, dense)):
        before = ak.train([first], one, observe=[second.task], record=2)
        with pytest.raises(ak.InputError, match=r"^after has .*; use the same$"):
            ak.train([second], two, after=before)
