"""Stages of two layers whose fields are cut into blocks of samples."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptik as ak
from adaptik.kernels.particles import blocks
from adaptik.kernels.particles.law import Law
from adaptik.limits.two_layer import memory
from adaptik.limits.two_layer.flow import Anchors, Coordinates, ParticleFlow
from adaptik.mathematics import losses
from adaptik.system import devices

SAMPLES, INPUTS = 37, 5
LIMIT = dict(particles=64, replicates=2, dtype="float64", tol=1e-4)


def task_of(samples=SAMPLES, outputs=2):
    X = np.random.default_rng(0).standard_normal((samples + 5, INPUTS))
    y = np.stack([X[:, 0] * X[:, 1], X[:, 2]], 1)[:, :outputs]
    return ak.Task(X[:-5], y[:-5], X_test=X[-5:], y_test=y[-5:], name="task")


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr("adaptik.limits.two_layer.memory.available_bytes", lambda: 10**5)


def flow_and_laws(weights=None, bias=None):
    rng = np.random.default_rng(1)
    X, y = (jnp.asarray(rng.standard_normal((SAMPLES, n))) for n in (INPUTS, 2))
    flow = ParticleFlow(
        ak.activations.get("tanh"),
        losses.Objective(losses.get("squared"), weights),
        Anchors(Coordinates(X), y, jnp.sum(X * X, 1)),
        jnp.asarray(rng.standard_normal((2, SAMPLES, 2))),
        home=jnp.zeros((1, 1, 1)),
        bias=bias,
        **{k: jnp.asarray(v) for k, v in dict(richness=2.0, decay=0.1, elastic=0.0).items()},
    )
    laws = []
    for _ in range(2):
        w, z = (jnp.asarray(rng.standard_normal((2, 16, n))) for n in (INPUTS, 2))
        laws.append(Law(w, z, None if bias is None else jnp.ones_like(z)))
    return flow, *laws


@pytest.mark.parametrize("size", [1, 10, SAMPLES, 100])
@pytest.mark.parametrize("given", ["plain", "weights and biases"])
def test_blocks_of_samples_are_all_of_them(size, given):
    with jax.enable_x64(True):
        options = {}
        if given != "plain":
            weights = jnp.asarray(np.random.default_rng(2).uniform(0, 2, (SAMPLES, 2)))
            options = dict(weights=weights, bias=jnp.asarray(0.5))
        flow, law, move = flow_and_laws(**options)
        cut = replace(flow, block=size)
        for found in (
            lambda f: f.predictor(law),
            lambda f: f.tangent(law, move),
            lambda f: f.pushed(law),
            lambda f: f.pushed(law, move),
            lambda f: f.felt(law.w),
            lambda f: f.weigh(law, move),
            lambda f: f.progress(law),
            lambda f: jax.jvp(f, (law,), (move,))[1],
        ):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12),
                found(cut),
                found(flow),
            )


def test_the_last_block_overlaps_the_one_before():
    rows = jnp.arange(10.0)

    def one(start, size, new):
        part = jax.lax.dynamic_slice_in_dim(rows, start, size)
        return jnp.sum(jnp.where(new, part, 0.0)), part

    total, back = blocks.summed(one, jnp.zeros(()), 10, 4)
    assert total == 45
    np.testing.assert_array_equal(back, rows)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "gamma": 0}])
def test_where_memory_is_short_steps_go_through_blocks(options, short, monkeypatch):
    stage = ak.Stage(task_of(), options.get("gamma", 1.0), duration=3.0)
    stage = replace(stage, weight_decay=options.get("weight_decay", 0.0))
    limit = ak.TwoLayer("tanh", **LIMIT)
    monkeypatch.setattr("adaptik.limits.two_layer.limit.held_at_once", lambda w: 10)
    cut = ak.solve([stage], limit)
    monkeypatch.setattr("adaptik.limits.two_layer.memory.available_bytes", lambda: 10**12)
    whole = ak.solve([stage], limit)
    if stage.richness > 0:
        assert "samples in blocks" in cut.records[0].cost.method
        assert "exponential" in whole.records[0].cost.method
    for split in ("train", "test"):
        found, expected = (s.predictions(stage.task, split)[-1] for s in (cut, whole))
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_memory_in_blocks_is_of_particles_and_samples_not_of_both(monkeypatch):
    def needed(samples, particles):
        X = np.random.default_rng(0).standard_normal((samples, 3))
        task = ak.Task(X, X[:, 0], name="t")
        limit = ak.TwoLayer("relu", particles=particles, replicates=2)
        return limit.predicted_bytes([ak.Stage(task, 1.0)], {"t": task})

    whole = needed(20_000, 2048) - needed(10_000, 2048)
    monkeypatch.setattr("adaptik.limits.two_layer.memory.available_bytes", lambda: 2**28)
    few, many = (needed(20_000, count) - needed(10_000, count) for count in (1024, 2048))
    assert few == many
    assert many < whole / 100


def test_memory_of_accelerators_counts(monkeypatch):
    class Card:
        def memory_stats(self):
            return {"bytes_limit": 1000}

    size, stage = memory.Size(2, 64, INPUTS, 8, False), ak.Stage(task_of(), 1.0)
    assert devices.accelerator_bytes() == np.inf  # tests run on processors
    assert not memory.needs_blocks(stage, size)
    monkeypatch.setattr(jax, "local_devices", lambda: [Card()])
    assert devices.accelerator_bytes() == 1000 * jax.device_count()
    assert memory.needs_blocks(stage, size)
    assert not memory.needs_blocks(replace(stage, richness=0.0), size)  # its kernel stays


@pytest.mark.parametrize(
    "options",
    [dict(weight_decay=0.1), dict(weight_decay=0.1, head_rate=np.inf, duration=1.0),
     dict(rank=2, duration=1.0)],
)  # fmt: skip
def test_stages_that_need_all_fields_at_once_take_them(options, short):
    stage = ak.Stage(task_of(12), 1.0, **options)
    solution = ak.solve([stage], ak.TwoLayer("tanh", **LIMIT))
    assert solution.outcome.ok
    assert "samples in blocks" not in solution.records[0].cost.method
