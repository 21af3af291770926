"""Data that does not ship with a dependency, and room for what every module compiles."""

import gc
import os
import sys
from pathlib import Path

import jax
import pytest

from adaptik import cli

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
def compiled_functions_end_with_their_module():
    """Every compiled function holds memory maps, of which Linux grants a process 65530."""
    yield
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
