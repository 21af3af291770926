"""The two solvers against diffrax's Tsit5 on small nonlinear least-squares flows."""

from fractions import Fraction
from math import factorial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from adaptik.mathematics.stepping import (
    AbstractLinearisation,
    Chebyshev,
    Exponential,
    Linearised,
    LinearisedFlow,
    integrate,
    outcome,
)
from adaptik.mathematics.stepping.exponential import _divided, phi_functions
from adaptik.solution import Outcome


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


class Linearisation(AbstractLinearisation):
    scatter: Float[Array, "n modes"]  # J^T V, with J the Jacobian of the predictor
    samples: int

    def spread(self, u):
        return self.scatter @ u[0] / self.samples

    def read(self, v):
        return (self.scatter.T @ v)[None]


class Fit(LinearisedFlow):
    """Gradient flow of mean((y - f(w))^2)/2 with f = X w + bend tanh(X w), and weight decay."""

    X: Float[Array, "P n"]
    y: Float[Array, " P"]
    bend: Float[Array, ""]
    decay: Float[Array, ""]

    def predict(self, w):
        return self.X @ w + self.bend * jnp.tanh(self.X @ w)

    def __call__(self, w):
        f, pull = jax.vjp(self.predict, w)
        return pull((self.y - f) / len(self.y))[0] - self.decay * w

    def losses(self, w):
        return jnp.mean((self.y - self.predict(w)) ** 2)[None]

    def weigh(self, w, error):
        return jnp.sqrt(jnp.mean((self.X @ error) ** 2))

    def linearise(self, w, memory=None):
        J = jax.jacobian(self.predict)(w)
        rates, vectors = jnp.linalg.eigh(J @ J.T / len(self.y))
        return Linearised(
            stiff=Linearisation(J.T @ vectors, len(self.y)),
            velocity=self(w),
            rates=jnp.maximum(rates, 0.0)[None],
            decay=self.decay,
        )


def fit(bend=0.5, decay=0.1, stiffness=1.0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(5, 8)) * np.sqrt(stiffness ** np.linspace(0, 1, 5))[:, None]
    # Arrays only, and one `keep` below: all tests then share a few compiled programs.
    return Fit(*(jnp.asarray(a) for a in (X, rng.normal(size=5), bend, decay)))


START = jnp.full(8, 0.3)


def keep(t, y):
    return y


@eqx.filter_jit
def _solve(flow, solver, controller, t, first, max_steps):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: args(y)), solver, 0.0, t, first, START, args=flow,
        stepsize_controller=controller, max_steps=max_steps,
    ).ys[0]  # fmt: skip


def reference(flow, t):
    controller = diffrax.PIDController(rtol=1e-11, atol=1e-12)
    return np.asarray(_solve(flow, diffrax.Tsit5(), controller, jnp.asarray(t), 1e-3, 400_000))


def constant_steps(solver, flow, t, steps):
    first = jnp.asarray(t / steps)
    return np.asarray(_solve(flow, solver, diffrax.ConstantStepSize(), jnp.asarray(t), first, 64))


def run(
    flow,
    solver,
    duration=2.0,
    record_times=(0.0,),
    snapshots=(),
    tol=1e-7,
    max_steps=4000,
    record=None,
    **limits,
):
    limits = dict(loss_tol=-1.0, rate_tol=-1.0) | limits
    return integrate(
        flow, START, record or keep, solver,
        duration=jnp.asarray(duration), record_times=jnp.asarray(record_times, float),
        snapshot_times=jnp.asarray(snapshots, float), tol=jnp.asarray(tol), max_steps=max_steps,
        **{k: jnp.asarray(v) for k, v in limits.items()},
    )  # fmt: skip


@pytest.mark.parametrize("times", [(0.0,), (0.3,), (0.0, 0.3)])
def test_only_record_times_and_the_end_are_recorded(times):
    seen = []

    def record(t, y):
        jax.debug.callback(lambda t: seen.append(float(t)), t)
        return keep(t, y)

    found = run(fit(), Chebyshev(), record_times=times, record=record)
    jax.effects_barrier()
    assert sorted(seen) == pytest.approx([*times, 2.0]) and int(found.steps) > 3
    np.testing.assert_array_equal(found.record_times, times)


@pytest.mark.parametrize("x", [-0.0, -1e-9, -1e-3, -0.3, -0.999, -1.0, -1.001, -7.5, -40.0])
def test_phi_functions_against_exact_series(x):
    # phi_k(x) = sum_j x^j/(j + k)!, in rational arithmetic: no cancellation.
    exact, found = Fraction(x), phi_functions(jnp.asarray(x), 4)
    for k in range(5):
        series = sum(exact**j / factorial(j + k) for j in range(200))
        # The upward recursion divides rounding errors by |x| >= 1 only.
        assert float(found[k]) == pytest.approx(float(series), rel=1e-12, abs=3e-15)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("decay", [0.0, 0.7])
