"""How tests compile, data that does not ship with a dependency, and what several modules share."""

import gc
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# Before JAX is imported. Tests compile far longer than they run: programs are optimised less, on
# one thread in each of two processes, and kept in one folder for all processes of this run.
_PROGRAMS = None
if "PYTEST_XDIST_WORKER" not in os.environ:
    one_thread = "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0"
    if version("jaxlib").startswith("0.10"):  # see system.programs; XLA stops at unknown flags
        one_thread += " --xla_cpu_use_fusion_emitters=false"
    os.environ.setdefault("XLA_FLAGS", one_thread)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        _PROGRAMS = tempfile.mkdtemp(prefix="adaptik-programs-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = _PROGRAMS
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

import jax  # noqa: E402
import pytest  # noqa: E402

from adaptik import cli  # noqa: E402


def pytest_unconfigure():
    if _PROGRAMS is not None:
        shutil.rmtree(_PROGRAMS, ignore_errors=True)


_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

if _SHARED.is_dir():
    os.environ.setdefault("ADAPTIK_DATA", str(_SHARED))


@pytest.fixture
def shared_data():
    """``shared_data("cifar10")`` is the folder with that data set, or skips the test."""

    def folder_with(prefix: str) -> Path:
        folders = [Path(p) for p in os.environ.get("ADAPTIK_DATA", "").split(os.pathsep) if p]
        for folder in folders:
            if any(folder.glob(f"{prefix}*.npz")):
                return folder
        pytest.skip(f"no {prefix}*.npz in ADAPTIK_DATA or beside the repository")

    return folder_with


@pytest.fixture(scope="module", autouse=True)
def memory_maps_stay_few():
    """Every compiled function holds memory maps, of which Linux grants a process 65530."""
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_text().count("\n") > 12_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def run(monkeypatch):
    """Runs a command as a person types it, and returns its exit code."""

    def typed(command: str) -> int:
        monkeypatch.setattr(sys, "argv", ["adaptik", *command.split()])
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return typed
