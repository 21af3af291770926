"""Low-rank stages: theory section 1, on both sides."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import adaptik as ak
from adaptik.networks.flows import flow_through
from adaptik.networks.frozen import solve_frozen
from adaptik.networks.mup import Member, Weights
from adaptik.solution import Request

SOURCE, TARGET = ak.tasks.hermite_pair(1, 2, 0.5, n_source=12, n_target=9, dimension=8, n_test=6)
FINE = ak.TwoLayer("tanh", dtype="float64", particles=64, replicates=2)
FULL = ak.Stage(TARGET, 1.0, duration=2.0)
FEW = replace(FULL, rank=3)
BIAS = (0.7, 0.9)
TURNING = ak.LowRank(3, "gaussian", rate=0.8)
TURNED = dict(duration=6.0, rank=ak.LowRank(3, rate=4.0))  # moves predictions by 0.12 of 0.61


def both(stage: ak.Stage, before: float = 1.0) -> list[ak.Stage]:
    return [ak.Stage(SOURCE, before, duration=1.0), stage]


def final(solution: ak.Solution, split: str = "test") -> np.ndarray:
    return solution.predictions(TARGET, split)[-1]


@pytest.mark.parametrize(
    ("richness", "head", "bias"),
    [
        pytest.param(1.0, "kept", (0.0, 0.0), marks=pytest.mark.evidence),
        (0.0, "fresh", BIAS),
        pytest.param(0.0, "fresh", (0.0, 0.0), marks=pytest.mark.evidence),
        pytest.param(1.0, "fresh", BIAS, marks=pytest.mark.evidence),
    ],
)
def test_all_directions_are_the_full_stage(richness, head, bias):
    full = replace(FULL, richness=richness, head=head)
    low = replace(full, rank=8 + (bias[0] > 0))  # that of the bias's input is one more
    network = ak.Network(32, "tanh", dtype="float64", bias=bias)
    for run in (
        lambda stage: ak.solve(both(stage), replace(FINE, bias=bias)),
        lambda stage: ak.train(both(stage), network, seeds=2),
    ):
        np.testing.assert_allclose(final(run(low)), final(run(full)), atol=1e-10)


def test_directions_know_nothing_of_data_of_an_equal_seed():
    rng = np.random.default_rng(3)  # draws as many normal numbers for teachers, or for inputs
    for normal in (rng.standard_normal((200, 2)), np.random.default_rng(3).normal(size=(2, 200)).T):
        a = ak.LowRank(2, seed=3).directions(200)
        cosines = (a.T @ normal) / np.outer(*(np.linalg.norm(v, axis=0) for v in (a, normal)))
        assert np.abs(cosines).max() < 0.3


def test_few_directions_are_not():
    full, low = (final(ak.solve(both(stage), FINE)).mean(0) for stage in (FULL, FEW))
    assert np.abs(full - low).max() > 0.05
    other = final(ak.solve(both(replace(FULL, rank=ak.LowRank(3, seed=1))), FINE)).mean(0)
    assert np.abs(other - low).max() > 0.05
    gaussian = final(ak.solve(both(replace(FULL, rank=ak.LowRank(8, "gaussian"))), FINE)).mean(0)
    assert np.abs(gaussian - full).max() > 0.05


@pytest.mark.parametrize(("rank", "decay"), [(3, 0.0), (TURNING, 0.3)])
def test_steps_of_b_and_a_are_the_stage(rank, decay):
    """Small Euler steps of each neuron's b_k, from the same neurons, extrapolated to none."""
    network = ak.Network(24, "tanh", dtype="float64", tol=1e-6)
    start = ak.train([ak.Stage(SOURCE, 1.0, duration=1.0)], network, seeds=1)
    low = replace(FULL, rank=rank, head="kept", head_rate=2.0, weight_decay=decay)
    found = ak.train([low], network, seeds=1, after=start, observe=[])
    w, z = start.states[-1].members[0].weights.layers
    rate = low.low_rank.rate
    X, x, y = TARGET.X, TARGET.X_test, TARGET.y[:, 0]

    def stepped(steps: int) -> np.ndarray:
        a = low.low_rank.directions(8)
        b, head, dt = np.zeros((24, 3)), z[:, 0].copy(), 2.0 / steps
        f0 = start.states[-1].predict(X)[0, :, 0] - np.tanh(X @ w.T / 8**0.5) @ head / 24
        for _ in range(steps):
            h = X @ (w + b @ a.T).T / 8**0.5
            delta = (y - f0 - np.tanh(h) @ head / 24) / len(y)
            slope = (1 - np.tanh(h) ** 2) * head  # (P, N)
            move = np.einsum("p,pn,pk->nk", delta, slope, X @ a / 8**0.5) - decay * b
            turn = np.einsum("p,pn,nk,pd->dk", delta, slope, b, X / 8**0.5) / 24 - decay * a
            head = head + 2.0 * dt * (np.tanh(h).T @ delta - decay * head)
            b, a = b + dt * move, a + rate * dt * turn
        return np.tanh(x @ (w + b @ a.T).T / 8**0.5) @ head / 24

    f0 = start.states[-1].predict(x)[0, :, 0] - np.tanh(x @ w.T / 8**0.5) @ z[:, 0] / 24
    expected = f0 + 2 * stepped(4000) - stepped(2000)
    np.testing.assert_allclose(final(found)[0, :, 0], expected, atol=2e-5)


