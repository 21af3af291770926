"""Where tests find data that does not ship with a dependency."""

import os
from pathlib import Path

import pytest

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
