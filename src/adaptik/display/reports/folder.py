"""Folders that a person opens: made and checked before long computations, files written whole."""

import io
import json
import math
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...system.errors import InputError
from ...system.files import replacing


def checked_folder(folder: str | Path, names: Iterable[str] = ()) -> Path:
    """Make ``folder``, and make sure before any long computation that it can be written to.

    Raises
    ------
    InputError
        If it cannot, or holds a file called as one of ``names`` that adaptik did not write.
    """
    folder = Path(folder)
    doing = "make"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        doing = "write to"
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"cannot {doing} the output folder {str(folder)!r}: {reason}; choose another"
        ) from error
    ours = _is_ours(folder)
    for path in (folder / name for name in names):
        if path.exists() and not (ours and path.is_file()):
            raise InputError(
                f"{str(path)!r} is there and was not written by adaptik; choose another folder"
            )
    return folder


def is_page(path: Path) -> bool:
    """Whether a file is one of adaptik's pages."""
    try:
        with path.open("rb") as file:
            return b"<title>adaptik: " in file.read(1000)
    except OSError:
        return False


# What the settings of a study, an experiment or a diagram have in common, whichever wrote them.
_MARKS = ({"kernel_richness", "versions"}, {"experiment"}, {"quantity", "finetune"})


def _is_ours(folder: Path) -> bool:
    """Whether the page or the settings in ``folder`` are of adaptik."""
    if is_page(folder / "report.html"):
        return True
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    settings = found[0] if isinstance(found, list) and found else found
    return isinstance(settings, dict) and any(mark <= settings.keys() for mark in _MARKS)


def write_file(path: Path, content: bytes) -> None:
    """Write ``path`` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def png(figure: Figure, dpi: int = 160, **options: Any) -> bytes:
    """The picture as a file; ``options`` are those of ``Figure.savefig``."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", **options)
    return buffer.getvalue()


def as_json(value: Any) -> bytes:
    """A JSON file of :func:`plain` values."""
    return (json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(
        errors="replace"
    )  # file names may hold bytes that are no text


def plain(value: Any) -> Any:
    """As JSON can hold it: dataclasses as dictionaries, no NaN, no infinity."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | bool | int) else str(value)
