"""The report is whole, self-contained and honest about what is missing."""

import base64
import json
import os
import re
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import xarray as xr
import zarr
from matplotlib.figure import Figure

from adaptik.display.plots.study import (
    forgetting,
    kernels,
    learning_curves,
    loss_against_richness,
    losses,
)
from adaptik.display.reports.study import BELOW_ZERO, all_notes, write
from adaptik.system.errors import InputError

FILES = {"report.html", "rows.json", "config.json", "results.zarr.zip", "evolution.zarr.zip"}
FIGURES = {"learning_curves", "loss_against_richness", "kernels", "alignment", "forgetting"}


@dataclass(frozen=True)
class Row:
    mode: str
    source_richness: float | None
    target_richness: float | None
    test_loss: float
    test_loss_se: float = 0.004
    sampling_se: float = 0.03
    network_test_loss: float | None = None
    network_test_loss_se: float | None = None
    difference_in_se: float | None = None
    accuracy: float | None = None
    source_loss_before: float | None = None
    source_loss_after: float | None = None
    cv_loss: float | None = None
    cv_loss_se: float | None = None
    outcome: str = "converged"
    seconds: float = 1.25


@dataclass(frozen=True)
class Verdict:
    sentence: str
    helps: bool | None = True
    gain: float | None = 0.21
    gain_se: float | None = 0.04
    confidence: float | None = 0.99
    source_richness: float | None = 2.0
    target_richness: float | None = 0.0
    mode: str | None = "lazy"


@dataclass(frozen=True)
class Curve:
    origin: str
    mode: str
    source_richness: float | None
    target_richness: float | None
    stage: str
    task: str
    times: np.ndarray
    loss: np.ndarray
    standard_error: np.ndarray


@dataclass(frozen=True)
class Study:
    config: dict
    rows: tuple = ()
    verdict: Verdict = field(default_factory=lambda: Verdict("No verdict.", None, *[None] * 6))
    curves: tuple = ()
    kernels: dict = field(default_factory=dict)
    alignments: dict = field(default_factory=dict)
    tasks: dict = field(default_factory=dict)
    notes: tuple = ()
    complete: bool = True

    def to_xarray(self):
        losses = [row.test_loss for row in self.rows]
        modes = [row.mode for row in self.rows]
        return xr.Dataset({"test_loss": ("row", losses), "mode": ("row", modes)})

    def evolution(self):
        return xr.Dataset()


def a_curve(origin, mode, g1, g2, stage, task, rng):
    times = np.concatenate([[0], np.geomspace(0.05, 200, 60)])
    speed = 0.3 * (1 + (g1 or 0))
    falls = stage == task
    loss = (
        0.1 / (1 + (g1 or 0)) + 0.9 * np.exp(-speed * times) if falls else 1 + 0.1 * np.log1p(times)
    )
    error = np.full(len(times), 0.004 if origin == "theory" else 0.02)
    if origin == "network":
        loss = loss + 0.02 * rng.standard_normal(len(times))
    return Curve(origin, mode, g1, g2, stage, task, times, loss, error)


