"""Integrating a gradient flow until its duration, or until its training loss has settled.

One compiled program serves every value of richness, duration and tolerance of one shape. Time
stepping, step control and saving are diffrax's; this module says when to stop and what to keep.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from ...system.programs import kept
from ..outcome import Outcome
from . import progress

HORIZON = 1e12  # where a stage without a duration gives up
STALL = 1e-4  # a stage has stalled when its loss falls slower than this times rate_tol


class AbstractFlow(eqx.Module):
    """The vector field of one stage and what the stepper must know of it."""

    @abstractmethod
    def __call__(self, y: PyTree) -> PyTree:
        """dy/dt."""

    @abstractmethod
    def losses(self, y: PyTree) -> Float[Array, " parts"]:
        """What the training loss is the sum of: one part for each output, or all in one."""

    def loss(self, y: PyTree) -> Float[Array, ""]:
        """Training loss, averaged over samples and members."""
        return jnp.sum(self.losses(y))

    def units(self) -> Float[Array, " parts"]:
        """In what each part is judged, such as the mean square of the output's labels."""
        return jnp.ones(1)

    @abstractmethod
    def weigh(self, y: PyTree, error: PyTree) -> Float[Array, ""]:
        """Size of an error in y, in units of the predictor."""

    def burden(self, y: PyTree) -> Float[Array, ""]:
        """What weight decay and an elastic pull add to the training loss.

        The flow descends the sum of both: under weight decay the loss alone may rise again, and
        its rate vanish on the way.
        """
        return jnp.zeros(())

    def loss_and_rate(
        self, y: PyTree, velocity: PyTree = None
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Training loss, and the rate of decrease of its sum with the :meth:`burden`.

        ``velocity`` is dy/dt unless it is given.
        """

        def both(y):
            loss = self.loss(y)
            return loss + self.burden(y), loss

        velocity = self(y) if velocity is None else velocity
        (_, loss), (slope, _) = jax.jvp(both, (y,), (velocity,))
        return loss, -slope

    def progress(self, y: PyTree) -> "Progress":
        """Loss and rate, and both as convergence is judged: every output in its own unit.

        Weight decay and an elastic pull are of all outputs together: with them the rate of the sum
        counts, in the unit of all.
        """
        values, slopes = jax.jvp(lambda y: (self.losses(y), self.burden(y)), (y,), (self(y),))
        (losses, burden), (falls, relief) = values, jax.tree.map(jnp.negative, slopes)
        units, rate = self.units(), jnp.sum(falls) + relief
        own, common = jnp.max(jnp.abs(falls) / units), jnp.abs(rate) / jnp.sum(units)
        pace = jnp.where(burden == 0, own, common)
        return Progress(jnp.sum(losses), rate, jnp.max(losses / units), pace)


class Progress(NamedTuple):
    """How far a flow has come."""

    loss: Float[Array, ""]
    rate: Float[Array, ""]
    unlearned: Float[Array, ""]  # the largest loss of an output, in its unit
    pace: Float[Array, ""]  # the largest rate, alike


class Integration(NamedTuple):
    """A flow as it was integrated; unreached record times hold infinities."""

    record_times: Float[Array, " T"]
    recorded: PyTree  # each leaf with a leading axis T
    last: PyTree  # recorded at the end
    snapshots: PyTree  # each leaf with a leading axis S
    end: PyTree
    end_time: Float[Array, ""]
    loss: Float[Array, ""]
    rate: Float[Array, ""]
    unlearned: Float[Array, ""]  # see Progress
    pace: Float[Array, ""]
    settled: Bool[Array, ""]  # the training loss met its tolerances, or stalled
    arrived: Bool[Array, ""]  # at the duration
    exhausted: Bool[Array, ""]  # all steps were taken
    steps: Array
    rejected: Array


class Rest(NamedTuple):
    """Where a flow that has settled tends to."""

    y: Any  # None where it was not found
    steps: int
    rate: float = math.nan  # at which the loss and the burden still fall
    remark: str = ""


class _ScalarNorm(eqx.Module):
    def __call__(self, scaled_error):
        # The solvers put one number, the weighed error, into every entry: see spread_error.
        return jnp.max(jnp.asarray([jnp.max(leaf) for leaf in jax.tree.leaves(scaled_error)]))


def spread_error(size: Float[Array, ""], y: PyTree) -> PyTree:
    """The scalar error estimate in the shape that diffrax's step control wants."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(size.astype(leaf.dtype), leaf.shape), y)


# diffrax traces what it steps, saves and stops by several times; these, once.
@eqx.filter_jit
def _recorded(record: Callable[[Any, PyTree], PyTree], t, y):
    return record(t, y)


@eqx.filter_jit
def _settled(flow: AbstractFlow, y, loss_tol, rate_tol):
    now = flow.progress(y)
    converged = (now.unlearned <= loss_tol) & (now.pace <= rate_tol)
    return now, converged | (now.pace <= STALL * rate_tol)


def integrate(
    flow: AbstractFlow,
    y0: PyTree,
    record: Callable[[Any, PyTree], PyTree],
    solver: diffrax.AbstractSolver,
    *,
    duration: Float[Array, ""],
    record_times: Float[Array, " T"],
    snapshot_times: Float[Array, " S"],
    loss_tol: Float[Array, ""],
    rate_tol: Float[Array, ""],
    tol: Float[Array, ""],
    max_steps: int,
) -> Integration:
    """Flow from ``y0`` for ``duration`` or until the loss meets its tolerances.

    Tolerances are of every output, in its own unit; negative ones switch the second rule off.
    ``record(t, y)`` is kept at ``record_times`` and ``y`` itself at ``snapshot_times``; the stepper
    lands exactly on both. ``tol`` bounds the error of one step in units of the predictor.
    """
    times = _Times(duration, record_times, snapshot_times)
    allowed = _Allowed(loss_tol, rate_tol, tol)
    done = _integrate(flow, y0, record, solver, times, allowed, max_steps, progress.listened())
    tree = jax.tree.structure(y0)
    snapshots = done.pop("snapshots")
    return Integration(
        end=tree.unflatten(done.pop("end")),
        snapshots=tree.unflatten(snapshots) if snapshots else None,
        **done,
    )


class _Times(NamedTuple):
    duration: Float[Array, ""]
    record: Float[Array, " T"]
    snapshots: Float[Array, " S"]


class _Allowed(NamedTuple):
    """Tolerances."""

    loss: Float[Array, ""]
    rate: Float[Array, ""]
    step: Float[Array, ""]


def _stops(times: _Times, allowed: _Allowed, watched: bool) -> Callable[..., Bool[Array, ""]]:
    """Whether a stage ends at a time and a state."""

    def stop(t, y, args, **_):
        def judged():
            now, settled = _settled(args, y, allowed.loss, allowed.rate)
            if watched:
                jax.debug.callback(progress.report, t, now.loss)
            return settled

        if watched:
            return judged() | (t >= times.duration)
        # How far a stage of given duration has come decides nothing.
        asked = (allowed.loss >= 0) | (allowed.rate >= 0)
        settled = jax.lax.cond(asked, judged, lambda: jnp.zeros((), bool))
        return settled | (t >= times.duration)

    return stop


@kept
def _integrate(
    flow, y0, record, solver, times: _Times, allowed: _Allowed, max_steps: int, watched: bool
) -> dict[str, Any]:
    """The fields of :class:`Integration`, of states the leaves alone."""

    # With one time alone, steps take as long as if each were recorded: keep y, record it after.
    once = len(times.record) == 1
    subsaves = [
        diffrax.SubSaveAt(
            ts=times.record, fn=lambda t, y, args: y if once else _recorded(record, t, y)
        ),
        diffrax.SubSaveAt(t1=True),
    ]
    if len(times.snapshots):
        subsaves.append(diffrax.SubSaveAt(ts=times.snapshots))
    landings = jnp.concatenate([times.record, times.snapshots, times.duration[None]])
    control = diffrax.PIDController(rtol=0.0, atol=allowed.step, norm=_ScalarNorm(), dtmin=1e-12)
    controller = diffrax.ClipStepSizeController(
        control, step_ts=jnp.unique(landings, size=len(landings))
    )
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: args(y)),
        solver,
        t0=0.0,
        t1=2 * HORIZON,  # a constant, for what diffrax makes of it compiles for long
        dt0=jnp.minimum(0.01, 0.1 * times.duration),
        y0=y0,
        args=flow,
        saveat=diffrax.SaveAt(subs=subsaves),
        stepsize_controller=controller,
        event=diffrax.Event(_stops(times, allowed, watched)),
        max_steps=max_steps,
        throw=False,
    )
    assert solution.ys is not None and solution.ts is not None
    end = jax.tree.map(lambda leaf: leaf[0], solution.ys[1])
    end_time = solution.ts[1][0]
    now, _ = _settled(flow, end, allowed.loss, allowed.rate)
    stopped, arrived = solution.result == diffrax.RESULTS.event_occurred, end_time >= times.duration
    recorded = solution.ys[0]
    if once:
        recorded = jax.lax.map(lambda at: _recorded(record, *at), (solution.ts[0], recorded))
    return dict(
        record_times=solution.ts[0],
        recorded=recorded,
        last=_recorded(record, end_time, end),
        snapshots=jax.tree.leaves(solution.ys[2]) if len(subsaves) > 2 else None,
        end=jax.tree.leaves(end),
        end_time=end_time,
        **now._asdict(),
        settled=stopped & ~arrived,
        arrived=stopped & arrived,
        exhausted=solution.result == diffrax.RESULTS.max_steps_reached,
        steps=solution.stats["num_steps"],
        rejected=solution.stats["num_rejected_steps"],
    )


def outcome(done: Integration, loss_tol: float, rate_tol: float) -> Outcome:
    """How a stage ended; negative tolerances mean that it had a duration."""
    if not np.isfinite(float(done.loss)):
        return Outcome.DIVERGED
    if done.settled:
        converged = float(done.unlearned) <= loss_tol and float(done.pace) <= rate_tol
        return Outcome.CONVERGED if converged else Outcome.STALLED
    if done.arrived:
        return Outcome.REACHED_DURATION if loss_tol < 0 else Outcome.OUT_OF_STEPS
    if done.exhausted:
        return Outcome.OUT_OF_STEPS
    return Outcome.DIVERGED
