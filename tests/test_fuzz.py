"""No call of the command line ends in a traceback, or touches a file of the user's."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from adaptik import cli

SEED = 22
CODES = (0, 2, 130, 143)
ODD = (
    "", " ", "x", "nan", "inf", "-inf", "1e308", "-1e308", "5e-324", "1e400", "-1", "0", "1_0",
    "٣", "²", "1,", ",", "1,,2", "1,1", "1e-30", "99999999999999999999", "-99999999999999999999",
    "2147483648", "0.1.2", "None", "[]", "{}", "γ", "\udcff", "a" * 300, "../..", "--", "%s", "\n",
)  # fmt: skip
SMALL = dict(
    [
        ("--n-source", "12"), ("--n-target", "12"), ("--n-test", "20"), ("--particles", "160"),
        ("--replicates", "2"), ("--folds", "2"), ("--richness", "0"), ("--target-richness", "0"),
        ("--check-seeds", "0"),
    ]
)  # fmt: skip
TRANSFER = {
    "--source": (
        "digits:1,4",
        "digits:3",
        "digits:",
        "digits:1,99",
        "mnist:1,2",
        ":",
        "digits:1,1",
    ),
    "--target": ("digits:1,7", "digits:a,b", "nowhere.npz", "digits:1,7,7"),
    "--n-source": ("12", "1", "0", "100000"),
    "--n-target": ("12", "3"),
    "--n-test": ("20", "0", "100000"),
    "--richness": ("0", "0,1", "-1", "1e10", "1e100"),
    "--target-richness": ("0", "-0.0", "0,0"),
    "--head": ("fresh", "kept", "bent"),
    "--splits": ("1", "0", "-3"),
    "--folds": ("2", "1", "13"),
    "--activation": ("relu", "swish", "exp(400)", "polynomial(nan)", "hermite(99)", "polynomial()"),
    "--depth": ("1", "0", "-1"),
    "--particles": ("160", "1", "0", "20000000000"),
    "--replicates": ("2", "0", "100000000"),
    "--check-width": ("64", "0", "1000000000"),
    "--check-seeds": ("0", "-1"),
    "--seed": ("0", "7", "-1"),
}
DIAGRAM = {
    "--x": (
        "alignment=-1:1:5", "alignment=1:-1", "richness=0.1:10:5:log", "nu_target=0.1:2:7",
        "alignment=nan:1", "richness=0:1e308:5", "nu_source=5e-324:1:5", "time=1e-30:1e30:5:log",
        "alignment=-1:1:nan", "alignment=-1:1:1e300", "=0:1", "alignment=::", "ridge=0:1:3",
    ),
    "--y": (
        "nu_target=0.02:0.98:5", "nu_target=-1:1", "nu_target=0.5:1e30:3", "contrast=1:9:3",
        "exponent=0:2:3", "source_noise=0:1e30:3", "nu_target=1e-30:1:3:log",
    ),
    "--quantity": ("gain", "loss", "change", "over_rich", "beauty"),
    "--set": (
        "richness=1e30", "richness=nan", "nu_source=inf", "nu_source=1e-30", "ridge=1e-30",
        "noise_alignment=0.9", "time=1", "time=inf", "contrast=1e30", "alignment=2", "=1", "x",
    ),
    "--head": ("fresh", "kept", "new"),
    "--finetune": ("readout", "all", "none"),
    "--points": ("5", "1", "100000000"),
    "--dimension": ("20", "7", "-20", "1000000000"),
    "--checks": ("0", "2", "-1", "100000000"),
    "--draws": ("2", "1", "100000000000"),
    "--preset": ("fig9", "fig1a "),
    "--seed": ("0", "-1"),
}  # fmt: skip
SWEEPS = (
    '[grid]\nmode = ["lazy"]\n', '[grid]\nmode = ["lazy", "unheard-of"]\n', "[grid]\n", "", "[grid",
    '[grid]\nsplit = [0, 0]\n', "[grid]\nsplit = [nan]\n", '[grid]\nmode = "lazy"\n',
    "[grid]\nsplit = [1, 2, 1e308]\n", "[grid]\nsplit = [-1]\n", "[grid]\nparticles = [0]\n",
    "[grid]\nrichness = [0, 1]\n", "[grid]\nsource_richness = [-1.0]\n", "grid = 3\n",
    "[grid]\nsplit = [1979-05-27]\n", "[grid]\nsplit = [[1]]\n",
    '[grid]\nactivation = ["exp(400)"]\n',
)  # fmt: skip
HEADS = (
    'compute = "transfer"\n', 'compute = "magic"\n', "", "compute = 3\n",
    'compute = "transfer"\nseed = -1\n', 'compute = "transfer"\nworkers = 0\n',
    'compute = "transfer"\ncolour = 1\n',
)  # fmt: skip
FIXED = "[fixed]\nn_source = 12\nn_target = 12\nn_test = 20\nparticles = 160\nreplicates = 2\n"


class Calls:
    """Arguments of one call after the other, in a folder with a user's own files."""

    def __init__(self, folder: Path, seed: int = SEED):
        self.rng, self.folder = random.Random(seed), folder
        self.mine, self.out = folder / "mine", folder / "out"
        self.mine.mkdir()
        self.files = _users_files(self.mine)
        self.before = self.fingerprint()

    def __iter__(self) -> Iterator[list[str]]:
        while True:
            shutil.rmtree(self.out, ignore_errors=True)
            command = self.rng.choice(["transfer"] * 4 + ["phase-diagram"] * 4 + ["sweep"] * 3
                                      + ["report"] * 2 + ["reproduce", "other"])  # fmt: skip
            yield getattr(self, command.replace("-", "_"))()

    def transfer(self) -> list[str]:
        chosen = dict(SMALL)
        for option in self.rng.sample(sorted(TRANSFER), self.rng.randint(1, 3)):
            chosen[option] = self._value(TRANSFER[option])
        if self.rng.random() < 0.3:
            chosen[self.rng.choice(["--source", "--target"])] = str(self.rng.choice(self.files))
        flags = [f for f in ("--json", "--brief") if self.rng.random() < 0.2]
        return ["transfer", *_flat(chosen), *flags, *self._out()]

    def phase_diagram(self) -> list[str]:
        chosen = {"--points": "5", "--dimension": "20", "--checks": "0", "--draws": "2"}
        for option in self.rng.sample(sorted(DIAGRAM), self.rng.randint(0, 4)):
            chosen[option] = self._value(DIAGRAM[option])
        return ["phase-diagram", *_flat(chosen), *self._out()]

    def sweep(self) -> list[str]:
        self.out.mkdir()
        config = self.out / self.rng.choice(["cases.toml", "cases", "γ.toml", "cases.TOML"])
        text = self.rng.choice(HEADS[:1] * 6 + HEADS) + 'executor = "serial"\n' + FIXED
        content = (text + self.rng.choice(SWEEPS)).encode()
        if self.rng.random() < 0.2:
            content = self._garbled(content)
        config.write_bytes(content)
        given = self.rng.choice([config] * 6 + [self.mine, self.rng.choice(self.files)])
        store = [self.out / "store"] * 3 + [self.mine, self.mine / "notes.txt", ""]
        return ["sweep", str(given), "--store", str(self.rng.choice(store))]

    def report(self) -> list[str]:
        return ["report", str(self.rng.choice([*self.files, self.mine, "", "\udcff", "a" * 300]))]

    def reproduce(self) -> list[str]:
        figure = self.rng.choice(["fig9z", "", "\udcff", "--list", "--all", "fig1a"])
        bad = self.rng.choice([["--preset", "slow"], ["--data", "x"], ["--workers", "many"]])
        return ["reproduce", figure, *bad, *self._out()]

    def other(self) -> list[str]:
        return self.rng.choice(
            [[], ["--help"], ["transfer", "--help"], ["wish"], ["--cache"], ["transfer", "--wish"],
             [""], ["\udcff"], ["sweep"], ["report"], ["phase-diagram", "x"]]
        )  # fmt: skip

    def fingerprint(self) -> dict[str, str]:
        """Of everything in the user's folder."""
        return {
            str(path.relative_to(self.mine)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.mine.rglob("*"))
            if path.is_file()
        }

    def _value(self, values: tuple[str, ...]) -> str:
        return self.rng.choice(values if self.rng.random() < 0.7 else ODD)

    def _out(self) -> list[str]:
        new = self.out / "report"
        places = [new] * 6 + [self.mine, self.mine / "notes.txt", new / ("a" * 300), "/dev/null/x"]
        return ["--out", str(self.rng.choice(places))]

    def _garbled(self, content: bytes) -> bytes:
        place = self.rng.randrange(len(content) or 1)
        return self.rng.choice([content[:place], content[:place] + self.rng.randbytes(20)])

    def check(self) -> None:
        """The user's files are as they were, and nothing of ours is half there."""
        assert self.fingerprint() == self.before
        for path in self.folder.rglob("*"):
            assert not path.name.endswith(".tmp"), path
            if not path.is_file() or self.mine in path.parents:
                continue
            if path.suffix == ".zip":
                with zipfile.ZipFile(path) as archive:
                    assert archive.testzip() is None
            elif path.suffix == ".json" and path.name != "zarr.json":
                json.loads(path.read_bytes())
            elif path.suffix == ".png":
                assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
            elif path.suffix == ".html":
                assert path.read_text().rstrip().endswith("</html>")


