"""Source stages that are stopped or regularised for the target's sake (theory section 3.7)."""

import itertools

import jax
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

import adaptik as ak
from adaptik import linear_theory as lt

NOISY = dict(nu_source=2.0, source_noise=1.0)


def test_a_long_source_stage_is_one_that_runs_to_its_end():
    nu_source, noise = np.array([0.4, 2.0]), np.array([0.5, 0.1])
    source = dict(nu_source=nu_source, source_noise=noise)
    for finetune, head in itertools.product(("readout", "all"), ("fresh", "kept")):
        modes = dict(source, finetune=finetune, head=head, target_noise=0.1)
        found = lt.stopped_transfer_loss(0.7, 0.4, 5.0, 1e3, **modes)
        np.testing.assert_allclose(found, lt.transfer_loss(0.7, 0.4, 5.0, **modes), rtol=1e-6)


def test_the_lazy_flow_is_that_of_the_spectrum():
    """The moments by adaptive quadrature over the law of Marchenko and Pastur."""
    nu, noise, time = 0.5, 0.3, 0.4
    low, high = (1 - nu**-0.5) ** 2, (1 + nu**-0.5) ** 2

    def average(f):
        def integrand(S):
            return f(S) * nu * np.sqrt((high - S) * (S - low)) / (2 * np.pi * S)

        return quad(integrand, low, high)[0]

    m, q, loss = lt.stopped_source(time, 0.0, nu_source=nu, source_noise=noise)
    phi = lambda S: -np.expm1(-2 * S * time) / S  # noqa: E731
    assert m == pytest.approx(average(lambda S: S * phi(S)), rel=1e-6)
    assert q == pytest.approx(average(lambda S: phi(S) ** 2 * (S**2 + noise * S / nu)), rel=1e-6)
    assert loss == pytest.approx(1 - 2 * m + q)


def flow(richness, times, rng, *, nu_source, source_noise, dimension):
    """beta_hat of a flow of the moments M, v, a of theory section 3.1, the teacher being e_1."""
    D = dimension
    X = rng.standard_normal((round(nu_source * D), D))
    y = X[:, 0] + np.sqrt(source_noise) * rng.standard_normal(len(X))

    def slope(t, state):
        M, v, a = state[: D * D].reshape(D, D), state[D * D : -1], state[-1]
        r = X.T @ (y - X @ v) / len(X)
        pushed = richness**2 * np.outer(v, r)
        return np.concatenate([(pushed + pushed.T).ravel(), M @ r + a * r, [2 * np.trace(pushed)]])

    start = np.concatenate([np.eye(D).ravel(), np.zeros(D), [1.0]])
    solved = solve_ivp(slope, (0.0, times[-1]), start, t_eval=times, rtol=1e-5, atol=1e-7)
    return solved.y[D * D : -1].T


@pytest.mark.parametrize("richness", [1.0, 10.0])
def test_flows_of_finite_samples_are_where_theory_says(richness):
    times, D, draws = np.array([0.05, 0.3]), 80, 40
    rng = np.random.default_rng(0)
    beta = np.array([flow(richness, times, rng, **NOISY, dimension=D) for _ in range(draws)])
    measured = np.stack([beta[..., 0], (beta**2).sum(-1)])
    theory = np.array(lt.stopped_source(times, richness, **NOISY)[:2])
    error = measured.std(1, ddof=1) / np.sqrt(draws)
    apart = (measured.mean(1) - theory) / np.hypot(error, theory / D)
    assert np.abs(apart).max() < 3 and (error / theory).max() < 0.1, apart
    lazy = np.array(lt.stopped_source(times, 0.0, **NOISY)[:2])
    if richness > 1:  # what a lazy flow has learned by then is told apart
        late = measured.mean(1)[:, 1] - lazy[:, 1]
        assert np.all(np.abs(late) > 5 * error[:, 1])


