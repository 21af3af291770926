"""The two-layer limit against closed forms, other steppers, and itself."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from scipy.integrate import solve_ivp

import adaptik as ak
from adaptik.kernels.particles.law import Particles
from adaptik.limits.two_layer import limit as two_layer
from adaptik.limits.two_layer import memory
from adaptik.limits.two_layer.flow import Anchors, Coordinates, Law, ParticleFlow
from adaptik.mathematics import deflation, losses, sampling
from adaptik.mathematics.stepping import choice as stepped
from adaptik.mathematics.stepping import exponential

LIMIT = dict(particles=128, replicates=2, dtype="float64")


def small_task(seed, n, dimension=6, outputs=1, name=None, tests=7):
    rng = np.random.default_rng(seed)
    X, X_test = rng.standard_normal((n, dimension)), rng.standard_normal((tests, dimension))
    teacher = rng.standard_normal((dimension, outputs)) / np.sqrt(dimension)
    y, y_test = (np.sin(2 * Z @ teacher) for Z in (X, X_test))
    return ak.Task(X, y, X_test, y_test, name=name or f"task {seed}")


def relu_kernels(A, B):
    """Phi and NTK of a two-layer ReLU network, from the arc-cosine formulas."""
    D = A.shape[1]
    norms = np.linalg.norm(A, axis=1)[:, None] * np.linalg.norm(B, axis=1) / D
    gram = A @ B.T / D
    angle = np.arccos(np.clip(gram / norms, -1, 1))
    feature = norms / (2 * np.pi) * (np.sin(angle) + (np.pi - angle) * np.cos(angle))
    return feature, feature + gram * (np.pi - angle) / (2 * np.pi)


@pytest.mark.parametrize("head", ["fresh", "kept"])
@pytest.mark.parametrize("particles", [28, 64])
def test_lazy_stages_are_regression_with_the_analytic_ntk(head, particles):
    source, target = small_task(0, 8), small_task(1, 5)
    limit = ak.TwoLayer("relu", particles=particles, replicates=2, dtype="float64")
    stages = [
        ak.Stage(source, 0.0, duration=math.inf),
        ak.Stage(target, 0.0, duration=math.inf, head=head),
    ]
    f = ak.solve(stages, limit).predict(target.X_test).value
    first = np.linalg.solve(relu_kernels(source.X, source.X)[1], source.y[:, 0])

    def f1(X):
        return relu_kernels(X, source.X)[1] @ first if head == "kept" else np.zeros(len(X))

    gap = target.y[:, 0] - f1(target.X)
    second = np.linalg.solve(relu_kernels(target.X, target.X)[1], gap)
    exact = f1(target.X_test) + relu_kernels(target.X_test, target.X)[1] @ second
    np.testing.assert_allclose(f, exact, rtol=1e-6)


def test_readout_on_fixed_features_at_a_time():
    task = small_task(2, 6)
    stage = ak.Stage(task, 0.0, duration=3.0, trains="readout")
    solution = ak.solve([stage], ak.TwoLayer("relu", **LIMIT))
    gram = relu_kernels(task.X, task.X)[0]
    values, vectors = np.linalg.eigh(gram)
    dual = vectors @ ((1 - np.exp(-values * 3.0 / 6)) / values * (vectors.T @ task.y[:, 0]))
    exact = relu_kernels(task.X_test, task.X)[0] @ dual
    np.testing.assert_allclose(solution.predict(task.X_test).value, exact, rtol=1e-8)
    residual = task.y[:, 0] - gram @ dual
    np.testing.assert_allclose(solution.records[0].train_loss, np.mean(residual**2))
    rate = 2 * residual @ gram @ residual / 6**2
    np.testing.assert_allclose(solution.records[0].rate, rate)


def linear_reference(tasks, richness, durations, heads):
    """Theory section 3.1 in the full input space: M, v, a through all stages, and f on tests."""
    D = tasks[0].dimension
    M, v, a = np.eye(D), np.zeros(D), 1.0
    offset = np.zeros(D)  # f(x) = x.(offset + v/gamma)/sqrt(D)
    for task, gamma, duration, head in zip(tasks, richness, durations, heads, strict=True):
        if head == "fresh":
            v, a, offset = np.zeros(D), 1.0, np.zeros(D)
        X, y = task.X, task.y[:, 0]
        start = offset - v / gamma if head == "fresh" else total - v / gamma

        def slope(t, s, X=X, y=y, gamma=gamma, start=start):
            M, v, a = s[: D * D].reshape(D, D), s[D * D : -1], s[-1]
            f = X @ (start + v / gamma) / np.sqrt(D)
            r = X.T @ (y - f) / len(y) / np.sqrt(D)
            dM = gamma * (np.outer(v, r) + np.outer(r, v))
            return np.concatenate([dM.ravel(), gamma * (M @ r + a * r), [2 * gamma * v @ r]])

        s0 = np.concatenate([M.ravel(), v, [a]])
        s = solve_ivp(slope, (0, duration), s0, rtol=1e-10, atol=1e-12).y[:, -1]
        M, v, a = s[: D * D].reshape(D, D), s[D * D : -1], s[-1]
        total = start + v / gamma
        offset = total
    return M, v, a, total


@pytest.mark.parametrize(
    ("particles", "heads"),
    [  # rank + 1, and more
        (7, ("fresh", "kept")),
        pytest.param(20, ("fresh", "fresh"), marks=pytest.mark.evidence),
        pytest.param(7, ("fresh", "fresh"), marks=pytest.mark.evidence),
        pytest.param(20, ("fresh", "kept"), marks=pytest.mark.evidence),
    ],
)
def test_linear_particles_are_the_infinite_system(heads, particles):
    source, target = small_task(3, 4), small_task(4, 3)
    limit = ak.TwoLayer(
        "linear", particles=particles, replicates=2, dtype="float64", tol=1e-7, max_steps=20000
    )
    richness, durations = (3.0, 0.7), (4.0, 3.0)
    tasks = (source, target)
    stages = [
        ak.Stage(t, g, duration=T, head=h)
        for t, g, T, h in zip(tasks, richness, durations, heads, strict=True)
    ]
    solution = ak.solve(stages, limit)
    M, _, _, total = linear_reference(tasks, richness, durations, heads)
    f = solution.predict(target.X_test)
    assert np.max(f.standard_error) < 1e-6
    np.testing.assert_allclose(f.value, target.X_test @ total / np.sqrt(6), rtol=2e-5, atol=1e-6)
    kernel = solution.kernel(target.X_test).value
    np.testing.assert_allclose(
        kernel, target.X_test @ M @ target.X_test.T / 6, rtol=2e-5, atol=1e-6
    )


def test_the_linear_kernel_is_a_pure_boost_at_every_time():
    task = small_task(5, 4)
    times = (0.5, 2.0, 6.0)
    limit = ak.TwoLayer(
        "linear", particles=7, replicates=1, dtype="float64", tol=1e-7, max_steps=20000
    )
    stages = [ak.Stage(task, 4.0, duration=6.0)]
    solution = ak.solve(
        stages, limit, snapshots=[(0, t) for t in times[::-1]], observe=[small_task(6, 6)]
    )
    for t in times:
        particles = solution.state(0, t).particles
        w, z = particles.w[0], particles.z[0]
        M, v = w.T @ w / len(w), w.T @ z[:, 0] / len(w)
        n = v / np.linalg.norm(v)
        spike = np.sqrt(1 + v @ v) - 1
        assert spike > 0.05
        np.testing.assert_allclose(M, np.eye(6) + spike * np.outer(n, n), atol=1e-6)


CASES = {
    "decay": dict(activation="tanh", stage=dict(richness=1.5, duration=4.0, weight_decay=0.2)),
    "logistic": dict(
        activation="relu", stage=dict(richness=2.0, duration=6.0, loss="logistic"), signs=True
    ),
    "three outputs": dict(activation="softplus", stage=dict(richness=1.0, duration=4.0), outputs=3),
    "hermite": dict(activation="hermite(2)", stage=dict(richness=0.7, duration=3.0)),
}


QUICK = ("three outputs",)
CHOSEN = [pytest.param(c, marks=() if c in QUICK else pytest.mark.evidence) for c in CASES]


@pytest.mark.parametrize("case", CHOSEN)
def test_exponential_and_chebyshev_stepping_agree(case, monkeypatch):
    settings = CASES[case]
    task = small_task(7, 6, outputs=settings.get("outputs", 1))
    if settings.get("signs"):
        task = dataclasses.replace(task, y=np.sign(task.y), y_test=np.sign(task.y_test))
    limit = ak.TwoLayer(
        settings["activation"],
        particles=32,
        replicates=2,
        dtype="float64",
        tol=1e-5,
        max_steps=50000,
    )
    stages = [ak.Stage(task, **settings["stage"])]

    def solved(*stepper):
        monkeypatch.setattr(two_layer, "stepper_for", lambda *_: stepped.Chosen(*stepper))
        return ak.solve(stages, limit).predictions(task)[-1]

    whole = solved(stepped.Exponential())
    assert np.std(whole) > 0.05
    np.testing.assert_allclose(solved(stepped.Chebyshev()), whole, atol=1e-3)
    monkeypatch.setattr(deflation, "DIRECTIONS", 2)
    monkeypatch.setattr(two_layer, "COORDINATES", 2)
    np.testing.assert_allclose(solved(stepped.Exponential(), "", True), whole, atol=1e-3)


@pytest.mark.parametrize(
    ("modes", "coordinates", "particles", "leading", "taken", "reason"),
    [  # measured: what explicit steps take, in units of exponential ones
        (50, 50, 1024, 0.39, "Exponential", "explicit steps would cost about"),  # 1.5
        (200, 199, 1024, 0.41, "Exponential", "explicit steps would cost about"),  # 1.04
        (800, 799, 1024, 0.41, "Exponential", "explicit steps would cost about"),  # 1.8
        (100, 20, 2048, 0.10, "Chebyshev", "explicit steps cost about 1/"),  # 1/2.0
        (200, 20, 1024, 0.08, "Chebyshev", "explicit steps cost about 1/"),  # 1/2.4
        (200, 20, 8704, 0.08, "Chebyshev", "explicit steps cost about 1/"),  # 1/1.1 to 1/1.9
        (200, 100, 1024, 0.03, "Chebyshev", "explicit steps cost about 1/"),  # 1/2.8
        (900, 20, 1024, 0.08, "Chebyshev", "explicit steps cost about 1/"),
        (1000, 784, 1024, 0.41, "Exponential", "for the leading part of the kernel"),
    ],
)
def test_the_cheaper_stepper_is_taken_and_says_why(
    modes, coordinates, particles, leading, taken, reason
):
    chosen = stepped.stepper_for(modes, coordinates, particles, 5e-3, leading)
    assert type(chosen.solver).__name__ == taken
    assert reason in chosen.method


def test_small_tolerances_favour_the_higher_order():
    methods = [stepped.stepper_for(200, 20, 8704, tol, 0.08).method for tol in (5e-3, 1e-4)]
    assert [method.split()[0] for method in methods] == ["chebyshev", "exponential"]


@pytest.mark.parametrize("still", [True, False])
def test_the_leading_eigenvalue_is_that_of_the_inputs(still):
    anchor = np.random.default_rng(0).standard_normal((4, 6))
    leading = two_layer._coordinates(anchor, np.ones((1, 3, 6)), still)[-1]
    values = np.linalg.eigvalsh(anchor @ anchor.T)
    assert leading == pytest.approx(values[-1] / values.sum())


@pytest.mark.evidence
@pytest.mark.parametrize("stepper", ["Exponential", "Chebyshev"])
def test_dual_coefficients_need_no_independent_samples(monkeypatch, stepper):
    X = np.random.default_rng(0).standard_normal((8, 7))  # eight samples, seven coordinates
    task = ak.Task(X, np.sign(X[:, 0] * X[:, 1]), name="dependent")
    chosen = stepped.Chosen(getattr(stepped, stepper)())
    monkeypatch.setattr(two_layer, "stepper_for", lambda *_: chosen)
    limit = ak.TwoLayer("relu", particles=64, replicates=2, dtype="float64")

    def predictions(up_to):
        monkeypatch.setattr(memory, "DUAL_UP_TO", up_to)
        h = two_layer._coordinates(X, np.ones((1, 3, 7)), True)[4]
        assert (h is not None) == (up_to > 8 / 7)  # what is compared does differ
        stages = [ak.Stage(task, 2.0, duration=20.0, elastic=elastic) for elastic in (0.0, 0.1)]
        solution = ak.solve(stages, limit, key=3)
        return solution.predict(np.random.default_rng(1).standard_normal((5, 7)))

    # Kinks magnify rounding over hundreds of steps.
    np.testing.assert_allclose(predictions(1.5), predictions(1.0), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "of_limit", "outputs"),
    [
        (dict(weight_decay=0.3), {}, 1),
        (dict(head_rate=3.0), {}, 3),
        (dict(weight_decay=0.2), dict(bias=(0.5, 0.8)), 2),
        (dict(loss="logistic"), {}, 1),
    ],
)
def test_loss_and_burden_fall_by_the_squared_speeds_of_all_parts(options, of_limit, outputs):
    task = small_task(0, 6, outputs=outputs, name="task")
    if "loss" in options:
        task = ak.Task(task.X, np.sign(task.y), name="task")
    stage = ak.Stage(task, 1.7, duration=1.0, **options)
    limit = ak.TwoLayer("tanh", particles=32, replicates=2, dtype="float64", **of_limit)
    rng = np.random.default_rng(0)
    state = limit.start([stage], {"task": task}, rng)
    with jax.enable_x64(True):
        course = limit.course(state, stage, {("task", "train"): task.X})
        flow = course.flow
        y = jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape), course.y0)
        now, move, rate = flow.progress(y), flow(y), options.get("head_rate", 1.0)
        speed = flow.squares(move.w).mean() + move.readouts_squared().mean() / rate
        fall = flow.objective.rate_factor * speed / flow.richness**2
        np.testing.assert_allclose(now.rate, fall, rtol=1e-10)


def test_many_outputs_take_little_more_memory_than_one():
    X = np.random.default_rng(0).standard_normal((1000, 20))
    limit = ak.TwoLayer("relu", particles=1024, replicates=2)

    def needed(outputs):
        task = ak.Task(X, X[:, :outputs], name="task")
        return limit.predicted_bytes([ak.Stage(task, 1.0)], {"task": task})

    assert needed(1) < needed(10) < 2 * needed(1)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("float64", 1e-13)])
def test_the_stiff_part_is_as_precise_as_the_fields(dtype, error):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        X, w, z = (
            jnp.asarray(rng.standard_normal(s), dtype) for s in ((8, 6), (1, 40, 6), (1, 40, 1))
        )
        anchors = Anchors(Coordinates(X), jnp.ones((8, 1)), jnp.sum(X * X, 1), X @ X.T)
        numbers = {k: jnp.asarray(v) for k, v in dict(richness=2.0, decay=0.0, elastic=0.0).items()}
        flow = ParticleFlow(
            ak.activations.get("relu"), losses.Objective(losses.get("squared")), anchors,
            jnp.zeros((1, 8, 1)), home=jnp.zeros((1, 1, 1), dtype), **numbers,
        )  # fmt: skip
        at = flow.linearise(Law(w, z))
        u = jnp.asarray(rng.standard_normal((1, 8)))
        missed = at.stiff.read(at.stiff.spread(u)) - at.rates * u
        assert float(jnp.abs(missed).max()) < error * float(at.rates.max())


def test_lazy_weight_decay_is_the_small_richness_flow():
    task = small_task(8, 5)
    limit = ak.TwoLayer(
        "tanh", particles=64, replicates=2, dtype="float64", tol=1e-6, max_steps=20000
    )
    lazy, small = (
        ak.solve([ak.Stage(task, g, duration=5.0, weight_decay=0.1)], limit) for g in (0.0, 1e-3)
    )
    a, b = (s.predictions(task)[-1] for s in (lazy, small))
    np.testing.assert_allclose(a, b, atol=2e-4)
    np.testing.assert_allclose(lazy.states[-1].predict(task.X_test), a, atol=1e-8)


@pytest.mark.parametrize("head", ["fresh", "kept"])
def test_recorded_predictions_are_predict_and_heads_start_as_they_should(head):
    source, target = small_task(9, 6), small_task(10, 4)
    stages = [ak.Stage(source, 2.0, duration=3.0), ak.Stage(target, 0.5, duration=2.0, head=head)]
    solution = ak.solve(stages, ak.TwoLayer("tanh", **LIMIT))
    for stage in (0, 1):
        for task in (source, target):
            for split in ("train", "test"):
                recorded = solution.predictions(task, split, stage)[-1]
                again = solution.state(stage).predict(task.split(split)[0])
                np.testing.assert_allclose(recorded, again, atol=1e-7)
    start = solution.predictions(target, stage=1)[0]
    before = solution.predictions(target, stage=0)[-1]
    np.testing.assert_allclose(start, before if head == "kept" else 0 * before, atol=1e-8)
    assert np.abs(before).max() > 0.1


def test_the_key_decides_the_result():
    stages = [ak.Stage(small_task(13, 5), 1.0, duration=1.0)]
    a, b, c = (ak.solve(stages, ak.TwoLayer("relu", **LIMIT), key=k) for k in (1, 1, 2))
    X = stages[0].task.X_test
    assert (a.predict(X).value == b.predict(X).value).all()
    assert (a.predict(X).value != c.predict(X).value).any()


@pytest.mark.parametrize("kind", ["feature", "gradient", "ntk"])
def test_kernels_are_symmetric_positive_and_consistent(kind):
    task = small_task(14, 5, dimension=9, tests=12)
    solution = ak.solve(
        [ak.Stage(task, 2.0, duration=4.0)], ak.TwoLayer("relu", particles=1024, replicates=8)
    )
    gram = solution.kernel(task.X_test, kind=kind)
    np.testing.assert_array_equal(gram.value, gram.value.T)
    assert np.linalg.eigvalsh(gram.value).min() > -1e-6
    cross = solution.kernel(task.X_test, task.X_test[:4], kind=kind)
    gap = (gram.value[:, :4] - cross.value) / np.hypot(gram.standard_error[:, :4], 1e-3)
    assert np.mean(np.abs(gap) < 4) > 0.9
    exact = solution.kernel(task.X_test, task.X, kind=kind)
    np.testing.assert_allclose(
        exact.value.T, solution.kernel(task.X, task.X_test, kind=kind).value, atol=1e-5
    )


def test_kernel_at_initialisation_is_the_lazy_kernel_within_its_error():
    task = small_task(15, 4, dimension=8, tests=10)
    solution = ak.solve([ak.Stage(task, 0.0)], ak.TwoLayer("relu", particles=2048, replicates=8))
    sampled = solution.kernel(task.X_test)
    exact, _ = relu_kernels(task.X_test, task.X_test)
    chi = ((sampled.value - exact) / sampled.standard_error) ** 2
    assert np.mean(chi) < 3
    assert sampled.standard_error.max() < 0.02


def test_stalled_and_out_of_steps_are_outcomes():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 3))
    noisy = ak.Task(X, X[:, 0] + rng.standard_normal(12), name="more samples than directions")
    limit = ak.TwoLayer("linear", particles=32, replicates=1, dtype="float64")
    stalled = ak.solve([ak.Stage(noisy, 0.0)], limit)
    assert stalled.outcome is ak.Outcome.STALLED and not stalled.outcome.ok
    short = ak.solve([ak.Stage(noisy, 2.0)], dataclasses.replace(limit, max_steps=5))
    assert short.outcome is ak.Outcome.OUT_OF_STEPS


def test_bad_requests_are_refused():
    task = small_task(16, 5)
    with pytest.raises(ak.InputError, match=r"particles=5 .* at least rank \+ outputs = 6"):
        ak.solve([ak.Stage(task, 1.0)], ak.TwoLayer("relu", particles=5))
    with pytest.raises(ak.MemoryLimitError, match="this solve needs"):
        ak.solve([ak.Stage(task, 1.0)], ak.TwoLayer("relu", particles=2**40))
    with pytest.raises(ak.InputError, match="observe="):
        solved = ak.solve([ak.Stage(task, 1.0, duration=1.0)], ak.TwoLayer("relu", **LIMIT))
        ak.solve([ak.Stage(small_task(17, 5), 1.0)], ak.TwoLayer("relu", **LIMIT), after=solved)
    for bad in (
        dict(activation="nope"),
        dict(particles=1),
        dict(tol=0.0),
        dict(dtype="int8"),
        dict(replicates=0),
    ):
        with pytest.raises(ak.InputError, match=next(iter(bad))):
            ak.TwoLayer(**bad)


def test_saving_keeps_predictions(tmp_path):
    source, target = small_task(18, 5), small_task(19, 4)
    stages = [ak.Stage(source, 1.0, duration=2.0), ak.Stage(target, 0.0, head="kept")]
    solution = ak.solve(stages, ak.TwoLayer("tanh", **LIMIT))
    solution.save(tmp_path / "solution.zip")
    again = ak.Solution.load(tmp_path / "solution.zip")
    np.testing.assert_array_equal(
        again.predict(target.X_test).value, solution.predict(target.X_test).value
    )
    assert again.to_xarray().equals(solution.to_xarray())


def test_weights_are_white_given_the_readout_and_fresh_heads_uncorrelated():
    rng = np.random.default_rng(0)
    drawn = Particles(*sampling.neurons(rng, 2, 512, 10, 2))
    for w, z in zip(drawn.w, drawn.z, strict=True):
        np.testing.assert_allclose(z.T @ z / 512, np.eye(2), atol=1e-12)
        for p in (np.ones(512), z[:, 0], z[:, 1], z[:, 0] ** 2, z[:, 0] * z[:, 1]):
            np.testing.assert_allclose(p @ w, 0, atol=1e-10)
            np.testing.assert_allclose((w.T * p) @ w / 512, p.mean() * np.eye(10), atol=2e-3)
    fresh = drawn.with_fresh_head(rng, 1, "quasi")
    for w, z in zip(fresh.w, fresh.z, strict=True):
        np.testing.assert_allclose(z.T @ w, 0, atol=1e-10)
        np.testing.assert_allclose([z.mean(), np.mean(z**2)], [0, 1], atol=1e-12)


@pytest.mark.parametrize("limit", [ak.TwoLayer("relu", particles=32), ak.DeepLinear(2)])
def test_listeners_are_told_how_far_a_solve_is(limit):
    task = ak.tasks.load("digits", classes=(3, 5), n_train=6, n_test=4)
    stages = [ak.Stage(task, 1.0, duration=1.0), ak.Stage(task, 1.0, duration=2.0)]
    seen = []
    found = ak.solve(stages, limit, record=2, progress=lambda *told: seen.append(told))
    for i, stage in enumerate(stages):
        times = [t for at, t, _ in seen if at == i]
        losses = [loss for at, _, loss in seen if at == i]
        assert len(times) >= 3 and min(times) < 0.1 and times[-1] == max(times) == stage.duration
        assert losses[-1] == pytest.approx(found.records[i].train_loss, rel=1e-3)


def test_what_decay_has_left_does_not_decide_new_readouts():
    """Rounding alone is in directions that have decayed; it moved predictions by 0.004."""
    w = np.random.default_rng(0).standard_normal((1, 64, 6))
    w[..., 3:] = 0
    noise = np.random.default_rng(1).standard_normal((2, *w.shape)) * 1e-15
    one, other = (
        sampling.readouts(np.random.default_rng(2), w + part, 1, "quasi") for part in noise
    )
    np.testing.assert_allclose(one, other, atol=1e-12)
    np.testing.assert_allclose(np.einsum("rmk,rmc->rkc", w, one), 0, atol=1e-11)
    assert abs(one.mean()) < 1e-12 and np.mean(one**2) == pytest.approx(1)


def sizes(jaxpr):
    """Of all arrays of a program, those of its inner ones included."""
    for equation in jaxpr.eqns:
        yield from (var.aval.size for var in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from sizes(inner)


@pytest.mark.parametrize(("deflated", "within"), [(True, True), (False, False)])
def test_steps_of_the_leading_part_hold_nothing_of_samples_times_samples(
    monkeypatch, deflated, within
):
    samples = 400
    rng = np.random.default_rng(0)
    task = ak.Task(rng.standard_normal((samples, 3)), rng.standard_normal(samples), name="many")
    chosen = stepped.Chosen(stepped.Exponential(), deflated=deflated)
    monkeypatch.setattr(two_layer, "stepper_for", lambda *_: chosen)
    limit, stage = ak.TwoLayer("relu", particles=8, replicates=1), ak.Stage(task, 1.0, duration=1.0)
    state = limit.start([stage], {"many": task}, rng)
    with jax.enable_x64(True):
        course = limit.course(state, stage, {("many", "train"): task.X})

        def step(flow, recorder, y):
            t, memory = jnp.ones(()), flow.memory(y)
            y1 = exponential._step(flow, y, t, memory)
            return y1, flow.progress(y), recorder(t, y)

        given = course.flow, course.recorder, course.y0
        program = jax.make_jaxpr(step)(*given)
    largest = max(*sizes(program.jaxpr), *(leaf.size for leaf in jax.tree.leaves(given)))
    assert (largest < samples**2) == within
