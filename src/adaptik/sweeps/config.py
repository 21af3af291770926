"""Sweeps written down in a TOML file."""

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from .grid import Grid

SETTINGS = ("store", "executor", "workers", "threads", "seed")


def read(
    path: str | os.PathLike, functions: Mapping[str, Callable[..., Any]]
) -> tuple[Callable[..., Any], Grid, dict[str, Any]]:
    """What to call, over which grid, and the other arguments of :func:`sweep`.

    The file names a function in ``compute``, its axes in a table ``[grid]``, optionally further
    arguments in ``[fixed]``, and any of ``store`` (default: the file's name without its ending),
    ``executor``, ``workers``, ``threads`` and ``seed``.

    Raises
    ------
    InputError
        If it cannot be read, or holds something else.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.toml")
    ...     _ = path.write_text('compute = "sum"\\nseed = 1\\n[grid]\\nstart = [1, 2]')
    ...     function, grid, settings = read(path, {"sum": sum})
    >>> grid.shape, settings["seed"], settings["store"].name
    ((2,), 1, 'mine')
    """
    path = Path(path)
    try:
        given = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"config: cannot read {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:  # not TOML, or not text
        raise InputError(f"config: {str(path)!r} is no TOML file: {error}") from error
    for name in given:
        if name not in ("compute", "grid", "fixed", *SETTINGS):
            raise InputError(
                f"config: {name!r} is unknown; use compute, [grid], [fixed], {', '.join(SETTINGS)}"
            )
    if given.get("compute") not in functions:
        raise InputError(
            f"config: compute={given.get('compute')!r} is unknown; use one of {list(functions)}"
        )
    for name in ("grid", "fixed"):
        if not isinstance(given.get(name, {}), dict):
            raise InputError(f"config: {name} must be a table, [{name}]")
    settings = {name: given[name] for name in SETTINGS if name in given}
    settings["store"] = Path(settings.get("store", path.with_suffix("")))
    settings["fixed"] = given.get("fixed", {})
    return functions[given["compute"]], Grid.of(given.get("grid", {})), settings
