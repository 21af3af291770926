"""Every closed form of linear transfer against direct simulation at D = 600, in every mode."""

from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from adaptik import linear_theory as lt
from adaptik.linear_theory.simulation import MODES, simulate, simulate_isotropic

pytestmark = pytest.mark.evidence
D = 600
# alignment, nu_target, richness, nu_source, source_noise, target_noise, noise_alignment
POINTS = (
    (1.0, 0.5, 1.0, np.inf, 0.0, 0.0, 0.0),
    (0.6, 0.3, 2.0, np.inf, 0.0, 0.1, 0.0),
    (-0.4, 0.4, 3.0, np.inf, 0.0, 0.0, 0.0),
    (0.8, 0.2, 1.0, 0.5, 0.0, 0.0, 0.0),
    (0.8, 0.6, 4.0, 0.3, 0.0, 0.2, 0.0),
    (0.3, 0.5, 10.0, 0.7, 0.0, 0.0, 0.0),
    (0.9, 0.3, 2.0, 0.4, 0.5, 0.0, 0.0),
    (0.5, 0.6, 1.0, 0.6, 0.2, 0.1, 0.0),
    (0.7, 0.4, 3.0, 1.8, 0.5, 0.0, 0.0),
    (0.0, 0.25, 2.0, 2.5, 1.0, 0.3, 0.0),
    (-0.8, 0.5, 0.5, 0.8, 0.1, 0.0, 0.0),
    (0.9, 1.7, 2.0, 0.5, 0.1, 0.2, 0.0),
    (0.6, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0),
    (0.8, 0.2, 1.0, 0.5, 0.0, 0.0, 0.5),
    (0.7, 0.4, 3.0, 1.8, 0.5, 0.0, -0.4),
    (0.2, 0.2, 2.0, 0.25, 0.0, 0.0, 0.7),
)
# What the target stage of a point (first number) does instead of interpolating: ridge, time.
LIMITED = (
    (0, 0.01, None), (1, 0.3, None), (2, 1.0, None), (3, 3.0, None), (5, 0.02, None),
    (6, 0.3, None), (7, 1.0, None), (8, 0.1, None), (9, 3.0, None), (10, 0.5, None),
    (11, 0.1, None), (14, 0.3, None),
    (0, 0.0, 0.1), (1, 0.0, 1.0), (2, 0.0, 5.0), (3, 0.0, 30.0), (4, 0.0, 0.5), (5, 0.0, 3.0),
    (6, 0.0, 0.3), (8, 0.0, 10.0), (9, 0.0, 1.0), (10, 0.0, 3.0), (13, 0.0, 0.2), (15, 0.0, 2.0),
    (8, 0.2, 2.0), (3, 1.0, 1.0),
)  # fmt: skip
# nu_target, richness, nu_source, source_noise, finetune, index of the bound
BOUNDS = (
    (0.3, 1.0, np.inf, 0.0, "readout", 1), (0.5, 4.0, np.inf, 0.0, "readout", 0),
    (0.4, 3.0, np.inf, 0.0, "all", 1), (0.3, 2.0, 0.5, 0.0, "readout", 1),
    (0.6, 8.0, 0.6, 0.0, "readout", 0), (0.2, 1.0, 0.8, 0.0, "all", 1),
    (0.5, 2.0, 0.5, 0.1, "readout", 1), (0.3, 6.0, 0.7, 0.05, "readout", 1),
    (0.5, 2.0, 2.0, 0.5, "readout", 1), (0.4, 1.0, 2.0, 1.0, "all", 1),
    (0.6, 6.0, 3.0, 0.5, "readout", 0), (0.25, 4.0, 1.5, 0.3, "readout", 1),
)  # fmt: skip
# nu_source, alignment, noise_alignment
SPIKES = (
    (0.1, 1.0, 0.0), (0.1, 0.5, 0.0), (0.2, -0.9, 0.0), (0.3, 0.6, 0.0), (0.5, 0.8, 0.0),
    (0.9, 0.7, 0.0), (1.5, 0.5, 0.0), (np.inf, -0.6, 0.0), (0.1, 0.3, 0.8), (0.3, 0.5, -0.5),
    (0.5, 0.0, 0.9), (0.7, 0.6, 0.6),
)  # fmt: skip


def keywords(nu_source, source_noise, target_noise, noise_alignment):
    return dict(
        nu_source=nu_source,
        source_noise=source_noise,
        target_noise=target_noise,
        noise_alignment=noise_alignment,
    )


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1):  # small matrices
        yield


