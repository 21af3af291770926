"""A stage marched through time while its random matrices are revealed.

The vector field extends the bases of the matrices when it meets a direction that they do not
hold, so it runs outside compiled loops: under SciPy's embedded Runge-Kutta pair of order 5, and
where a stage goes on for long, its stability limiting the steps, under Chebyshev steps.
"""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from jaxtyping import Array, Float
from scipy.integrate import RK45
from threadpoolctl import threadpool_limits

from ..mathematics.bases import BasisFull
from ..mathematics.stepping import HORIZON, progress
from ..mathematics.stepping.clock import compile_clock
from ..mathematics.stepping.flow import STALL
from ..mathematics.stepping.stabilised import StabilisedChebyshev
from ..solution import AbstractState, Cost, Outcome, StageRecord
from ..tasks.stages import Stage
from .base import Advance, Request

PATIENCE = 100  # steps after which a stage is taken to be limited by stability
NUDGE = 1e-3  # change of y, in units of its scale, that probes the spectral radius
ROUNDING = 1e-12  # relative tolerance: nothing beyond rounding, the absolute one decides


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
    state_at: Callable[[float, np.ndarray], AbstractState],
    scale: float,
    tol: float,
    max_steps: int,
    method: str,
) -> Advance:
    """Run a stage; parameters as in :func:`.stepped.step_through`.

    ``scale`` is the length of a change of y that moves the predictor by about 1.
    """
    loss_tol, rate_tol = (-1.0, -1.0) if stage.duration else stage.tolerances
    bound = min(stage.duration or HORIZON, HORIZON)
    times, recorded, snapshots = [], [], {}
    due = [float(t) for t in request.times if t < bound]
    asked = sorted(t for t in request.snapshots if t <= bound)
    steps, rejected, stiff, ended = 0, 0, False, None
    loss = rate = np.nan
    units = flow.units()

    def solver_from(t: float, y: np.ndarray, step: float | None) -> RK45 | StabilisedChebyshev:
        step = None if step is None else min(step, bound - t)
        if stiff and step is not None:
            size, nudge = tol * scale, NUDGE * scale
            return StabilisedChebyshev(
                flow.slope, t, y, bound, atol=size, first_step=step, nudge=nudge
            )
        atol = tol * scale / np.sqrt(y.size)
        return RK45(flow.slope, t, y, bound, rtol=ROUNDING, atol=atol, first_step=step)

    def keep(until: float, at: Callable[[float], np.ndarray]) -> None:
        while due and due[0] <= until:
            t = due.pop(0)
            times.append(t)
            recorded.append(flow.predictions(t, at(t)))
        while asked and asked[0] <= until:
            t = asked.pop(0)
            snapshots[t] = state_at(t, at(t))

    quiet = np.errstate(over="ignore", invalid="ignore")
    # Waking threads costs more than they save on matrices of this size.
    with compile_clock() as clock, quiet, threadpool_limits(1, "blas"):
        began = time.perf_counter()
        y = flow.start()
        keep(0.0, lambda t, y=y: y)
        solver, t, step = None, 0.0, None
        while ended is None:
            try:
                solver = solver or solver_from(t, y, step)
                before = _tried(solver)
                solver.step()
            except BasisFull:
                t, y = (t, y) if solver is None else (solver.t, solver.y)
                y, step = flow.enlarge(y), None if solver is None else solver.step_size
                solver = None
                continue
            steps, rejected = steps + 1, rejected + _tried(solver) - before - 1
            dense = solver.dense_output()
            t, y, step = solver.t, solver.y, solver.step_size
            losses, rate = flow.losses(t, y), flow.rate(t, y, solver.f)
            loss = losses.sum()
            # The rate is of all outputs together: it bounds that of the one with the least unit.
            unlearned, pace = (losses / units).max(), abs(rate) / units.min()
            progress.report(t, float(loss))
            if solver.status == "failed" or not np.isfinite(loss):
                ended = Outcome.DIVERGED
            elif unlearned <= loss_tol and pace <= rate_tol:
                ended = Outcome.CONVERGED
            elif pace <= STALL * rate_tol:
                ended = Outcome.STALLED
            elif solver.status == "finished":
                ended = Outcome.REACHED_DURATION if stage.duration else Outcome.OUT_OF_STEPS
            elif steps >= max_steps:
                ended = Outcome.OUT_OF_STEPS
            keep(t, dense)
            if steps == PATIENCE:
                stiff, solver = True, None
        if not times or times[-1] < t:
            times.append(t)
            recorded.append(flow.predictions(t, y))
        seconds = time.perf_counter() - began - clock.seconds
    record = StageRecord(
        np.array(times),
        {key: np.stack([row[i] for row in recorded])[:, None] for i, key in enumerate(keys)},
        float(t),
        float(loss),
        float(rate),
        ended,
        Cost(method, steps, rejected, clock.seconds, seconds),
    )
    return record, state_at(t, y), snapshots


def _tried(solver: RK45 | StabilisedChebyshev) -> int:
    """Steps tried so far, up to a constant."""
    if isinstance(solver, StabilisedChebyshev):
        return solver.accepted + solver.rejected
    return solver.nfev // RK45.n_stages
