"""solve: run a sequence of stages through an infinite-width limit."""

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

import numpy as np

from ..mathematics.stepping.progress import listening
from ..solution import Request, Solution, record_grid, recorded_tasks
from ..solution.continuing import check_continues, check_snapshots
from ..solution.units import in_own_unit, turned, turned_back
from ..system import programs
from ..system.errors import InputError, require_between, require_integers
from ..system.memory import require
from ..tasks import Task
from ..tasks.stages import Joint, Stage, check_sequence, in_heads
from .base import AbstractLimit

StageProgress = Callable[[int, float, float], None]

REFINEMENTS = 3  # of a limit for a tolerance: the first estimate of the error is rough


def versions() -> dict[str, str]:
    """Versions of what determines the numbers."""
    return {
        name: importlib.metadata.version(name) for name in ("adaptik", "jax", "diffrax", "numpy")
    }


def solve(
    stages: Sequence[Stage],
    limit: AbstractLimit,
    *,
    key: int = 0,
    record: int = 32,
    observe: Sequence[Task] = (),
    snapshots: Sequence[tuple[int, float]] = (),
    after: Solution | None = None,
    tol: float | None = None,
    progress: StageProgress | None = None,
) -> Solution:
    """Solve the infinite-width limit of training through ``stages``.

    Parameters
    ----------
    stages
        What is trained, in order.
    limit
        Which limit, such as :class:`adaptik.TwoLayer`.
    key
        Seed of all sampling; the same key gives the same result.
    record
        Number of times per stage at which losses and predictions are kept.
    observe
        Further tasks to record, and to make room for if a later call continues from here.
    snapshots
        Pairs ``(stage, time since the stage's start)`` at which whole states are kept.
    after
        A solution of the same limit, with the same settings but those of accuracy, whose stages
        ran before; the result contains both.
    tol
        Standard error asked of predictions at the ends of stages, root mean square over the
        recorded inputs, in units of the stage's labels (:attr:`adaptik.Stage.unit`); particles or
        replicates are added until it is met, from the limit's own or, where it leaves their number
        open, from as few as can be. See :attr:`Solution.sampling_error` for what was reached.
    progress
        Called with ``(stage, time, training loss)`` as the solve goes on; where a stage is run
        several times, for replicates or to estimate errors of steps, time starts again.

    Returns
    -------
    Solution

    Raises
    ------
    InputError
        For stages without a meaning or with options that the limit does not compute, an ``after``
        that it cannot continue, a sampling too small for the data, or a ``tol`` that cannot be
        met.
    MemoryLimitError
        If the machine's memory would not suffice.

    Examples
    --------
    >>> import adaptik as ak
    >>> source, target = ak.tasks.load_pair("digits:3,5", "digits:8,9", n_source=20, n_target=10)
    >>> stages = [ak.Stage(source, richness=0.0), ak.Stage(target, richness=0.0)]
    >>> solution = ak.solve(stages, ak.TwoLayer("relu", particles=128, replicates=2))
    >>> solution.outcome.value
    'converged'
    """
    if tol is not None:
        options = dict(key=key, record=record, observe=observe, snapshots=snapshots)
        return _solve_to(tol, stages, limit, after, options | dict(progress=progress))
    _check_arguments(limit, key, record, after)
    earlier = () if after is None else after.stages
    stages = (*earlier, *stages)
    check_sequence(stages)
    through = in_heads(stages)
    check_snapshots(stages, len(earlier), snapshots)
    if snapshots and "duration" not in limit.computes:
        raise InputError(f"snapshots: {type(limit).__name__} has no time; leave them out")
    limit.check(through, len(earlier), after.states[-1] if after else None)
    tasks = recorded_tasks(stages, [*(after.tasks.values() if after else ()), *observe])
    require(
        limit.predicted_bytes(through, tasks),
        "this solve",
        "use fewer particles or replicates, or less data",
    )
    limit.check_values(tasks)
    programs.keep()
    kept = dict(after.snapshots) if after else {}
    records = list(after.records) if after else []
    states = list(after.states) if after else []
    streams = np.random.SeedSequence(key).spawn(len(stages) + 1)
    state = states[-1] if states else limit.start(through, tasks, np.random.default_rng(streams[0]))
    for i in range(len(earlier), len(stages)):
        unit = through[i].unit
        stage = in_own_unit(through[i], unit)
        request = Request(
            tasks | {stage.task.name: stage.task} if isinstance(stage.task, Joint) else tasks,
            record_grid(stage.duration, record),
            tuple(sorted({float(t) for at, t in snapshots if at == i})),
            np.random.default_rng(streams[i + 1]),
        )
        listener = None
        if progress is not None:
            listener = lambda t, loss, i=i, unit=unit: progress(i, t, unit**2 * loss)  # noqa: E731
        with listening(listener), _finite_matrices(i, limit):
            done, state, snaps = limit.advance(turned(state, 1 / unit), stage, request)
        state = turned(state, unit)
        if isinstance(stage.task, Joint):  # what is recorded are its parts
            done = done.without(stage.task)
        records.append(turned_back(done, unit).judged())
        states.append(state)
        kept |= {(i, t): turned(snap, unit) for t, snap in snaps.items()}
        if records[-1].outcome.is_lost:  # as in train, later stages have nothing to start from
            break
    stages = stages[: len(records)]
    provenance = {"model": limit.describe(), "key": key, "versions": versions()}
    return Solution("limit", stages, tuple(records), tuple(states), tasks, kept, provenance)


