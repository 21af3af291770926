"""The command line as a person types it."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import xarray as xr
from zarr.storage import ZipStore

from adaptik import cli
from adaptik.display import terminal
from adaptik.solution.estimate import deviate
from adaptik.transfer.options import TransferConfig, annotations

# Both stages, and the files below, have one shape: programs are compiled once.
QUICK = "--n-source 12 --n-target 12 --n-test 20 --particles 160 --replicates 2 --folds 2"
CHECK = "--check-width 64 --check-seeds 2"


def test_transfer_prints_one_json_document_and_writes_a_report(run, capsys, tmp_path):
    command = (
        f"transfer {QUICK} {CHECK} --richness 0,1 --target-richness 0,1 --json --out {tmp_path}"
    )
    assert run(command) == 0
    document = json.loads(capsys.readouterr().out)
    rows = document["rows"]
    assert [r["mode"] for r in rows] == ["scratch"] * 2 + ["readout", "lazy", "rich"] * 2
    for row in rows:
        assert (row["source_richness"] is None) == (row["mode"] == "scratch")
        assert (row["target_richness"] is None) == (row["mode"] == "readout")
        assert 0 < row["test_loss"] < 3 and row["test_loss_se"] >= 0
        assert 0 < row["network_test_loss"] < 3 and row["network_test_loss_se"] > 0
        assert 0 <= row["accuracy"] <= 1
        assert row["cv_loss"] > 0
    assert rows[0]["test_loss"] == pytest.approx(rows[3]["test_loss"], abs=1e-9)  # both lazy, fresh
    assert "digits:1,7" in json.dumps(document["verdict"])
    page = (tmp_path / "report.html").read_text()
    assert 'data-series="rich, γ₂ = 1"' in page
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_options_of_a_study_are_typed_under_their_names_with_their_help():
    declared = annotations(TransferConfig)
    assert list(declared) == [field.name for field in fields(TransferConfig)]
    commands: Any = typer.main.get_command(cli.app)
    typed = {option.name: option for option in commands.commands["transfer"].params}
    assert set(typed) == {*declared, "out", "as_json", "brief", "verbose"}
    for name, (_, option) in declared.items():
        assert typed[name].help == terminal.escaped(option.help)
        assert typed[name].opts == [f"--{name.replace('_', '-')}"]
    assert typed["richness"].default == "0,0.5,1,2,4" and typed["seed"].default == 0
    assert typed["n_source"].default is None  # files give all their samples
    config = cli.typed_configs({name: typed[name].default for name in declared})[0]
    assert config == TransferConfig()


def test_brief_prints_the_verdict_alone(run, capsys, tmp_path):
    command = (
        f"transfer {QUICK} --check-seeds 0 --richness 0,1 --target-richness 0 --out {tmp_path}"
    )
    assert run(f"{command} --brief") == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.startswith(("Yes: ", "No: ", "Unclear: "))
    verdict = json.loads((tmp_path / "rows.json").read_text())["verdict"]
    assert out.strip() == verdict["sentence"] and (tmp_path / "report.html").exists()


def test_a_study_without_arguments_says_what_it_needs(run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("transfer") == 2
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100
    examples = [line for line in said.splitlines() if line.startswith("  adaptik transfer ")]
    assert len(examples) == 2 and not any(tmp_path.iterdir())
    commands: Any = typer.main.get_command(cli.app)
    for line in examples:
        context = commands.commands["transfer"].make_context("transfer", line.split()[2:])
        names = [field.name for field in fields(TransferConfig)]
        config = cli.typed_configs({name: context.params[name] for name in names})[0]
        assert config.target == "digits:1,7" and config.n_target == 8


def test_version_and_help_fit_a_screen(run, capsys, monkeypatch):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"adaptik {version('adaptik')}\n"
    monkeypatch.setenv("COLUMNS", "100")
    assert run("--help") == 0
    page = capsys.readouterr().out
    assert page.count("\n") <= 30 and "--install-completion" in page
    assert run("transfer --help") == 0
    page = capsys.readouterr().out
    assert "[default: 200, or all]" in page  # brackets are no markup
    assert all(group in page for group in ("Data", "Question", "Networks beside the theory"))


def test_the_shell_completes_commands_figures_and_words():
    start = "import sys; sys.argv = ['adaptik']; from adaptik.cli import main; main()"
    for line, wanted in (
        ("adaptik re", ["reproduce", "report"]),
        ("adaptik reproduce fig1", ["fig1a", "fig1b", "fig1c"]),
        ("adaptik transfer --head k", ["kept"]),
    ):
        words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        done = subprocess.run(
            [sys.executable, "-c", start],
            env=os.environ | words | {"_ADAPTIK_COMPLETE": "complete_bash"},
            capture_output=True,
            text=True,
        )
        assert done.stdout.split() == wanted, (line, done.stderr)


def test_progress_without_a_terminal_is_one_line_with_the_time_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.bar_of_cases("cases") as show:
        show(40, 0, 100)  # of an earlier run
        for done in range(41, 101):
            now[0] += 1.5
            show(done, 0, 100)
    # 6 of 60 new cases after 9 s: the others take 81 s.
    assert capsys.readouterr().err == "cases: 46 of 100 done, about 81 s left\n"
    with terminal.bar("quick") as show:
        for done in range(11):
            now[0] += 0.1
            show("part", done, 10)
    assert capsys.readouterr().err == ""


def test_progress_in_a_terminal_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    with terminal.bar("study") as show:
        show("a solve", 1, 4)
    shown = capsys.readouterr().err
    assert "a solve" in shown and "1/4" in shown and "left:" in shown


@pytest.mark.evidence
def test_deep_networks(run, capsys, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("mine", "yours"):
        X = rng.standard_normal((30, 5))
        np.savez(tmp_path / f"{name}.npz", X=X[:16], y=X[:16, 0], X_test=X[16:], y_test=X[16:, 0])
    command = (
        f"transfer --source {tmp_path}/mine.npz --target {tmp_path}/yours.npz --depth 2 "
        "--activation tanh --richness 1 --target-richness 0 --particles 64 --replicates 3 "
        f"--folds 2 --check-width 64 --check-seeds 2 --json --out {tmp_path}"
    )
    assert run(command) == 0
    document = json.loads(capsys.readouterr().out)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["depth"] == 2 and config["limit"]["limit"] == "Ensemble"
    for row in document["rows"]:
        assert 0 < row["test_loss"] < 2 and 0 < row["network_test_loss"] < 2
    assert run("transfer --depth 0") == 2
    assert "depth must be at least 1" in capsys.readouterr().err


def test_deep_studies_that_do_not_fit_are_refused_before_they_start(run, capsys, tmp_path):
    command = f"transfer --depth 3 --particles {2**18} --out {tmp_path}"
    assert run(command) == 2
    error = capsys.readouterr().err
    for part in ("depth 3", "GiB", "of the order of", " s)", "--particles 512", "adaptik.Ensemble"):
        assert part in error


def test_your_own_files_and_a_kept_head(run, capsys, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("mine", "yours"):
        X = rng.standard_normal((32, 64))
        y = X[:, 0] + 0.1 * X[:, 1]
        np.savez(tmp_path / f"{name}.npz", X=X[:12], y=y[:12], X_test=X[12:], y_test=y[12:])
    command = (
        f"transfer --source {tmp_path}/mine.npz --target {tmp_path}/yours.npz --richness 1 "
        f"--target-richness 0.5 --head kept --particles 160 --replicates 2 --folds 2 "
        f"--check-seeds 0 --out {tmp_path}/out"
    )
    assert run(command) == 0
    out = capsys.readouterr().out
    assert "pretraining on mine" in out and "report.html" in out
    assert json.loads((tmp_path / "out" / "config.json").read_text())["head"] == "kept"
    assert "nan" not in out


BAD = {
    "--source mnist:0,1": "unknown data set",
    "--source digits:0": "at least two different classes",
    "--source digits:0,77": "unknown classes [77]",
    "--source nowhere.csv": "no such file",
    "--source digits:a,b": "name the classes",
    "--activation swish": "unknown activation 'swish'",
    "--richness -1": "richness must be a finite number >= 0",
    "--richness x": "richness must be numbers",
    "--n-source 100000": "ask for fewer",
    "--n-target 0": "at least 1",
    "--n-target 3 --folds 4": "folds=4 needs at least 8",
    "--head bent": "head must be 'fresh' or 'kept', got 'bent'",
    "--particles 20000000000": "GiB",
    "--particles 10": "at least rank + outputs",
    "--splits 0": "splits must be at least 1",
    "--json --brief": "--json and --brief are ways to print; give one of them",
    "--brief --verbose": "--brief and --verbose are ways to print; give one of them",
    "--source fashion-mnist:0,1": "",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input_is_one_line_and_exit_code_2(arguments, run, capsys, tmp_path):
    if "fashion" in arguments:
        pytest.importorskip("sklearn")
    out = tmp_path / "never"
    small = "--n-source 12 --n-target 12 --richness 0 --target-richness 0 --check-seeds 0"
    assert run(f"transfer {small} {arguments} --out {out}") == 2
    printed = capsys.readouterr()
    message = printed.err.strip().splitlines()[-1]
    assert message.startswith("error: ") and BAD[arguments] in message
    assert "Traceback" not in printed.err and not printed.out
    assert not out.exists() or not any(out.iterdir())


def test_an_unwritable_folder_is_refused_before_computing(run, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert run(f"transfer --out {tmp_path}/file/report") == 2
    assert "error: " in capsys.readouterr().err


def test_interrupting_keeps_what_was_finished(run, monkeypatch, capsys, tmp_path):
    from adaptik.transfer import comparison as transfer

    real = transfer.solve
    calls = []

    def solve_twice(*args, **kwargs):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(transfer, "solve", solve_twice)
    command = f"transfer {QUICK} --check-seeds 0 --richness 0 --target-richness 0 --out {tmp_path}"
    assert run(command) == 130
    assert "interrupted" in capsys.readouterr().out
    rows = json.loads((tmp_path / "rows.json").read_text())
    rows = rows["rows"] if isinstance(rows, dict) else rows
    assert [row["mode"] for row in rows] == ["scratch"]


def test_differences_of_few_members_are_students_deviates():
    rng = np.random.default_rng(0)
    for blocks in (1, 2):
        z = deviate(rng.standard_normal((blocks, 3, 2000)), rng.standard_normal((blocks, 4, 2000)))
        assert 0.03 < np.mean(np.abs(z) > 1.96) < 0.07
    exact = np.full((1, 4), 0.3)
    # t = -1.732 with 2 degrees of freedom is as improbable as a normal deviate of -1.212
    assert deviate(np.array([[0.1, 0.2, 0.3]]), exact) == pytest.approx(-1.2123, abs=1e-3)
    assert np.isnan(deviate(np.array([[0.1]]), exact))
    assert deviate(exact, exact - 0.1) == np.inf


def test_phase_diagram_writes_a_map_with_simulated_points(run, capsys, tmp_path):
    command = (
        "phase-diagram --x alignment=-1:1:9 --y richness=0.1:10:7:log --set nu_source=0.5 --head "
        f"kept --checks 3 --draws 4 --dimension 60 --out {tmp_path}"
    )
    assert run(command) == 0
    assert "phase_diagram.png" in capsys.readouterr().out
    assert (tmp_path / "phase_diagram.png").read_bytes().startswith(b"\x89PNG")
    (settings,) = json.loads((tmp_path / "config.json").read_text())
    assert settings["nu_source"] == 0.5 and settings["head"] == "kept"
    data = xr.open_zarr(ZipStore(tmp_path / "phase_diagram.zarr.zip", mode="r"), consolidated=False)
    assert data.value.dims == ("richness", "alignment") and data.value.shape == (7, 9)
    assert data.value.min() < 0 < data.value.max()
    assert data.sizes["check"] == 3 and np.all(data.standard_error > 0)


def test_paper_figures_are_presets(run, tmp_path):
    assert run(f"phase-diagram --preset fig1c --draws 2 --out {tmp_path}") == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"fig1c.png", "fig1c-1.zarr.zip", "fig1c-2.zarr.zip", "config.json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--x alignment=2:1", "axis 'alignment=2:1' needs low < high"),
        ("--x alignment=0:2", "alignment must be between -1 and 1, got"),
        ("--x alignment", "axis 'alignment' cannot be read"),
        ("--x hue=0:1", "quantity 'hue' is unknown"),
        ("--y richness=0:1:9:log", "is logarithmic and needs low > 0"),
        ("--set hue=1", "quantity 'hue' is unknown"),
        ("--set richness", "--set 'richness' cannot be read"),
        ("--set richness=high", "richness must be numbers"),
        ("--set richness=-1", "richness must be finite and >= 0"),
        ("--set alignment=0.1", "each quantity can be given once"),
        ("--set exponent=1 --set contrast=9", "give exponent or contrast"),
        ("--set contrast=0.5", "contrast must be finite and >= 1"),
        ("--set exponent=1 --set noise_alignment=0.1", "noise_alignment needs isotropic inputs"),
        ("--quantity beauty", "quantity='beauty' is unknown"),
        ("--quantity over_rich", "over_rich depends on nu_source"),
        ("--head new", "head='new' is unknown"),
        ("--finetune none", "finetune='none' is unknown"),
        ("--dimension 7", "dimension must be even"),
        ("--checks -1", "checks and seed must be >= 0"),
        ("--draws 1", "draws at least 2"),
        ("--preset fig9", "preset 'fig9' is unknown"),
        ("--x richness=0:1e308", "richness must be 0 or of size 1e-30 to 1e+30"),
        ("--x richness=5e-324:1", "richness must be 0 or of size"),
        ("--x alignment=-inf:1", "needs low < high, finite"),
        ("--x alignment=-1:1:inf", "cannot be read"),
        ("--set ridge=1e-200", "ridge must be 0 or of size"),
        ("--set source_noise=nan", "source_noise must be 0 or of size"),
        ("--points 100000000", "at most 10000 points"),
        ("--draws 10000000000", "draws at most 100000"),
    ],
)
def test_bad_phase_diagrams_are_one_line(run, capsys, tmp_path, options, message):
    assert run(f"phase-diagram {options} --out {tmp_path}") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and message in error


def test_files_of_others_are_left_alone(run, capsys, tmp_path):
    (tmp_path / ".writable").write_text("mine")
    command = f"phase-diagram --points 5 --dimension 20 --checks 0 --out {tmp_path}"
    assert run(command) == 0 and run(command) == 0  # what is ours can be replaced
    assert (tmp_path / ".writable").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"mine": 1}')
    for front in ("phase-diagram --points 5 --checks 0", f"transfer {QUICK} --check-seeds 0"):
        assert run(f"{front} --out {other}") == 2
        assert "was not written by adaptik; choose another folder" in capsys.readouterr().err
        assert [path.name for path in other.iterdir()] == ["config.json"]
        assert (other / "config.json").read_text() == '{"mine": 1}'


@pytest.mark.parametrize("place", ["/dev/full", "a closed pipe"])
def test_output_that_nobody_takes_is_one_line(place):
    if place == "/dev/full":
        if not Path(place).exists():
            pytest.skip("there is no /dev/full")
        output = os.open(place, os.O_WRONLY)
    else:
        reader, output = os.pipe()
        os.close(reader)
    command = [sys.executable, "-m", "adaptik", "reproduce", "--list"]
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True)
    os.close(output)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output") and done.stderr.count("\n") == 1


SWEEP = """
compute = "transfer"
executor = "serial"
[fixed]
n_source = 20
n_target = 10
n_test = 20
particles = 96
source_richness = 0.0
[grid]
mode = ["lazy", "unheard-of"]
"""


def test_a_sweep_keeps_failures_and_goes_on(tmp_path, run, capsys):
    config = tmp_path / "cases.toml"
    config.write_text(SWEEP)
    for _ in range(2):
        assert run(f"sweep {config}") == 2
        shown = capsys.readouterr()
        assert "1 of 2 cases done, 1 failed" in shown.out
        assert "mode='unheard-of' is unknown" in shown.err
    assert (tmp_path / "cases").is_dir()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read"),
        ("compute = ", "is no TOML file"),
        ('compute = "magic"', "compute='magic' is unknown; use one of"),
        ('compute = "transfer"\ncolour = 1', "'colour' is unknown"),
        ('compute = "transfer"', "grid has no axes"),
        ('compute = "transfer"\n[grid]\nshape = [1]', "axis 'shape' is unknown"),
        ('compute = "transfer"\nexecutor = "x"\n[grid]\nsplit = [1]', "executor='x' is unknown"),
    ],
)
def test_bad_sweep_files_are_one_line(tmp_path, run, capsys, text, message):
    config = tmp_path / "cases.toml"
    if text is not None:
        config.write_text(text)
    assert run(f"sweep {config}") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "cases").exists()


@pytest.mark.evidence
def test_without_a_home_a_refusal_is_still_one_line():
    environment = {k: v for k, v in os.environ.items() if k != "MPLCONFIGDIR"}
    done = subprocess.run(
        [sys.executable, "-m", "adaptik", "transfer", "--out", "/dev/null/x"],
        env=environment | {"HOME": "/dev/null", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
