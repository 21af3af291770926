"""Joint stages, theory section 1: several tasks at once, a head each, and what follows them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.joint_tasks import CODES, OTHER, SIGNS, A, B

import adaptik as ak
from adaptik.limits.two_layer import rest
from adaptik.limits.two_layer.state import TwoLayerState
from adaptik.mathematics import losses
from adaptik.mathematics.losses import Objective
from adaptik.solution import Request
from adaptik.system.errors import InputError
from adaptik.tasks.stages import Joint, in_heads

EXACT = ak.Linear(tol=1e-8)
# Two replicates: the control variate of three and more depends on all that is recorded.
FINE = ak.TwoLayer("tanh", particles=64, replicates=2, dtype="float64", tol=1e-6)
CHEAP = ak.DeepLinear(2)
evidence = pytest.mark.evidence


def ends(solution, task, stage=-1):
    return np.concatenate(
        [solution.predictions(task, s, stage)[-1] for s in solution.tasks[task.name].splits], axis=1
    )


# -- one problem of several tasks ------------------------------------------------------------------


def test_inputs_that_tasks_share_stand_once():
    joint = Joint((A, OTHER, B))
    assert joint.n_train == 11 and joint.y.shape == (11, 3)
    weights = joint.weights((0.5, 0.2, 0.3))
    parts = zip(joint.parts, (0.5, 0.2, 0.3), joint.rows, strict=True)
    for c, (part, share, rows) in enumerate(parts):
        np.testing.assert_array_equal(joint.X[rows], part.X)
        np.testing.assert_array_equal(joint.y[rows, c], part.y[:, 0])
        assert (weights[:, c] > 0).sum() == part.n_train
        np.testing.assert_allclose(weights[rows, c], share * 11 / part.n_train)
    twice = ak.Task(np.repeat(A.X, 2, 0), np.arange(12.0), name="twice")
    assert Joint((A, twice)).n_train == 12  # samples of one task stay apart
    assert Joint((twice, A)).rows[1].tolist() == [0, 2, 4, 6, 8, 10]


def test_labels_that_are_missing_have_no_weight():
    """A stage on all outputs descends the mean over all labels that are there."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((6, 3))
    y[rng.random((6, 3)) < 0.3] = np.nan
    held = np.array([[1.0, np.nan, np.nan], [2.0, 3.0, np.nan]])
    tasks = ak.tasks.by_output(A.X, y, A.X_test[:2], held, names=["x", "y", "z"])
    assert [t.n_train for t in tasks] == (~np.isnan(y)).sum(0).tolist()
    assert [t.splits[-1] for t in tasks] == ["test", "test", "train"]
    assert tasks[1].X_test.tolist() == A.X_test[1:2].tolist()
    stage = ak.Stage(tasks, 1.0)
    f = rng.standard_normal((2, stage.task.n_train, 3))
    row = [np.flatnonzero((x == A.X).all(1))[0] for x in stage.task.X]
    gap = f - y[row]
    expected = np.where(np.isnan(gap), 0, gap)
    with jax.enable_x64(True):
        signal, value = (
            stage.objective.signal(f, stage.task.y),
            stage.objective.by_part(f, stage.task.y),
        )
    there = (~np.isnan(y)).sum()
    pull = np.asarray(signal) / stage.task.n_train
    np.testing.assert_allclose(pull, -expected / there, atol=1e-12)
    np.testing.assert_allclose(np.asarray(value).sum(), np.sum(expected**2) / 2 / there)


