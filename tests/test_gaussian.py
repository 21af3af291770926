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

from adaptik import activations
from adaptik.mathematics import gaussian, mehler

PHI = {
    "linear": (lambda h: h, lambda h: np.ones_like(h)),
    "relu": (lambda h: np.maximum(h, 0), lambda h: np.where(h > 0, 1.0, 0.0)),
    "erf": (special.erf, lambda h: 2 / math.sqrt(math.pi) * np.exp(-(h**2))),
    "gelu": (
        lambda h: h * special.ndtr(h),
        lambda h: special.ndtr(h) + h * np.exp(-(h**2) / 2) / math.sqrt(2 * math.pi),
    ),
    "leaky_relu(0.2)": (lambda h: np.where(h > 0, h, 0.2 * h), lambda h: np.where(h > 0, 1, 0.2)),
    "sin": (np.sin, np.cos),
    "cos(1.5)": (lambda h: np.cos(1.5 * h), lambda h: -1.5 * np.sin(1.5 * h)),
    "exp(0.7)": (lambda h: np.exp(0.7 * h), lambda h: 0.7 * np.exp(0.7 * h)),
    "tanh": (np.tanh, lambda h: 1 / np.cosh(np.clip(h, -300, 300)) ** 2),
    "sigmoid": (special.expit, lambda h: special.expit(h) * special.expit(-h)),
    "softplus": (lambda h: np.logaddexp(0, h), special.expit),
    "silu": (
        lambda h: h * special.expit(h),
        lambda h: special.expit(h) * (1 + h * special.expit(-h)),
    ),
    "hermite(3)": (lambda h: (h**3 - 3 * h) / math.sqrt(6), lambda h: (3 * h**2 - 3) / 6**0.5),
    "polynomial(0.5, 1, -1)": (lambda h: 0.5 + h - h**2, lambda h: 1 - 2 * h),
}
QUADRATURE = ("tanh", "sigmoid", "softplus", "silu")
CLOSED = tuple(name for name in PHI if name not in QUADRATURE)

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


LEGENDRE = np.polynomial.legendre.leggauss(20)
GRADED = np.concatenate([[0.0], 2.0 ** np.arange(-20, -1), np.linspace(0.25, 1, 13)])


def panels(edges):
    """Gauss-Legendre nodes and weights on every interval between ``edges`` (last axis)."""
    half, middle = np.diff(edges)[..., None] / 2, (edges[..., 1:] + edges[..., :-1])[..., None] / 2
    shape = (*edges.shape[:-1], -1)
    x, weights = LEGENDRE
    return (middle + half * x).reshape(shape), (half * weights).reshape(shape)


def pair_average(function, k11, k12, k22):
    """E[f(u) f(v)] by panels in u and, given u, in v: both get ever finer towards f's kink at 0.

    Good to 1e-12 for all functions here, at any variance; no series, no symmetric splitting.
    """
    s, t = math.sqrt(k11), math.sqrt(k22)
    rho = np.clip(k12 / (s * t), -1, 1)
    own = math.sqrt(max((1 - rho) * (1 + rho), 0.0))
    x, weights = panels(np.concatenate([-13 * GRADED[:0:-1], 13 * GRADED]))
    weights = weights * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    if own < 1e-12:
        return np.sum(weights * function(s * x) * function(rho * t * x))
    kink = np.clip(-rho * x / own, -13, 13)[:, None]
    inner = np.zeros_like(x)
    for end in (-13, 13):
        y, mass = panels(kink + (end - kink) * GRADED)
        mass = np.abs(mass) * np.exp(-(y**2) / 2) / math.sqrt(2 * math.pi)
        inner += np.sum(mass * function(t * (rho * x[:, None] + own * y)), axis=1)
    return np.sum(weights * function(s * x) * inner)


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
    np.testing.assert_allclose(call(gaussian.smoothed, name, mean, spread), exact, atol=3e-7)
    exact = np.vectorize(lambda m, s: average(derivative, m, s))(mean, spread)
    found = call(gaussian.smoothed_derivative, name, mean, spread)
    np.testing.assert_allclose(found, exact, atol=3e-6)


