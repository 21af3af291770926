"""A stage whose kernel moves: stepped through time, with what was asked for kept."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ..mathematics.stepping import HORIZON, AbstractFlow, Chebyshev, Exponential, integrate, outcome
from ..mathematics.stepping.clock import compile_clock
from ..solution import Advance, Cost, Outcome, Request, StageRecord, State
from ..system.programs import on_device
from ..tasks.stages import Stage

EXPONENTIAL_UP_TO = 800  # samples x outputs: beyond, eigendecompositions cost more than they save
# Operations of a pass over one number, and of eigendecompositions in units of P^3, beside products.
# Large ones run faster: from 200 to 800 samples their time grows like P^2.
PASS, EIGH, LARGE = 27, 60, 200
# Evaluations of the flow by Chebyshev steps for one exponential step, at a tolerance of 5e-3, on
# images, where one eigenvalue holds 0.4 of K_x's trace. Their number grows as its square root.
EVALUATIONS, STIFF = 10, 0.4
CLEARLY = 1.3  # by how much Chebyshev steps must be cheaper: stiffness makes them dearer
NEAR_REST = 1e-4  # rate at which it is first tried to find where the flow comes to rest


class Chosen(NamedTuple):
    """A time stepper, and why."""

    solver: Exponential | Chebyshev
    reason: str = ""

    @property
    def method(self) -> str:
        name = type(self.solver).__name__.lower()
        return f"{name} ({self.reason})" if self.reason else name


class Rest(NamedTuple):
    """Where a stage that has settled tends to."""

    y: Any  # None where it was not found
    steps: int
    rate: float = math.nan  # at which the loss and the burden still fall
    remark: str = ""


def stepper_for(modes: int, coordinates: int, particles: int, tol: float, leading: float) -> Chosen:
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
    leading
        Share of the largest eigenvalue in the trace of K_x: Chebyshev steps resolve it.
    """
    if modes > EXPONENTIAL_UP_TO:
        return by_size(modes)
    fields = particles * modes
    decomposition = EIGH * modes**3 / max(1.0, modes / LARGE)
    exponential = decomposition + fields * (4 * modes + 28 * coordinates + 18 * PASS)
    evaluations = EVALUATIONS * max(1.0, (5e-3 / tol) ** (1 / 6))
    evaluations *= math.sqrt(min(1.0, max(0.25, leading / STIFF)))
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
    duration = min(stage.duration or HORIZON, HORIZON)
    loss_tol, rate_tol = (-1.0, -1.0) if stage.duration else stage.tolerances
    tries = [(rate_tol, max_steps)]
    if ending is not None:
        tries.insert(0, (max(NEAR_REST, rate_tol), min(patience or max_steps, max_steps)))
    steps, rejected = 0, 0
    with compile_clock() as clock:
        began = time.perf_counter()
        for rate_tol, most in tries:
            trajectory = jax.block_until_ready(
                integrate(
                    flow,
                    y0,
                    recorder,
                    chosen.solver,
                    duration=on_device(float(duration)),
                    record_times=on_device(np.minimum(request.times, duration)),
                    snapshot_times=on_device(request.snapshots, float),
                    loss_tol=on_device(loss_tol),
                    rate_tol=on_device(rate_tol),
                    tol=on_device(tol),
                    max_steps=most,
                )
            )
            steps, rejected = steps + int(trajectory.steps), rejected + int(trajectory.rejected)
            end, end_time, method = trajectory.end, float(trajectory.end_time), chosen.method
            ended = outcome(trajectory, loss_tol, rate_tol)
            residuals = trajectory.loss, trajectory.rate
            times, last = [end_time], [trajectory.last]
            settled = ended in (Outcome.CONVERGED, Outcome.STALLED)
            impatient = most < max_steps and ended is Outcome.OUT_OF_STEPS
            if ending is None or not (settled or impatient):
                break
            rest = ending(end)
            steps += rest.steps
            if rest.y is not None:
                end, end_time, ended = rest.y, math.inf, Outcome.CONVERGED
                times, last = [*times, math.inf], [*last, recorder(on_device(math.inf), end)]
                residuals = flow.loss(end), rest.rate
                method = f"{method}; {rest.steps} Newton steps at the end{rest.remark}"
                break
        run_seconds = time.perf_counter() - began - clock.seconds
    snapshots = {
        t: state_at(t, jax.tree.map(lambda leaf, i=i: leaf[i], trajectory.snapshots))
        for i, t in enumerate(request.snapshots)
        if t <= times[0]
    }
    reached = np.flatnonzero(np.isfinite(trajectory.record_times) & (request.times < times[0]))
    record = StageRecord(
        times=np.append(request.times[reached], times),
        predictions={
            key: np.concatenate([np.asarray(path)[reached], np.stack(ends)])
            for key, path, *ends in zip(keys, trajectory.recorded, *last, strict=True)
        },
        duration=end_time,
        train_loss=float(residuals[0]),
        rate=float(residuals[1]),
        outcome=ended,
        cost=Cost(
            method,
            steps,
            rejected,
            clock.seconds,
            run_seconds,
        ),
    )
    return record, state_at(end_time, end), snapshots