@pytest.mark.parametrize("name", ["squared", "logistic"])
def test_signals_and_curvatures_are_derivatives_of_the_weighted_loss(name):
    stage = ak.Stage([SIGNS, CODES], 1.0, 1.0, loss=name, weights=[1, 2])
    y, of = stage.task.y, losses.get(name)
    f, step = np.random.default_rng(1).standard_normal(y.shape), 1e-5
    cuts = slice(0, 1), slice(1, 3)

    def total(f):  # from section 1, task by task
        parts = zip((1 / 3, 2 / 3), stage.tasks, stage.task.rows, cuts, strict=True)
        values = (w * np.asarray(of.value(f[r][:, c], task.y)).mean() for w, task, r, c in parts)
        return sum(values) / of.rate_factor

    with jax.enable_x64(True):
        objective = stage.objective.placed()
        signal = np.asarray(objective.signal(f, y))
        root = np.asarray(objective.curvature_root(f, y))
        value = np.asarray(objective.by_part(f, y)).sum()
        assert value == pytest.approx(of.rate_factor * total(f))
        for mu in range(len(y)):
            for c in range(3):
                move = np.zeros_like(f)
                move[mu, c] = step
                slope = (total(f + move) - total(f - move)) / (2 * step)
                assert signal[mu, c] == pytest.approx(-len(y) * slope, abs=1e-8)
                ahead, behind = (np.asarray(objective.signal(f + s * move, y)) for s in (1, -1))
                bend = (behind - ahead)[mu] / (2 * step)
                np.testing.assert_allclose((root[mu] @ root[mu].T)[c], bend, atol=1e-8)
        rows = np.asarray(objective.rows(2, 3).weights)
    np.testing.assert_array_equal(rows, stage.loss_weights[2:5])


def test_shares_are_those_of_the_samples_unless_said():
    assert ak.Stage([A, B], 1.0).weights == (6 / 11, 5 / 11)
    assert ak.Stage([A, B], 1.0, weights=[2, 6]).weights == (0.25, 0.75)
    assert ak.Stage([A, B], 1.0, weights=np.array([1e308, 1e308])).weights == (0.5, 0.5)
    stage = ak.Stage([A, B], 1.0)
    assert replace(stage, richness=2.0).weights == stage.weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(weights=[1, -1]), r"^weights must be finite numbers >= 0, got -1"),
        (dict(weights=[1, np.nan]), r"^weights must be finite"),
        (dict(weights=[np.inf, 1]), r"^weights must be finite"),
        (dict(weights=[True, 1]), r"^weights must be finite"),
        (dict(weights=[0, 0.0]), r"^weights sum to zero"),
        (dict(weights=[1]), r"^weights must be a list of 2 numbers, one for each task"),
        (dict(weights="ab"), r"^weights must be a list"),
        (dict(weights={0: 1, 1: 2}), r"^weights must be a list"),
        (dict(task=A, weights=[1, 2]), r"^weights must be a list of 1 "),
        (dict(task=[A], weights=[0]), r"^weights sum to zero"),
        (dict(task=[]), r"^task is an empty list"),
        (dict(task=[A, "b"]), r"^task must hold adaptik\.Tasks, got str"),
        (dict(task=[A, replace(B, name="a")]), r"two tasks of one name"),
        (dict(task=[A, ak.Task(np.eye(3), [1, 2, 3])]), r"one input space"),
        (dict(task={"a": A}), r"^task must be an adaptik\.Task or a list of them, got dict"),
        (dict(head_of="a"), r"^head_of='a' names the head"),
        (dict(task=A, head="kept", head_of=3), r"^head_of=3 names the head"),
        (dict(head="kept", head_of="a"), r"with several tasks leave it out"),
        (dict(loss="logistic", duration=1.0), r"needs labels in \(-1"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as refusal:
        ak.Stage(**(dict(task=[A, B], richness=1.0) | arguments))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([[A, B], OTHER], r"^stage 1: task 'other' has no head .* heads are a, b; .*head_of='a'$"),
        ([[A, B], dict(task=A, head_of="c")], r"^stage 1: head_of='c' has no head"),
        ([A, dict(task=B, head_of="b")], r"^stage 1: head_of='b' has no head"),
        ([[A, B], [A, OTHER]], r"^stage 1: head='kept' needs a head for each task, and 'other'"),
        ([A, [A, B]], r"^stage 1: head='kept' needs a head for each task, and 'b'"),
        ([[A, CODES], dict(task=B, head_of="codes")], r"needs the outputs .* task 'b' has 1"),
        ([[A, B], replace(B, y=-B.y)], r"two different tasks are called 'b'"),
    ],
)  # fmt: skip
def test_kept_heads_have_to_be_there(stages, message):
    first, second = stages
    given = second if isinstance(second, dict) else dict(task=second)
    stages = [ak.Stage(first, 1.0), ak.Stage(richness=1.0, head="kept", **given)]
    with pytest.raises(InputError, match=message) as refusal:
        ak.solve(stages, EXACT)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full((6, 2), np.nan), "output 'output 0' has no label"),
        (np.zeros(6), "must have shapes"),
        (np.zeros((5, 2)), "must have shapes"),
    ],
)
def test_labels_by_output_have_to_fit(y, message):
    with pytest.raises(InputError, match=message):
        ak.tasks.by_output(A.X, y)
    with pytest.raises(InputError, match="names must be 2"):
        ak.tasks.by_output(A.X, np.ones((6, 2)), names=["x"])
    with pytest.raises(InputError, match="both X_test and y_test"):
        ak.tasks.by_output(A.X, np.ones((6, 2)), A.X_test)
    with pytest.raises(InputError, match="columns of y"):
        ak.tasks.by_output(A.X, np.ones((6, 2)), A.X_test, A.y_test)