def _flat(options: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in options.items()]


def _users_files(folder: Path) -> list[Path]:
    """Good and bad tables, a store and notes, with names that a report would like to have."""
    rng = np.random.default_rng(SEED)
    X, X_test = rng.standard_normal((12, 64)), rng.standard_normal((20, 64))
    good = dict(X=X, y=X[:, 0], X_test=X_test, y_test=X_test[:, 0])
    np.savez(folder / "good.npz", **good)
    np.savez(folder / "nan.npz", **good | dict(y=np.full(12, np.nan)))
    np.savez(folder / "short.npz", **good | dict(y=X[:3, 0]))
    np.savez(folder / "noy.npz", X=X)
    np.savez(folder / "huge.npz", **good | dict(X=1e300 * X))
    whole = (folder / "good.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    rows = "\n".join(",".join(f"{v:.3f}" for v in (*x, x[0])) for x in X)
    header = ",".join(f"x{i}" for i in range(64)) + ",y\n"
    (folder / "good.csv").write_text(header + rows)
    (folder / "words.csv").write_text("a,b,y\n1,2,yes\n3,4,no\n")
    (folder / "empty.csv").write_text("")
    (folder / "bytes.csv").write_bytes(rng.bytes(300))
    for name in (
        "notes.txt",
        "config.json",
        "report.html",
        ".writable",
        "kernels.png",
        "zarr.json",
    ):
        (folder / name).write_text("mine")
    return sorted(path for path in folder.iterdir())


def counts(few: int, all_: int):
    """How many calls: some for evidence, all of them where time does not count."""
    return pytest.mark.parametrize("calls", [few, pytest.param(all_, marks=pytest.mark.wide)])


def called(arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["adaptik", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def fuzz(folder, count, monkeypatch, capsys, skip=0):
    monkeypatch.chdir(folder)
    calls = Calls(folder)
    for number, arguments in enumerate(islice(calls, skip + count)):
        if number < skip:
            continue
        try:
            code = called(arguments, monkeypatch)
        except Exception as error:
            raise AssertionError(f"call {number}: {arguments}") from error
        printed = capsys.readouterr()
        assert code in CODES and "Traceback" not in printed.err, (number, arguments, code)
        assert code == 0 or printed.err or not arguments, (number, arguments)  # none: help
        calls.check()


@pytest.mark.filterwarnings("default")  # as a person has them
def test_twenty_calls_of_the_command_line(tmp_path, monkeypatch, capsys):
    fuzz(tmp_path, 20, monkeypatch, capsys)


@pytest.mark.evidence
@counts(150, 460)
@pytest.mark.filterwarnings("default")
def test_calls_in_one_process(calls, tmp_path, monkeypatch, capsys):
    fuzz(tmp_path, calls, monkeypatch, capsys)


@pytest.mark.evidence
@counts(12, 40)
def test_calls_as_processes_of_their_own(calls, tmp_path):
    made = Calls(tmp_path, seed=23)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    environment.pop("HOME", None)
    for arguments in islice(made, calls):
        done = subprocess.run(
            [sys.executable, "-m", "adaptik", *arguments], capture_output=True, cwd=tmp_path,
            env=environment,
        )  # fmt: skip
        assert done.returncode in CODES and b"Traceback" not in done.stderr, (arguments, done)
        made.check()
