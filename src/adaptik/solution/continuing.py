"""What solving and training ask of the stages before and of times, before any computation."""

from collections.abc import Sequence
from typing import Any

from ..mathematics.biases import NONE
from ..system.errors import InputError
from ..tasks.stages import Stage
from .solution import Solution

# Settings of accuracy alone, and what may differ between stages: all others describe the model.
OPEN = ("tol", "reveal_tol", "max_steps", "max_iterations", "samples")


def check_continues(
    after: Solution | None, by: str, model: dict[str, Any], free: Sequence[str] = ()
) -> None:
    """Refuse to go on from stages that another model went through.

    Parameters
    ----------
    after
        The solution of the stages before, if any.
    by
        What goes on, such as ``"adaptik.train"``.
    model
        Its settings, as stored with results.
    free
        Names of settings that may have changed, beside those of accuracy.

    Raises
    ------
    InputError
        If ``after`` is no solution by the same model with the same settings, or has diverged.
    """
    if after is None:
        return
    if not isinstance(after, Solution):
        raise InputError(f"after must be an adaptik.Solution, got {type(after).__name__}")
    if made_by(after) != by:
        raise InputError(
            f"after must be a result of {by}, got one of {made_by(after)}; run all stages by one"
        )
    neutral = {"chains": after.members, "bias": NONE, "scale": 1.0}
    before = neutral | after.provenance | after.provenance["model"]
    for name, value in model.items():
        if name not in (*OPEN, *free) and before.get(name) != value:
            raise InputError(f"after has {name}={before.get(name)!r}, got {value!r}; use the same")
    if after.outcome.is_lost:
        raise InputError("after has diverged; there is nothing to continue from")


def made_by(solution: Solution) -> str:
    """What returned the solution."""
    model = solution.provenance.get("model", {})
    if solution.kind == "limit":
        return f"adaptik.{model.get('limit', 'solve')}"
    return "adaptik.sample_posterior" if "temperature" in model else "adaptik.train"


def check_snapshots(
    stages: Sequence[Stage], first: int, snapshots: Sequence[tuple[int, float]]
) -> None:
    """Refuse times outside the stages from ``first`` on."""
    for at, when in snapshots:
        if not (first <= at < len(stages) and 0 <= when < float("inf")):
            raise InputError(
                f"snapshots: ({at}, {when}) is not a time >= 0 in one of the new stages "
                f"{first} to {len(stages) - 1}"
            )
        duration = stages[at].duration
        if duration is not None and when > duration:
            raise InputError(
                f"snapshots: time {when:g} is after the end {duration:g} of stage {at}"
            )
