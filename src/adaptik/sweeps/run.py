"""``sweep``: compute what a store misses."""

import inspect
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import xarray as xr

from ..system.errors import InputError, require_integers
from . import executors
from .grid import Grid, Index, Value
from .store import DONE, FAILED, Store

Progress = Callable[[int, int, int], None]
LARGEST = 1_000_000  # cases of a sweep


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
    error and does not stop the others. A case whose files were damaged is computed again, with a
    warning. Several processes may run the same sweep on one store: a later one starts from the
    grid's other end, and none starts a case that another has finished.

    Parameters
    ----------
    function
        Takes the names of the axes as keywords and returns an ``xarray.Dataset`` or a dictionary of
        numbers and arrays, with the same names and shapes in every case. If it has a parameter
        ``key``, it gets an integer that depends on ``seed`` and the case's place in the grid only.
        Names of results in its attribute ``optional_results`` may be lacking in a store that an
        earlier version of it has begun; the store then goes on without them.
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
    require_integers(0, seed=seed)
    _check_storable(grid, fixed)
    keyed = _check_names(function, grid, fixed)
    run = executors.named(executor)
    name = f"{function.__module__}.{function.__qualname__}"
    optional = getattr(function, "optional_results", ())
    config = {"function": name, "fixed": fixed, "seed": seed}
    with closing(Store(store, grid, config, optional)) as kept:
        if kept.damaged:
            warnings.warn(
                f"store: {kept.damaged} of {grid.size} cases in {str(kept.path)!r} cannot be read "
                "any more; they are computed again",
                stacklevel=2,
            )
        missing = kept.missing(retry_failed=retry_failed)
        failed = 0 if retry_failed else int((kept.status == FAILED).sum())
        cases = []
        for index in missing if kept.first else reversed(missing):  # two meet in the middle
            arguments = {**fixed, **grid.case(index)}
            if keyed:
                arguments["key"] = case_key(seed, grid, index)
            cases.append((index, arguments))
        count = _Count(grid.size - len(missing) - failed, failed, grid.size, progress)
        try:
            for done in run(function, cases, threads, workers or -1, kept.is_wanted):
                count.add(_keep(kept, done))
        except OSError as error:
            raise InputError(
                f"store: cannot write {str(kept.path)!r}: {error.strerror or error}; finished "
                "cases are kept, run again when there is room"
            ) from error
        if not count.is_full:  # another process did the rest
            there = kept.refreshed()
            _Count(int((there == DONE).sum()), int((there == FAILED).sum()), grid.size, progress)
        return kept.to_xarray()


class _Count:
    """Tells how many cases are finished, and how many failed."""

    def __init__(self, finished: int, failed: int, total: int, progress: Progress | None):
        self.finished, self.failed, self.total, self.progress = finished, failed, total, progress
        self._tell()

    def add(self, good: bool) -> None:
        self.finished, self.failed = self.finished + good, self.failed + (not good)
        self._tell()

    @property
    def is_full(self) -> bool:
        return self.finished + self.failed >= self.total

    def _tell(self) -> None:
        if self.progress:
            self.progress(self.finished, self.failed, self.total)


def _keep(store: Store, done: executors.Done) -> bool:
    """Write what a case gave; whether that is a result."""
    error = done.error
    if done.result is not None:
        try:
            store.write(done.index, done.result, done.seconds)
        except InputError as mismatch:
            error = str(mismatch)
    if error:
        store.fail(done.index, error, done.seconds)
    return not error


def _check_storable(grid: Grid, fixed: Mapping[str, Value]) -> None:
    if grid.size > LARGEST:
        raise InputError(
            f"grid has {grid.size} cases; a store keeps each in files of its own, at most "
            f"{LARGEST}: take fewer values an axis"
        )
    for name, value in fixed.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise InputError(
                f"fixed: {name} must be a number, a string or a boolean, got {value!r}"
            ) from None


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
