"""Scalars of a solution: what alignment, gain and forgetting must not depend on."""

import numpy as np
import pytest

from adaptik.solution.estimate import Estimate
from adaptik.solution.observables import centred_alignment, transfer_gain

RNG = np.random.default_rng(0)
LABELS = np.sign(RNG.standard_normal((9, 1)))
FEATURES = RNG.standard_normal((9, 5))


def test_alignment_does_not_see_constants_and_scales():
    kernel = FEATURES @ FEATURES.T
    known = np.corrcoef(*(part.ravel() for part in _centred(kernel, LABELS @ LABELS.T)))[0, 1]
    found = centred_alignment(kernel, LABELS)
    # Centred matrices have no mean, so that CKA is a correlation of their entries.
    assert found == pytest.approx(known, rel=1e-12) and 0.01 < abs(found) < 0.9
    assert centred_alignment(3 * kernel + 7, LABELS) == pytest.approx(found, rel=1e-9)
    assert centred_alignment(kernel, 2 * LABELS + 5) == pytest.approx(found, rel=1e-9)
    members = centred_alignment(np.stack([kernel, LABELS @ LABELS.T]), LABELS)
    np.testing.assert_allclose(members, [found, 1.0])


def _centred(*matrices):
    for matrix in matrices:
        yield matrix - matrix.mean(0) - matrix.mean(1, keepdims=True) + matrix.mean()


def test_the_error_of_a_gain_is_that_of_many_draws():
    one, other = Estimate(0.6, 0.02), Estimate(0.9, 0.03)
    draws = RNG.standard_normal((2, 200_000))
    ratios = (0.6 + 0.02 * draws[0]) / (0.9 + 0.03 * draws[1])
    found = transfer_gain(one, other)
    assert found.value == pytest.approx(1 - 0.6 / 0.9)
    assert found.standard_error == pytest.approx(ratios.std(), rel=0.02)
