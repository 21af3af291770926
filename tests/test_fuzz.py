"""No call of the command line ends in a traceback, or touches a file of the user's."""

import os
import subprocess
import sys
from itertools import islice

import pytest

from adaptik import cli
from fuzzing import CODES, Calls

IN_PROCESS, REAL = 460, 40


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
        assert code == 0 or printed.err, (number, arguments)
        calls.check()


@pytest.mark.filterwarnings("default")  # as a person has them
def test_twenty_calls_of_the_command_line(tmp_path, monkeypatch, capsys):
    fuzz(tmp_path, 20, monkeypatch, capsys)


@pytest.mark.evidence
@pytest.mark.filterwarnings("default")
def test_calls_in_one_process(tmp_path, monkeypatch, capsys):
    fuzz(tmp_path, IN_PROCESS, monkeypatch, capsys)


@pytest.mark.evidence
def test_calls_as_processes_of_their_own(tmp_path):
    calls = Calls(tmp_path, seed=23)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    environment.pop("HOME", None)
    for arguments in islice(calls, REAL):
        done = subprocess.run(
            [sys.executable, "-m", "adaptik", *arguments], capture_output=True, cwd=tmp_path,
            env=environment,
        )  # fmt: skip
        assert done.returncode in CODES and b"Traceback" not in done.stderr, (arguments, done)
        calls.check()