# -- limits of it ----------------------------------------------------------------------------------


def test_one_task_is_the_single_stage():
    one, alone = ak.Stage([A], 1.0, weights=[3]), ak.Stage(A, 1.0)
    assert one.task is alone.task and one.weights is None
    assert ak.Stage(A, 1.0, weights=[0.1]).weights is None


@evidence
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_a_task_without_weight_is_not_learned(decay):
    """Nor does it change anything: of sampled neurons their own readouts are taken."""
    joint = ak.Stage([A, B], 1.5, duration=1.0, weights=[2, 0], weight_decay=decay)
    alone = ak.Stage(A, 1.5, duration=1.0, weight_decay=decay)
    found, single = ak.solve([joint], EXACT), ak.solve([alone], EXACT)
    np.testing.assert_allclose(ends(found, A), ends(single, A), atol=1e-10)
    np.testing.assert_allclose(ends(found, B), 0, atol=1e-12)
    if decay:
        return  # of pairs
    tasks = {t.name: t for t in (A, B)}
    start = FINE.start([joint], tasks, np.random.default_rng(0))
    recorded = tasks | {joint.task.name: joint.task}
    both = Request(recorded, np.array([0.0]), (), np.random.default_rng(0))
    _, there, _ = FINE.advance(start, joint, both)
    own = replace(start, particles=replace(start.particles, z=start.particles.z[..., :1]))
    _, expected, _ = FINE.advance(own, alone, replace(both, tasks={"a": A}))
    assert isinstance(there, TwoLayerState)
    f, g = (state.predict(A.X_test)[..., :1] for state in (there, expected))
    np.testing.assert_allclose(f, g, atol=1e-5)


CONVOLUTIONAL = ak.Convolutional(
    "tanh", (1, 3), 2, image=(1, 8), particles=32, replicates=2, dtype="float64", tol=1e-6
)


@pytest.mark.parametrize(
    "limit",
    [
        ak.TwoLayer("relu", particles=64),
        CHEAP,
        pytest.param(CONVOLUTIONAL, marks=evidence),
    ],
    ids=lambda limit: type(limit).__name__,
)
def test_lazy_heads_learn_alone_at_their_own_pace(limit):
    """With fresh heads each task is its own stage, at the time w_k t."""
    both = ak.solve([ak.Stage([A, B, OTHER], 0.0, duration=2.0, weights=[1, 2, 5])], limit)
    for task, share in ((A, 1 / 8), (B, 2 / 8), (OTHER, 5 / 8)):
        alone = ak.solve([ak.Stage(task, 0.0, duration=2.0 * share)], limit)
        np.testing.assert_allclose(ends(both, task), ends(alone, task), atol=1e-10)
    converged = ak.solve([ak.Stage([A, B], 0.0)], limit)
    assert converged.outcome.value == "converged"
    for task in (A, B):
        assert float(converged.loss(task, "train")) < 2e-4 * float(np.mean(task.y**2))


def solve_by(limit):
    return pytest.param(
        lambda stages: ak.solve(stages, limit),
        id=type(limit).__name__,
        marks=() if limit is CHEAP else evidence,
    )