@cache
def drawn(point):
    return simulate_isotropic(*point[:3], dimension=D, draws=40, seed=1, **keywords(*point[3:]))


def in_all_modes(function, *args, **settings):
    return [function(*args, head=head, finetune=f, **settings) for f, head in MODES]


def deviations(draws, theory, scale=0.0):
    """Differences in standard errors, which lie below 2 % of the values or of ``scale``.

    Terms of order 1/D are left out of the theory.
    """
    theory = np.asarray(theory, float)
    mean, error = draws.mean(0), draws.std(0, ddof=1) / np.sqrt(len(draws))
    assert np.all(error <= 0.02 * np.maximum(np.abs(mean), scale)), error / mean
    return np.ravel((mean - theory) / np.hypot(error, np.maximum(np.abs(theory), scale) / D + 1e-9))


def assert_agree(z):
    z = np.array(z)
    assert len(z) >= 12
    assert np.mean(np.abs(z) > 3) <= 0.05, z.round(1)
    assert np.abs(z).max() < 5, z.round(1)


def test_transfer_loss():
    assert_agree([
        deviations(drawn(p).loss, in_all_modes(lt.transfer_loss, *p[:3], **keywords(*p[3:])))
        for p in POINTS
    ])  # fmt: skip


def test_transfer_gain():
    z = []
    for p in POINTS:
        loss, baseline = drawn(p).loss, drawn(p).baseline[:, None]
        ratio = loss.mean(0) / baseline.mean()
        linearised = 1 - (loss - ratio * (baseline - baseline.mean())) / baseline.mean()
        theory = in_all_modes(lt.transfer_gain, *p[:3], **keywords(*p[3:]))
        z.append(deviations(linearised, theory, scale=1.0))
    assert_agree(z)


def test_baseline_loss():
    assert_agree([deviations(drawn(p).baseline, lt.baseline_loss(p[1], p[5])) for p in POINTS])


def test_effective_alignment():
    z = []
    for p in POINTS:
        effective = lt.effective_alignment(p[0], p[3], p[6], p[4])
        z.append(deviations(drawn(p).spike_alone, 1 - effective**2, scale=1.0))
    assert_agree(z)


def test_kernel_parts():
    z = []
    for p in POINTS:
        settings = keywords(*p[3:]) | dict(draws=100, seed=10)
        draws = simulate_isotropic(p[0], 0.02, p[2], modes=(), **settings)
        q, signal, noise = draws.kernel.T[..., None]
        a = np.sqrt(1 + p[2] ** 2 * q)
        chi = np.hstack([a - 1, a - 1, (a - 1) / 2, (a - 1) / (a + 1)])  # in the order of MODES
        parts = np.stack([chi * signal**2, chi * signal * noise, chi * noise**2], axis=1)
        theory = in_all_modes(lt.kernel_parts, p[2], nu_source=p[3], source_noise=p[4])
        z.append(deviations(parts, np.transpose(theory), scale=0.1))
    assert_agree(z)


def test_over_rich_loss():
    z = []
    for nu, alignment, noise_alignment in SPIKES:
        settings = dict(nu_source=nu, noise_alignment=noise_alignment, draws=40, seed=2)
        draws = simulate_isotropic(alignment, 0.02, 1.0, modes=(), **settings)
        theory = lt.over_rich_loss(nu, alignment, noise_alignment)
        z.append(deviations(draws.spike_alone, theory, scale=0.1))
    assert_agree(z)


def test_orders_of_limits_are_those_of_a_ridge_between_identity_and_spike():
    settings = dict(nu_source=0.3, dimension=D, draws=30, seed=3, modes=(("readout", "fresh"),))
    spike = simulate_isotropic(0.8, 0.5, 1e6, ridge=200.0, **settings).loss
    ridgeless = simulate_isotropic(0.8, 0.5, 1e6, **settings).loss
    alone = lt.over_rich_loss(0.3, 0.8)
    assert np.abs(deviations(spike, alone)).max() < 4
    assert np.abs(deviations(ridgeless, 0.5 * alone)).max() < 4


def test_negative_transfer_boundary():
    z = []
    for nu2, richness, nu1, noise, finetune, side in BOUNDS:
        settings = dict(nu_source=nu1, source_noise=noise)
        bounds = lt.negative_transfer_boundary(nu2, richness, finetune=finetune, **settings)
        alignment = bounds[side] / lt.effective_alignment(1.0, **settings)
        modes = ((finetune, "kept"),)
        draws = simulate_isotropic(
            alignment, nu2, richness, modes=modes, draws=30, seed=4, **settings
        )
        z.append(deviations(draws.loss[:, 0] - draws.baseline, 0.0, scale=1.0))
    assert_agree(z)


