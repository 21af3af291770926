import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from adaptik import activations
from adaptik.system.errors import InputError

REFERENCE = {
    "linear": lambda h: h,
    "relu": lambda h: np.maximum(h, 0),
    "erf": special.erf,
    "tanh": np.tanh,
    "gelu": lambda h: h * special.ndtr(h),  # the exact one, not the tanh approximation
    "softplus": lambda h: np.logaddexp(0, h),
    "sigmoid": special.expit,
    "silu": lambda h: h * special.expit(h),
    "leaky_relu": lambda h: np.where(h > 0, h, 0.01 * h),
    "leaky_relu(-1)": np.abs,
    "sin": np.sin,
    "cos(0.5)": lambda h: np.cos(0.5 * h),
    "exp(-2)": lambda h: np.exp(-2 * h),
    "hermite(0)": lambda h: np.ones_like(h),
    "hermite(2)": lambda h: (h**2 - 1) / math.sqrt(2),
    "hermite(3)": lambda h: (h**3 - 3 * h) / math.sqrt(6),
    "polynomial(1, -2, 0.5)": lambda h: 1 - 2 * h + 0.5 * h**2,
}
GRID = np.linspace(-3, 3, 40)  # without the kink at 0


@pytest.mark.parametrize("name", REFERENCE)
def test_values(name):
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            activations.get(name)(jnp.asarray(GRID)), REFERENCE[name](GRID), rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("name", REFERENCE)
def test_derivatives_against_central_differences(name):
    reference, step = REFERENCE[name], 1e-5
    slope = (reference(GRID + step) - reference(GRID - step)) / (2 * step)
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            activations.get(name).derivative(jnp.asarray(GRID)), slope, rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize("name", REFERENCE)
def test_single_precision_stays_single(name):
    activation = activations.get(name)
    with jax.enable_x64(True):
        h = jnp.asarray(GRID, jnp.float32)
        assert activation(h).dtype == activation.derivative(h).dtype == jnp.float32


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 12), st.integers(0, 12))
def test_hermite_activations_are_orthonormal(j, k):
    x, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / math.sqrt(2 * math.pi)
    with jax.enable_x64(True):
        f, g = (np.asarray(activations.hermite(n)(jnp.asarray(x))) for n in (j, k))
    assert np.sum(weights * f * g) == pytest.approx(float(j == k), abs=1e-8)


def test_a_callable_is_differentiated():
    wave = activations.get(lambda h: jnp.sin(2 * h))
    assert float(wave.derivative(jnp.asarray(0.0))) == pytest.approx(2.0)
    assert wave.degree is None
    assert activations.get(wave) is wave


@pytest.mark.parametrize("name", ["hermite(4)", "polynomial(1,2,0,0,3)"])
def test_names_with_arguments_have_a_degree(name):
    assert activations.get(name).degree == 4


@pytest.mark.parametrize(
    "name",
    [
        "swish",
        "sin(1, 2)",
        "exp(inf)",
        "leaky_relu(x)",
        "hermite",
        "hermite(x)",
        "hermite(1, 2)",
        "polynomial()",
        "polynomial(nan)",
        3,
        None,
    ],
)
def test_unknown_names_are_refused(name):
    with pytest.raises(InputError, match="activation"):
        activations.get(name)


@pytest.mark.parametrize("degree", [-1, 21, 2.5])
def test_hermite_degree_out_of_range(degree):
    with pytest.raises(InputError, match="degree"):
        activations.hermite(degree)


def test_a_name_is_one_object():
    # Compiled functions are kept by activation.
    assert activations.get("leaky_relu(0.3)") is activations.get("leaky_relu( 0.3 )")


def test_a_callable_named_like_a_closed_form_has_none():
    assert activations.from_callable(jnp.tanh, name="erf").family == ""


def halves(h):
    return h[::2]


@pytest.mark.parametrize(
    ("phi", "reason"),
    [
        (jnp.log, "'log' gives nan at h = -12.5"),
        (lambda h: 1 / jnp.floor(h), "gives inf at h = 0.0"),
        (lambda h: jnp.exp(20 * h), "gives .* at h = 2.*up to 6 standard"),
        (lambda h: jnp.sqrt(jnp.maximum(h, 0)), "has the slope nan"),
        (np.tanh, "'tanh' is no elementwise JAX function"),
        (math.tanh, "'tanh' is no elementwise JAX function"),
        (halves, "'halves' is not elementwise|no elementwise"),
        (lambda h: h > 0, "is not elementwise|no elementwise"),
    ],
)
def test_values_that_no_network_can_take(phi, reason):
    with pytest.raises(InputError, match=reason):
        activations.check_finite(activations.get(phi), 1.0)


def test_what_is_finite_where_networks_start_is_taken():
    steep = activations.exp(3.0)
    activations.check_finite(steep, 1.0)
    with pytest.raises(InputError, match=r"'exp\(3.0\)' gives .* up to 6 standard deviations of 4"):
        activations.check_finite(steep, 4.0)
    activations.check_finite(steep, 4.0, dtype="float64")
    with pytest.raises(InputError, match="exp"):  # of the second layer
        activations.check_finite(steep, 1.0, depth=2, dtype="float64")
    for name in REFERENCE:
        activations.check_finite(activations.get(name), 1.0, depth=1 + ("exp" not in name))
