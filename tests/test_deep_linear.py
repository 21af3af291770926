"""The deep linear limit against the two-layer one, networks, and the two-time equations."""

import dataclasses

import numpy as np
import pytest

import adaptik as ak
from adaptik import linear_theory

SOURCE, TARGET = ak.tasks.linear_pair(0.5, n_source=10, n_target=6, dimension=20, n_test=40)
FIRST = ak.Stage(SOURCE, 2.0, duration=3.0)
SEQUENCES = {
    "rich kept": [FIRST, ak.Stage(TARGET, 1.0, duration=3.0, head="kept")],
    "rich fresh with decay": [FIRST, ak.Stage(TARGET, 1.5, duration=3.0, weight_decay=0.1)],
    "lazy fresh": [FIRST, ak.Stage(TARGET, 0.0, duration=3.0)],
    "lazy kept": [FIRST, ak.Stage(TARGET, 0.0, duration=3.0, head="kept")],
    "lazy with decay": [FIRST, ak.Stage(TARGET, 0.0, duration=3.0, weight_decay=0.1)],
    "readout": [FIRST, ak.Stage(TARGET, 0.0, duration=3.0, trains="readout")],
    "three stages": [
        FIRST,
        ak.Stage(TARGET, 2.0, trains="readout", duration=3.0),
        ak.Stage(SOURCE, 1.0, duration=2.0, head="kept"),
    ],
}


def three_outputs() -> ak.Task:
    rng = np.random.default_rng(0)
    y, y_test = (X @ rng.standard_normal((20, 3)) / 4 for X in (SOURCE.X, SOURCE.X_test))
    return ak.Task(SOURCE.X, y, SOURCE.X_test, y_test, name="three outputs")


@pytest.mark.parametrize("name", SEQUENCES)
def test_one_layer_is_the_two_layer_linear_limit(name):
    moments = ak.solve(SEQUENCES[name], ak.Linear(tol=1e-8))
    revealed = ak.solve(SEQUENCES[name], ak.DeepLinear(1, tol=1e-7, reveal_tol=1e-7))
    for task in (SOURCE, TARGET):
        f = moments.predict(task.X_test).value
        assert np.std(f) > 0.05
        np.testing.assert_allclose(revealed.predict(task.X_test).value, f, atol=1e-6)
    for kind in ("feature", "gradient", "ntk"):
        np.testing.assert_allclose(
            revealed.kernel(TARGET.X_test, TARGET.X, kind=kind).value,
            moments.kernel(TARGET.X_test, TARGET.X, kind=kind).value,
            atol=2e-6,
        )
    first, second = moments.records[-1], revealed.records[-1]
    np.testing.assert_allclose(second.train_loss, first.train_loss, atol=1e-5)
    if np.isfinite(second.rate):
        np.testing.assert_allclose(second.rate, first.rate, atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_reported_step_error_covers_the_error(outputs):
    stage = FIRST if outputs == 1 else ak.Stage(three_outputs(), 1.5, duration=3.0)
    fine = ak.solve([stage], ak.DeepLinear(3, tol=1e-8, reveal_tol=1e-7))
    plain = ak.solve([stage], ak.DeepLinear(3, tol=1e-4, reveal_tol=1e-4))
    X = stage.task.X_test
    error = np.abs(fine.predict(X).value - plain.predict(X).value).max()
    assert 1e-6 < error < plain.records[0].step_error < 0.1
    assert fine.records[0].step_error < 1e-4
    assert np.all(plain.predict(X).standard_error == 0)


def two_time_march(X, y, depth, gamma, dt, steps):
    """Explicit Euler on the two-time equations (theory 5, discrete form), with full operators.

    Everything that a layer's field can be is a vector of a Gaussian space, in coordinates of
    u_1 (samples) and r_L, and, for every hidden matrix, of the fresh fields W phi and W^T g of all
    times and samples, made orthonormal by Gram-Schmidt: the equations without any tolerance.
    """
    samples, size = len(X), 2 * len(X) * (steps + 1) + 1
    W0 = np.zeros((size, X.shape[1]))
    W0[: X.shape[1]] = np.eye(X.shape[1])
    used = [X.shape[1], *[0] * (depth - 1)]
    head = np.zeros(size)
    head[used[-1]] = 1.0
    used[-1] += 1
    seen = [{"q": [], "F": [], "s": [], "E": []} for _ in range(depth - 1)]
    learned = [np.zeros((size, size)) for _ in range(depth - 1)]

    def meet(known, names, v, layer):
        rest = v.copy()
        for q in known[names[0]] * 2:
            rest -= q * (q @ rest)
        if np.linalg.norm(rest) > 1e-11:
            known[names[0]].append(rest / np.linalg.norm(rest))
            fresh = np.zeros(size)
            fresh[used[layer]] = 1.0
            used[layer] += 1
            known[names[1]].append(fresh)

    def apply(known, M, v, forward):
        directions, fresh, others, back = ("q", "F", "s", "E") if forward else ("s", "E", "q", "F")
        out = (M if forward else M.T) @ v
        for q, F in zip(known[directions], known[fresh], strict=True):
            out = out + F * (q @ v)
        for s, E in zip(known[others], known[back], strict=True):
            out = out + s * (E @ v)
        return out

    for _ in range(steps):
        z = [head]
        for k in reversed(range(depth - 1)):
            meet(seen[k], "sE", z[0], k)
            z.insert(0, apply(seen[k], learned[k], z[0], forward=False))
        delta = (y - X @ (W0.T @ z[0]) / gamma) / samples
        h = [W0 @ (X.T @ delta)]
        for k in range(depth - 1):
            meet(seen[k], "qF", h[-1], k + 1)
            h.append(apply(seen[k], learned[k], h[-1], forward=True))
        W0 = W0 + gamma * dt * np.outer(z[0], X.T @ delta)
        for k in range(depth - 1):
            learned[k] = learned[k] + gamma * dt * np.outer(z[k + 1], h[k])
        head = head + gamma * dt * h[-1]
    z = head
    for k in reversed(range(depth - 1)):
        z = apply(seen[k], learned[k], z, forward=False)
    return W0.T @ z / gamma