@pytest.mark.parametrize("rate", [1e-12, 0.9e-4, 1.1e-4, 0.3, 50.0])
def test_divided_differences(k, decay, rate):
    h = 1.3

    def phi(x):
        x = Fraction(x)
        return sum(x**j / factorial(j + k) for j in range(300))

    at, shift = Fraction(-h * decay), Fraction(h * rate)
    exact = float((phi(at - shift) - phi(at)) / Fraction(rate))
    assert float(_divided(h, jnp.asarray(rate), decay)[k - 1]) == pytest.approx(exact, rel=3e-8)


def test_a_linear_flow_is_exact_in_one_exponential_step():
    flow = fit(bend=0.0, decay=0.2, stiffness=1e3)
    found = constant_steps(Exponential(), flow, 3.0, 1)
    A = -np.asarray(flow.X.T @ flow.X) / 5 - 0.2 * np.eye(8)
    drive = np.asarray(flow.X.T @ flow.y) / 5
    rest = np.linalg.solve(A, -drive)
    values, vectors = np.linalg.eigh(A)
    moved = vectors @ (np.exp(3.0 * values) * (vectors.T @ (np.asarray(START) - rest)))
    np.testing.assert_allclose(found, rest + moved, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("solver", "order"), [(Exponential(), 3), (Chebyshev(), 2)])
def test_order_of_convergence(solver, order):
    flow = fit()
    exact = reference(flow, 2.0)
    errors = [np.abs(constant_steps(solver, flow, 2.0, n) - exact).max() for n in (8, 16, 32)]
    slopes = np.log2(np.divide(errors[:-1], errors[1:]))
    # A wrong coefficient leaves order one less.
    assert (slopes > order - 0.35).all(), (errors, slopes)


@pytest.mark.parametrize("solver", [Exponential(), Chebyshev()])
@pytest.mark.parametrize("stiffness", [1.0, 1e3])
def test_adaptive_steps_meet_their_tolerance(solver, stiffness):
    flow = fit(stiffness=stiffness)
    found = run(flow, solver, tol=1e-7)
    assert float(flow.weigh(START, found.end - reference(flow, 2.0))) < 1e-5
    assert outcome(found, -1.0, -1.0) is Outcome.REACHED_DURATION
    coarse = run(flow, solver, tol=1e-3)
    assert int(coarse.steps) < int(found.steps)


@pytest.mark.parametrize("solver", [Exponential(), Chebyshev()])
def test_stiffness_costs_few_steps(solver):
    flow = fit(bend=0.2, stiffness=1e5)
    found = run(flow, solver, tol=1e-4)
    # An explicit method of order two to five is stable up to h |lambda| of about 3.
    explicit = 2.0 * float(jnp.linalg.eigvalsh(flow.X.T @ flow.X / 5)[-1]) / 3
    assert int(found.steps) < explicit / 50, (int(found.steps), explicit)


def test_records_and_snapshots_lie_on_the_trajectory():
    flow = fit()
    found = run(flow, Exponential(), record_times=(0.0, 0.5, 1.25, 2.0), snapshots=(0.8,))
    np.testing.assert_allclose(found.recorded[0], START)
    for y, t in zip(found.recorded[1:], (0.5, 1.25, 2.0), strict=True):
        np.testing.assert_allclose(y, reference(flow, t), atol=1e-5)
    np.testing.assert_allclose(found.snapshots[0], reference(flow, 0.8), atol=1e-5)
    assert float(found.end_time) == pytest.approx(2.0)
    assert float(found.loss) == pytest.approx(float(flow.loss(found.end)))


def test_the_reported_rate_is_the_fall_of_the_loss():
    flow, step = fit(), 1e-4
    before, after = (float(flow.loss(reference(flow, 1.0 + s))) for s in (-step, step))
    _, rate = flow.loss_and_rate(jnp.asarray(reference(flow, 1.0)))
    assert float(rate) == pytest.approx((before - after) / (2 * step), rel=1e-5)


def test_outcomes():
    tolerances = dict(loss_tol=1e-3, rate_tol=1e-3)
    converged = run(fit(decay=0.0), Exponential(), duration=1e6, **tolerances)
    assert outcome(converged, 1e-3, 1e-3) is Outcome.CONVERGED
    assert float(converged.loss) <= 1e-3 and float(converged.end_time) < 1e6

    out_of_reach = eqx.tree_at(lambda f: f.X, fit(decay=0.0), fit().X.at[0].set(0.0))
    stalled = run(out_of_reach, Exponential(), duration=1e6, **tolerances)
    assert outcome(stalled, 1e-3, 1e-3) is Outcome.STALLED

    short = run(fit(decay=0.0), Exponential(), duration=1e6, max_steps=3, **tolerances)
    assert outcome(short, 1e-3, 1e-3) is Outcome.OUT_OF_STEPS

    late = run(fit(decay=0.0), Exponential(), duration=1e-3, **tolerances)
    assert outcome(late, 1e-3, 1e-3) is Outcome.OUT_OF_STEPS  # the horizon, not a duration


class Explosion(Fit):
    def __call__(self, w):
        return jnp.exp(w)


def test_divergence_is_an_outcome():
    flow = fit()
    flow = Explosion(flow.X, flow.y, flow.bend, flow.decay)
    found = run(flow, Chebyshev(), duration=10.0, tol=1e-3)
    assert outcome(found, -1.0, -1.0) is Outcome.DIVERGED