def test_the_best_time_is_that_of_a_scan():
    times, richness = np.geomspace(0.02, 20, 60), np.array([[4.0], [30.0]])
    scan = lt.stopped_transfer_loss(0.8, 0.4, richness, times, **NOISY, target_noise=0.1)
    own = lt.stopped_source(times, richness, **NOISY).loss
    best = lt.best_source_time(0.8, 0.4, richness[:, 0], **NOISY, target_noise=0.1)
    np.testing.assert_allclose(best.target, times[scan.argmin(1)], rtol=0.13)
    np.testing.assert_allclose(best.source, times[own.argmin(1)], rtol=0.13)
    at_end = lt.transfer_loss(0.8, 0.4, richness[:, 0], **NOISY, target_noise=0.1)
    np.testing.assert_allclose(best.gain, 1 - scan.min(1) / at_end, atol=1e-3)
    at_own, at_best = (
        lt.stopped_transfer_loss(0.8, 0.4, richness[:, 0], t, **NOISY, target_noise=0.1)
        for t in (best.source, best.target)
    )
    np.testing.assert_allclose(best.gain_over_source, 1 - at_best / at_own, atol=1e-4)


def test_the_target_wants_more_source_training_than_the_source():
    richness = np.array([0.1, 1.0, 4.0, 30.0, 1e4])
    settings = [dict(nu_source=nu, source_noise=s) for nu in (0.4, 2.0) for s in (0.2, 1.0)]
    for source in settings:
        time = lt.best_source_time(1.0, 0.4, richness, **source)
        assert np.all(time.target >= time.source) and np.isinf(time.target[0])
        assert np.all(np.diff(time.gain) >= 0) and time.gain[0] == 0 < time.gain[-1]
        assert np.all(time.gain_over_source >= 0)
        ridge = lt.best_source_ridge(1.0, 0.4, richness, **source)
        np.testing.assert_allclose(ridge.source, source["source_noise"], rtol=0.02)
        assert ridge.target[0] == 0 and ridge.target[-1] == ridge.source[-1]
        assert np.all(np.diff(ridge.target) >= 0)
        # The direction of a ridge is better than that of a stopped flow.
        assert ridge.gain[-1] > time.gain[-1]


def test_label_noise_of_the_source_never_helps():
    noise = np.linspace(0, 2, 9)
    for nu, richness in itertools.product((0.4, 0.9, 3.0), (0.1, 1.0, 10.0, 100.0)):
        loss = lt.transfer_loss(0.8, 0.4, richness, nu_source=nu, source_noise=noise)
        assert np.diff(loss).min() > -1e-12


def test_edges():
    clean = lt.best_source_time(0.5, 0.4, 2.0, nu_source=0.5)
    assert np.isinf(clean.target) and np.isinf(clean.source) and clean.gain == 0
    filled = lt.best_source_time(0.5, 1.5, 2.0, **NOISY)
    assert filled.gain == filled.gain_over_source == 0
    assert np.isfinite(lt.best_source_time(0.5, 0.4, 2.0, nu_source=1.0, source_noise=0.3).target)


def test_gradients_are_those_of_finite_differences():
    def loss(t):
        settings = dict(nu_source=0.5 + t, source_noise=0.3 + t)
        return lt.stopped_transfer_loss(0.6, 0.4, 3.0 + t, 0.2 + t, **settings)

    with jax.enable_x64(True):
        np.testing.assert_allclose(
            jax.grad(loss)(0.0), (loss(1e-5) - loss(-1e-5)) / 2e-5, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(source_time=0.0), "source_time must be above 0 and finite, got 0"),
        (dict(source_time=np.inf), "source_time must be above 0 and finite"),
        (dict(richness=-1.0), "richness must be finite and >= 0"),
        (dict(nu_source=0.0), "nu_source must be above 0"),
        (dict(alignment=2.0), "alignment must be between"),
    ],
)
def test_values_outside_the_domain_are_refused(change, message):
    good = dict(alignment=0.5, nu_target=0.5, richness=1.0, source_time=1.0)
    with pytest.raises(ak.InputError, match=message):
        lt.stopped_transfer_loss(**{**good, **change})
