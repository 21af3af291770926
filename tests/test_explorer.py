"""The explorer: what a study keeps for it, what its views show of folders, and who it serves."""

import json
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import adaptik as ak
from adaptik import sweeps
from adaptik.display.explorer.asked import (
    Asked,
    answer,
    boundary,
    by_rows,
    kind_of_map,
    nearest,
    places,
    simulate,
)
from adaptik.display.explorer.folder_of_finding import MEAN, axes, lines, read_finding, read_sweep
from adaptik.display.explorer.folder_of_study import curves, judged, read, sequences, table, ways
from adaptik.display.explorer.found import look_in
from adaptik.display.explorer.serve import MISSING, explore, origins
from adaptik.display.reports.folder import as_json
from adaptik.display.reports.study import document
from adaptik.experiments.reproduce import Outcome
from adaptik.experiments.verdict import Agreement, Claim
from adaptik.kernels.lazy import two_layer
from adaptik.linear_theory.diagram import QUANTITIES, phase_diagram
from adaptik.solution.to_xarray import save_dataset
from adaptik.system.errors import InputError
from adaptik.transfer import run
from adaptik.transfer.options import TransferConfig

# Panel's tables call pandas in ways that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

SETTINGS: dict[str, Any] = dict(n_source=12, n_target=12, n_test=20, particles=96, replicates=2)


@pytest.fixture(scope="module")
def study():
    more: dict[str, Any] = dict(
        richness=(0.0, 2.0), target_richness=(1.0,), folds=2, check_seeds=2, check_width=32
    )
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


# Folders


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    """The files of a study's report that the explorer reads."""
    path = tmp_path_factory.mktemp("studies") / "one"
    path.mkdir()
    (path / "config.json").write_bytes(as_json(study.config))
    (path / "rows.json").write_bytes(as_json(document(study)))
    save_dataset(study.evolution(), path / "evolution.zarr.zip")
    return path


def test_the_rows_that_a_verdict_compares_are_those_it_names(study, folder):
    lines = judged(read(folder))
    chosen = lines[lines.chosen & lines.pretrained]
    v = study.verdict
    (row,) = [
        r
        for r in study.rows
        if (r.mode, r.source_richness, r.target_richness)
        == (v.mode, v.source_richness, v.target_richness)
    ]
    assert chosen.test_loss.item() == pytest.approx(row.test_loss)
    without = lines[lines.chosen & ~lines.pretrained].test_loss.item()
    assert v.gain == pytest.approx(1 - row.test_loss / without)  # of one split


def test_curves_of_a_folder_are_those_of_the_study(study, folder):
    found = read(folder)
    mode, g2 = ways(found)["rich (γ₂ = 1)"]
    shown = {(s.origin, s.source_richness): s for s in curves(found, "target", "target", mode, g2)}
    assert set(shown) == {(o, g1) for o in ("theory", "network") for g1 in (0.0, 2.0)}
    for curve in study.curves:
        if (curve.mode, curve.stage, curve.task) == ("rich", "target", "target"):
            series = shown[curve.origin, curve.source_richness]
            np.testing.assert_array_equal(series.loss, curve.loss[curve.times > 0])
            np.testing.assert_array_equal(series.error, curve.standard_error[curve.times > 0])
    source = curves(found, "source", "source", mode, g2)
    assert len(source) == 4  # a source stage serves several rows


def test_a_table_has_every_row_and_moments_come_in_order(study, folder):
    found = read(folder)
    assert len(table(found)) == len(study.rows)
    assert "accuracy" in table(found) and "source γ₁" in table(found)
    times = {name: found.evolution.moment_time[p].values for name, p in sequences(found).items()}
    assert len(times) == 3 and all(np.all(np.diff(t) > 0) for t in times.values())