def test_richness_0_is_regression_on_the_kernel_of_few_directions():
    """Phi + G x.A x'/D of a fresh start, in closed form."""
    from adaptik.kernels import lazy

    low = replace(FEW, richness=0.0)
    for limit in (FINE, replace(FINE, sampling="iid")):
        found = final(ak.solve([low], limit), "train")[0, :, 0]
        K = TARGET.X @ TARGET.X.T / 8
        feature, gradient = lazy.two_layer(FINE.phi, np.diag(K), K, np.diag(K))
        kernel = feature + gradient * (TARGET.X @ low.low_rank.reached(TARGET.X).T / 8)
        rates, modes = np.linalg.eigh(kernel)
        seen = (1 - np.exp(-rates * 2.0 / len(K))) * (modes.T @ TARGET.y[:, 0])
        np.testing.assert_allclose(found, modes @ seen, atol=1e-9)


@pytest.mark.parametrize("rank", [3, pytest.param(TURNING, marks=pytest.mark.evidence)])
def test_little_richness_tends_to_richness_0(rank):
    lazily = final(ak.solve(both(replace(FULL, rank=rank, richness=0.0)), FINE))
    little = both(replace(FULL, rank=rank, richness=0.01))
    barely = final(ak.solve(little, replace(FINE, tol=1e-5)))
    np.testing.assert_allclose(barely.mean(0), lazily.mean(0), atol=0.01)


@pytest.mark.evidence
def test_few_samples_in_many_dimensions():
    """Directions leave the span of the inputs: predictions elsewhere need coordinates for that."""
    rng = np.random.default_rng(0)
    X, elsewhere = rng.standard_normal((4, 40)), rng.standard_normal((3, 40))
    task = ak.Task(X, [-1.0, 1.0, 1.0, -1.0], elsewhere, np.zeros(3))
    stage = ak.Stage(task, 1.0, duration=2.0, rank=10)
    theory = ak.solve([stage], ak.TwoLayer("tanh", particles=2048, replicates=4))
    network = ak.train([stage], ak.Network(2048, "tanh"), seeds=6)
    f, g = (s.predictions(task, "test")[-1] for s in (theory, network))
    error = np.hypot(f.std(0, ddof=1) / 2, g.std(0, ddof=1) / 6**0.5)
    assert error.max() < 0.05
    assert (np.abs(f.mean(0) - g.mean(0)) < 4 * error + 2e-3).all()


def test_predictions_recorded_are_those_of_the_state():
    """With more samples than directions (coordinates along these) and with fewer (dual ones)."""
    for rank in (2, 8, TURNING):
        solution = ak.solve(both(replace(FULL, rank=rank)), FINE)
        expected = solution.states[-1].predict(TARGET.X_test)
        np.testing.assert_allclose(final(solution), expected, atol=1e-9)


@pytest.mark.parametrize("rank", [3, ak.LowRank(2, "gaussian", 4, 0.5)])
def test_a_loaded_solution_has_its_directions(rank, tmp_path):
    solution = ak.solve(both(replace(FULL, richness=0.0, rank=rank)), FINE)
    solution.save(tmp_path / "low.zip")
    loaded = ak.Solution.load(tmp_path / "low.zip")
    assert loaded.stages[-1].rank == solution.stages[-1].rank
    f, g = (s.states[-1].predict(TARGET.X_test) for s in (loaded, solution))
    np.testing.assert_array_equal(f, g)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(rank=0), "rank must be an integer >= 1, got 0"),
        (dict(rank=1.5), "rank must be an integer >= 1, got 1.5"),
        (
            dict(rank=10),
            "rank=10 is above the dimension of the inputs, 8; give at most 8 \\(9 with",
        ),
        (
            dict(rank=ak.LowRank(2, rate=1.0), richness=0, weight_decay=1.0),
            "rank=2 with rate=1, ri",
        ),
        (dict(rank=2, trains="readout"), "trains='readout' with rank=2"),
        (dict(rank=2, fresh_above=0), "fresh_above=0 with rank=2"),
        (dict(rank=2, elastic=1.0), "elastic=1.0 with rank=2"),
    ],
)
def test_stages_without_a_meaning_are_refused(options, message):
    with pytest.raises(ak.InputError, match=message):
        replace(FULL, **options)


