"""Low-rank stages: theory section 1, on both sides."""

from dataclasses import replace

import numpy as np
import pytest

import adaptik as ak

SOURCE, TARGET = ak.tasks.hermite_pair(1, 2, 0.5, n_source=12, n_target=9, dimension=8, n_test=6)
FINE = ak.TwoLayer("tanh", dtype="float64", particles=64, replicates=2)
FULL = ak.Stage(TARGET, 1.0, duration=2.0)
FEW = replace(FULL, rank=3)


def both(stage: ak.Stage, before: float = 1.0) -> list[ak.Stage]:
    return [ak.Stage(SOURCE, before, duration=1.0), stage]


def final(solution: ak.Solution, split: str = "test") -> np.ndarray:
    return solution.predictions(TARGET, split)[-1]


@pytest.mark.parametrize(
    ("richness", "head"),
    [(1.0, "kept"), (0.0, "fresh"), pytest.param(1.0, "fresh", marks=pytest.mark.evidence)],
)
def test_all_directions_are_the_full_stage(richness, head):
    full = replace(FULL, richness=richness, head=head)
    low = replace(full, rank=8)
    for run in (
        lambda stage: ak.solve(both(stage), FINE),
        lambda stage: ak.train(both(stage), ak.Network(32, "tanh", dtype="float64"), seeds=2),
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


def test_steps_of_b_are_the_stage():
    """Small Euler steps of each neuron's b_k, from the same neurons, extrapolated to none."""
    network = ak.Network(24, "tanh", dtype="float64", tol=1e-6)
    start = ak.train([ak.Stage(SOURCE, 1.0, duration=1.0)], network, seeds=1)
    low = replace(FEW, head="kept", head_rate=2.0)
    found = ak.train([low], network, seeds=1, after=start, observe=[])
    w, z = start.states[-1].members[0].weights.layers
    a = low.low_rank.directions(8)
    X, x, y = TARGET.X, TARGET.X_test, TARGET.y[:, 0]

    def stepped(steps: int) -> np.ndarray:
        b, head, dt = np.zeros((24, 3)), z[:, 0].copy(), 2.0 / steps
        f0 = start.states[-1].predict(X)[0, :, 0] - np.tanh(X @ w.T / 8**0.5) @ head / 24
        for _ in range(steps):
            h = X @ (w + b @ a.T).T / 8**0.5
            delta = (y - f0 - np.tanh(h) @ head / 24) / len(y)
            slope = (1 - np.tanh(h) ** 2) * head  # (P, N)
            move = np.einsum("p,pn,pk->nk", delta, slope, X @ a / 8**0.5)
            head = head + 2.0 * dt * np.tanh(h).T @ delta
            b = b + dt * move
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


def test_little_richness_tends_to_richness_0():
    lazily = final(ak.solve(both(replace(FEW, richness=0.0)), FINE))
    barely = final(ak.solve(both(replace(FEW, richness=0.01)), replace(FINE, tol=1e-5)))
    np.testing.assert_allclose(barely.mean(0), lazily.mean(0), atol=0.01)


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
    for rank in (2, 8):
        solution = ak.solve(both(replace(FULL, rank=rank)), FINE)
        expected = solution.states[-1].predict(TARGET.X_test)
        np.testing.assert_allclose(final(solution), expected, atol=1e-9)


@pytest.mark.parametrize("rank", [3, ak.LowRank(2, "gaussian", 4)])
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
        (dict(rank=9), "rank=9 is above the dimension of the inputs, 8"),
        (dict(rank=2, trains="readout"), "trains='readout' with rank=2"),
        (dict(rank=2, fresh_above=0), "fresh_above=0 with rank=2"),
        (dict(rank=2, elastic=1.0), "elastic=1.0 with rank=2"),
        (dict(rank=2, weight_decay=0.1), "weight_decay=0.1 with rank=2"),
    ],
)
def test_stages_without_a_meaning_are_refused(options, message):
    with pytest.raises(ak.InputError, match=message):
        replace(FULL, **options)


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
    ("richness", "head"),
    [
        (1.0, "fresh"),
        (0.0, "kept"),
        pytest.param(1.0, "kept", marks=pytest.mark.wide),
        pytest.param(0.0, "fresh", marks=pytest.mark.wide),
    ],
)
def test_networks_of_width_4096_are_the_limit(richness, head):
    stages = both(replace(FULL, rank=3, richness=richness, head=head))
    theory = ak.solve(stages, ak.TwoLayer("tanh", particles=8192, replicates=8, tol=5e-4))
    network = ak.train(stages, ak.Network(4096, "tanh"), seeds=8)
    f, g = final(theory), final(network)
    error = np.hypot(f.std(0, ddof=1) / 8**0.5, g.std(0, ddof=1) / 8**0.5)
    assert error.max() < 0.05 * TARGET.y.std()
    apart = np.abs(f.mean(0) - g.mean(0)) / error
    assert apart.max() < 3.5, apart.ravel()


@pytest.mark.evidence
@pytest.mark.wide
def test_the_distance_of_networks_falls_as_their_width():
    stages = both(FEW)
    f = final(ak.solve(stages, ak.TwoLayer("tanh", particles=8192, replicates=8, tol=5e-4))).mean(0)
    widths, squares = np.array([256, 1024, 4096]), []
    for width in widths:
        g = final(ak.train(stages, ak.Network(int(width), "tanh"), seeds=8))
        squares.append(np.square(g - f).mean((1, 2)))
    logs = np.log(np.array(squares))  # (widths, seeds)
    slopes = np.polyfit(np.log(widths), logs, 1)[0]
    assert abs(slopes.mean() + 1) < 2 * slopes.std(ddof=1) / 8**0.5 + 0.05