@pytest.mark.parametrize(
    "model",
    [
        solve_by(CHEAP),
        solve_by(FINE),
        solve_by(CONVOLUTIONAL),
        solve_by(ak.Reveal(2, "tanh", particles=512, replicates=2, dtype="float64", tol=1e-5)),
        solve_by(ak.Ensemble(2, "tanh", width=64, replicates=2, dtype="float64", tol=1e-6)),
    ],
)
def test_tasks_on_the_same_inputs_are_outputs_of_one(model):
    """With equal weights, slowed as many times; all heads then go on as one.

    Steps of another length reveal other directions: populations agree within their step errors.
    """
    y, z = A.y, A.y[::-1] ** 2
    one = ak.Task(A.X, y, A.X_test, y[:5], name="one")
    two = ak.Task(A.X, z, A.X_test, z[:5], name="two")
    wide = ak.Task(A.X, np.hstack([y, z]), A.X_test, np.hstack([y, z])[:5], name="wide")
    joint = [ak.Stage([one, two], 1.5, 2.0), ak.Stage([one, two], 0.5, 2.0, head="kept")]
    outputs = [ak.Stage(wide, 1.5, 1.0), ak.Stage(wide, 0.5, 1.0, head="kept")]
    found, expected = model(joint), model(outputs)
    for i in (0, 1):
        f = np.concatenate([ends(found, task, i) for task in (one, two)], axis=-1)
        assert np.abs(f).max() > 0.1
        errors = np.nan_to_num([s.records[i].step_error for s in (found, expected)])
        assert errors.sum() < 0.03
        np.testing.assert_allclose(f, ends(expected, wide, i), atol=1e-4 + errors.sum())
    losses = (s.records[0].train_loss for s in (found, expected))
    assert 2 * next(losses) == pytest.approx(next(losses), rel=1e-3)


@evidence
def test_linear_law():
    """M = (I + V V^T)^1/2 and A = (I + V^T V)^1/2; no task ends at its least-norm interpolator."""
    joint = ak.solve([ak.Stage([A, B], 2.0, loss_tol=1e-10)], EXACT)
    state = joint.states[-1]

    def root(S):
        values, vectors = np.linalg.eigh(S)
        return vectors * np.sqrt(values) @ vectors.T

    np.testing.assert_allclose(state.M, root(np.eye(8) + state.v @ state.v.T), atol=1e-5)
    np.testing.assert_allclose(state.A, root(np.eye(2) + state.v.T @ state.v), atol=1e-5)
    least = B.X_test @ np.linalg.pinv(B.X) @ B.y
    alone = ak.solve([ak.Stage(B, 2.0, loss_tol=1e-10)], EXACT)
    np.testing.assert_allclose(alone.predict(B.X_test).value, least[:, 0], atol=1e-3)
    assert np.abs(joint.predict(B.X_test, head="b").value - least[:, 0]).max() > 5e-3


@evidence
@pytest.mark.parametrize(
    "kind",
    [
        {},
        pytest.param(dict(weight_decay=0.3), marks=pytest.mark.wide),
        pytest.param(dict(richness=0.0, weight_decay=0.3), marks=pytest.mark.wide),
    ],
    ids=str,
)
def test_particles_are_the_linear_law(kind):
    """Of both heads, of which one goes on and moves the features that the other reads."""
    kind = dict(richness=2.0) | kind
    second = ak.Stage(B, kind["richness"], 2.0, head="kept")
    stages = [ak.Stage([A, B], duration=2.0, weights=[3, 1], **kind), second]
    exact = ak.solve(stages, EXACT)
    theory = ak.solve(stages, ak.TwoLayer("linear", particles=512, tol=1e-4, replicates=4))
    for i in (0, 1):
        for task in (A, B):
            f, expected = ends(theory, task, i), ends(exact, task, i)
            error = f.std(0) / 2 + 2e-3
            assert (np.abs(f.mean(0) - expected[0]) < 5 * error).all()
    if kind["richness"] > 0:
        assert np.abs(ends(exact, A, 1) - ends(exact, A, 0)).max() > 2e-3


