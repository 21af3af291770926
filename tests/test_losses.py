import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptik.mathematics import losses
from adaptik.system.errors import InputError

# (loss, outputs, objective / reported loss): the squared error is reported without its 1/2.
CASES = [("squared", 1, 0.5), ("squared", 3, 0.5), ("logistic", 1, 1.0), ("logistic", 3, 1.0)]
cases = pytest.mark.parametrize(("name", "outputs", "share"), CASES)
relaxed = settings(derandomize=True, deadline=None, max_examples=20)


def draw(name, outputs, seed, scale=1.5):
    rng = np.random.default_rng(seed)
    f = scale * rng.normal(size=(2, 4, outputs))  # two members, four samples
    if name == "squared":
        y = rng.normal(size=(4, outputs))
    elif outputs == 1:
        y = rng.choice([-1.0, 1.0], size=(4, 1))
    else:
        y = np.eye(outputs)[rng.integers(outputs, size=4)]
    return f, y


def gradient(function, f, step=1e-5):
    """Central differences in each output, on a new last axis."""
    columns = []
    for c in range(f.shape[-1]):
        shift = step * np.eye(f.shape[-1])[c]
        columns.append(np.asarray(function(f + shift)) - np.asarray(function(f - shift)))
    return np.stack(columns, -1) / (2 * step)


@cases
@relaxed
@given(seed=st.integers(0, 10**6))
def test_signal_is_minus_the_slope_of_the_objective(name, outputs, share, seed):
    loss = losses.get(name)
    f, y = draw(name, outputs, seed)
    with jax.enable_x64(True):
        slope = gradient(lambda f: loss.value(f, y), f)
        np.testing.assert_allclose(loss.signal(f, y), -share * slope, atol=1e-8)
    assert loss.rate_factor == 1 / share


@cases
@relaxed
@given(seed=st.integers(0, 10**6))
def test_curvature_root_squares_to_the_hessian(name, outputs, share, seed):
    loss = losses.get(name)
    f, y = draw(name, outputs, seed)
    with jax.enable_x64(True):
        root = np.asarray(loss.curvature_root(f, y))
        hessian = -gradient(lambda f: loss.signal(f, y), f)
    np.testing.assert_allclose(root @ np.swapaxes(root, -1, -2), hessian, atol=1e-8)


def test_reported_values():
    y = np.array([[1.0], [-1.0]])
    zero = np.zeros((2, 1))
    np.testing.assert_allclose(losses.SQUARED.value(zero, y), [1, 1])
    np.testing.assert_allclose(losses.LOGISTIC.value(zero, y), np.log([2, 2]), rtol=1e-6)
    np.testing.assert_allclose(losses.SQUARED.value(np.zeros((1, 2)), np.ones((1, 2))), [2])
    many = losses.LOGISTIC.value(np.zeros((2, 4)), np.eye(4)[:2])
    np.testing.assert_allclose(many, np.log([4, 4]), rtol=1e-6)


def test_large_predictions_stay_finite():
    f = np.array([[1e4], [-1e4]])
    for sign in (1.0, -1.0):
        y = np.full((2, 1), sign)
        assert np.isfinite(losses.LOGISTIC.value(f, y)).all()
        assert np.isfinite(losses.LOGISTIC.curvature_root(f, y)).all()


@cases
def test_single_precision_stays_single(name, outputs, share):
    loss = losses.get(name)
    f, y = draw(name, outputs, 0)
    with jax.enable_x64(True):
        f, y = jnp.asarray(f, jnp.float32), jnp.asarray(y, jnp.float32)
        for function in (loss.value, loss.signal, loss.curvature_root):
            assert function(f, y).dtype == jnp.float32


def test_unknown_loss():
    with pytest.raises(InputError, match="loss='hinge'"):
        losses.get("hinge")
