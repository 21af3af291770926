"""Closed forms of linear transfer against direct simulation, limits and their domain."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptik as ak
from adaptik import linear_theory as lt

D, DRAWS = 600, 60
MODES = tuple(itertools.product(("readout", "all"), ("fresh", "kept")))
# alignment, nu_target, richness, nu_source, source_noise, target_noise
POINTS = (
    (1.0, 0.5, 1.0, np.inf, 0.0, 0.0),
    (0.6, 0.3, 2.0, np.inf, 0.0, 0.1),
    (-0.4, 0.4, 3.0, np.inf, 0.0, 0.0),
    (0.8, 0.2, 1.0, 0.5, 0.0, 0.0),
    (0.8, 0.6, 4.0, 0.3, 0.0, 0.2),
    (0.3, 0.5, 10.0, 0.7, 0.0, 0.0),
    (0.9, 0.3, 2.0, 0.4, 0.5, 0.0),
    (0.5, 0.7, 1.0, 0.6, 0.2, 0.1),
    (0.7, 0.4, 3.0, 1.8, 0.5, 0.0),
    (0.0, 0.25, 2.0, 2.5, 1.0, 0.3),
    (-0.8, 0.5, 0.5, 0.8, 0.1, 0.0),
    (0.9, 1.5, 2.0, 0.5, 0.1, 0.2),
    (0.6, 0.5, 0.0, 0.5, 0.0, 0.0),
)


def interpolator(X, y):
    """The minimum-norm interpolator, or least squares where there are more samples than inputs."""
    if len(X) < X.shape[1]:
        return X.T @ np.linalg.solve(X @ X.T, y)
    return np.linalg.solve(X.T @ X, X.T @ y)


def simulate(rng, alignment, nu2, richness, nu1, s1, s2, noise_alignment=None):
    """Excess target loss of every mode for one draw of teachers and samples."""

    def samples(P, teacher, noise):
        X = rng.standard_normal((P, D)) / np.sqrt(D)
        y = X @ teacher + np.sqrt(noise) * rng.standard_normal(P)
        return X, y

    frame, _ = np.linalg.qr(rng.standard_normal((D, 2)))
    source = np.sqrt(D) * frame[:, 0]
    learned = source
    if np.isfinite(nu1):
        learned = interpolator(*samples(round(nu1 * D), source, s1))
    target = alignment * source + np.sqrt((1 - alignment**2) * D) * frame[:, 1]
    if noise_alignment is not None:
        off = learned - (learned @ source) / D * source
        rest = frame[:, 1] - off * (off @ frame[:, 1]) / (off @ off)
        size = np.sqrt(D * (1 - alignment**2 - noise_alignment**2))
        target = alignment * source + size * rest / np.linalg.norm(rest)
        target = target + noise_alignment * np.sqrt(D) * off / np.linalg.norm(off)
    X, y = samples(round(nu2 * D), target, s2)
    q = learned @ learned / D
    n = learned / np.sqrt(q * D)
    a = np.sqrt(1 + richness**2 * q)
    losses = []
    for finetune, head in MODES:
        chi = a - 1 if finetune == "readout" else (a - 1) / (2 if head == "fresh" else a + 1)
        start = learned if head == "kept" else 0 * learned
        root = np.eye(D) + (np.sqrt(1 + chi) - 1) * np.outer(n, n)  # kernel x root root x'
        inner = interpolator(X @ root, y - X @ start)
        weights = start + root @ inner
        losses.append(np.mean((weights - target) ** 2))
    return losses


def deviations(point, noise_alignment=None):
    rng = np.random.default_rng(1)
    draws = np.array([simulate(rng, *point, noise_alignment) for _ in range(DRAWS)])
    mean, error = draws.mean(0), draws.std(0, ddof=1) / np.sqrt(DRAWS)
    alignment, nu2, richness, nu1, s1, s2 = point
    theory = np.array([
        lt.transfer_loss(
            alignment, nu2, richness, nu_source=nu1, source_noise=s1, target_noise=s2,
            noise_alignment=noise_alignment or 0.0, head=head, finetune=finetune,
        )
        for finetune, head in MODES
    ])  # fmt: skip
    assert np.all(error < 0.02 * np.maximum(mean, 0.1))
    # Terms of order 1/D are left out of the theory.
    return (mean - theory) / np.hypot(error, theory / D + 1e-9)


@pytest.mark.slow
def test_transfer_loss_is_that_of_simulations_in_every_mode():
    z = np.array([deviations(point) for point in POINTS])
    assert np.mean(np.abs(z) > 3) <= 0.05, z
    assert np.abs(z).max() < 5, z


@pytest.mark.slow
def test_a_target_along_the_noise_that_the_source_learned():
    z = np.array([deviations(POINTS[3], 0.5), deviations(POINTS[8], -0.4)])
    assert np.abs(z).max() < 4, z


def test_limits_of_the_formulas():
    np.testing.assert_allclose(lt.spike([0.0, 1e-9]), [0, 5e-19], rtol=1e-9, atol=1e-30)
    nu = np.array([0.2, 0.8])
    for finetune, head in MODES:
        rich = lt.transfer_loss(0.7, nu, 0.0, head="fresh", finetune=finetune)
        np.testing.assert_allclose(rich, lt.baseline_loss(nu))
        same = lt.transfer_loss(0.7, 2.0, 3.0, target_noise=0.5, head=head, finetune=finetune)
        np.testing.assert_allclose(same, 0.5)
    # spike alone against ridgeless interpolation: the order of limits matters by 1 - nu
    effective = lt.effective_alignment(0.8, nu_source=0.3)
    np.testing.assert_allclose(lt.over_rich_loss(0.3, 0.8), 1 - effective**2)
    ridgeless = lt.transfer_loss(0.8, nu, 1e9, nu_source=0.3)
    np.testing.assert_allclose(ridgeless, (1 - nu) * (1 - effective**2), rtol=1e-6)


def test_interpolation_thresholds_have_their_documented_values():
    assert lt.transfer_loss(0.5, 1.0, 1.0) == 0
    assert np.isinf(lt.transfer_loss(0.5, 1.0, 1.0, target_noise=0.1))
    kinked = dict(nu_source=1.0, source_noise=0.3)
    np.testing.assert_allclose(lt.transfer_loss(0.5, 0.4, 2.0, **kinked), 0.6)
    near = lt.transfer_loss(0.5, 0.4, 2.0, nu_source=1 - 1e-12, source_noise=0.3, head="kept")
    np.testing.assert_allclose(
        lt.transfer_loss(0.5, 0.4, 2.0, **kinked, head="kept"), near, rtol=1e-4
    )
    assert np.isinf(lt.transfer_loss(0.5, 0.4, 2.0, **kinked, head="kept", finetune="all"))
    assert np.isinf(lt.transfer_loss(0.5, 0.4, 0.0, **kinked, head="kept"))
    assert lt.transfer_gain(0.5, 1.0, 1.0, target_noise=0.1) == 0


def test_fresh_heads_never_hurt_and_kept_heads_hurt_between_the_bounds():
    alignment = np.linspace(-1, 1, 41)[:, None]
    nu = np.linspace(0.05, 0.95, 10)
    for nu1, s1, richness, finetune in itertools.product(
        (0.3, 0.9, 3.0), (0.0, 1.0), (0.3, 2.0, 20.0), ("readout", "all")
    ):
        settings = dict(nu_source=nu1, source_noise=s1, finetune=finetune)
        assert lt.transfer_gain(alignment, nu, richness, **settings, head="fresh").min() > -1e-12
        gain = lt.transfer_gain(alignment, nu, richness, **settings, head="kept")
        lower, upper = lt.negative_transfer_boundary(nu, richness, **settings)
        effective = lt.effective_alignment(alignment, nu1, source_noise=s1)
        inside = (lower < effective) & (effective < upper)
        clear = np.abs(gain) > 1e-9
        np.testing.assert_array_equal((gain < 0)[clear], inside[clear])


def test_the_loss_is_monotone_in_richness_with_a_fresh_head():
    richness = np.geomspace(1e-3, 1e3, 200)
    for nu1, s1 in itertools.product((0.2, 0.9, 1.5), (0.0, 0.5)):
        loss = lt.transfer_loss(0.6, 0.4, richness, nu_source=nu1, source_noise=s1)
        assert np.all(np.diff(loss) <= 1e-12)


@pytest.mark.parametrize("argument", ["alignment", "nu_target", "richness", "nu_source"])
def test_gradients_are_those_of_finite_differences(argument):
    point = dict(alignment=0.5, nu_target=0.4, richness=1.5, nu_source=0.6)
    rest = dict(source_noise=0.2, target_noise=0.1, head="kept", finetune="all")

    def loss(x):
        return lt.transfer_loss(**{**point, argument: x}, **rest)

    step = 1e-5
    difference = (loss(point[argument] + step) - loss(point[argument] - step)) / (2 * step)
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.grad(loss)(point[argument]), difference, rtol=1e-6)


def test_gradients_exist_at_the_edges():
    with jax.enable_x64(True):
        for x, loss in (
            (jnp.inf, lambda x: lt.transfer_loss(0.5, 0.4, 1.0, nu_source=x)),
            (0.0, lambda x: lt.transfer_loss(0.5, 0.4, x, nu_source=0.5, head="kept")),
            (1.0, lambda x: lt.transfer_loss(0.5, 0.4, 1.0, nu_source=x)),
        ):
            assert np.isfinite(jax.grad(loss)(x))


BAD = (
    (dict(alignment=1.2), "alignment must be between -1 and 1, got 1.2"),
    (dict(nu_target=0.0), "nu_target must be above 0"),
    (dict(nu_target=[0.5, -1.0]), "nu_target must be above 0 .* got -1"),
    (dict(nu_source=-1.0), "nu_source must be above 0"),
    (dict(richness=-1.0), "richness must be finite and >= 0"),
    (dict(richness=np.nan), "richness must be finite"),
    (dict(target_noise=-0.1), "target_noise must be finite and >= 0"),
    (dict(source_noise=-0.1), "source_noise must be finite and >= 0"),
    (dict(alignment=0.8, noise_alignment=0.8), "at most 1"),
    (dict(nu_target=[0.1, 0.2], richness=[1.0, 2.0, 3.0]), "do not broadcast"),
    (dict(head="new"), "head='new' is unknown"),
    (dict(finetune="none"), "finetune='none' is unknown"),
)


@pytest.mark.parametrize(("change", "message"), BAD)
def test_values_outside_the_domain_are_refused(change, message):
    with pytest.raises(ak.InputError, match=message):
        lt.transfer_loss(**{**dict(alignment=0.5, nu_target=0.5, richness=1.0), **change})


def test_traced_values_outside_the_domain_give_nan():
    loss = jax.jit(lambda a, nu: lt.transfer_loss(a, nu, 1.0))
    assert np.isnan(loss(1.2, 0.5)) and np.isnan(loss(0.5, -0.5))
    assert np.isfinite(loss(0.5, 0.5))
