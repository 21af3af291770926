"""A stage whose kernel moves: stepped through time, with what was asked for kept.

Compiled flows go through :func:`step_through`. The vector field of random matrices that are
revealed extends their bases when it meets a direction that they do not hold, so it runs outside
compiled loops, through :func:`march`: under SciPy's embedded Runge-Kutta pair of order 5, and where
a stage goes on for long, its stability limiting the steps, under Chebyshev steps. A second solve
with larger tolerances estimates the error of either.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float
from scipy.integrate import RK45
from threadpoolctl import threadpool_limits

from ..mathematics.bases import BasisFull
from ..mathematics.stepping import (
    HORIZON,
    AbstractFlow,
    Integration,
    Rest,
    integrate,
    outcome,
    progress,
)
from ..mathematics.stepping.choice import Chosen
from ..mathematics.stepping.clock import compile_clock
from ..mathematics.stepping.flow import STALL
from ..mathematics.stepping.stabilised import StabilisedChebyshev
from ..solution import Advance, Cost, Outcome, Request, StageRecord, State
from ..system.devices import gathered, on_device
from ..tasks.stages import Stage

Place = TypeVar("Place")  # what a march makes of its vector: a state, or a member of one

NEAR_REST = 1e-4  # rate at which it is first tried to find where the flow comes to rest
PATIENCE = 100  # steps after which a stage is taken to be limited by stability
NUDGE = 1e-3  # change of y, in units of its scale, that probes the spectral radius
ROUNDING = 1e-12  # relative tolerance: nothing beyond rounding, the absolute one decides


class End(NamedTuple):
    """Where stepping a stage ended, and what was recorded there."""

    y: Any
    times: list[float]
    recorded: list[list]  # at each of the times
    outcome: Outcome
    loss: float
    rate: float
    method: str


def step_through(
    stage: Stage,
    request: Request,
    flow: AbstractFlow,
    y0: Any,
    recorder: Callable[[Any, Any], list],
    keys: list[tuple[str, str]],
    state_at: Callable[[float, Any], State],
    chosen: Chosen,
    tol: float,
    max_steps: int,
    ending: Callable[[Any], Rest] | None = None,
    patience: int | None = None,
) -> Advance[State]:
    """Run a stage by time stepping; call it with double precision enabled.

    Parameters
    ----------
    recorder, keys
        ``recorder(t, y)`` is a list of predictions, of the tasks and splits named by ``keys``.
    state_at
        Turns a time and the stepper's ``y`` into a state.
    chosen
        The time stepper; the reason for it goes into the record's cost.
    ending
        From the ``y`` at which a stage has settled to where it tends to.
    patience
        Steps after which ``ending`` is tried even if the stage has not settled.
    """
    loss_tol, rate_tol = (-1.0, -1.0) if stage.duration else stage.tolerances
    tries = [(rate_tol, max_steps)]
    if ending is not None:
        tries.insert(0, (max(NEAR_REST, rate_tol), min(patience or max_steps, max_steps)))
    steps, rejected = 0, 0
    with compile_clock() as clock:
        began = time.perf_counter()
        for rate_tol, most in tries:
            path = _integrated(stage, request, flow, y0, recorder, chosen, rate_tol, tol, most)
            steps, rejected = steps + int(path.steps), rejected + int(path.rejected)
            ended = outcome(path, loss_tol, rate_tol)
            times, last = [float(path.end_time)], [path.last]
            loss, rate = float(path.loss), float(path.rate)
            end = End(path.end, times, last, ended, loss, rate, chosen.method)
            settled = ended in (Outcome.CONVERGED, Outcome.STALLED)
            impatient = most < max_steps and ended is Outcome.OUT_OF_STEPS
            if ending is None or not (settled or impatient):
                break
            rest = ending(path.end)
            steps += rest.steps
            if rest.y is not None:
                end = _at_rest(end, rest, flow, recorder)
                break
        seconds = time.perf_counter() - began - clock.seconds
    kept, last = (jax.tree.map(gathered, tree) for tree in (path.snapshots, end.recorded))
    snapshots = {
        t: state_at(t, jax.tree.map(lambda leaf, i=i: leaf[i], kept))
        for i, t in enumerate(request.snapshots)
        if t <= end.times[0]
    }
    reached = np.flatnonzero(np.isfinite(path.record_times) & (request.times < end.times[0]))
    predictions = {
        key: np.concatenate([gathered(values)[reached], np.stack(ends)])
        for key, values, *ends in zip(keys, path.recorded, *last, strict=True)
    }
    cost = Cost(end.method, steps, rejected, clock.seconds, seconds)
    times, stop = np.append(request.times[reached], end.times), end.times[-1]
    record = StageRecord(times, predictions, stop, end.loss, end.rate, end.outcome, cost)
    return record, state_at(stop, jax.tree.map(gathered, end.y)), snapshots


def _integrated(
    stage: Stage,
    request: Request,
    flow,
    y0,
    recorder,
    chosen: Chosen,
    rate_tol: float,
    tol: float,
    max_steps: int,
) -> Integration:
    duration = min(stage.duration or HORIZON, HORIZON)
    return jax.block_until_ready(
        integrate(
            flow,
            y0,
            recorder,
            chosen.solver,
            duration=on_device(float(duration)),
            record_times=on_device(np.minimum(request.times, duration)),
            snapshot_times=on_device(request.snapshots, float),
            loss_tol=on_device(-1.0 if stage.duration else stage.tolerances[0]),
            rate_tol=on_device(rate_tol),
            tol=on_device(tol),
            max_steps=max_steps,
        )
    )


def _at_rest(end: End, rest: Rest, flow: AbstractFlow, recorder) -> End:
    """The end, and after all time where the flow tends to."""
    return End(
        rest.y,
        [*end.times, math.inf],
        [*end.recorded, recorder(on_device(math.inf), rest.y)],
        Outcome.CONVERGED,
        float(flow.loss(rest.y)),
        rest.rate,
        f"{end.method}; {rest.steps} Newton steps at the end{rest.remark}",
    )


class Revealing(Protocol):
    """A flow whose vector may have to grow."""

    def start(self) -> Float[np.ndarray, " n"]:
        """The vector at the stage's start."""
        ...

    def slope(self, t: float, y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """dy/dt; raises :class:`BasisFull` where ``y`` is too short."""
        ...

    def enlarge(self, y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
        """The same point with room for more directions."""
        ...

    def losses(self, t: float, y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " parts"]:
        """What the training loss is the sum of, one part for each output or all in one."""
        ...

    def units(self) -> Float[Array | np.ndarray, " parts"]:
        """In what each part is judged."""
        ...

    def rate(self, t: float, y: Float[np.ndarray, " n"], slope: Float[np.ndarray, " n"]) -> float:
        """Rate of decrease of the training loss where y' is ``slope``."""
        ...

    def predictions(self, t: float, y: Float[np.ndarray, " n"]) -> list[np.ndarray]:
        """On recorded inputs, each ``(n, C)``."""
        ...


def march(
    stage: Stage,
    request: Request,
    flow: Revealing,
    keys: list[tuple[str, str]],
    place_at: Callable[[float, np.ndarray], Place],
    scale: float,
    tol: float,
    max_steps: int,
    method: str,
) -> tuple[StageRecord, Place, dict[float, Place]]:
    """Run a stage; parameters as in :func:`step_through`.

    ``place_at`` is its ``state_at``, and ``scale`` the length of a change of y that moves the
    predictor by about 1.
    """
    bound = min(stage.duration or HORIZON, HORIZON)
    due = [float(t) for t in request.times if t < bound]
    asked = sorted(t for t in request.snapshots if t <= bound)
    kept = Kept(flow.predictions, place_at, due, asked)
    loss, rate, ended, steps, rejected = np.nan, np.nan, Outcome.OUT_OF_STEPS, 0, 0
    quiet = np.errstate(over="ignore", invalid="ignore")
    # Waking threads costs more than they save on matrices of this size.
    with compile_clock() as clock, quiet, threadpool_limits(1, "blas"):
        began = time.perf_counter()
        y = flow.start()
        kept.until(0.0, lambda t: y)
        for solver, refused in _steps(flow, y, bound, scale, tol):
            steps, rejected = steps + 1, rejected + refused
            losses, rate = flow.losses(solver.t, solver.y), flow.rate(solver.t, solver.y, solver.f)
            loss = float(losses.sum())
            progress.report(solver.t, loss)
            told = _ended(stage, solver, losses, rate, flow.units())
            kept.until(solver.t, solver.dense_output())
            if told is not None or steps >= max_steps:
                ended = ended if told is None else told
                break
        t, y = solver.t, solver.y
        kept.end(t, y)
        seconds = time.perf_counter() - began - clock.seconds
    predictions = {
        key: np.stack([row[i] for row in kept.recorded])[:, None] for i, key in enumerate(keys)
    }
    cost = Cost(method, steps, rejected, clock.seconds, seconds)
    record = StageRecord(np.array(kept.times), predictions, t, loss, float(rate), ended, cost)
    return record, place_at(t, y), kept.snapshots


@dataclass
class Kept(Generic[Place]):
    """What was asked for of a march, as it goes on."""

    predictions: Callable[[float, np.ndarray], list[np.ndarray]]
    place_at: Callable[[float, np.ndarray], Place]
    due: list[float]  # times to record, and of snapshots, that have not come yet
    asked: list[float]
    times: list[float] = field(default_factory=list)
    recorded: list[list[np.ndarray]] = field(default_factory=list)
    snapshots: dict[float, Place] = field(default_factory=dict)

    def until(self, now: float, at: Callable[[float], np.ndarray]) -> None:
        """Keep what is due by now, ``at`` giving the vector at times up to it."""
        while self.due and self.due[0] <= now:
            self.end(t := self.due.pop(0), at(t))
        while self.asked and self.asked[0] <= now:
            t = self.asked.pop(0)
            self.snapshots[t] = self.place_at(t, at(t))

    def end(self, t: float, y: np.ndarray) -> None:
        """Record time t, unless it has been."""
        if not self.times or self.times[-1] < t:
            self.times.append(t)
            self.recorded.append(self.predictions(t, y))


Solver = RK45 | StabilisedChebyshev


def _steps(
    flow: Revealing, y: np.ndarray, bound: float, scale: float, tol: float
) -> Iterator[tuple[Solver, int]]:
    """The solver after every step that is taken, and how often the step was refused before.

    Where a basis is full, and where stability is found to limit the steps, another solver goes on.
    """
    t, step, solver, taken = 0.0, None, None, 0
    while True:
        try:
            solver = solver or _solver(flow, t, y, bound, step, scale, tol, taken >= PATIENCE)
            before = _tried(solver)
            solver.step()
        except BasisFull:
            t, y = (t, y) if solver is None else (solver.t, solver.y)
            y, step = flow.enlarge(y), None if solver is None else solver.step_size
            solver = None
            continue
        taken += 1
        yield solver, _tried(solver) - before - 1
        if taken == PATIENCE:
            t, y, step, solver = solver.t, solver.y, solver.step_size, None


def _solver(
    flow: Revealing,
    t: float,
    y: np.ndarray,
    bound: float,
    step: float | None,
    scale: float,
    tol: float,
    stiff: bool,
) -> Solver:
    """From t on; ``step`` is the length of the first step, where it is known."""
    step = None if step is None else min(step, bound - t)
    if stiff and step is not None:
        size, nudge = tol * scale, NUDGE * scale
        return StabilisedChebyshev(flow.slope, t, y, bound, atol=size, first_step=step, nudge=nudge)
    atol = tol * scale / np.sqrt(y.size)
    return RK45(flow.slope, t, y, bound, rtol=ROUNDING, atol=atol, first_step=step)


def _ended(stage: Stage, solver: Solver, losses, rate: float, units) -> Outcome | None:
    """How a march ended with the step before, ``None`` where it goes on."""
    loss_tol, rate_tol = (-1.0, -1.0) if stage.duration else stage.tolerances
    # The rate is of all outputs together: it bounds that of the one with the least unit.
    unlearned, pace = (losses / units).max(), abs(rate) / units.min()
    if solver.status == "failed" or not np.isfinite(losses.sum()):
        return Outcome.DIVERGED
    if unlearned <= loss_tol and pace <= rate_tol:
        return Outcome.CONVERGED
    if pace <= STALL * rate_tol:
        return Outcome.STALLED
    if solver.status == "finished":
        return Outcome.REACHED_DURATION if stage.duration else Outcome.OUT_OF_STEPS
    return None


def _tried(solver: RK45 | StabilisedChebyshev) -> int:
    """Steps tried so far, up to a constant."""
    if isinstance(solver, StabilisedChebyshev):
        return solver.accepted + solver.rejected
    return solver.nfev // RK45.n_stages


def again(stage: Stage, request: Request, record: StageRecord) -> tuple[Stage, Request]:
    """The stage of known duration and the request that record at the times of ``record``."""
    if record.duration == 0:  # it had converged at its start
        return stage, request
    timed = replace(stage, duration=stage.duration or record.duration)
    return timed, replace(request, times=record.times[record.times < record.duration])


def step_error(record: StageRecord, coarse: StageRecord) -> float:
    """Largest difference of any recorded prediction, in units of the predictor."""
    return max(
        float(np.abs(coarse.predictions[key] - f).max()) for key, f in record.predictions.items()
    )


def timed_together(first: Cost, *others: Cost) -> Cost:
    """The cost of the first solve with the seconds of all."""
    costs = (first, *others)
    return replace(
        first,
        compile_seconds=sum(c.compile_seconds for c in costs),
        run_seconds=sum(c.run_seconds for c in costs),
    )