@pytest.mark.parametrize("bias", [(0.0, 0.0), (0.0, 0.5)])
def test_as_many_directions_as_inputs_and_a_constant_need_a_bias(bias):
    stages = [replace(FULL, rank=9)]
    with pytest.raises(ak.InputError, match="rank=9 is above the dimension of the inputs, 8"):
        ak.solve(stages, replace(FINE, bias=bias))
    with pytest.raises(ak.InputError, match="rank=9 is above the dimension of the inputs, 8"):
        ak.train(stages, ak.Network(16, "tanh", bias=bias))


def test_directions_have_rates():
    assert ak.LowRank(3, rate=0) == ak.LowRank(3)
    for rate in (-1.0, np.inf, "fast"):
        with pytest.raises(ak.InputError, match="rate must be a finite number >= 0, got "):
            ak.LowRank(3, rate=rate)


def as_member(state) -> Member:
    """A network whose neurons are a replicate's particles; of weights in the span, a bias last."""
    p = state.particles
    c = np.sqrt(p.w.shape[1]) * p.c[0, :1]
    return Member(Weights((p.w[0] @ state.span.basis.T, np.concatenate([p.z[0], c]))))


DECAYING = dict(head="kept", weight_decay=0.3, head_rate=2.0)
MOVING = {
    "directions train": replace(FULL, richness=1.5, rank=TURNING, head="kept", head_rate=2.0),
    "directions decay": replace(FULL, richness=1.5, rank=TURNING, **DECAYING),
    "decay": replace(FULL, richness=1.5, rank=2, **DECAYING),
    "lazy decay": replace(FULL, richness=0.0, rank=ak.LowRank(3, "gaussian"), **DECAYING),
}


ALWAYS = "directions decay"


@pytest.mark.parametrize(
    "name", [ALWAYS, *(pytest.param(n, marks=pytest.mark.evidence) for n in MOVING if n != ALWAYS)]
)
def test_particles_are_a_network(name):
    """Of as many neurons, from the same weights, with biases; to what steps leave."""
    limit = ak.TwoLayer("tanh", 24, 1, "float64", 1e-6, bias=BIAS)
    network = ak.Network(24, "tanh", dtype="float64", tol=1e-6, bias=BIAS)
    stage, tasks, grid = MOVING[name], {TARGET.name: TARGET}, np.array([0.0])
    state = limit.start([stage], tasks, np.random.default_rng(3))
    with jax.enable_x64(True):
        run = flow_through(network, stage, as_member(state), TARGET.X_test, grid, ())
    asked = Request(tasks, grid, (), np.random.default_rng(0))
    record, found, _ = limit.advance(state, stage, asked)
    moved = np.abs(found.particles.w - state.particles.w).max()
    assert moved == 0 if stage.is_lazy else moved > 0.1
    f = run.end.predict(TARGET.X_test, network.phi, BIAS)
    for own in (found.predict(TARGET.X_test), record.predictions[TARGET.name, "test"][-1]):
        np.testing.assert_allclose(own[0], f, atol=5e-5)
    for ours, theirs in zip(as_member(found).weights.layers, run.end.weights.layers, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-4)


def test_lazy_networks_with_biases_follow_the_kernel_of_their_directions():
    network = ak.Network(24, "tanh", dtype="float64", tol=1e-7, bias=BIAS)
    stage = replace(FULL, richness=0.0, rank=ak.LowRank(3, "gaussian"))
    limit, tasks = ak.TwoLayer("tanh", 24, 1, "float64", bias=BIAS), {TARGET.name: TARGET}
    member = as_member(limit.start([stage], tasks, np.random.default_rng(3)))
    with jax.enable_x64(True):
        frozen, flow = (
            through(network, stage, member, TARGET.X_test, np.array([0.0]), ())
            for through in (solve_frozen, flow_through)
        )
    f, expected = (run.end.predict(TARGET.X_test, network.phi, BIAS) for run in (frozen, flow))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(f, expected, atol=1e-5)


