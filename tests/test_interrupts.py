"""Ctrl-C and SIGTERM at any moment, in processes as a person starts them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adaptik import sweeps
from adaptik.system import interrupts

# A marker is printed at the moment in question; what follows would go on for ever.
MOMENT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run in the background
def wait(*arguments, **settings):
    print("now", flush=True)
    while True:
        time.sleep(0.01)
{moment}
from adaptik.__main__ import main
sys.argv = ["adaptik", *{arguments}]
main()
"""
IMPORTING = """
class Slow:
    def find_spec(self, name, path, target=None):
        if name == "jax":
            wait()
sys.meta_path.insert(0, Slow())
"""
SOLVING = """
import adaptik.transfer.comparison
adaptik.transfer.comparison.solve = wait
"""
SWALLOWING = """
import adaptik.display.reports.diagram
class Careless:
    def __del__(self):
        print("now", flush=True)
        while True:
            time.sleep(0.01)
def swallow(*arguments, **settings):
    Careless()
    wait()
adaptik.display.reports.diagram.phase_diagram = swallow
"""


def stopped_at(moment, arguments, number, folder):
    """Exit code and standard error of a command that a signal reaches at a moment."""
    code = MOMENT.format(moment=moment, arguments=arguments)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=folder,
    )  # fmt: skip
    with process:
        try:
            assert process.stdout is not None
            assert any("now" in line for line in process.stdout)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, said


@pytest.mark.parametrize(
    ("moment", "arguments", "number"),
    [
        (IMPORTING, ["phase-diagram"], signal.SIGINT),
        (IMPORTING, ["transfer", "--brief"], signal.SIGTERM),
        (SOLVING, ["transfer", "--check-seeds", "0"], signal.SIGTERM),
        (SWALLOWING, ["phase-diagram"], signal.SIGINT),
    ],
)
def test_a_signal_ends_a_command_without_a_traceback(tmp_path, moment, arguments, number):
    code, said = stopped_at(moment, arguments, number, tmp_path)
    assert code == 128 + number
    assert "Traceback" not in said and "Exception ignored" not in said
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_a_sweep_keeps_what_was_finished(tmp_path, number):
    config = tmp_path / "cases.toml"
    config.write_text(
        'compute = "transfer"\nexecutor = "serial"\n[grid]\nsplit = [0, 1, 2]\n'
        'mode = ["unheard-of", "lazy"]\n'
    )
    moment = """
import adaptik.transfer.point as point
known = point.target_stage
def once(task, mode, *rest):
    return known(task, mode, *rest) if mode == "unheard-of" else wait()
point.target_stage = once
"""
    code, said = stopped_at(moment, ["sweep", str(config)], number, tmp_path)
    assert code == 128 + number and "Traceback" not in said
    assert "finished cases are kept" in said
    assert sweeps.load(tmp_path / "cases").status.values.ravel().tolist() == [2, 0, 0, 0, 0, 0]


@pytest.mark.evidence
def test_worker_processes_end_with_the_sweep(tmp_path):
    code = """
import os, signal, sys, time
from adaptik.system import interrupts
from adaptik import sweeps
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupts.install(); interrupts.orderly()
def slow(i):
    open(f"{sys.argv[1]}-{os.getpid()}", "w").close()
    time.sleep(600)
    return {"i": i}
def main():
    try:
        sweeps.sweep(slow, {"i": range(4)}, store=sys.argv[1], workers=2)
    except KeyboardInterrupt:
        sys.exit(interrupts.code())
if __name__ == "__main__":
    main()
"""
    path = tmp_path / "script.py"
    path.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(path), str(tmp_path / "s")], stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    while len(list(tmp_path.glob("s-*"))) < 2:
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to workers too
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert not any(is_running(int(marker.name[2:])) for marker in tmp_path.glob("s-*"))


def is_running(pid):
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"  # a zombie has ended
