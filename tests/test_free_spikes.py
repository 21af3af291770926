"""Target losses with planted kernels (theory section 3.6)."""

import itertools

import jax
import numpy as np
import pytest

import adaptik as ak
from adaptik import linear_theory as lt

CROSSED = np.array([[1.0, 1.5], [1.5, 1.0]])  # more crosstalk than any flow of two layers leaves


def flow(richness, **settings):
    """C of the kernel that a source stage of two layers leaves."""
    signal, crosstalk, noise = lt.kernel_parts(richness, **settings)
    return np.moveaxis(np.array([[signal, crosstalk], [crosstalk, noise]]), (0, 1), (-2, -1))


def test_the_coefficients_of_a_flow_give_its_transfer_loss():
    richness, nu = np.array([0.5, 3.0, 20.0]), np.array([[0.2], [0.7], [1.6]])
    for nu_source, noise, head in itertools.product((0.3, 2.0), (0.0, 0.4), ("fresh", "kept")):
        settings = dict(nu_source=nu_source, source_noise=noise)
        modes = dict(head=head, finetune="all")
        C = flow(richness, **settings, **modes)
        q = _norm(nu_source, noise)
        m = min(nu_source, 1.0)
        start = np.array([m, np.sqrt(q - m**2)]) if head == "kept" else None
        found = lt.spike_loss(C, [0.7, 0.4], nu, start=start, target_noise=0.1)
        target = dict(noise_alignment=0.4, target_noise=0.1)
        wanted = lt.transfer_loss(0.7, nu, richness, **settings, **target, **modes)
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def _norm(nu, noise):
    """Squared norm of the source predictor (theory section 3.3)."""
    return nu + noise * nu / (1 - nu) if nu < 1 else 1 + noise / (nu - 1)


def test_a_kernel_hurts_some_target_where_it_has_a_negative_eigenvalue_and_nowhere_else():
    rng = np.random.default_rng(0)
    for k in (1, 3):
        root = rng.standard_normal((40, k, k))
        C = root @ root.swapaxes(-2, -1) * rng.choice([0.1, 1.0, 10.0], (40, 1, 1))
        a = rng.standard_normal((30, 1, k))
        a /= np.linalg.norm(a, axis=-1, keepdims=True)
        assert lt.spike_loss(C, a, 0.6).max() <= 0.4 + 1e-12  # positive: never
        C -= (np.linalg.eigvalsh(C)[:, :1, None] + 0.3) * np.eye(k)
        worst = np.linalg.eigh(C)[1][..., 0]
        expected = 0.4 / (1 - 0.6 * 0.3) ** 2
        np.testing.assert_allclose(lt.spike_loss(C, worst, 0.6), expected)
        assert lt.spike_loss(C, a, 0.6).max() <= expected + 1e-12


def test_known_values():
    np.testing.assert_allclose(
        lt.spike_loss(CROSSED, [1.0, 0.0], [0.2, 0.8]), [0.6716, 0.2889], atol=5e-5
    )
    np.testing.assert_allclose(lt.spike_loss(-np.eye(2) / 2, [1.0, 0.0], 0.8), 0.2 / 0.36)
    assert np.isinf(lt.spike_loss(CROSSED, [1.0, 0.0], 1.0, target_noise=0.1))
    assert lt.spike_loss(CROSSED, [1.0, 0.0], 1.0) == 0


# C, alignments, nu_target, target noise, start
PLANTED = (
    (CROSSED, (1.0, 0.0), 0.8, 0.0, None),
    (CROSSED, (0.6, -0.6), 0.3, 0.1, None),
    (-np.eye(2) / 2, (1.0, 0.0), 0.8, 0.0, None),
    ([[4.0, -2.0], [-2.0, 1.0]], (0.5, 0.5), 0.5, 0.0, (0.4, 0.9)),
    ([[3.0]], (0.9,), 0.4, 0.0, None),
    (np.diag([5.0, 0.5, -0.4]), (0.3, 0.5, 0.7), 0.6, 0.05, None),
)
MORE = tuple(
    ([[c2, c1], [c1, c3]], a, nu, noise, start)
    for (c2, c1, c3), a, (nu, noise, start) in itertools.product(
        ((1.0, 1.5, 1.0), (8.0, 3.0, 0.5), (-0.6, 0.2, 3.0)),
        ((1.0, 0.0), (0.5, 0.5), (-0.3, 0.9)),
        ((0.25, 0.0, None), (0.5, 0.1, None), (0.8, 0.0, (0.5, -0.5))),
    )
)


