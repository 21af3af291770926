"""How much memory there is, and refusing what would need more."""

import os
from pathlib import Path

from .errors import MemoryLimitError

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_GIB = 2**30


def available_bytes() -> int:
    """Memory this process may use: of the machine, or of its container where that is less."""
    return min([_physical_bytes(), *_container_limits()])


def require(bytes_needed: int, what: str, cure: str) -> None:
    """Refuse a request that does not fit, before anything is allocated.

    Parameters
    ----------
    bytes_needed
        Predicted peak.
    what, cure
        What needs the memory and what to do about it, for the message.

    Raises
    ------
    MemoryLimitError
        If ``bytes_needed`` exceeds :func:`available_bytes`.

    Examples
    --------
    >>> require(2**20, "particles", "lower particles")
    """
    available = available_bytes()
    if bytes_needed > available:
        raise MemoryLimitError(
            f"{what} needs about {bytes_needed / _GIB:.3g} GiB of memory, "
            f"{available / _GIB:.3g} GiB are available; {cure}"
        )


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container_limits() -> list[int]:
    """Limits of the control groups (version 2 and 1) that hold this process; none outside Linux.

    A group is bound by its ancestors too. Inside a container its own group is mounted at the
    root, so groups that are not visible are skipped.
    """
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            root, file = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, file = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = root / group.strip("/")
        for place in (folder, *folder.parents):
            limits += _limit(place / file)
            if place == root:
                break
    return limits


def _limit(path: Path) -> list[int]:
    try:
        text = path.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() else []  # "max" is no limit