@contextmanager
def _finite_matrices(i: int, limit: AbstractLimit) -> Iterator[None]:
    """Linear algebra that meets NaN or infinity half way is a refusal too, and says where."""
    try:
        yield
    except (np.linalg.LinAlgError, ValueError) as error:
        if isinstance(error, InputError) or not _is_not_finite(error):
            raise
        activation = limit.describe().get("activation", "linear")
        raise InputError(
            f"stage {i}: {type(limit).__name__} met numbers that are not finite with the "
            f"activation {activation!r} ({error}); take one that is finite and grows more slowly, "
            "smaller inputs or labels, or a lower richness"
        ) from error


def _is_not_finite(error: Exception) -> bool:
    said = str(error)
    return "infs or NaNs" in said or isinstance(error, np.linalg.LinAlgError)


def _solve_to(
    tol: float, stages: Sequence[Stage], limit: AbstractLimit, after: Solution | None, options: dict
) -> Solution:
    """Solve again with a refined limit until predictions have standard errors of ``tol``."""
    require_between(0, 1, tol=tol)
    _check_arguments(limit, options["key"], options["record"], after)
    if after is not None:
        raise InputError(
            "tol cannot refine the stages of after; solve all in one call, or leave tol out"
        )
    check_sequence(stages)
    tasks = recorded_tasks(stages, options["observe"])
    limit = limit.refined(tol, tasks, None)
    for _ in range(REFINEMENTS):
        solution = solve(stages, limit, **options)
        if solution.sampling_error <= tol or not solution.outcome.ok:
            return solution
        if solution.members == 1:
            raise InputError("tol needs the spread of replicates; give the limit at least 2")
        limit = limit.refined(tol, tasks, solution)
    return solve(stages, limit, **options)


def _check_arguments(limit: AbstractLimit, key: int, record: int, after: Solution | None) -> None:
    if not isinstance(limit, AbstractLimit):
        raise InputError(
            f"limit must be a limit such as adaptik.TwoLayer, got {type(limit).__name__}; finite "
            "networks are for adaptik.train"
        )
    require_integers(0, key=key)
    require_integers(2, record=record)
    name = f"adaptik.{type(limit).__name__}"
    check_continues(after, name, limit.describe(), limit.free)
    if after is not None and not isinstance(after.states[-1], limit.state):
        own = (limit.state,) if isinstance(limit.state, type) else get_args(limit.state)
        allowed = [state.__name__ for state in own]
        raise InputError(
            f"after ends in a {type(after.states[-1]).__name__}, from which {name} does not go on; "
            f"give a solution that ends in a {' or '.join(allowed)}, as those by {name} do"
        )
