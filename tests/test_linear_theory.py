"""Closed forms of linear transfer: limits, consistency, gradients and their domain."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptik as ak
from adaptik import linear_theory as lt

MODES = tuple(itertools.product(("readout", "all"), ("fresh", "kept")))


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


ONES = np.ones(8)
DIAGONAL = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.15, 0.1, 0.0])
MATRIX = np.diag(DIAGONAL) + 0.05
TEACHERS = np.random.default_rng(0).standard_normal((2, 8))
SPECTRA = dict(
    source_spectrum=DIAGONAL, target_spectrum=MATRIX,
    source_teacher=TEACHERS[0], target_teacher=TEACHERS.sum(0),
)  # fmt: skip
ISOTROPIC = dict(
    alignment=0.5, nu_target=0.4, richness=1.5, nu_source=0.6, noise_alignment=0.2,
    source_noise=0.2, target_noise=0.1,
)  # fmt: skip
MIXED = dict(
    n_source=5.0, n_target=4.0, richness=1.5, source_noise=0.2, target_noise=0.1, target_ridge=0.3,
    source_ridge=0.1,
)  # fmt: skip
DIFFERENTIATED = (
    (lt.transfer_loss, ISOTROPIC, {}),
    (lt.transfer_gain, ISOTROPIC, {}),
    (lt.regularised_transfer_loss, ISOTROPIC | dict(ridge=0.3), {}),
    (lt.regularised_transfer_loss, ISOTROPIC | dict(time=2.0), dict(scale="spike")),
    (lt.spectral_transfer_loss, MIXED, SPECTRA),
    (lt.spectral_transfer_loss, MIXED | dict(time=2.0), SPECTRA),
)


@pytest.mark.parametrize(("function", "numbers", "fixed"), DIFFERENTIATED)
def test_gradients_are_those_of_finite_differences(function, numbers, fixed):
    def loss(numbers):
        return function(**numbers, **fixed, head="kept", finetune="all")

    with jax.enable_x64(True):
        gradient = jax.grad(loss)(numbers)
    for name, x in numbers.items():
        above, below = (loss(numbers | {name: x + step}) for step in (1e-5, -1e-5))
        # The contour of a finite time is exact to 1e-9.
        np.testing.assert_allclose(gradient[name], (above - below) / 2e-5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("argument", SPECTRA)
def test_gradients_with_respect_to_spectra_and_teachers(argument):
    def loss(x):
        return lt.spectral_transfer_loss(**{**SPECTRA, argument: x}, **MIXED)

    x = SPECTRA[argument]
    direction = np.random.default_rng(1).standard_normal(x.shape) * (x != 0)
    direction = direction + direction.T  # keeps a matrix symmetric
    step = 1e-5 * direction
    difference = (loss(x + step) - loss(x - step)) / 2e-5
    with jax.enable_x64(True):
        slope = np.sum(jax.grad(loss)(x) * direction)
    np.testing.assert_allclose(slope, difference, rtol=1e-5)


def test_gradients_of_the_other_closed_forms():
    forms = (
        (lambda x: lt.over_rich_loss(0.4, x, 0.3), 0.5),
        (lambda x: lt.over_rich_loss(x, 0.5, 0.3), 0.4),
        (lambda x: lt.baseline_loss(x, 0.2), 0.4),
        (lambda x: lt.spike(x, 0.7, "all", "kept"), 1.5),
        (lambda x: lt.effective_alignment(0.5, x, 0.2, 0.3), 1.4),
        (lambda x: lt.kernel_parts(1.2, nu_source=x, source_noise=0.2).crosstalk, 0.4),
        (lambda x: lt.kernel_parts(x, nu_source=0.4, finetune="all").noise, 1.2),
        (lambda x: lt.negative_transfer_boundary(0.4, x, nu_source=0.5)[1], 1.2),
    )
    for form, x in forms:
        difference = (form(x + 1e-5) - form(x - 1e-5)) / 2e-5
        with jax.enable_x64(True):
            np.testing.assert_allclose(jax.grad(form)(x), difference, rtol=1e-6)


def test_gradients_exist_at_the_edges():
    with jax.enable_x64(True):
        for x, loss in (
            (jnp.inf, lambda x: lt.transfer_loss(0.5, 0.4, 1.0, nu_source=x)),
            (0.0, lambda x: lt.transfer_loss(0.5, 0.4, x, nu_source=0.5, head="kept")),
            (1.0, lambda x: lt.transfer_loss(0.5, 0.4, 1.0, nu_source=x)),
        ):
            assert np.isfinite(jax.grad(loss)(x))


@pytest.mark.evidence
def test_all_formulas_agree_where_they_overlap():
    """Isotropic spectra, ridge 0 and long times, with everything else switched on."""
    D = 50
    rng = np.random.default_rng(0)
    frame = np.linalg.qr(rng.standard_normal((D, D)))[0]
    source, other = frame[:2]
    target = 0.6 * source + 0.8 * other
    ones, eye = np.ones(D), np.eye(D)
    nu1, nu2 = np.array([0.5, 1.0, 2.0])[:, None], np.array([0.4, 1.6])
    noise = dict(source_noise=0.3, target_noise=0.2)
    for finetune, head in MODES:
        settings = noise | dict(head=head, finetune=finetune)
        isotropic = lt.transfer_loss(0.6, nu2, 1.5, nu_source=nu1, **settings)
        same = lt.regularised_transfer_loss(0.6, nu2, 1.5, nu_source=nu1, **settings)
        np.testing.assert_allclose(same, isotropic, rtol=1e-10)
        data = (ones, source, target, nu1 * D, nu2 * D, 1.5)
        spectral = lt.spectral_transfer_loss(eye, *data, **settings)
        np.testing.assert_allclose(spectral, isotropic, rtol=1e-9)
        limit = dict(time=np.array([1e5, 2.0])[:, None, None])
        timed = lt.spectral_transfer_loss(ones, *data, **settings, **limit)
        # At nu_source = 1 an infinite kept start is never forgotten in a finite time.
        np.testing.assert_allclose(timed[0][::2], isotropic[::2], rtol=1e-6)
        same = lt.regularised_transfer_loss(0.6, nu2, 1.5, nu_source=nu1, **settings, **limit)
        np.testing.assert_allclose(timed, same, rtol=1e-7)
    for limit in (dict(), dict(time=1.0)):
        spectral = lt.spectral_transfer_loss(ones, *data, **settings, **limit, target_ridge=0.2)
        same = lt.regularised_transfer_loss(
            0.6, nu2, 1.5, nu_source=nu1, **settings, **limit, ridge=0.2
        )
        np.testing.assert_allclose(spectral, same, rtol=1e-7)


def test_a_rotation_of_everything_changes_nothing():
    frame = np.linalg.qr(np.random.default_rng(2).standard_normal((8, 8)))[0]
    turned = dict(
        source_spectrum=(frame * DIAGONAL) @ frame.T, target_spectrum=frame @ MATRIX @ frame.T,
        source_teacher=frame @ TEACHERS[0], target_teacher=frame @ TEACHERS.sum(0),
    )  # fmt: skip
    for extra in ({}, dict(time=3.0)):
        np.testing.assert_allclose(
            lt.spectral_transfer_loss(**turned, **MIXED, **extra),
            lt.spectral_transfer_loss(**SPECTRA, **MIXED, **extra),
            rtol=1e-9,
        )


def test_a_time_starts_at_the_start_and_ends_at_the_interpolator():
    start = lt.regularised_transfer_loss(0.6, 0.4, 2.0, time=1e-9)
    np.testing.assert_allclose(start, 1.0, atol=1e-6)
    kept = lt.regularised_transfer_loss(0.6, 0.4, 2.0, time=1e-9, head="kept")
    np.testing.assert_allclose(kept, 0.8, atol=1e-6)  # |beta_t - beta_s|^2/D
    end = lt.regularised_transfer_loss(0.6, 0.4, 2.0, time=1e7, target_noise=0.1)
    np.testing.assert_allclose(end, lt.transfer_loss(0.6, 0.4, 2.0, target_noise=0.1), rtol=1e-6)


@pytest.mark.parametrize("amount", [dict(ridge=0.3), dict(time=2.0)])
@pytest.mark.parametrize(("head", "nu_source"), [("fresh", np.inf), ("kept", 0.6)])
def test_training_all_weights_is_a_readout_with_another_spike_ridge_and_time(
    head, nu_source, amount
):
    a = np.sqrt(1 + 2.0**2 * min(nu_source, 1.0))
    factor, chi = (2, (a - 1) / 2) if head == "fresh" else (1 + a, (a - 1) / (a + 1))
    richness = np.sqrt((chi + 1) ** 2 - 1) / np.sqrt(min(nu_source, 1.0))  # gives a readout chi
    common = dict(head=head, nu_source=nu_source, noise_alignment=0.3, target_noise=0.2)
    same = {k: v / factor if k == "ridge" else v * factor for k, v in amount.items()}
    of_all = lt.regularised_transfer_loss(0.6, 0.5, 2.0, finetune="all", **common, **amount)
    of_readout = lt.regularised_transfer_loss(0.6, 0.5, richness, **common, **same)
    assert of_all == pytest.approx(of_readout, rel=1e-9)


def test_over_rich_features_hurt_at_a_ridge_or_time_in_units_of_the_spike():
    richness = np.r_[0.0, np.geomspace(0.01, 1e4, 60)]
    alone = lt.over_rich_loss(np.inf, 0.5)
    for limit in (dict(ridge=0.1), dict(time=10.0)):
        loss = lt.regularised_transfer_loss(0.5, 0.5, richness, scale="spike", **limit)
        best = np.argmin(loss)
        assert 0 < best < len(richness) - 1
        assert loss[best] < loss[0] - 0.01 and loss[-1] > loss[0] + 0.2
        assert loss[-1] > alone - 0.01  # what is left of the identity part explains nothing
    fixed = lt.regularised_transfer_loss(0.5, 0.5, richness, ridge=0.1)
    assert np.all(np.diff(fixed) <= 1e-12)  # an absolute ridge does not have this effect


def test_fresh_heads_never_hurt_on_isotropic_inputs_with_a_ridge_or_a_time():
    alignment = np.linspace(-1, 1, 21)[:, None]
    richness = np.array([0.1, 1.0, 5.0, 100.0])
    for limit in (dict(ridge=0.05), dict(ridge=2.0), dict(time=0.5), dict(time=20.0)):
        settings = dict(nu_source=0.5, source_noise=0.2, **limit)
        lazy = lt.regularised_transfer_loss(alignment, 0.4, 0.0, **settings)
        rich = lt.regularised_transfer_loss(alignment, 0.4, richness, **settings)
        assert (rich - lazy).max() < 1e-8


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


BAD_SPECTRA = (
    (dict(source_spectrum=-ONES), "source_spectrum must be eigenvalues >= 0"),
    (dict(target_spectrum=0 * ONES), "target_spectrum must be eigenvalues .* a largest of 0"),
    (dict(source_spectrum=ONES[:5]), r"source_spectrum must have shape \(8,\) or \(8, 8\)"),
    (dict(target_spectrum=-np.eye(8)), "target_spectrum must be .* eigenvalues from -1 to -1"),
    (dict(target_spectrum=np.triu(np.ones((8, 8)))), "target_spectrum .* not symmetric"),
    (dict(target_spectrum=1.0), "target_spectrum must be eigenvalues"),
    (dict(source_teacher=ONES[:7]), r"source_teacher must have shape \(8,\)"),
    (dict(target_teacher=np.ones((8, 2))), r"target_teacher must have shape \(8,\)"),
    (dict(target_teacher=np.full(8, np.nan)), "target_teacher must be finite"),
    (dict(n_source=0), "n_source must be above 0"),
    (dict(n_target=-3), "n_target must be above 0"),
    (dict(source_ridge=-1.0), "source_ridge must be finite and >= 0"),
    (dict(target_ridge=-1.0), "target_ridge must be finite and >= 0"),
    (dict(time=0.0), "time must be above 0"),
    (dict(source_noise=-0.1), "source_noise must be finite and >= 0"),
    (dict(richness="high"), "richness must be a number"),
)


@pytest.mark.parametrize(("change", "message"), BAD_SPECTRA)
def test_spectra_outside_the_domain_are_refused(change, message):
    with pytest.raises(ak.InputError, match=message):
        lt.spectral_transfer_loss(**{**SPECTRA, **MIXED, **change})


def test_traced_spectra_outside_the_domain_give_nan():
    loss = jax.jit(
        lambda S, noise: lt.spectral_transfer_loss(
            **SPECTRA | dict(target_spectrum=S), **MIXED | dict(target_noise=noise)
        )
    )
    for S in (MATRIX, DIAGONAL):
        assert np.isfinite(loss(S, 0.1))
        assert np.isnan(loss(-S, 0.1)) and np.isnan(loss(0 * S, 0.1)) and np.isnan(loss(S, -0.1))


def test_traced_values_outside_the_domain_give_nan():
    loss = jax.jit(lambda a, nu: lt.transfer_loss(a, nu, 1.0))
    assert np.isnan(loss(1.2, 0.5)) and np.isnan(loss(0.5, -0.5))
    assert np.isfinite(loss(0.5, 0.5))
