"""What a study keeps of its way: moments of the features, and curves, as labelled arrays."""

import numpy as np
import pytest

import adaptik as ak
from adaptik.kernels.lazy import two_layer
from adaptik.transfer import run
from adaptik.transfer.options import TransferConfig

SETTINGS = dict(n_source=12, n_target=12, n_test=20, particles=96, replicates=2)


@pytest.fixture(scope="module")
def study():
    more = dict(richness=(0.0, 2.0), target_richness=(1.0,), folds=2, check_seeds=0)
    return run(TransferConfig(**SETTINGS, **more))


def test_moments_go_from_the_lazy_kernel_to_the_one_at_the_end(study):
    source, target = ak.tasks.load_pair("digits:1,4", "digits:1,7", n_source=12, n_target=12)
    X = target.X[np.argsort(target.y[:, 0], kind="stable")]
    limit = ak.TwoLayer("relu", particles=96, replicates=2)
    both = [source, target]
    solution = ak.solve([ak.Stage(source, 2.0)], limit, observe=both)
    first, *_, last = (m for m in study.moments if m.stage == "source")
    gram = X @ X.T / 64
    lazy = two_layer(limit.phi, np.diag(gram), gram, np.diag(gram))[0]
    assert first.time == 0 and last.time == pytest.approx(solution.records[0].duration)
    np.testing.assert_allclose(first.kernel, lazy, atol=0.15)  # of few particles
    np.testing.assert_allclose(last.kernel, solution.kernel(X).value, atol=1e-3)
    assert np.abs(last.kernel - first.kernel).max() > 0.5  # or nothing was learned
    assert first.labels == ("1",) * 6 + ("7",) * 6 and first.groups == ("1", "7")


def width_of(moment):
    return moment.preactivation[1] - moment.preactivation[0]


def test_densities_are_of_unit_area_and_as_wide_as_preactivations(study):
    for moment in study.moments:
        area = moment.density.sum(1) * width_of(moment)
        assert np.all((area > 0.98) & (area <= 1 + 1e-9))
    first = study.moments[0]  # Gaussian, of the variance that inputs give it
    _, target = ak.tasks.load_pair("digits:1,4", "digits:1,7", n_source=12, n_target=12)
    second = (first.density * first.preactivation**2).sum(1) * width_of(first)
    of_class = [np.mean(np.sum(target.X[target.y[:, 0] == y] ** 2, 1)) / 64 for y in (-1, 1)]
    np.testing.assert_allclose(second, of_class, rtol=0.1)


def test_every_stage_that_moves_features_has_moments(study):
    kinds = {(m.stage, m.source_richness, m.target_richness) for m in study.moments}
    assert kinds == {("source", 2.0, None), ("target", 0.0, 1.0), ("target", 2.0, 1.0)}
    for kind in kinds:
        times = [
            m.time for m in study.moments if (m.stage, m.source_richness, m.target_richness) == kind
        ]
        assert times == sorted(times) and len(times) > 5


def test_the_data_set_holds_curves_and_moments(study):
    data = study.evolution()
    assert data.sizes["curve"] == len(study.curves) and data.sizes["moment"] == len(study.moments)
    for i, curve in enumerate(study.curves):
        one = data.isel(curve=i)
        known = np.isfinite(one.curve_times) | np.isinf(one.curve_times)
        np.testing.assert_array_equal(one.curve_loss[: len(curve.loss)], curve.loss)
        assert int(known.sum()) == len(curve.times)
        assert (str(one.curve_mode.values), str(one.curve_task.values)) == (curve.mode, curve.task)
    for i in (0, len(study.moments) - 1):
        np.testing.assert_array_equal(data.kernel[i], study.moments[i].kernel)
        assert float(data.moment_time[i]) == study.moments[i].time