@pytest.mark.evidence
def test_decay_brings_low_ranks_to_rest():
    """lambda z = gamma sum Delta phi, and lambda b = gamma sum Delta g a^T x."""
    stage = ak.Stage(TARGET, 2.0, rank=2, weight_decay=0.05)
    limit, room = replace(FINE, particles=128), ak.Task(stage.reached, TARGET.y, name="room")
    source = ak.Stage(SOURCE, 1.0, duration=1.0)
    before = ak.solve([source], limit, observe=[TARGET, room])
    after = ak.solve([stage], limit, after=before)
    assert after.outcome.value == "converged" and np.isinf(after.records[-1].times[-1])
    start, end = (s.states[-1] for s in (before, after))
    f = end.predict(TARGET.X)
    delta = (TARGET.y - f) / len(f[0])
    phi = end.kernel(TARGET.X, None, "feature")
    np.testing.assert_allclose(f, phi @ delta / 0.05, atol=1e-6)
    # Every particle is there twice: the second half began as the first, with the opposite readout.
    w1 = np.concatenate([start.particles.w] * 2, 1)
    h, z = end.preactivations(TARGET.X), end.particles.z
    g = z * (1 - np.tanh(h) ** 2)
    pushed = np.einsum("rpc,rmp,pk->rmk", delta, g, end.span.points(stage.reached).inside)
    np.testing.assert_allclose(end.particles.w - w1, 2.0 / 0.05 * pushed, atol=1e-5)
    assert np.abs(end.particles.w - w1).max() > 0.1


def test_a_solve_cannot_go_on_along_directions_that_it_has_no_room_for():
    rng = np.random.default_rng(0)
    first, second = (ak.Task(rng.standard_normal((3, 20)), [1.0, -1.0, 1.0], name=n) for n in "ab")
    before = ak.solve([ak.Stage(first, 1.0, duration=0.1)], FINE, observe=[second])
    low = ak.Stage(second, 1.0, duration=0.1, rank=2)
    with pytest.raises(ak.InputError, match="solve all stages in one call"):
        ak.solve([low], FINE, after=before)
    room = ak.Task(low.reached, second.y, name="room")
    roomy = ak.solve(before.stages, FINE, observe=[second, room])
    FINE.check([*before.stages, low], 1, roomy.states[-1])


@pytest.mark.evidence
@pytest.mark.parametrize(
    ("richness", "options"),
    [
        (1.0, dict(head="fresh")),
        (0.0, dict(head="kept")),
        pytest.param(1.0, dict(head="kept"), marks=pytest.mark.wide),
        pytest.param(0.0, dict(head="fresh"), marks=pytest.mark.wide),
        pytest.param(1.0, TURNED | dict(head="kept"), marks=pytest.mark.wide),
        pytest.param(1.0, dict(weight_decay=0.1), marks=pytest.mark.wide),
    ],
)
def test_networks_of_width_4096_are_the_limit(richness, options):
    stages = both(replace(FEW, richness=richness, **options))
    theory = ak.solve(stages, ak.TwoLayer("tanh", particles=8192, replicates=8, tol=5e-4))
    network = ak.train(stages, ak.Network(4096, "tanh"), seeds=8)
    f, g = final(theory), final(network)
    error = np.hypot(f.std(0, ddof=1) / 8**0.5, g.std(0, ddof=1) / 8**0.5)
    assert error.max() < 0.05 * TARGET.y.std()
    apart = np.abs(f.mean(0) - g.mean(0)) / error
    assert apart.max() < 3.5, apart.ravel()


@pytest.mark.evidence
@pytest.mark.wide
@pytest.mark.parametrize("options", [{}, TURNED])
def test_the_distance_of_networks_falls_as_their_width(options):
    stages = both(replace(FEW, **options))
    f = final(ak.solve(stages, ak.TwoLayer("tanh", particles=8192, replicates=8, tol=5e-4))).mean(0)
    widths, squares = np.array([256, 1024, 4096]), []
    for width in widths:
        g = final(ak.train(stages, ak.Network(int(width), "tanh"), seeds=8))
        squares.append(np.square(g - f).mean((1, 2)))
    logs = np.log(np.array(squares))  # (widths, seeds)
    slopes = np.polyfit(np.log(widths), logs, 1)[0]
    assert abs(slopes.mean() + 1) < 2 * slopes.std(ddof=1) / 8**0.5 + 0.05
