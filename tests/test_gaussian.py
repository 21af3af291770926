"""Closed forms against adaptive quadrature and against each other's independent derivations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.integrate import quad

from adaptik import activations, gaussian

PHI = {
    "linear": (lambda h: h, lambda h: np.ones_like(h)),
    "relu": (lambda h: np.maximum(h, 0), lambda h: np.where(h > 0, 1.0, 0.0)),
    "erf": (special.erf, lambda h: 2 / math.sqrt(math.pi) * np.exp(-(h**2))),
    "gelu": (
        lambda h: h * special.ndtr(h),
        lambda h: special.ndtr(h) + h * np.exp(-(h**2) / 2) / math.sqrt(2 * math.pi),
    ),
    "tanh": (np.tanh, lambda h: 1 / np.cosh(h) ** 2),
    "softplus": (lambda h: np.logaddexp(0, h), special.expit),
    "hermite(3)": (lambda h: (h**3 - 3 * h) / math.sqrt(6), lambda h: (3 * h**2 - 3) / 6**0.5),
    "polynomial(0.5, 1, -1)": (lambda h: 0.5 + h - h**2, lambda h: 1 - 2 * h),
}
CLOSED = ("linear", "relu", "erf", "gelu", "hermite(3)", "polynomial(0.5, 1, -1)")
QUADRATURE = ("tanh", "softplus")

means = st.floats(-3, 3)
spreads = st.floats(0.01, 2)
variances = st.floats(0.05, 2)
correlations = st.floats(-0.99, 0.99)
_rho = np.array([-0.95, -0.6, -0.1, 0.0, 0.3, 0.8, 0.95])
_k11, _k22 = (
    np.array([0.05, 0.4, 2.0, 1.0, 1.0, 0.3, 1.7]),
    np.array([2.0, 1.1, 1.0, 1, 0.1, 0.3, 2]),
)
PAIRS = np.stack([_k11, _rho * np.sqrt(_k11 * _k22), _k22])
relaxed = settings(derandomize=True, deadline=None, max_examples=20)


def density(x):
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def average(function, mean, spread):
    """E[function(mean + spread xi)] by adaptive quadrature that knows where a kink lies."""
    kink = -mean / spread
    points = [kink] if -12 < kink < 12 else None
    return quad(
        lambda x: function(mean + spread * x) * density(x), -12, 12,
        points=points, epsabs=1e-12, epsrel=1e-11, limit=400,
    )[0]  # fmt: skip


def pair_average(function, k11, k12, k22):
    """E[f(u) f(v)]: a dense midpoint rule over u outside, a conditional average inside."""
    slope, rest = k12 / k11, math.sqrt(max(k22 - k12**2 / k11, 0.0))
    outer = np.linspace(-9, 9, 1201)[:-1] + 0.0075  # exponentially accurate but for the kink
    inner = np.linspace(-9, 9, 1201)[:-1] + 0.0075
    weight = np.exp(-(outer**2) / 2) * 0.015 / math.sqrt(2 * math.pi)
    u = math.sqrt(k11) * outer
    v = slope * u[:, None] + rest * inner[None, :]
    return weight @ (function(u) * (function(v) @ weight))


def call(function, name, *arguments):
    with jax.enable_x64(True):
        arrays = [jnp.asarray(a, jnp.float64) for a in arguments]
        return np.asarray(function(activations.get(name), *arrays))


@pytest.mark.parametrize("name", CLOSED)
@relaxed
@given(mean=means, spread=spreads)
def test_smoothing_in_closed_form(name, mean, spread):
    phi, derivative = PHI[name]
    found = call(gaussian.smoothed, name, mean, spread)
    assert found == pytest.approx(average(phi, mean, spread), rel=1e-8, abs=1e-9)
    found = call(gaussian.smoothed_derivative, name, mean, spread)
    assert found == pytest.approx(average(derivative, mean, spread), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("name", QUADRATURE)
def test_smoothing_by_quadrature(name):
    phi, derivative = PHI[name]
    mean, spread = np.meshgrid(np.linspace(-3, 3, 7), [0.01, 0.5, 1.0, 1.4])
    exact = np.vectorize(lambda m, s: average(phi, m, s))(mean, spread)
    np.testing.assert_allclose(call(gaussian.smoothed, name, mean, spread), exact, atol=2e-4)
    exact = np.vectorize(lambda m, s: average(derivative, m, s))(mean, spread)
    found = call(gaussian.smoothed_derivative, name, mean, spread)
    np.testing.assert_allclose(found, exact, atol=2e-3)


@pytest.mark.parametrize("name", PHI)
def test_without_spread_smoothing_is_the_activation(name):
    mean = np.array([-2.0, -0.3, 0.4, 1.7])
    phi, derivative = PHI[name]
    np.testing.assert_allclose(call(gaussian.smoothed, name, mean, 0.0), phi(mean), atol=1e-12)
    np.testing.assert_allclose(
        call(gaussian.smoothed_derivative, name, mean, 0.0), derivative(mean), atol=1e-12
    )


@pytest.mark.parametrize("name", PHI)
def test_pair_products(name):
    phi, derivative = PHI[name]
    found = call(gaussian.product, name, *PAIRS), call(gaussian.derivative_product, name, *PAIRS)
    # The reference is coarse at a kink or step; a factor 2 would be 0.01 at least.
    loose = name == "relu"
    for k, (k11, k12, k22) in enumerate(PAIRS.T):
        reference = pair_average(phi, k11, k12, k22)
        assert found[0][k] == pytest.approx(reference, rel=2e-4 if loose else 1e-5, abs=2e-5)
        reference = pair_average(derivative, k11, k12, k22)
        assert found[1][k] == pytest.approx(reference, abs=4e-3 if loose else 1e-4)


@relaxed
@given(k11=variances, k22=variances, correlation=correlations)
def test_relu_steps_overlap_as_an_orthant(k11, k22, correlation):
    # Sheppard: P(u > 0, v > 0) = 1/4 + asin(rho)/(2 pi), derived without arc-cosine kernels.
    k12 = correlation * math.sqrt(k11 * k22)
    found = call(gaussian.derivative_product, "relu", k11, k12, k22)
    assert found == pytest.approx(0.25 + math.asin(correlation) / (2 * math.pi), abs=1e-12)


@pytest.mark.parametrize("name", PHI)
def test_price_theorem(name):
    # d E[phi(u) phi(v)] / d k12 = E[phi'(u) phi'(v)]
    k11, k12, k22 = PAIRS
    step = 1e-4
    around = k12 + step * np.array([[-1], [1]])
    below, above = call(gaussian.product, name, k11, around, k22)
    slope = call(gaussian.derivative_product, name, k11, k12, k22)
    tolerance = 2e-4 if name in QUADRATURE else 1e-5
    np.testing.assert_allclose((above - below) / (2 * step), slope, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("name", PHI)
def test_parallel_inputs_give_second_moments(name):
    k = np.array([0.05, 0.7, 2.0])
    second = [average(lambda h: PHI[name][0](h) ** 2, 0.0, math.sqrt(v)) for v in k]
    np.testing.assert_allclose(call(gaussian.product, name, k, k, k), second, rtol=1e-5)


@pytest.mark.parametrize("name", PHI)
def test_the_smoothed_slope_is_the_slope_of_the_smoothed_value(name):
    mean, spread, step = np.linspace(-3, 3, 9), np.linspace(0.01, 2, 9), 1e-5
    around = mean + step * np.array([[-1], [1]])
    below, above = call(gaussian.smoothed, name, around, spread)
    slope = call(gaussian.smoothed_derivative, name, mean, spread)
    np.testing.assert_allclose((above - below) / (2 * step), slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("k", range(5))
def test_hermite_products_are_powers_of_the_correlation(k):
    rho = np.linspace(-1, 1, 9)
    found = call(gaussian.product, f"hermite({k})", 1.0, rho, 1.0)
    np.testing.assert_allclose(found, rho**k, atol=1e-12)


@pytest.mark.parametrize("name", PHI)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_zero_variance_is_no_division_by_zero(name, dtype):
    phi, derivative = PHI[name]
    with jax.enable_x64(True):
        zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
        product = gaussian.product(activations.get(name), zero, zero, one)
        slopes = gaussian.derivative_product(activations.get(name), zero, zero, one)
    expected = phi(np.float64(0)) * average(phi, 0.0, 1.0)
    assert product.dtype == slopes.dtype == dtype
    assert float(product) == pytest.approx(expected, abs=1e-4)
    if name != "relu":  # its slope at 0 is a convention
        expected = derivative(np.float64(0)) * average(derivative, 0.0, 1.0)
        assert float(slopes) == pytest.approx(expected, abs=1e-4)


def test_polynomial_quadrature_uses_enough_nodes():
    # E[h^6] = 15: one node too few would miss it.
    assert call(gaussian.product, "polynomial(0, 0, 0, 1)", 1.0, 1.0, 1.0) == pytest.approx(15)
    assert call(gaussian.smoothed, "polynomial(0, 0, 0, 0, 1)", 0.0, 1.0) == pytest.approx(3)