@pytest.mark.parametrize("name", PHI)
def test_without_spread_smoothing_is_the_activation(name):
    mean = np.array([-2.0, -0.3, 0.4, 1.7])
    phi, derivative = PHI[name]
    np.testing.assert_allclose(call(gaussian.smoothed, name, mean, 0.0), phi(mean), atol=1e-12)
    np.testing.assert_allclose(
        call(gaussian.smoothed_derivative, name, mean, 0.0), derivative(mean), atol=1e-12
    )


def relative_errors(name, pairs):
    """Of both products over ``pairs`` of shape (3, n), in units of sqrt(E f(u)^2 E f(v)^2)."""
    activation = activations.get(name)
    errors = []
    for function, average_of in zip(
        PHI[name], (gaussian.product, gaussian.derivative_product), strict=True
    ):
        found = average_of(activation, *pairs)
        for (k11, k12, k22), value in zip(pairs.T, found, strict=True):
            exact = pair_average(function, k11, k12, k22)
            scale = [pair_average(function, k, k, k) for k in (k11, k22)]
            errors.append(abs(value - exact) / math.sqrt(scale[0] * scale[1]))
    return np.array(errors)


def pairs_at(variances, correlations):
    grid = [(k, rho) for k in variances for rho in correlations]
    return np.array([(k, rho * k * math.sqrt(0.9), 0.9 * k) for k, rho in grid]).T


@pytest.mark.parametrize("name", PHI)
def test_pair_products(name):
    tolerance = 1e-8 if name in QUADRATURE else 1e-9
    assert relative_errors(name, PAIRS).max() < tolerance
    assert relative_errors(name, pairs_at([1e-8, 1.3], [-0.99999, 0.999999])).max() < tolerance


@pytest.mark.parametrize("name", ["relu", "erf", "gelu", "hermite(3)", "polynomial(0.5, 1, -1)"])
def test_closed_forms_at_huge_variances(name):
    assert relative_errors(name, pairs_at([1e4, 1e7], [0.3, -0.999])).max() < 1e-9


@pytest.mark.parametrize("name", QUADRATURE)
def test_series_at_large_variances(name):
    # Nearly parallel pairs at large variance leave the series for direct integrals.
    assert relative_errors(name, pairs_at([30, 2000], [-0.995, 0.9999])).max() < 1e-8
    assert relative_errors(name, pairs_at([9000], [0.99])).max() < 1e-5


@pytest.mark.parametrize("terms", [16, 64])
def test_the_error_of_a_truncated_series_is_at_most_its_bound(terms, monkeypatch):
    monkeypatch.setattr(mehler, "TERMS", (terms,))
    monkeypatch.setattr(
        mehler, "_directly", lambda function, *pairs: np.full(len(pairs[0]), np.nan)
    )
    side = mehler.side(jnp.tanh, np.array([25.0]))
    correlation = np.array([0.0, 0.6, 0.9, 0.99])
    bound = side.tail * correlation**terms
    found = mehler.combine(jnp.tanh, side, 25 * correlation, side)
    kept = np.isfinite(found)
    np.testing.assert_array_equal(kept, bound <= mehler.TOLERANCE * side.second)
    exact = [pair_average(np.tanh, 25.0, 25 * rho, 25.0) for rho in correlation]
    series = sum(side.coefficients[:, k] ** 2 * correlation**k for k in range(terms))
    assert (np.abs(series - exact) <= bound + 1e-14).all()
    assert np.abs(series - exact)[-1] > 0.01 * bound[-1]  # the bound is no empty promise


def test_traced_and_evaluated_products_agree():
    # Variance 30, correlation 0.99: direct integrals in both.
    pairs = pairs_at([0.0, 0.7, 30.0], [-0.8, 0.99])
    for name in (*CLOSED, "tanh"):
        for average_of in (gaussian.product, gaussian.derivative_product):
            evaluated = average_of(activations.get(name), *pairs)
            traced = call(jax.jit(average_of, static_argnums=0), name, *pairs)
            np.testing.assert_allclose(traced, evaluated, rtol=3e-8, atol=1e-12)


