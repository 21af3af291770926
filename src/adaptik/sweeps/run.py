"""``sweep``: compute what a store misses."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..errors import InputError, require_integers
from . import executors
from .grid import Grid, Index, Value
from .store import FAILED, Store

Progress = Callable[[int, int, int], None]


def sweep(
    function: Callable[..., Any],
    grid: Grid | Mapping[str, Sequence[Value]],
    *,
    store: str | os.PathLike,
    fixed: Mapping[str, Value] | None = None,
    executor: str = "processes",
    workers: int | None = None,
    threads: int = 1,
    seed: int = 0,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Call ``function`` at every point of a grid and keep the results on disk.

    Cases that the store has are not computed again: run the same sweep after an interruption, a
    crash or a full disk, and it goes on where it stopped. A case that raises is recorded with its
    error and does not stop the others.

    Parameters
    ----------
    function
        Takes the names of the axes as keywords and returns an ``xarray.Dataset`` or a dictionary of
        numbers and arrays, with the same names and shapes in every case. If it has a parameter
        ``key``, it gets an integer that depends on ``seed`` and the case's place in the grid only.
        With ``executor="processes"`` anything that cloudpickle can send works.
    grid
        Axis names and their values.
    store
        Folder of the zarr group that holds the results (see :class:`Store`).
    fixed
        Further keywords, the same in every case; stored with the results.
    executor
        ``"processes"`` (joblib), ``"serial"``, or the address of a Dask scheduler such as
        ``"tcp://127.0.0.1:8786"``.
    workers
        Number of processes; as many as there are cores by default. A cluster has its own.
    threads
        Cores for each process.
    seed
        Fixes the cases' keys.
    retry_failed
        Whether to compute again what has failed.
    progress
        Called with the numbers of finished, failed and all cases after every case.

    Returns
    -------
    xr.Dataset
        The results with the grid's axes as dimensions; see :meth:`Store.to_xarray`.

    Raises
    ------
    InputError
        For a bad grid, names that ``function`` does not take, a store of another configuration, an
        unreachable scheduler, a disk that cannot be written, or workers that keep dying.

    Examples
    --------
    >>> import tempfile
    >>> from adaptik.linear_theory import transfer_loss
    >>> def loss(alignment, richness):
    ...     return {"loss": transfer_loss(alignment, 0.5, richness)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     grid = {"alignment": [0.0, 1.0], "richness": [0.0, 1.0, 2.0]}
    ...     data = sweep(loss, grid, store=f"{folder}/sweep", executor="serial")
    >>> data.loss.sel(alignment=1.0).values.round(3).tolist()
    [0.5, 0.343, 0.191]
    """
    grid, fixed = Grid.of(grid), dict(fixed or {})
    require_integers(1, threads=threads, workers=1 if workers is None else workers)
    keyed = _check_names(function, grid, fixed)
    run = executors.named(executor)
    name = f"{function.__module__}.{function.__qualname__}"
    kept = Store(store, grid, {"function": name, "fixed": fixed, "seed": seed})
    missing = kept.missing(retry_failed=retry_failed)
    failed = 0 if retry_failed else int((kept.status == FAILED).sum())
    finished = grid.size - len(missing) - failed
    cases = []
    for index in missing:
        arguments = {**fixed, **grid.case(index)}
        if keyed:
            arguments["key"] = case_key(seed, grid, index)
        cases.append((index, arguments))
    if progress:
        progress(finished, failed, grid.size)
    try:
        for done in run(function, cases, threads, workers or -1):
            error = done.error
            if done.result is not None:
                try:
                    kept.write(done.index, done.result, done.seconds)
                except InputError as mismatch:
                    error = str(mismatch)
            if error:
                kept.fail(done.index, error, done.seconds)
            failed, finished = failed + bool(error), finished + (not error)
            if progress:
                progress(finished, failed, grid.size)
    except OSError as error:
        raise InputError(
            f"store: cannot write {str(kept.path)!r}: {error.strerror or error}; finished cases "
            "are kept, run again when there is room"
        ) from error
    return kept.to_xarray()


def case_key(seed: int, grid: Grid, index: Index) -> int:
    """An integer below 2^31 that depends on the seed and on the values of the case."""
    place = int(np.ravel_multi_index(index, grid.shape))
    return int(np.random.SeedSequence(seed, spawn_key=(place,)).generate_state(1)[0] >> 1)


def _check_names(function: Callable[..., Any], grid: Grid, fixed: Mapping[str, Value]) -> bool:
    """Refuse names that ``function`` does not take; whether it takes a key."""
    both = set(grid.names) & set(fixed)
    if both:
        raise InputError(f"{sorted(both)[0]!r} is an axis and fixed; give it once")
    parameters = inspect.signature(function).parameters
    given = {*grid.names, *fixed}
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return "key" in parameters and "key" not in given
    takes = [n for n, p in parameters.items() if p.kind is not p.POSITIONAL_ONLY]
    for name in given:
        if name not in takes:
            raise InputError(f"axis {name!r} is unknown to {function.__qualname__}; it has {takes}")
    absent = [n for n, p in parameters.items() if p.default is p.empty and n not in {*given, "key"}]
    if absent:
        raise InputError(f"{absent[0]!r} is missing; give it as an axis or in fixed=")
    return "key" in parameters and "key" not in given
