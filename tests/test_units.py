"""Labels in other units: y -> a y + b changes nothing but the units of the answer.

Random forms of one problem are in ``test_properties``; here is what is particular to units.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import adaptik as ak
from adaptik.estimators import (
    AdaptiveKernelClassifier,
    AdaptiveKernelRegressor,
    TransferKernelRegressor,
)
from adaptik.tasks import LabelScale, standardise_labels
from adaptik.transfer import run
from adaptik.transfer.options import TransferConfig
from adaptik.transfer.point import transfer_point

RNG = np.random.default_rng(5)
A, B, NEW = RNG.standard_normal((24, 3)), RNG.standard_normal((14, 3)), RNG.standard_normal((6, 3))
FIRST, SECOND = np.sin(A[:, 0]) + A[:, 1], np.sin(B[:, 0]) - 0.5 * B[:, 1]
OUTPUTS = np.column_stack([SECOND, B[:, 2] ** 2])
SMALL = dict(particles=64, replicates=2)

# Powers of ten and a little beside them; shifts in standard deviations. Finite samples of neurons
# have no symmetry of sign.
factors = st.builds(lambda power, part: part * 10.0**power, st.integers(-12, 12), st.floats(1, 3))
shifts = st.floats(-1e6, 1e6)
few = settings(
    derandomize=True, max_examples=8, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow], phases=[Phase.generate],  # no shrinking
)  # fmt: skip


def other(y, factor, shift):
    return factor * (y + shift * y.std(0))


def close(found, expected, y, factor, shift, tol=1e-6):
    """Predictions of shifted and scaled labels, turned back, agree in standard deviations."""
    tol = tol if abs(shift) < 1e3 else 1e-4
    turned = found / factor - shift * y.std(0)
    assert (np.abs(turned - expected) / y.std(0)).max() < tol


MODELS = {
    "adaptive": lambda: AdaptiveKernelRegressor(0.0, **SMALL),
    "rich": lambda: AdaptiveKernelRegressor(1.0, **SMALL),
    "transfer": lambda: TransferKernelRegressor(
        (A, FIRST), mode="lazy", head="kept", source_richness=0.0, **SMALL
    ),
}


@cache
def fitted(name: str, outputs: int):
    y = SECOND if outputs == 1 else OUTPUTS
    return MODELS[name]().fit(B, y).predict(NEW, return_std=True)


@few
@given(factor=factors, shift=shifts)
def test_several_outputs_are_answered_in_the_units_of_the_labels(factor, shift):
    expected, spread = fitted("adaptive", 2)
    found, std = MODELS["adaptive"]().fit(B, other(OUTPUTS, factor, shift)).predict(NEW, True)
    assert found.shape == std.shape == expected.shape
    close(found, expected, OUTPUTS, factor, shift)
    assert (np.abs(std / factor - spread) / OUTPUTS.std(0)).max() < 1e-4


def test_outputs_of_different_units_are_each_as_good_as_alone():
    """At richness 0 they are independent."""
    units = np.array([1e5, 1e-3])
    f, std = AdaptiveKernelRegressor(0.0, **SMALL).fit(B, OUTPUTS * units + 7).predict(NEW, True)
    for j, unit in enumerate(units):
        alone = AdaptiveKernelRegressor(0.0, **SMALL).fit(B, OUTPUTS[:, j])
        g, spread = alone.predict(NEW, return_std=True)
        np.testing.assert_allclose((f[:, j] - 7) / unit, g, atol=1e-6)
        np.testing.assert_allclose(std[:, j] / unit, spread, rtol=0.4)  # of other neurons
        np.testing.assert_allclose(std[:, j] / unit, fitted("adaptive", 2)[1][:, j], rtol=1e-6)


@pytest.mark.parametrize("y", [[[5.0]], [[0.0]], [[1e-9, 3e7]]])
def test_one_sample_is_predicted_everywhere(y):
    model = AdaptiveKernelRegressor(1.0, **SMALL).fit(B[:1], y)
    np.testing.assert_array_equal(model.predict(NEW), np.repeat(y, len(NEW), 0))


def test_labels_that_differ_by_rounding_are_constant():
    y = np.array([[0.1 + 0.2, 1.0], [0.3, 1.0], [0.3, 2.0]])
    scale = LabelScale.of(y)
    assert scale.std[0] == 1
    np.testing.assert_array_equal(scale.standardised(y)[:, 0], 0)
    np.testing.assert_allclose(scale.labels(scale.standardised(y)), y, rtol=1e-12)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Writes a pair of files whose labels have another unit."""
    folder = tmp_path_factory.mktemp("tables")

    def write(factor=1.0, shift=0.0) -> dict[str, str]:
        names = {}
        for name, X, y in (("source", A, FIRST), ("target", B, SECOND)):
            names[name] = str(folder / f"{name}.npz")
            np.savez(names[name], X=X, y=other(y, factor, shift))
        return names

    return write