def deviate(case, **settings):
    """Simulation against theory in standard errors, which include terms of order 1/D."""
    C, a, nu, noise, start = case
    losses = lt.simulate_spikes(C, a, nu, start=start, target_noise=noise, **settings)
    theory = lt.spike_loss(C, a, nu, start=start, target_noise=noise)
    error = losses.std(ddof=1) / np.sqrt(len(losses))
    assert error < 0.03 * theory, (case, error, theory)
    return (losses.mean() - theory) / np.hypot(error, theory / settings["dimension"])


def test_planted_kernels_lose_what_theory_says():
    apart = [deviate(case, dimension=300, draws=60, seed=i) for i, case in enumerate(PLANTED)]
    assert np.abs(apart).max() < 3, np.round(apart, 1)


@pytest.mark.evidence
def test_many_planted_kernels_lose_what_theory_says():
    apart = np.array([deviate(c, dimension=600, draws=40, seed=9) for c in (*PLANTED, *MORE)])
    assert np.mean(np.abs(apart) > 3) <= 0.05 and np.abs(apart).max() < 5, apart.round(1)


def test_gradients_are_those_of_finite_differences():
    C, a, step = np.array(CROSSED), np.array([0.6, -0.6]), 1e-5
    wave = np.array([[1.0, 0.3], [0.3, -2.0]])

    def loss(t):
        return lt.spike_loss(
            C + t * wave, a * (1 + t), 0.5 + t, start=0.3 * a, target_noise=0.2 + t
        )

    with jax.enable_x64(True):
        np.testing.assert_allclose(
            jax.grad(loss)(0.0), (loss(step) - loss(-step)) / (2 * step), rtol=1e-6
        )


BAD = (
    (dict(coefficients=[[1.0, 0.5], [0.2, 1.0]]), "coefficients must be symmetric .* got"),
    (dict(coefficients=[[0.5, 1.5], [1.5, 0.5]]), "eigenvalues above -1"),
    (dict(coefficients=[[np.nan, 0.0], [0.0, 1.0]]), "coefficients must be symmetric"),
    (dict(coefficients=[1.0, 2.0]), r"coefficients must have shape \(..., k, k\), got \(2,\)"),
    (dict(coefficients=1.0), r"coefficients must have shape \(..., k, k\), got \(\)"),
    (dict(coefficients=np.ones((2, 3))), r"coefficients must have shape .* got \(2, 3\)"),
    (dict(alignments=[0.5]), r"alignments must have shape \(..., k\) with k = 2 .* got \(1,\)"),
    (dict(alignments=0.5), "alignments must have shape"),
    (dict(alignments=[0.9, 0.9]), r"squares summing to at most 1, got \[0.9, 0.9\]"),
    (dict(start=[0.1, 0.2, 0.3]), "start must have shape"),
    (dict(start=[np.inf, 0.0]), "start must be finite"),
    (dict(nu_target=0.0), "nu_target must be above 0"),
    (dict(target_noise=-1.0), "target_noise must be finite and >= 0"),
    (dict(alignments=np.zeros((3, 2)), nu_target=[0.1, 0.2]), "do not broadcast"),
)
GOOD = dict(coefficients=np.eye(2), alignments=[0.5, 0.5], nu_target=0.5)


@pytest.mark.parametrize(("change", "message"), BAD)
def test_values_outside_the_domain_are_refused(change, message):
    for function in (lt.spike_loss, lt.simulate_spikes):
        with pytest.raises(ak.InputError, match=message):
            function(**{**GOOD, **change})


def test_what_cannot_be_simulated_is_refused():
    for change in (dict(dimension=2), dict(draws=0), dict(seed=-1), dict(nu_target=1e-9)):
        with pytest.raises(ak.InputError, match="dimension must be above 2 directions"):
            lt.simulate_spikes(**{**GOOD, **change})
    with pytest.raises(ak.InputError, match="one matrix"):
        lt.simulate_spikes(**GOOD | dict(alignments=np.zeros((3, 2))))


def test_traced_values_outside_the_domain_give_nan_one_by_one():
    loss = jax.jit(lambda C, a: lt.spike_loss(C, a, 0.5))
    C = np.array([np.eye(2), -2 * np.eye(2), [[1.0, 0.0], [1.0, 1.0]]])
    assert np.isnan(loss(C, np.array([0.5, 0.5]))).tolist() == [False, True, True]
    assert np.isnan(loss(C[0], np.array([[1.0, 1.0], [0.5, 0.5]]))).tolist() == [True, False]
