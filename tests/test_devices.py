"""Particles shared out over several devices, in one process and in two."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adaptik.system import devices
from adaptik.system.errors import InputError

# Run by every process: its number, how many there are, where they meet, and a file for answers.
SOLVE = """
import sys
import jax
number, processes, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if processes > 1:
    jax.distributed.initialize(f"localhost:{port}", processes, number)
import numpy as np
import adaptik as ak
from adaptik.limits import run

held = []  # on how many devices particles lie, where a stage starts and where it ends
integrate = run.integrate
def watched(flow, y0, *rest, **more):
    path = integrate(flow, y0, *rest, **more)
    held.extend(len(law.w.sharding.device_set) for law in (y0, path.end))
    return path
run.integrate = watched
source, target = ak.tasks.load_pair("digits:1,4", "digits:1,7", n_source=16, n_target=8, n_test=20)
rich, lazy = ak.Stage(target, 1.0, head="fresh"), ak.Stage(target, 0.0)
asked = [("tanh", rich), ("relu", rich)] + [("tanh", lazy)] * (processes == 1)
found = {}
for phi, stage in asked:
    limit = ak.TwoLayer(phi, particles=128, replicates=2, dtype="float64")
    solution = ak.solve([ak.Stage(source, 1.0), stage], limit)
    found[f"{phi} f {stage.richness}"] = solution.predict(target.X_test).value
    found[f"{phi} K {stage.richness}"] = solution.kernel(target.X).value
np.savez(out, **found, devices=held)
"""


def started(number: int, processes: int, port: int, out: Path, host_devices: int):
    flags = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={host_devices}"
    )
    command = [sys.executable, "-c", SOLVE, str(number), str(processes), str(port), str(out)]
    return subprocess.Popen(command, env=os.environ | {"XLA_FLAGS": flags})


def solved(folder: Path, processes: int, host_devices: int) -> list[dict[str, np.ndarray]]:
    """What every process has found."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    files = [folder / f"{processes}-{host_devices}-{i}.npz" for i in range(processes)]
    running = [started(i, processes, port, file, host_devices) for i, file in enumerate(files)]
    assert [process.wait(500) for process in running] == [0] * processes
    return [dict(np.load(file)) for file in files]


@pytest.mark.evidence
def test_eight_devices_and_two_processes_give_what_one_gives(tmp_path):
    (one,) = solved(tmp_path, 1, 1)
    (eight,) = solved(tmp_path, 1, 8)
    both = solved(tmp_path, 2, 4)
    assert set(one.pop("devices")) == {1}
    for several in (eight, *both):
        assert set(several.pop("devices")) == {8}
        for name, value in several.items():
            # Kinks that a neuron slides on magnify rounding, within the tolerance of steps.
            atol = 1e-10 if name.startswith("tanh") else 1e-3
            np.testing.assert_allclose(value, one[name], atol=atol)
    assert len(eight) == 6 and len(both[0]) == 4


def test_one_device_holds_all():
    w = np.arange(12.0).reshape(1, 4, 3)
    placed = devices.spread(w, "float32")
    assert placed.dtype == "float32" and len(placed.sharding.device_set) == 1
    np.testing.assert_array_equal(devices.gathered(placed), w)


@pytest.mark.parametrize(("particles", "count", "parts"), [(128, 8, 8), (100, 8, 4), (7, 8, 1)])
def test_as_many_devices_take_part_as_divide_the_particles(particles, count, parts):
    assert devices.parts(particles, count) == parts


def test_several_processes_refuse_particles_that_leave_one_out(monkeypatch):
    monkeypatch.setattr(devices.jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match=r"particles=100 .* multiple of 8"):
        devices.parts(100, 8)
