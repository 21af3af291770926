"""Particles on the kinks of phi: shares of a step against its motion in small steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptik as ak
from adaptik.limits.two_layer.linearised import entries
from adaptik.mathematics import sliding


def motion(h, speed, kernel, push, steps=20_000):
    """Mean share above every kink while h moves by speed + K (push * above) for a unit time."""
    h, above = h.copy(), np.zeros_like(h)
    for _ in range(steps):
        now = h > 0
        above += now / steps
        h += (speed + (now * push) @ kernel) / steps
    return above


@pytest.fixture(scope="module")
def particles():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 10)) + 1.0  # samples that are alike: kinks push one another
    kernel = X @ X.T / 10
    h, speed = rng.normal(size=(2, 1, 200, 6)) * [[[[0.05]]], [[[1.0]]]]
    push = -np.abs(rng.normal(size=(1, 200, 6)))
    return h, speed, kernel, push


def found_shares(kernel, *fields):
    gram, *fields = map(jnp.asarray, (kernel, *fields))
    return sliding.shares(jnp.diag(gram), lambda at: entries(gram, at), *fields)[0].share


def test_shares_are_those_of_small_steps(particles):
    h, speed, kernel, push = particles
    small = motion(h, speed, kernel, push)
    # What is assumed must not matter: half of every step above the kink.
    half = np.full_like(h, 0.5)
    moved = speed + (half * push) @ kernel
    with jax.enable_x64(True):
        found = np.asarray(found_shares(kernel, h, moved, half, push))
    alone = motion(h, speed, np.diag(np.diag(kernel)), push)
    assert np.abs(alone - small).max() > 0.5, "these kinks do not push one another"
    # Constant speeds within a step are an approximation where several kinks are met in turn.
    assert np.sqrt(np.mean((found - small) ** 2)) < 0.7 * np.sqrt(np.mean((alone - small) ** 2))


def test_particles_on_their_kinks_are_exact(particles, monkeypatch):
    _, speed, kernel, push = particles
    h = np.full_like(speed, 1e-9)
    monkeypatch.setattr(sliding, "SWEEPS", 60)
    start = np.ones_like(h)
    with jax.enable_x64(True):
        moved = speed + (start * push) @ kernel
        found = np.asarray(found_shares(kernel, h, moved, start, push))
    assert ((found > 0.01) & (found < 0.99)).sum() > 200
    assert np.abs(found - motion(h, speed, kernel, push)).max() < 0.01


def test_one_kink_is_exact():
    rng = np.random.default_rng(1)
    h, rest = rng.normal(size=(2, 1, 500, 1))
    own = -3 * rng.random((1, 500, 1))
    with jax.enable_x64(True):
        found = np.asarray(sliding.share_above(*map(jnp.asarray, (h, rest, own))).share)
    small = motion(h, rest, np.eye(1), own)
    assert np.abs(found - small).max() < 2e-3
    assert ((found > 0.01) & (found < 0.99)).sum() > 100


def solved(task, activation, tol, **stage):
    limit = ak.TwoLayer(activation, particles=256, replicates=2, tol=tol)
    solution = ak.solve([ak.Stage(task, **stage)], limit)
    return solution.records[0].cost.steps, solution.predictions(task)[-1]


def test_sliding_particles_do_not_limit_the_step():
    task = ak.tasks.load("digits", classes=(3, 8), n_train=60, n_test=40)
    few, f = solved(task, "relu", 5e-3, richness=3.0)
    many, g = solved(task, jax.nn.relu, 5e-3, richness=3.0)  # of which nothing is known
    _, reference = solved(task, "relu", 5e-4, richness=3.0)
    errors = [np.sqrt(np.mean((h - reference) ** 2)) for h in (f, g)]
    assert few < 0.8 * many
    assert errors[0] < 1.5 * errors[1]


@pytest.mark.evidence
def test_nor_where_samples_contradict_one_another():
    """In three dimensions: neurons slide for long, and stiff modes must not see their jumps."""
    rng = np.random.default_rng(12)
    X, X_test = rng.normal(size=(20, 3)), rng.normal(size=(40, 3))
    y = X @ [1.0, 0.3, 0.0] + 0.2 * rng.normal(size=20)
    task = ak.Task(X, y, X_test, X_test @ [1.0, 0.3, 0.0])
    few, f = solved(task, "relu", 1e-3, richness=1.0, duration=500.0)
    many, _ = solved(task, jax.nn.relu, 1e-3, richness=1.0, duration=500.0)
    _, reference = solved(task, "relu", 1e-4, richness=1.0, duration=500.0)
    assert few < 0.3 * many
    assert np.sqrt(np.mean((f - reference) ** 2)) < 8e-3