def a_study(richness=(0.0, 0.5, 1.0, 2.0, 4.0), network=True, classes=True):
    rng = np.random.default_rng(0)
    modes = [("scratch", 0.0), ("scratch", 1.0), ("readout", None), ("lazy", 0.0), ("rich", 1.0)]
    rows, curves = [], []
    for mode, g2 in modes:
        for g1 in (None,) if mode == "scratch" else richness:
            loss = (
                0.53 - 0.06 * g2
                if g1 is None
                else 0.55 - 0.1 * np.log1p(g1) + 0.03 * len(mode) - 0.05 * (g2 or 0)
            )
            checked = dict(
                network_test_loss=loss + 0.01 * rng.standard_normal(),
                network_test_loss_se=0.01, difference_in_se=0.7,
            ) if network else {}  # fmt: skip
            source = {} if g1 is None else dict(
                source_loss_before=0.2 - 0.02 * g1,
                source_loss_after=0.25 + 0.1 * g1 if mode != "readout" else float("nan"),
            )  # fmt: skip
            accuracy = 0.93 if classes else None
            rows.append(Row(mode, g1, g2, loss, accuracy=accuracy, **checked, **source))
            for origin in ("theory", "network") if network else ("theory",):
                tasks = ("target",) if g1 is None else ("source", "target")
                for task in tasks:
                    curves.append(a_curve(origin, mode, g1, g2, "target", task, rng))
                    if g1 is not None:
                        curves.append(a_curve(origin, mode, g1, g2, "source", task, rng))
    X, y = rng.standard_normal((40, 12)), np.repeat([-1, 1], 20)
    lazy = X @ X.T / 12 + 1
    return Study(
        config={
            "source": "digits:3,5",
            "richness": list(richness),
            "kernel_richness": richness[-1],
        },
        rows=tuple(rows),
        verdict=Verdict("Pretraining helps: <21 %> & more at richness 2."),
        curves=tuple(curves),
        kernels={"lazy": lazy, "adapted": lazy + 1.5 * np.outer(y, y)},
        alignments={
            "source kernel at target labels": {g: (0.1 + 0.1 * g, 0.01) for g in richness},
            "final kernel at target labels": {g: (0.3 + 0.1 * g, float("nan")) for g in richness},
        },
        tasks={
            "source": {
                "name": "digits:3,5",
                "n_train": 200,
                "n_test": 150,
                "D": 64,
                "classes": ("3", "5"),
            },
            "target": {"name": "digits:8,9", "n_train": 40, "n_test": 300, "D": 64, "classes": ()},
        },
        notes=("the network check used width 2048",),
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    study = a_study()
    return study, write(study, folder)


def test_everything_is_written(written):
    study, page = written
    assert set(os.listdir(page.parent)) == FILES | {f"{name}.png" for name in FIGURES}
    document = json.loads((page.parent / "rows.json").read_text())
    assert len(document["rows"]) == len(study.rows)
    assert (
        document["rows"][0] | {"source_richness": None, "target_richness": 0.0}
        == document["rows"][0]
    )
    assert document["rows"][2]["source_loss_after"] is None  # NaN is no JSON
    assert document["verdict"]["gain"] == 0.21
    assert json.loads((page.parent / "config.json").read_text()) == study.config
    with zarr.storage.ZipStore(page.parent / "results.zarr.zip", mode="r") as store:
        back = xr.open_zarr(store, consolidated=False).load()
    xr.testing.assert_identical(back, study.to_xarray())


def test_page_is_self_contained(written):
    _, page = written
    text = page.read_text()
    sources = re.findall(r'(?:src|href)\s*=\s*"([^"]{0,40})', text)
    assert len(sources) == len(FIGURES)
    assert all(s.startswith("data:image/png;base64,") for s in sources)
    assert not re.search(r"https?://|@import|url\(|<script|<link", text)
    for embedded in re.findall(r"base64,([^\"]+)", text):
        assert base64.b64decode(embedded).startswith(b"\x89PNG")
    assert "Pretraining helps: &lt;21 %&gt; &amp; more" in text
    assert "Incomplete" not in text
    assert text.count("<tr>") == 1 + 17 + 1 + 2
    assert "93.0 %" in text
    assert "cross-validated" not in text  # a column without any value
    assert "21.0 % ± 4.0 %" in text


def lines_of(ax):
    return [line for line in ax.lines if len(line.get_xdata()) > 2]


def test_learning_curves(written):
    study, _ = written
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


def test_loss_against_richness(written):
    study, _ = written
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


def test_kernels_share_one_scale(written):
    study, _ = written
    figure = kernels(study.kernels, 4.0)
    lazy, adapted = (ax.images[0] for ax in figure.axes[:2])
    assert lazy.get_clim() == adapted.get_clim()
    assert figure.axes[1].get_title().endswith("(γ₁ = 4)")


def test_forgetting_skips_rows_without_numbers(written):
    study, _ = written
    ax = Figure(layout="constrained").add_subplot()
    forgetting(study.rows, ax)
    assert len(ax.get_yticklabels()) == 10  # lazy and rich at five richnesses; readout has NaN


@pytest.mark.parametrize(
    "study",
    [
        a_study(richness=(2.0,), network=False),
        a_study(richness=(0.0,), classes=False),
        replace(a_study(), rows=(), curves=(), kernels={}, alignments={}, complete=False),
        replace(
            a_study(), rows=a_study().rows[:1], curves=a_study().curves[:2], alignments={"a": {}}
        ),
        replace(
            a_study(richness=(1.0, 3.0)),
            rows=(
                Row("lazy", 1.0, 0.0, float("nan"), float("nan"), float("nan"), outcome="diverged"),
            ),
            kernels={"lazy": np.full((3, 3), np.nan)},
        ),
    ],
    ids=["one richness", "lazy only", "nothing", "scratch only", "nan"],
)
def test_partial_studies(study, tmp_path):
    page = write(study, tmp_path)
    assert ("Incomplete" in page.read_text()) is not study.complete


def test_old_pictures_go(tmp_path):
    write(a_study(richness=(1.0,), network=False), tmp_path)
    write(replace(a_study(), curves=(), rows=(), kernels={}, alignments={}), tmp_path)
    assert set(os.listdir(tmp_path)) == FILES


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot make the output folder.*file"):
        write(a_study(), tmp_path / "file" / "out")
    with pytest.raises(InputError, match=r"cannot make the output folder.*file"):
        write(a_study(), tmp_path / "file")


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


def test_a_loss_below_zero_is_said_to_be_an_estimate():
    studies = [
        Study({}, (Row("lazy", 1.0, 0.0, loss),), notes=("first",)) for loss in (0.01, -0.01)
    ]
    said, explained = (all_notes(study) for study in studies)
    assert said == ("first",) and explained == ("first", BELOW_ZERO)
    assert "estimates without bias" in BELOW_ZERO
