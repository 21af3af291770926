"""A stage whose kernel moves: stepped through time, with what was asked for kept."""

import time
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from ..solution import AbstractState, Cost, StageRecord
from ..stages import Stage
from ..stepping import HORIZON, AbstractFlow, Chebyshev, Exponential, integrate, outcome
from ..stepping.clock import compile_clock
from ..tasks import Task
from .base import Advance, Request

EXPONENTIAL_UP_TO = 800  # samples x outputs: beyond, eigendecompositions cost more than they save


def solver_for(task: Task) -> Exponential | Chebyshev:
    """The cheaper time stepper for a flow that knows its stiff part."""
    return Exponential() if task.n_train * task.outputs <= EXPONENTIAL_UP_TO else Chebyshev()


def step_through(
    stage: Stage,
    request: Request,
    flow: AbstractFlow,
    y0: Any,
    recorder: Callable[[Any, Any], list],
    keys: list[tuple[str, str]],
    state_at: Callable[[float, Any], AbstractState],
    solver: diffrax.AbstractSolver,
    tol: float,
    max_steps: int,
) -> Advance:
    """Run a stage by time stepping; call it with double precision enabled.

    Parameters
    ----------
    recorder, keys
        ``recorder(t, y)`` is a list of predictions, of the tasks and splits named by ``keys``.
    state_at
        Turns a time and the stepper's ``y`` into a state.
    """
    duration = min(stage.duration or HORIZON, HORIZON)
    loss_tol, rate_tol = (-1.0, -1.0) if stage.duration else stage.tolerances
    with compile_clock() as clock:
        began = time.perf_counter()
        trajectory = jax.block_until_ready(
            integrate(
                flow,
                y0,
                recorder,
                solver,
                duration=jnp.asarray(float(duration)),
                record_times=jnp.asarray(np.minimum(request.times, duration)),
                snapshot_times=jnp.asarray(np.array(request.snapshots, float)),
                loss_tol=jnp.asarray(loss_tol),
                rate_tol=jnp.asarray(rate_tol),
                tol=jnp.asarray(tol),
                max_steps=max_steps,
            )
        )
        run_seconds = time.perf_counter() - began - clock.seconds
    end_time = float(trajectory.end_time)
    snapshots: dict[float, AbstractState] = {
        t: state_at(t, jax.tree.map(lambda leaf, i=i: leaf[i], trajectory.snapshots))
        for i, t in enumerate(request.snapshots)
        if t <= end_time
    }
    reached = np.flatnonzero(np.isfinite(trajectory.record_times) & (request.times < end_time))
    record = StageRecord(
        times=np.append(request.times[reached], end_time),
        predictions={
            key: np.concatenate([np.asarray(path)[reached], np.asarray(last)[None]])
            for key, path, last in zip(keys, trajectory.recorded, trajectory.last, strict=True)
        },
        duration=end_time,
        train_loss=float(trajectory.loss),
        rate=float(trajectory.rate),
        outcome=outcome(trajectory, loss_tol, rate_tol),
        cost=Cost(
            type(solver).__name__.lower(),
            int(trajectory.steps),
            int(trajectory.rejected),
            clock.seconds,
            run_seconds,
        ),
    )
    return record, state_at(end_time, trajectory.end), snapshots
