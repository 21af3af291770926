"""A stage whose kernel moves: stepped through time, with what was asked for kept."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..solution import AbstractState, Cost, StageRecord
from ..stages import Stage
from ..stepping import HORIZON, AbstractFlow, Chebyshev, Exponential, integrate, outcome
from ..stepping.clock import compile_clock
from .base import Advance, Request

EXPONENTIAL_UP_TO = 800  # samples x outputs: beyond, eigendecompositions cost more than they save
# Operations of a pass over one number, and of eigendecompositions in units of P^3, beside products.
PASS, EIGH = 27, 60
EVALUATIONS = 10  # of the flow by Chebyshev steps for one exponential step, at a tolerance of 5e-3
CLEARLY = 1.3  # by how much Chebyshev steps must be cheaper: stiffness makes them dearer


class Chosen(NamedTuple):
    """A time stepper, and why."""

    solver: Exponential | Chebyshev
    reason: str = ""

    @property
    def method(self) -> str:
        name = type(self.solver).__name__.lower()
        return f"{name} ({self.reason})" if self.reason else name


def stepper_for(modes: int, coordinates: int, particles: int, tol: float) -> Chosen:
    """The cheaper time stepper for a flow of particles that knows its stiff part.

    Parameters
    ----------
    modes
        Samples times outputs: the size of what is decomposed, and of a particle's fields.
    coordinates
        Numbers that move in a particle's weights.
    particles
        Of a replicate.
    tol
        Of a step: Chebyshev steps are of order 2, exponential ones of order 3.
    """
    if modes > EXPONENTIAL_UP_TO:
        return by_size(modes)
    fields = particles * modes
    exponential = EIGH * modes**3 + fields * (4 * modes + 28 * coordinates + 18 * PASS)
    evaluations = EVALUATIONS * max(1.0, (5e-3 / tol) ** (1 / 6))
    chebyshev = evaluations * fields * (4 * coordinates + 6 * PASS)
    ratio = exponential / chebyshev
    if ratio > CLEARLY:
        return Chosen(Chebyshev(), f"explicit steps cost about 1/{ratio:.1f} of exponential ones")
    return Chosen(Exponential(), f"explicit steps would cost about {1 / ratio:.1f} times as much")


def by_size(modes: int) -> Chosen:
    """The time stepper for a flow whose evaluations cost little beside decompositions."""
    reason = f"{modes} samples x outputs, exponential up to {EXPONENTIAL_UP_TO}"
    return Chosen(Exponential() if modes <= EXPONENTIAL_UP_TO else Chebyshev(), reason)


def step_through(
    stage: Stage,
    request: Request,
    flow: AbstractFlow,
    y0: Any,
    recorder: Callable[[Any, Any], list],
    keys: list[tuple[str, str]],
    state_at: Callable[[float, Any], AbstractState],
    chosen: Chosen,
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
    chosen
        The time stepper; the reason for it goes into the record's cost.
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
                chosen.solver,
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
            chosen.method,
            int(trajectory.steps),
            int(trajectory.rejected),
            clock.seconds,
            run_seconds,
        ),
    )
    return record, state_at(end_time, trajectory.end), snapshots