def point(files, **options) -> dict[str, Any]:
    size = dict(n_source=16, n_target=8, particles=64, replicates=2)
    return transfer_point(**files, **(size | dict(source_richness=0.0) | options))


def test_points_of_sweeps_do_not_depend_on_units(table):
    options: dict[str, Any] = dict(mode="lazy", head="kept", network_seeds=1, network_width=32)
    expected = point(table(), **options)
    target = ak.tasks.load_pair(**table(), n_source=16, n_target=8)[1]
    variance = target.y.var()
    assert expected["loss"] == pytest.approx(variance * expected["relative_loss"])
    assert expected["network_loss"] == pytest.approx(variance * expected["relative_network_loss"])
    assert expected["label_mean"] == pytest.approx(target.y.mean(0))
    assert 0 < expected["relative_source_loss_before"] < 1

    @few
    @given(factor=factors, shift=shifts)
    def same(factor, shift):
        found = point(table(factor, shift), **options)
        for name, value in expected.items():
            if "relative" in name:
                assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-5, nan_ok=True), name
            elif "loss" in name:
                assert found[name] / factor**2 == pytest.approx(
                    value, rel=1e-3, abs=1e-5, nan_ok=True
                ), name
        assert found["outcome"] == expected["outcome"]

    same()


@pytest.mark.parametrize("head", ["fresh", "kept"])
def test_one_target_sample_is_no_special_case(table, head):
    one, two = (
        point(table(*units), n_target=1, mode="lazy", head=head) for units in ((), (1e5, 4.0))
    )
    assert two["loss"] / 1e10 == pytest.approx(one["loss"], rel=1e-4)
    assert two["relative_loss"] == pytest.approx(one["relative_loss"], rel=1e-4)


def test_studies_do_not_depend_on_units(table):
    def study(*units):
        files, sizes = table(*units), dict(n_source=16, n_target=8, folds=2, check_seeds=0)
        size: dict[str, Any] = files | sizes | SMALL
        return run(TransferConfig(**size, richness=(0.0,), target_richness=(0.0,), head="kept"))

    one, two = study(), study(1e5, 4.5)
    assert two.verdict.sentence == one.verdict.sentence
    for a, b in zip(one.rows, two.rows, strict=True):
        for name in ("test_loss", "test_loss_se", "sampling_se", "cv_loss", "cv_loss_se"):
            value, relative = getattr(a, name), getattr(a, f"relative_{name}")
            assert getattr(b, name) / 1e10 == pytest.approx(value, rel=1e-4)
            assert getattr(b, f"relative_{name}") == pytest.approx(relative, rel=1e-4)
            assert relative == pytest.approx(value / one.tasks["target"]["label_std"][0] ** 2)
    for a, b in zip(one.curves, two.curves, strict=True):
        np.testing.assert_allclose(b.relative_loss, a.relative_loss, rtol=1e-4)


def test_classes_are_no_labels_to_scale():
    task = ak.tasks.load("digits", classes=(3, 5), n_train=8, n_test=4)
    assert standardise_labels(task) is task
    np.testing.assert_array_equal(task.loss_weights("variance"), [1.0])


SHARES = np.array([0.5, 0.3, 0.2])  # of three classes, 10 samples


def uneven_classes() -> ak.Task:
    X = np.random.default_rng(4).standard_normal((10, 6))
    return ak.Task(X, np.eye(3)[[0] * 5 + [1] * 3 + [2] * 2], classes=("a", "b", "c"))


def test_predicting_the_shares_of_classes_has_loss_1():
    task = standardise_labels(uneven_classes())
    assert task.label_scale is not None
    np.testing.assert_allclose(task.label_scale.mean, SHARES)
    assert np.mean(np.sum(task.y**2, axis=1)) == pytest.approx(1.0)
    np.testing.assert_allclose(task.label_scale.labels(task.y), uneven_classes().y, atol=1e-15)
    for unit in ("task", "labels", "variance"):
        np.testing.assert_array_equal(task.loss_weights(unit), np.ones(3))


