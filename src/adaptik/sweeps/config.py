"""Sweeps written down in a TOML file."""

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..system.errors import InputError
from . import schema
from .grid import Grid

SETTINGS = ("store", "executor", "workers", "threads", "seed")


def _file():
    """What a file may hold beside the arguments of its function."""
    from pydantic import NonNegativeInt, PositiveInt

    fields = {
        "compute": (str, ...),
        "grid": (dict[str, Any], None),
        "fixed": (dict[str, Any], None),
        "store": (str, None),
        "executor": (str, None),
        "workers": (PositiveInt, None),
        "threads": (PositiveInt, None),
        "seed": (NonNegativeInt, None),
    }
    return schema.model("config", fields)


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
        If it cannot be read, or holds something else; the message names the key, what it got and
        what it takes.

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
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"config: cannot read {str(path)!r}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # not TOML, or not text
        raise InputError(f"config: {str(path)!r} is no TOML file: {error}") from error
    name = given.get("compute")
    if not isinstance(name, str) or name not in functions:
        known = f"use one of {list(functions)}"
        schema.check(_file(), {**given, "compute": ""}, "config")
        raise InputError(
            f"config: compute={name!r:.80} is unknown; {known}"
            if name is not None
            else f"config: compute is missing; {known}"
        )
    schema.check(_file(), given, "config")
    for table, many in (("grid", True), ("fixed", False)):
        kinds = schema.of_arguments(functions[name], many)
        known = {key: value for key, value in given.get(table, {}).items() if key in kinds}
        if kinds:  # names that the function does not have are refused by the sweep
            schema.check(schema.model(table, kinds), known, f"config: [{table}]")
    settings = {name: given[name] for name in SETTINGS if name in given}
    settings["store"] = Path(settings.get("store", path.with_suffix("")))
    settings["fixed"] = given.get("fixed", {})
    return functions[name], Grid.of(given.get("grid", {})), settings