def test_kinks_away_from_zero_cost_accuracy_as_stated():
    hard = activations.from_callable(lambda h: jnp.clip(h, -1, 1), "hard tanh")

    def exact(k11, k12, k22):  # kinks on panel edges outside, the inner average in closed form
        def ramp(t):
            return t * special.ndtr(t) + np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)

        edges = np.unique([*np.linspace(-13, 13, 400), *(np.array([-1, 1]) / math.sqrt(k11))])
        x, weights = panels(edges)
        u, own = math.sqrt(k11) * x, math.sqrt(k22 - k12**2 / k11)
        centre = k12 / k11 * u
        v = -1 + own * (ramp((centre + 1) / own) - ramp((centre - 1) / own))
        return np.sum(
            weights * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * np.clip(u, -1, 1) * v
        )

    for pair in [(0.7, 0.5, 0.7), (0.7, 0.69, 0.8), (3.0, -2.9, 3.0)]:
        found = gaussian.product(hard, *map(np.array, pair))
        assert found == pytest.approx(exact(*pair), abs=1e-4)


@relaxed
@given(k11=variances, k22=variances, correlation=correlations)
def test_relu_steps_overlap_as_an_orthant(k11, k22, correlation):
    # Sheppard: P(u > 0, v > 0) = 1/4 + asin(rho)/(2 pi), derived without arc-cosine kernels.
    k12 = correlation * math.sqrt(k11 * k22)
    found = call(gaussian.derivative_product, "relu", k11, k12, k22)
    assert found == pytest.approx(0.25 + math.asin(correlation) / (2 * math.pi), abs=1e-12)


@pytest.mark.parametrize("name", (*CLOSED, "tanh"))
def test_price_theorem(name):
    # d E[phi(u) phi(v)]/d k12 = E[phi'(u) phi'(v)], by automatic differentiation, also at parallel
    # and orthogonal inputs.
    activation = activations.get(name)
    rho = np.array([-1, -0.6, 0, 0.4, 1.0])
    with jax.enable_x64(True):
        variance, covariance = jnp.asarray(0.8), jnp.asarray(0.8 * rho)
        slopes = jax.grad(
            lambda k12: jnp.sum(gaussian.product(activation, variance, k12, variance))
        )(covariance)
    expected = call(gaussian.derivative_product, name, 0.8, 0.8 * rho, 0.8)
    np.testing.assert_allclose(slopes, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", (*CLOSED, "tanh"))
def test_gradients_are_finite_everywhere(name):
    activation = activations.get(name)
    with jax.enable_x64(True):
        k11, rho = jnp.asarray([0.0, 0.0, 1.0, 1.0]), jnp.asarray([0.0, 0.0, 1.0, -1.0])
        k22 = jnp.asarray([0.0, 1.0, 1.0, 1.0])
        for average_of in (gaussian.product, gaussian.derivative_product):
            gradients = jax.grad(
                lambda *k, f=average_of: jnp.sum(f(activation, *k)), argnums=(0, 1, 2)
            )(k11, rho, k22)
            assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("name", PHI)
def test_parallel_inputs_give_second_moments(name):
    k = np.array([0.05, 0.7, 2.0])
    second = [average(lambda h: PHI[name][0](h) ** 2, 0.0, math.sqrt(v)) for v in k]
    np.testing.assert_allclose(call(gaussian.product, name, k, k, k), second, rtol=1e-9)


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
    if "relu" not in name:  # their slope at 0 is a convention
        expected = derivative(np.float64(0)) * average(derivative, 0.0, 1.0)
        assert float(slopes) == pytest.approx(expected, abs=1e-4)


def test_polynomial_quadrature_uses_enough_nodes():
    # E[h^6] = 15: one node too few would miss it.
    assert call(gaussian.product, "polynomial(0, 0, 0, 1)", 1.0, 1.0, 1.0) == pytest.approx(15)
    assert call(gaussian.smoothed, "polynomial(0, 0, 0, 0, 1)", 0.0, 1.0) == pytest.approx(3)
