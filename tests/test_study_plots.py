"""What the figures of a study, and of a data set of losses, hold."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from tests.made_study import a_study

from adaptik.display.plots.learning import learning_curves
from adaptik.display.plots.study import forgetting, kernels, loss_against_richness, losses


def lines_of(ax):
    return [line for line in ax.lines if len(line.get_xdata()) > 2]


def test_learning_curves():
    study = a_study()
    figure = learning_curves(study)
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles == [
        "source stage", "target stage: readout",
        "target stage: lazy, γ₂ = 0", "target stage: rich, γ₂ = 1",
    ]  # fmt: skip
    source, _, lazy, _ = figure.axes[4:]
    theory = [line for line in lines_of(lazy) if line.get_linestyle() != "None"]
    assert len([t for t in theory if t.get_linestyle() == "-"]) == 5
    assert len([t for t in theory if t.get_linestyle() == "--"]) == 1  # scratch at the same γ₂
    assert all(np.min(line.get_xdata()) > 0 for line in theory)
    wanted = next(
        c for c in study.curves if (c.origin, c.stage, c.task) == ("theory", "source", "target")
    )
    np.testing.assert_array_equal(source.lines[0].get_ydata(), wanted.loss[1:])


def test_loss_against_richness():
    study = a_study()
    ax = Figure(layout="constrained").add_subplot()
    loss_against_richness(study.rows, ax)
    labels = ax.get_legend_handles_labels()[1]
    assert set(labels) == {
        "readout", "lazy, γ₂ = 0", "rich, γ₂ = 1", "scratch, γ₂ = 0", "scratch, γ₂ = 1"
    }  # fmt: skip
    readout = next(line for line in lines_of(ax) if line.get_linestyle() == "-")
    np.testing.assert_array_equal(readout.get_xdata(), [0, 0.5, 1, 2, 4])
    np.testing.assert_array_equal(
        readout.get_ydata(), [r.test_loss for r in study.rows if r.mode == "readout"]
    )
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "0.5", "1", "2", "4"]


def test_kernels_share_one_scale():
    study = a_study()
    figure = kernels(study.kernels, 4.0)
    lazy, adapted = (ax.images[0] for ax in figure.axes[:2])
    assert lazy.get_clim() == adapted.get_clim()
    assert figure.axes[1].get_title().endswith("(γ₁ = 4)")


def test_forgetting_says_each_number_once():
    study = a_study()
    ax = Figure(layout="constrained").add_subplot()
    forgetting(study.rows, ax)
    before, *after = ax.lines[0], *[line for line in lines_of(ax) if line.get_linestyle() == "-"]
    np.testing.assert_allclose(before.get_ydata(), [0.2 - 0.02 * g for g in (0, 0.5, 1, 2, 4)])
    assert len(after) == 2  # lazy and rich; readout has NaN
    np.testing.assert_allclose(after[0].get_ydata(), [0.25 + 0.1 * g for g in (0, 0.5, 1, 2, 4)])
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["before the target", "after lazy, γ₂ = 0", "after rich, γ₂ = 1"]


def test_losses_of_a_data_set():
    time = ("time", [0.0, 1.0, 1.0, 2.0])
    mean = np.array([[1.0, 0.5], [0.2, 0.5], [0.2, 0.5], [0.4, np.nan]])[:, :, None]
    axes = ("time", "task", "split")
    ds = xr.Dataset(
        {"loss_mean": (axes, mean), "loss_standard_error": (axes, 0 * mean)},
        coords={
            "total_time": time,
            "stage": ("time", [0, 0, 1, 1]),
            "task": ["a", "b"],
            "split": ["test"],
        },
    )
    ax = losses(ds)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), mean[:, 0, 0])
    assert [line.get_label() for line in ax.lines[:2]] == ["loss on a", "loss on b"]
    assert ax.lines[2].get_xdata()[0] == 1.0  # the second stage starts
