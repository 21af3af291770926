"""What lies in a folder: studies, findings and sweeps that adaptik wrote; nothing is read yet."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...system.errors import InputError

DEPTH = 2  # levels below the folder
MOST = 2000  # folders that are looked into
WROTE = "adaptik transfer, adaptik reproduce or adaptik sweep"


@dataclass(frozen=True)
class Found:
    """Folders by what wrote them, each sorted by name."""

    root: Path
    studies: tuple[Path, ...] = ()
    findings: tuple[Path, ...] = ()
    sweeps: tuple[Path, ...] = ()

    def name(self, folder: Path) -> str:
        """As a person tells it from the others."""
        return str(folder.relative_to(self.root)) if folder != self.root else folder.name


def look_in(folder: str | Path, needed: bool = True) -> Found:
    """Find what can be shown in a folder and the folders in it.

    Parameters
    ----------
    folder
        To look in.
    needed
        Whether it is a mistake if nothing is there.

    Raises
    ------
    InputError
        If it is no folder, cannot be read, or nothing is there that is needed.
    """
    root = Path(folder)
    try:
        if not root.is_dir():
            raise InputError(f"{str(folder)!r} is no folder; name one that {WROTE} wrote")
        root = root.resolve()
        kinds: dict[str, list[Path]] = {"studies": [], "findings": [], "sweeps": []}
        for path in _folders(root):
            kind = kind_of(path)
            if kind is not None:
                kinds[kind].append(path)
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot look into {str(folder)!r}: {error}") from error
    found = Found(root, **{kind: tuple(paths) for kind, paths in kinds.items()})
    if needed and not (found.studies or found.findings or found.sweeps):
        raise InputError(
            f"{str(folder)!r} holds nothing to explore; name a folder that {WROTE} wrote"
        )
    return found


def kind_of(folder: Path) -> str | None:
    """What a folder is, by the names of its files: its contents may still be damaged."""
    has = {name: (folder / name).exists() for name in ("rows.json", "config.json", "zarr.json")}
    if (folder / "verdict.json").exists():
        return "findings"
    if has["rows.json"] or (has["config.json"] and _is_study(folder / "config.json")):
        return "studies"
    return "sweeps" if has["zarr.json"] and _is_sweep(folder / "zarr.json") else None


def _is_study(file: Path) -> bool:
    try:
        return "kernel_richness" in json.loads(file.read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _is_sweep(file: Path) -> bool:
    try:
        return b"adaptik_sweep" in file.read_bytes()
    except OSError:
        return False


def _folders(root: Path) -> Iterator[Path]:
    """The folder and what is below it, hidden folders and insides of stores left out."""
    waiting, seen = [(root, 0)], 0
    while waiting and seen < MOST:
        folder, depth = waiting.pop(0)
        seen += 1
        yield folder
        if depth < DEPTH and not (folder / "zarr.json").exists():
            try:
                below = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
            except OSError:
                continue
            waiting += [(path, depth + 1) for path in below]