@evidence
def test_where_decay_brings_a_joint_flow_to_rest():
    """The gradient of the weighted loss and of the decay is 0 there."""
    limit = ak.TwoLayer("tanh", particles=64, replicates=1)
    stage = ak.Stage([A, B], 3.0, weight_decay=0.02, weights=[1, 2])
    solution = ak.solve([stage], limit)
    assert solution.outcome.value == "converged"
    assert "Newton" in solution.records[0].cost.method
    p = solution.states[-1].particles
    w, z = p.w[0].astype(float), p.z[0].astype(float)
    points = solution.states[-1].span.training_points(stage.task.X)
    f = solution.states[-1].predict(stage.task.X)[0]
    delta = stage.loss_weights * (stage.task.y - f) / len(f)
    h = w @ points.T
    dz = 3.0 * np.tanh(h) @ delta - 0.02 * z
    dw = 3.0 * ((1 - np.tanh(h) ** 2) * (z @ delta.T)) @ points - 0.02 * w
    assert np.abs(z).max() > 0.3
    np.testing.assert_allclose(np.abs(dz).max() + np.abs(dw).max(), 0, atol=2e-4)


def test_particles_are_pushed_by_the_weighted_loss():
    """Section 2 by hand; and at rest the preconditioner is the inverse of the Hessian.

    Of linear neurons, for which phi'' is 0.
    """
    limit = ak.TwoLayer("linear", particles=16, replicates=1, dtype="float64")
    stage = ak.Stage([A, B], 2.0, weight_decay=0.1, weights=[1, 2])  # to rest
    tasks = {"a": A, "b": B}
    state = limit.start([stage], tasks, np.random.default_rng(0))
    recorded = {(n, "train"): t.X for n, t in (tasks | {stage.task.name: stage.task}).items()}
    rng, size = np.random.default_rng(1), stage.task.n_train
    with jax.enable_x64(True):
        flow, law, *_ = limit.course(state, stage, recorded)
        f, h = np.asarray(flow.predictor(law))[0], flow.anchors.coordinates.preactivations(law.w)[0]
        delta = np.zeros((size, 2))
        for c, (task, share) in enumerate(((A, 1 / 3), (B, 2 / 3))):
            rows = stage.task.rows[c]
            delta[rows, c] = share * (task.y[:, 0] - f[rows, c]) / task.n_train
        move = flow(law)
        np.testing.assert_allclose(move.z[0], 2.0 * h @ delta - 0.1 * law.z[0], atol=1e-12)
        pushed = 2.0 * (law.z[0] @ delta.T) @ flow.anchors.coordinates.lift - 0.1 * law.w[0]
        np.testing.assert_allclose(move.w[0], pushed, atol=1e-12)
        sigma, nowhere = jnp.asarray(2.0), jnp.zeros((16, size), bool)
        nearly = rest.Curvature.at(flow, law, nowhere, sigma)
        v = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), law)
        solved = nearly.solve(v)
        change = jax.jvp(flow, (law,), (solved,))[1]
        back = jax.tree.map(lambda a, b: sigma * a - b, solved, change)
    for mine, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(v), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-8)


# -- what is asked of a solution -------------------------------------------------------------------


@pytest.fixture(scope="module")
def three():
    stages = [
        ak.Stage([A, B], 1.5, duration=4.0),
        ak.Stage(B, 1.5, duration=4.0, head="kept"),
        ak.Stage(OTHER, 1.5, duration=1.0, head="kept", head_of="a"),
    ]
    return ak.solve(stages, CHEAP, observe=[A], record=4)


def test_every_task_is_predicted_by_its_own_head(three):
    assert three.heads(0) == three.heads(2) == {"a": 1, "b": 1}
    assert [three.head_of(OTHER, i) for i in (0, 2)] == [None, "a"]
    f = three.states[1].predict(A.X_test)
    np.testing.assert_allclose(three.predictions(A, stage=1)[-1], f[..., :1])
    np.testing.assert_allclose(three.predictions(A, stage=1, head="b")[-1], f[..., 1:])
    np.testing.assert_allclose(three.predict(A.X_test, 1, head="b").value, f[0, :, 1])
    assert three.predict(A.X_test, 1).value.shape == (5, 2)
    expected = np.mean((three.predict(OTHER.X_test, 0, head="b").value - OTHER.y_test[:, 0]) ** 2)
    assert float(three.loss(OTHER, stage=0, head="b")) == pytest.approx(expected)
    assert 0 <= float(three.accuracy(A, stage=1, head="b")) <= 1
    for record in three.records:
        assert {name for name, _ in record.predictions} == {"a", "b", "other"}
    parts = [n * float(three.loss(task, "train", 0)) for n, task in ((6, A), (5, B))]
    assert three.records[0].train_loss == pytest.approx(sum(parts) / 11)
    # fine-tuning b moves features, and with them what the untrained head of a says
    assert np.abs(ends(three, A, 1) - ends(three, A, 0)).max() > 1e-3
    assert float(three.loss(B, "train", 1)) < float(three.loss(B, "train", 0))