def test_regularised_transfer_loss():
    z = []
    for index, ridge, time in LIMITED:
        p = POINTS[index]
        settings = dict(ridge=ridge, time=time, **keywords(*p[3:]))
        draws = simulate_isotropic(*p[:3], dimension=D, draws=30, seed=5, **settings)
        z.append(
            deviations(draws.loss, in_all_modes(lt.regularised_transfer_loss, *p[:3], **settings))
        )
    assert_agree(z)


def spectra():
    i = np.arange(1, D + 1.0)
    return dict(
        power=i**-1.0,
        steep=i**-1.5,
        blocks=np.r_[np.full(60, 8.0), np.full(540, 2 / 9)],
        null=np.r_[np.ones(400), np.zeros(200)],
    )


# n_source, n_target, richness, settings
SPECTRAL = (
    (300, 200, 2.0, {}),
    (900, 150, 4.0, dict(source_noise=0.3, target_noise=0.1, target_ridge=0.05)),
    (np.inf, 240, 1.0, dict(time=3.0)),
    (200, 960, 2.0, dict(target_noise=0.2, source_noise=0.1)),
    (300, 200, 2.0, dict(source_ridge=0.1, source_noise=0.2, time=1.0, target_ridge=0.02)),
)


def teachers(S, rng):
    source, other = rng.standard_normal((2, D))
    source, other = (b / np.sqrt(b @ (S * b)) for b in (source, other))
    return source, 0.7 * source + 0.7 * other


def spectral_deviations(S1, S2, source, target, point, draws=44):
    n_source, n_target, richness, settings = point
    data = (S1, S2, source, target, n_source, n_target, richness)
    simulated = simulate(*data, draws=draws, seed=6, **settings).loss
    return deviations(simulated, in_all_modes(lt.spectral_transfer_loss, *data, **settings))


@pytest.mark.parametrize("name", spectra())
def test_spectral_transfer_loss(name):
    S = spectra()[name]
    S = S * D / S.sum()
    other = S[::-1] if name == "blocks" else S
    source, target = teachers(S, np.random.default_rng(7))
    z = [spectral_deviations(S, other, source, target, point) for point in SPECTRAL]
    assert np.mean(np.abs(z) > 3.0) <= 0.05 and np.abs(z).max() < 5, np.round(z, 1)


def test_covariances_that_do_not_commute():
    rng = np.random.default_rng(8)
    first, second = (S * D / S.sum() for S in (spectra()["power"], spectra()["blocks"]))
    frame = np.linalg.qr(rng.standard_normal((D, D)))[0]
    rotated = (frame * second) @ frame.T
    source, target = teachers(first, rng)
    z = [
        spectral_deviations(first, rotated, source, target, SPECTRAL[1]),
        spectral_deviations(rotated, np.diag(first), source, target, SPECTRAL[0]),
        spectral_deviations(rotated, first, source, target, SPECTRAL[4]),
    ]
    assert_agree(np.ravel(z))


def test_anisotropy_and_label_noise_make_a_fresh_head_hurt_and_richness_optimal_inside():
    strong = np.arange(D) < 120
    S = np.where(strong, 1000.0, 1.0)
    S = S * D / S.sum()
    teacher = np.ones(D) / np.sqrt(S.sum())
    data, richness = (S, S, teacher, teacher, 180, 150), (0.5, 5.0, 1e3)
    settings = dict(source_noise=0.1)
    losses = lt.spectral_transfer_loss(*data, np.array(richness), **settings)
    baseline = lt.spectral_transfer_loss(*data, 0.0)
    gains = 1 - losses / baseline
    assert gains[0] > 0.005 and gains[1] < -0.1 and gains[2] < -0.5  # identical tasks
    mode = (("readout", "fresh"),)
    for gamma, loss in zip(richness, losses, strict=True):
        draws = simulate(*data, gamma, modes=mode, draws=150, seed=9, **settings)
        assert np.abs(deviations(draws.loss, loss)).max() < 4
        paired = draws.loss[:, 0] - draws.baseline
        error = paired.std(ddof=1) / np.sqrt(len(paired))
        assert np.sign(paired.mean()) == np.sign(loss - baseline)
        assert abs(paired.mean()) > 3 * error
