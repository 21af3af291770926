"""A stage marched through time while its random matrices are revealed.

The vector field extends the bases of the matrices when it meets a direction that they do not
hold, so it runs outside compiled loops, under SciPy's embedded Runge-Kutta pair of order 5.
"""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from jaxtyping import Float
from scipy.integrate import RK45

from ..revealed import BasisFull
from ..solution import AbstractState, Cost, Outcome, StageRecord
from ..stages import Stage
from ..stepping import HORIZON
from ..stepping import progress as reports
from ..stepping.clock import compile_clock
from ..stepping.flow import STALL
from .base import Advance, Request

LOOK_BACK = 1e-2  # fraction of the last step over which the loss's rate is taken
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

    def loss(self, t: float, y: Float[np.ndarray, " n"]) -> float:
        """Training loss."""
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
    rejected, steps, evaluations, ended = 0, 0, 0, None
    loss = rate = np.nan

    def solver_from(t: float, y: np.ndarray, step: float | None) -> RK45:
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

    with compile_clock() as clock, np.errstate(over="ignore", invalid="ignore"):
        began = time.perf_counter()
        y = flow.start()
        keep(0.0, lambda t, y=y: y)
        solver, t, step = None, 0.0, None
        while ended is None:
            try:
                solver = solver or solver_from(t, y, step)
                before = solver.nfev
                solver.step()
            except BasisFull:
                t, y = (t, y) if solver is None else (solver.t, solver.y)
                y, step = flow.enlarge(y), None if solver is None else solver.step_size
                solver = None
                continue
            evaluations += solver.nfev - before
            rejected += (solver.nfev - before) // 6 - 1
            steps += 1
            dense = solver.dense_output()
            t, y, taken = solver.t, solver.y, solver.step_size or 0.0
            loss = flow.loss(t, y)
            earlier = t - LOOK_BACK * taken
            rate = (flow.loss(earlier, dense(earlier)) - loss) / max(t - earlier, 1e-300)
            reports.report(t, loss)
            if solver.status == "failed" or not np.isfinite(loss):
                ended = Outcome.DIVERGED
            elif loss <= loss_tol and abs(rate) <= rate_tol:
                ended = Outcome.CONVERGED
            elif abs(rate) <= STALL * rate_tol:
                ended = Outcome.STALLED
            elif solver.status == "finished":
                ended = Outcome.REACHED_DURATION if stage.duration else Outcome.OUT_OF_STEPS
            elif steps >= max_steps:
                ended = Outcome.OUT_OF_STEPS
            keep(t, dense)
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
        Cost(method, steps, max(rejected, 0), clock.seconds, seconds),
    )
    return record, state_at(t, y), snapshots
