"""Lazy kernels against wide networks, against each other, and what is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptik import activations
from adaptik.kernels import lazy
from adaptik.kernels.lazy import kernels, nngp, ntk, propagate
from adaptik.system.errors import InputError, MemoryLimitError


def inputs(n=7, D=12, seed=0):
    return np.random.default_rng(seed).normal(size=(n, D))


def test_one_linear_layer():
    X = inputs()
    K = X @ X.T / 12
    both = kernels(X, depth=1, activation="linear", weight_variance=2.0, bias_variance=0.5)
    np.testing.assert_allclose(both.nngp, 2 * (2 * K + 0.5) + 0.5, rtol=1e-13)
    np.testing.assert_allclose(both.features, 2 * (2 * K + 0.5), rtol=1e-13)


def test_a_deep_linear_ntk_is_a_layer_times_the_input_kernel():
    X = inputs()
    np.testing.assert_allclose(ntk(X, depth=4, activation="linear"), 5 * X @ X.T / 12, rtol=1e-13)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_depth_one_is_the_two_layer_kernel(activation):
    X, X2 = inputs(), inputs(4, seed=1)
    k11, k22 = (np.sum(x * x, axis=1) / 12 for x in (X, X2))
    K = X @ X2.T / 12
    feature, gradient = lazy.two_layer(activations.get(activation), k11, K, k22)
    both = kernels(X, X2, depth=1, activation=activation)
    np.testing.assert_allclose(both.nngp, feature, rtol=1e-12)
    np.testing.assert_allclose(both.ntk, feature + gradient * K, rtol=1e-12)


def test_the_ntk_is_the_sum_over_layers():
    # theory section 4: sum_l G_{l+1} Phi_l, built the other way round, from the head down.
    K = inputs() @ inputs().T / 12
    features, slopes, phi = [K], [], activations.get("erf")
    for _ in range(3):
        v = np.diag(features[-1])
        feature, gradient = lazy.two_layer(phi, v, features[-1], v)
        features.append(feature)
        slopes.append(gradient)
    total, back = features[3], np.ones_like(K)
    for level in (2, 1, 0):
        back = back * slopes[level]
        total = total + back * features[level]
    np.testing.assert_allclose(ntk(inputs(), depth=3, activation="erf"), total, rtol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh", "hermite(3)"])
def test_tiles_symmetry_and_positivity(activation, monkeypatch):
    monkeypatch.setattr(lazy, "TILE", 4)
    X = inputs(15)
    X[3] = X[8]  # duplicates: the matrix is singular
    X[5] = -X[2]
    X[6] = 0
    both = kernels(X, depth=3, activation=activation, weight_variance=1.5)
    rows, columns = slice(2, 9), slice(5, 15)
    for which, K in enumerate(both):
        assert (K == K.T).all()
        values = np.linalg.eigvalsh(K)
        assert values[0] > -1e-7 * values[-1]  # E phi' phi' of near-parallel inputs: sqrt(eps)
        block = kernels(X[rows], X[columns], depth=3, activation=activation, weight_variance=1.5)
        np.testing.assert_allclose(block[which], K[rows, columns], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        nngp(X, depth=3, activation=activation, weight_variance=1.5), both.nngp, rtol=1e-14
    )


def test_well_separated_inputs_give_positive_kernels_to_rounding():
    for activation in ("relu", "tanh", "erf"):
        values = np.linalg.eigvalsh(ntk(inputs(200, 8), depth=3, activation=activation))
        assert values[0] > -1e-13 * values[-1]


def test_the_recursion_can_be_traced_and_differentiated():
    X = inputs(4)

    def total(X, weight_variance):
        K = X @ X.T / 12
        v = jnp.diag(K)
        parts = propagate(
            activations.get("relu"), v[:, None], K, v[None], depth=2,
            weight_variance=weight_variance, bias_variance=0.1,
        )  # fmt: skip
        return jnp.sum(parts[1])

    with jax.enable_x64(True):
        X_, s = jnp.asarray(X), jnp.asarray(1.3)
        value, slopes = jax.jit(jax.value_and_grad(total, (0, 1)))(X_, s)

    def at(X, s):
        return ntk(X, depth=2, activation="relu", weight_variance=s, bias_variance=0.1).sum()

    assert float(value) == pytest.approx(at(X, 1.3), rel=1e-12)
    step = 1e-5
    assert float(slopes[1]) == pytest.approx(
        (at(X, 1.3 + step) - at(X, 1.3 - step)) / (2 * step), rel=1e-7
    )
    moved = [X.copy(), X.copy()]
    moved[0][1, 2] += step
    moved[1][1, 2] -= step
    slope = (at(moved[0], 1.3) - at(moved[1], 1.3)) / (2 * step)
    assert float(slopes[0][1, 2]) == pytest.approx(slope, rel=1e-6)


def test_progress_shows_on_request(capsys):
    nngp(inputs(), depth=1, activation="relu")
    assert capsys.readouterr().out == ""
    nngp(inputs(), depth=1, activation="relu", progress=True)
    assert "Gram matrix" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(depth=0), "depth"),
        (dict(depth=1.5), "depth"),
        (dict(weight_variance=-1.0), "weight_variance"),
        (dict(bias_variance=math.nan), "bias_variance"),
        (dict(activation="swish"), "unknown activation"),
        (dict(X=np.ones(3)), "X must have shape"),
        (dict(X=np.full((2, 3), np.nan)), "NaN"),
        (dict(X2=np.ones((2, 5))), "features"),
        (dict(X=1e9 * np.ones((2, 3)), activation="exp"), "overflows"),
    ],
)
def test_bad_input(changes, message):
    arguments = dict(X=np.ones((2, 3)), X2=None, depth=2, activation="relu") | changes
    with pytest.raises(InputError, match=message):
        ntk(**arguments)


def test_what_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr("adaptik.system.memory.available_bytes", lambda: 10**6)
    with pytest.raises(MemoryLimitError, match="Gram matrix"):
        ntk(inputs(), depth=1, activation="relu")


WIDTH, DEPTHS, BLOCKS = 8192, 6, 8


def _blocks(seed, layer):
    """Rows of W_layer in blocks, drawn anew whenever asked for: six of them would fill memory."""
    for block in range(BLOCKS):
        rng = np.random.default_rng([seed, layer, block])
        yield rng.standard_normal((WIDTH // BLOCKS, WIDTH), np.float32)


def empirical(X, phi, slope, s_w, s_b, seed):
    """NNGP and NTK of one network at initialisation, for heads on each of its hidden layers."""
    rng, (n, D) = np.random.default_rng(seed), X.shape
    fields, features = [], []
    for layer in range(DEPTHS):
        if layer == 0:
            h = X @ rng.standard_normal((WIDTH, D)).T / math.sqrt(D)
        else:
            h = np.concatenate(
                [np.float32(features[-1]) @ W.T for W in _blocks(seed, layer)], axis=1
            ) / math.sqrt(WIDTH)
        h = math.sqrt(s_w) * h + math.sqrt(s_b) * rng.standard_normal(WIDTH)
        fields.append(h)
        features.append(phi(h))
    below = [s_w * X @ X.T / D + s_b, *(s_w * f @ f.T / WIDTH + s_b for f in features)]
    # g_l of the heads on layers l .. L, shape (heads, n, N), from the last layer down.
    ntks = {d: below[d + 1].copy() for d in range(DEPTHS)}
    g = np.empty((0, n, WIDTH))
    for layer in reversed(range(DEPTHS)):
        if len(g):
            flat = np.float32(g.reshape(-1, WIDTH))
            parts = np.split(flat, BLOCKS, axis=1)
            back = sum(p @ W for p, W in zip(parts, _blocks(seed, layer + 1), strict=True))
            g = math.sqrt(s_w / WIDTH) * np.asarray(back).reshape(g.shape)
        head = math.sqrt(s_w) * rng.standard_normal(WIDTH)
        g = np.concatenate([np.broadcast_to(head, (1, n, WIDTH)), g]) * slope(fields[layer])
        for i, d in enumerate(range(layer, DEPTHS)):
            ntks[d] += (g[i] @ g[i].T / WIDTH) * below[layer]
    return np.array(below[1:]), np.array([ntks[d] for d in range(DEPTHS)])


@pytest.mark.evidence
def test_networks_of_width_8192_at_depths_1_to_6():
    X, seeds, s_w, s_b = inputs(3, 5), 3, 2.0, 0.1

    def relu(h):
        return np.maximum(h, 0)

    found = np.array([empirical(X, relu, lambda h: h > 0, s_w, s_b, k) for k in range(seeds)])
    for depth in range(1, DEPTHS + 1):
        exact = kernels(X, depth=depth, activation="relu", weight_variance=s_w, bias_variance=s_b)
        for which, K in enumerate(exact):
            networks = found[:, which, depth - 1]
            # Entries of one kernel fluctuate together: one statistic a kernel. A layer too many
            # would change the NTK by 14 % or more.
            gap = np.linalg.norm(networks.mean(0) - K) / np.linalg.norm(K)
            spread = np.linalg.norm(networks.std(0, ddof=1)) / np.linalg.norm(K)
            assert gap < 4 * spread / math.sqrt(seeds) + 0.002, (depth, which)
            assert gap < 0.06