def test_the_class_is_the_largest_output_in_the_unit_of_the_codes():
    task = standardise_labels(uneven_classes())
    assert float(ak.tasks.accuracy(task, np.zeros((10, 3)), task.y)) == 0.5  # that of the majority
    other = task.with_codes_of(("c", "a", "b"))
    assert other.classes == ("c", "a", "b")
    assert other.label_scale is not None
    np.testing.assert_allclose(other.label_scale.mean, SHARES[[2, 0, 1]])
    assert float(ak.tasks.accuracy(other, np.zeros((10, 3)), other.y)) == 0.5


def test_points_of_three_classes():
    found = transfer_point(
        source="digits:1,4,5", target="digits:1,7,8", n_source=12, n_target=9, n_test=30,
        mode="lazy", source_richness=0.0, target_richness=0.0, particles=64,
    )  # fmt: skip
    assert found["loss"] == found["relative_loss"] < 1
    assert found["accuracy"] > 0.5
    np.testing.assert_allclose(found["label_mean"], np.full(3, 1 / 3))
    np.testing.assert_allclose(found["label_std"], np.full(3, np.sqrt(2 / 3)))


def test_the_richness_of_three_classes_is_chosen_on_folds_with_all_of_them():
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((18, 4)), np.repeat(["a", "b", "c"], 6)
    fitted = AdaptiveKernelClassifier(cv=3, particles=64, duration=2.0).fit(X, y)
    assert len(fitted.richness_losses_) == 4
    for train, test in fitted._folds(fitted.solution_.stages[0].task):
        assert np.unique(y[train]).size == np.unique(y[test]).size == 3


def test_decisions_of_a_lazy_classifier_sum_to_1():
    task = uneven_classes()
    named = np.array(["a", "b", "c"])[task.y.argmax(1)]
    fitted = AdaptiveKernelClassifier(richness=0.0, particles=64).fit(task.X, named)
    np.testing.assert_allclose(fitted.decision_function(task.X), task.y, atol=1e-6)
    np.testing.assert_allclose(fitted.decision_function(-task.X).sum(1), 1.0, atol=1e-6)


def test_deviations_of_a_classifier_are_in_the_unit_of_the_codes():
    task = uneven_classes()
    fitted = AdaptiveKernelClassifier(richness=0.0, particles=64).fit(task.X, task.codes)
    learned = fitted._std(fitted._inputs(-task.X))
    assert learned.min() > 0.1
    unit = np.sqrt(np.sum(SHARES * (1 - SHARES)))
    np.testing.assert_allclose(fitted.predict(-task.X, return_std=True)[1], unit * learned)


UNEVEN = np.column_stack([np.sign(SECOND), 1e-4 * np.sign(B[:, 2])])[:6]
SOLVERS = {
    "Linear": (lambda stages: ak.solve(stages, ak.Linear(), record=2), 1.0),
    "TwoLayer, lazy": (lambda stages: ak.solve(stages, ak.TwoLayer(**SMALL), record=2), 0.0),
    "Network, lazy": (lambda stages: ak.train(stages, ak.Network(128), record=2), 0.0),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_every_output_converges_in_its_own_unit(name):
    """The loss that all add up to would be met by the first output alone."""
    X = np.random.default_rng(0).standard_normal((6, 8))
    solve, richness = SOLVERS[name]
    solution = solve([ak.Stage(ak.Task(X, UNEVEN), richness)])
    assert solution.outcome is ak.Outcome.CONVERGED
    f = solution.predictions("task", "train")[-1]
    left = np.mean((f - UNEVEN) ** 2, axis=(0, 1)) / np.mean(UNEVEN**2, axis=0)
    assert left.max() < 1.2e-4


@pytest.mark.parametrize("name", ["rich", "transfer"])
@given(rows=st.permutations(range(len(B))), columns=st.permutations(range(3)))
@settings(few, max_examples=4)
def test_orders_of_samples_and_columns_do_not_matter(name, rows, columns):
    model = MODELS[name]()
    if name == "transfer":
        model.set_params(source=(A[::-1][:, columns], FIRST[::-1]))
    found = model.fit(B[rows][:, columns], SECOND[rows]).predict(NEW[:, columns], True)
    np.testing.assert_allclose(found, fitted(name, 1), atol=1e-9)
    inputs = model._inputs(B[rows][:, columns])
    np.testing.assert_allclose(model.kernel_, model.solution_.kernel(inputs, inputs).value)