def test_a_study_without_its_evolution_says_so(folder, tmp_path):
    for name in ("rows.json", "config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    found = read(tmp_path)
    assert found.evolution is None and any("no curves" in note for note in found.notes)
    assert ways(found) == {} and sequences(found) == {}
    (tmp_path / "evolution.zarr.zip").write_bytes(b"PK no zip")
    assert any("damaged" in note for note in read(tmp_path).notes)


BROKEN = {
    "half": b'{"rows": [',
    "list": b"[]",
    "empty": b"",
    "number": b"3",
    "strangers": b'{"rows": [{"a": 1}], "verdict": 5}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize(("file", "reader"), [("rows.json", read), ("verdict.json", read_finding)])
def test_damaged_folders_are_one_line(tmp_path, file, reader, content):
    (tmp_path / file).write_bytes(content)
    (tmp_path / "config.json").write_bytes(b"{}")
    assert look_in(tmp_path)  # found by name
    with pytest.raises(InputError, match="damaged") as error:
        reader(tmp_path)
    assert "\n" not in str(error.value)


def test_folders_are_found_by_what_wrote_them(folder, tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "rows.json").write_bytes((folder / "rows.json").read_bytes())
    (tmp_path / "fig").mkdir()
    (tmp_path / "fig" / "verdict.json").write_text("{}")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "rows.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"mine": 1}')
    found = look_in(tmp_path)
    assert [found.name(p) for p in found.studies] == ["a/b"]
    assert [p.name for p in found.findings] == ["fig"] and not found.sweeps
    assert look_in(below).name(below) == "b"


@pytest.mark.parametrize("name", ["missing", "empty", "file", "nul\0"])
def test_folders_with_nothing_to_show_are_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"no folder|holds nothing|cannot look"):
        look_in(str(tmp_path / name))


def a_finding(path):
    claims = (Claim("it falls", 0.31, 0.02, network=0.3, network_standard_error=0.05),)
    compared = Agreement(10, 9, ("loss, x = 1: +3.2 s.e.",), 1.1)
    done = Outcome(
        "some_finding", "fig9z", "all falls", "reproduced", claims, compared, "Cap.", 1.0
    )
    (path / "verdict.json").write_bytes(as_json(done.document()))
    (path / "config.json").write_text('{"experiment": "some_finding"}')


def test_claims_have_the_numbers_of_both_sides(tmp_path):
    a_finding(tmp_path)
    found = read_finding(tmp_path)
    assert found.title == "fig9z: some finding" and found.picture == b""
    said = ["it falls", "✓ yes", "31.0 ± 2.0 %", "30.0 ± 5.0 %"]
    assert found.claims.values.tolist() == [said]
    assert found.agreement[1].startswith("loss, x = 1")


def case(width: int, richness: float, kind: str, seed: int) -> xr.Dataset:
    if width == 32 and richness == 1.0:
        raise ValueError("no such case")
    noise = np.random.default_rng(seed).standard_normal()
    loss = 1 / width + richness + noise * (kind == "rich")
    return xr.Dataset({"loss": loss, "path": ("step", loss * np.arange(3.0))})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweeps") / "store"
    grid = dict(width=[8, 16, 32], richness=[0.0, 1.0], kind=["lazy", "rich"], seed=[0, 1, 2])
    sweeps.sweep(case, grid, store=path, executor="serial")
    return path


def test_curves_of_a_sweep_are_means_with_their_errors(store):
    found = read_sweep(store)
    assert not found.whole and "6 failed" in found.said
    assert look_in(store).sweeps == (store.resolve(),)
    loss = found.data.loss
    assert axes(loss)[0] in ("width", "seed") and axes(loss)[-1] == "kind"
    one, other = lines(loss, "width", "kind", {"richness": 0, "seed": MEAN})
    assert (one.label, other.label) == ("kind = lazy", "kind = rich")
    np.testing.assert_allclose(one.mean, 1 / np.array([8, 16, 32]))
    np.testing.assert_allclose(one.error, 0, atol=1e-12)
    noise = np.array([np.random.default_rng(s).standard_normal() for s in range(3)])
    np.testing.assert_allclose(other.mean, 1 / np.array([8, 16, 32]) + noise.mean())
    np.testing.assert_allclose(other.error, noise.std(ddof=1) / np.sqrt(3))
    (failed,) = lines(loss, "width", None, {"richness": 1, "seed": 0, "kind": 0})
    assert np.isnan(failed.mean[2]) and np.isfinite(failed.mean[:2]).all()
    path = lines(found.data.path, "path_step" if "path_step" in found.data.dims else "step",
                 None, {"richness": 0, "seed": 0, "kind": 0, "width": 0})  # fmt: skip
    np.testing.assert_allclose(path[0].mean, np.arange(3) / 8)


# Maps

ASKED = [
    Asked(settings={"richness": 3.0, "nu_source": np.inf}, dimension=40, simulated=((0.5, 0.25),)),
    Asked(
        x="richness=0.1:10:log", quantity="loss", head="kept", finetune="all", dimension=40,
        settings={"nu_source": 0.5, "source_noise": 0.1, "time": 2.0},
    ),
    Asked(
        y="nu_source=0.1:2:log", quantity="over_rich", dimension=40,
        settings={"richness": 3.0, "ridge": 0.1},
    ),
]  # fmt: skip


@pytest.mark.parametrize("asked", ASKED, ids=["gain", "loss", "over-rich"])
def test_the_lines_that_reproduce_a_map_run_and_give_its_numbers(asked, tmp_path):
    import shlex

    from typer.testing import CliRunner

    from adaptik.cli import app

    shown = answer(asked.diagram())
    *lines, last = asked.python.splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    data = eval(last, names)
    np.testing.assert_array_equal(data.value, shown.value)
    name, *words = shlex.split(asked.command)
    assert name == "adaptik"
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0
    from zarr.storage import ZipStore

    stored = ZipStore(tmp_path / "phase_diagram.zarr.zip", mode="r")
    written = xr.open_zarr(stored, consolidated=False).load()
    stored.close()
    np.testing.assert_allclose(written.value, shown.value)
    for i, point in enumerate(asked.simulated):
        found = simulate(asked.diagram(2), *point, seed=i)
        assert found.value == pytest.approx(float(data.simulated[i]))
        assert found.value == pytest.approx(float(written.simulated[i]))
        assert found.standard_error == pytest.approx(float(data.standard_error[i]))
        assert abs(found.apart) < 4


def test_rows_after_each_other_make_the_whole_map():
    diagram = Asked(head="kept").diagram(13)
    *waiting, last = by_rows(diagram, 5)
    assert waiting == [None, None]
    np.testing.assert_array_equal(last.value, phase_diagram(diagram, checks=0).value)


@pytest.mark.parametrize("x", ["alignment=-1:1", "richness=0.1:30:log"])
def test_on_the_boundary_pretraining_neither_helps_nor_hurts(x):
    settings: dict[str, float | None] = {"richness": 2.0, "alignment": 0.4}
    diagram = Asked(x=x, head="kept", settings=settings).diagram(100)
    lines = boundary(answer(diagram))
    assert lines
    logarithmic = "log" in x
    for xs, ys in lines:
        loss, baseline = diagram.evaluate(10**xs if logarithmic else xs, ys)
        np.testing.assert_allclose(loss, baseline, atol=5e-3)
    assert places(diagram.x)[0] == (-1.0)


def test_clicks_are_taken_to_points_that_can_be_simulated():
    diagram = Asked(x="richness=0.1:10:log").diagram(10)
    x, y = nearest(diagram, np.log10(2.34567), 0.30049)
    assert x == 2.35 and y == 120 / 400
    assert nearest(diagram, 5.0, -3.0) == (10.0, 8 / 400)


# Views, without a browser


@pytest.fixture
def view():
    from adaptik.display.explorer.map import MapView

    return MapView()


def test_maps_are_as_fine_as_there_is_time_for(view):
    kind = kind_of_map(view.asked.diagram())
    for pace, points in ((1e-6, 100), (1e-5, 50), (5e-5, 25), (1e-2, 10)):  # seconds a point
        view.pace[kind] = pace
        assert view._affordable() == points
    view._learn(view.asked.diagram(), 2e-6)
    view._learn(view.asked.diagram(), 1.0)  # that one compiled
    assert view.pace[kind] == 2e-6 and view._affordable() == 100


def test_only_the_tab_that_is_seen_is_drawn_and_views_are_made_once():
    from adaptik.display.explorer import frame

    made = []
    views = [(name, lambda name=name: made.append(name) or name) for name in ("one", "two")]
    (column,) = frame.page("title", views, 0).main
    (tabs,) = column
    for seen in (1, 0, 1):
        tabs.active = seen
        assert [len(room) for room in tabs] == [1 - seen, seen]
    assert sorted(made) == ["one", "two"]


def test_every_slider_changes_the_map_or_says_why_not(view):
    first = view.picture.image.data["value"][0]
    assert first.shape == (100, 100) and view.picture.line.data["xs"]
    view.sliders["richness"].value = "10"
    assert not np.array_equal(view.picture.image.data["value"][0], first)
    assert "richness=10" in view.command.value and "'richness': 10" in view.python.value
    view.x.value = "richness"
    assert view.asked.x == "richness=0.1:100:log" and not view.sliders["richness"].visible
    assert view.picture.figure.x_range.start == -1 and view.picture.figure.x_range.end == 2
    view.x_range.value = "3:1"
    assert view.said.visible and "low < high" in view.said.object
    view.x_range.value = "0.1:10:log"
    assert not view.said.visible and view.picture.figure.x_range.end == 1


@pytest.mark.parametrize("name", [n for n in QUANTITIES if n not in ("exponent", "contrast")])
def test_sliders_start_at_what_a_map_takes_by_default(view, name):
    default = QUANTITIES[name][2]
    assert view._level(name) == default
    options = view.sliders[name].options
    for stop in (options[0], options[len(options) // 2], options[-1]):
        view.sliders[name].value = stop
        assert view._level(name) == view.asked.settings[name]


def test_views_survive_what_lies_in_folders(folder, store, tmp_path):
    from adaptik.display.explorer.gallery import GalleryView, finding, sweep
    from adaptik.display.explorer.study import StudyView

    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "rows.json").write_bytes(BROKEN["half"])
    broken = StudyView(look_in(tmp_path))
    assert "damaged" in broken.body[0].object
    assert "No study" in StudyView(look_in(store)).view[0].object
    assert len(StudyView(look_in(folder)).body) > 8
    assert len(sweep(store)) == 3
    a_finding(tmp_path)
    assert len(finding(tmp_path)) > 4
    assert GalleryView(look_in(tmp_path)).view.objects
    assert "No finding" in GalleryView(look_in(folder)).view[0].object


def test_kernels_and_densities_follow_the_slider(folder):
    from adaptik.display.explorer.study_figures import FeatureFigures

    found = read(folder)
    view = FeatureFigures(found.evolution)
    (places_, *_) = sequences(found).values()
    view.show(places_, places_[-1])
    before, now = (s.data["image"][0] for s in view.images)
    np.testing.assert_array_equal(before, found.evolution.kernel[places_[0]])
    np.testing.assert_array_equal(now, found.evolution.kernel[places_[-1]])
    start, moving = view.densities[0]
    np.testing.assert_array_equal(start.data["p"], found.evolution.density[places_[0], 0])
    np.testing.assert_array_equal(moving.data["p"], found.evolution.density[places_[-1], 0])


# Serving


def test_only_this_machine_and_the_address_asked_for_may_talk_to_it():
    assert origins("127.0.0.1", 7) == ["localhost:7", "127.0.0.1:7"]
    assert "10.1.2.3:7" in origins("10.1.2.3", 7)
    assert not any("*" in name for name in origins("0.0.0.0", 7))


def test_a_port_that_is_taken_is_one_line(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen at 127.0.0.1:{port}.*--port"):
            explore(folder, address="127.0.0.1", port=port, browser=False)
    with pytest.raises(InputError, match="port must be 0 to 65535"):
        explore(folder, port=70000, browser=False)


def test_without_panel_one_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "panel", None)
    with pytest.raises(InputError) as error:
        explore(folder, browser=False)
    assert str(error.value) == MISSING and "adaptik[explorer]" in MISSING


def test_the_command_refuses_a_bad_folder_in_one_line(tmp_path):
    command = [sys.executable, "-m", "adaptik", "explore", str(tmp_path / "none"), "--no-browser"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_rows_of_regression_are_shown_in_label_variances(folder, tmp_path):
    said = json.loads((folder / "rows.json").read_bytes())
    for row in said["rows"]:
        row["relative_test_loss"] = 10 * row["test_loss"]
    (tmp_path / "rows.json").write_text(json.dumps(said))
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    found = read(tmp_path)
    assert found.unit == "variances of the labels"
    first = pd.DataFrame(said["rows"]).test_loss
    np.testing.assert_allclose(found.rows.test_loss, 10 * first)
