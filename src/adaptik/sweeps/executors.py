"""Where cases run: in this process, in worker processes, or on a Dask cluster.

All yield results as they come, of the cases that are still wanted when their turn is there. A
worker that dies takes its case with it: cases are handed out again, and one that keeps killing its
workers is given up with an error.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..system.errors import InputError
from .grid import Index

ANSWER = "10s"  # how long a scheduler may take to answer
DEATHS = 3  # of workers without any case finished in between, before a sweep stops


@dataclass(frozen=True)
class Done:
    """One case's result, or the reason why there is none."""

    index: Index
    result: xr.Dataset | None
    error: str
    seconds: float


class WorkersDied(InputError):
    """Workers died again and again."""


def run_case(
    function: Callable[..., Any], index: Index, arguments: dict[str, Any], threads: int | None
) -> Done:
    """Call ``function`` and turn what it returns, or raises, into a :class:`Done`."""
    if threads is not None:
        os.environ.setdefault("NPROC", str(threads))  # read by XLA when its first backend starts
    began = time.perf_counter()
    try:
        result, error = as_dataset(function(**arguments)), ""
    except Exception as problem:
        where = traceback.extract_tb(problem.__traceback__)[-1]
        result = None
        error = f"{type(problem).__name__}: {problem} ({where.name}, line {where.lineno})"
    return Done(index, result, error, time.perf_counter() - began)


def as_dataset(result: Any) -> xr.Dataset:
    """A dataset as it is; numbers and arrays by name as variables without coordinates.

    Examples
    --------
    >>> dict(as_dataset({"loss": 0.5, "curve": [1.0, 2.0]}).sizes)
    {'curve_0': 2}
    """
    if isinstance(result, xr.Dataset):
        return result
    if not isinstance(result, dict) or not result:
        raise TypeError(
            f"a case must return an xarray.Dataset or numbers by name, got {type(result).__name__}"
        )
    variables = {}
    for name, value in result.items():
        values = np.asarray(value)
        variables[name] = ([f"{name}_{axis}" for axis in range(values.ndim)], values)
    return xr.Dataset(variables)


def serial(function, cases, threads, workers, wanted) -> Iterator[Done]:
    """One case after the other, in this process."""
    for index, arguments in cases:
        if wanted(index):
            yield run_case(function, index, arguments, None)


def processes(function, cases, threads, workers, wanted) -> Iterator[Done]:
    """Worker processes on this machine, each with its share of the cores."""
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

    todo, deaths = dict(cases), 0
    while todo:
        with parallel_config("loky", n_jobs=workers, inner_max_num_threads=threads):
            parallel: Any = Parallel(return_as="generator_unordered", pre_dispatch="2*n_jobs")
            left = [(i, a) for i, a in todo.items() if wanted(i)]
            jobs = (delayed(_run_kept)(function, i, a, threads) for i, a in left if wanted(i))
            try:
                for done in parallel(jobs):
                    del todo[done.index]
                    deaths = 0
                    yield done
                return
            except TerminatedWorkerError as error:
                deaths += 1
                if deaths >= DEATHS:
                    raise WorkersDied(_died(deaths)) from error
            except BrokenProcessPool as error:  # a worker could not read what it was sent
                raise InputError(
                    f"function: worker processes cannot load {function.__qualname__} of module "
                    f"{function.__module__!r}; put it into an importable module or into the script "
                    "that is run, or use executor='serial'"
                ) from error


def _run_kept(*arguments) -> Done:
    """:func:`run_case` in a worker that stays.

    Compiled programs stay in memory, which loky (where psutil is installed) takes for a leak: it
    would start the worker anew, and everything would be compiled again.
    """
    from joblib.externals.loky import process_executor

    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
    return run_case(*arguments)


def dask(address: str) -> Callable[..., Iterator[Done]]:
    """The workers of a Dask cluster."""

    def run(function, cases, threads, workers, wanted) -> Iterator[Done]:
        from distributed import CancelledError, Client, KilledWorker, as_completed
        from distributed.comm.core import CommClosedError

        try:
            client = Client(address, timeout=ANSWER, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"executor: no Dask scheduler answers at {address!r} ({error}); start one with "
                "`dask scheduler`, or use executor='processes'"
            ) from error
        with client:
            futures = {
                client.submit(run_case, function, i, a, threads, pure=False): i
                for i, a in cases
                if wanted(i)
            }
            try:
                for future in as_completed(list(futures), loop=client.loop):
                    problem = future.exception() if future.status == "error" else None
                    if isinstance(problem, KilledWorker):
                        yield Done(futures[future], None, _died(DEATHS), np.nan)
                    else:
                        yield future.result()
            except (CommClosedError, CancelledError, TimeoutError) as error:
                raise InputError(
                    f"executor: lost the Dask scheduler at {address!r} ({error}); finished cases "
                    "are kept, run again when it is back"
                ) from error

    return run


def named(executor: str) -> Callable[..., Iterator[Done]]:
    """The executor called ``"serial"``, ``"processes"`` or by the address of a Dask scheduler.

    Raises
    ------
    InputError
        If it is unknown, or Dask is not installed.
    """
    if executor in ("serial", "processes"):
        return serial if executor == "serial" else processes
    if "://" not in executor:
        raise InputError(
            f"executor={executor!r} is unknown; use 'serial', 'processes', or the address of a "
            "Dask scheduler such as 'tcp://127.0.0.1:8786'"
        )
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise InputError("executor: Dask is not installed; install adaptik[distributed]") from None
    return dask(executor)


def _died(times: int) -> str:
    return (
        f"workers died {times} times without finishing a case (out of memory?); use fewer workers "
        "or smaller cases, then run again: finished cases are kept"
    )