def test_heads_that_are_not_there_are_named(three):
    with pytest.raises(
        InputError, match=r"^head: stage 0 has heads a, b, and none for task 'other'"
    ):
        three.loss(OTHER, stage=0)
    with pytest.raises(InputError, match=r"^head='c' is none of the heads of stage 1: a, b$"):
        three.predict(A.X, 1, head="c")
    with pytest.raises(InputError, match=r"^head='c' is none"):
        three.accuracy(A, head="c")
    other = ak.solve([ak.Stage([A, CODES], 1.0, 0.1)], CHEAP)
    with pytest.raises(InputError, match=r"'codes' has 2 outputs, stage 0 trains 1"):
        other.loss(CODES, "train", head="a")


def test_on_disk_and_with_axes(three, tmp_path):
    three.save(tmp_path / "three.zip")
    loaded = ak.Solution.load(tmp_path / "three.zip")
    assert loaded.stages[0].weights == three.stages[0].weights
    assert loaded.stages[0].task.same_as(three.stages[0].task)
    assert not loaded.stages[0].task.same_as(Joint((B, A)))
    assert loaded.stages[2].head_of == "a"
    np.testing.assert_array_equal(loaded.losses(A, stage=1), three.losses(A, stage=1))
    parts = ak.solve(three.stages[:1], CHEAP, observe=[OTHER], record=4)
    going_on = ak.solve(three.stages[1:], CHEAP, after=parts, record=4)
    np.testing.assert_allclose(going_on.losses(B), three.losses(B), atol=1e-10)
    data = three.to_xarray()
    of = data.loss.sel(split="test").isel(member=0)
    np.testing.assert_allclose(of.sel(task="b")[data.stage == 1], three.losses(B, stage=1)[:, 0])
    assert np.isnan(of.sel(task="other")[data.stage == 0]).all()
    assert np.isfinite(of.sel(task="other")[data.stage == 2]).all()


def test_a_fresh_head_leaves_the_others(three):
    fresh = ak.solve([three.stages[0], ak.Stage(OTHER, 1.0, 1.0)], CHEAP)
    assert fresh.heads() == {"other": 1}
    assert fresh.predictions(OTHER)[0].max() == 0
    assert fresh.predictions(B).shape[-1] == 1  # of the only head there is
    kept = ak.solve(
        [three.stages[0], ak.Stage([B, A], 1.5, 1.0, head="kept", weights=[1, 0])], CHEAP
    )
    alone = ak.solve([three.stages[0], ak.Stage(B, 1.5, 1.0, head="kept")], CHEAP)
    np.testing.assert_allclose(ends(kept, B), ends(alone, B), atol=1e-7)


def test_units_of_labels_do_not_count():
    stages = [ak.Stage([A, B], 1.5, 2.0), ak.Stage(B, 0.7, 1.0, head="kept")]

    def scaled(stage):
        tasks = [task.scaled(1e-9) for task in stage.tasks]
        return replace(stage, task=tasks, richness=stage.richness * 1e9)

    one, other = ak.solve(stages, CHEAP), ak.solve(list(map(scaled, stages)), CHEAP)
    for i, stage in enumerate(stages):
        assert scaled(stage).unit == pytest.approx(1e-9 * stage.unit)
        np.testing.assert_allclose(1e9 * ends(other, B, i), ends(one, B, i), atol=1e-7)


def test_effective_stages():
    stages = [ak.Stage([A, B], 1.0), ak.Stage(B, 1.0, head="kept"), ak.Stage(A, 1.0)]
    through = in_heads(stages)
    assert through[0] is stages[0] and through[2] is stages[2]
    assert through[1].task.heads == {"a": 1, "b": 1}
    assert not through[1].loss_weights[:, 0].any() and (through[1].loss_weights[:, 1] == 1).all()
    assert Objective(losses.get("squared")).placed().weights is None
