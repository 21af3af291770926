"""How an iteration ended: the one ladder of outcomes that every limit and network uses."""

from enum import Enum


class Outcome(Enum):
    """How a stage ended; losses and their rates are judged relative to the labels of each output.

    See ``loss_tol`` of :class:`adaptik.Stage`.
    """

    CONVERGED = "converged"
    REACHED_DURATION = "reached its duration"
    STALLED = "stalled: the loss stopped falling above loss_tol"
    COLLAPSED = "collapsed: weight decay took all weights to zero"
    OUT_OF_STEPS = "out of steps before converging"
    DIVERGED = "diverged: step size underflow or non-finite loss"
    NON_FINITE = "not finite: predictions became NaN or infinite"

    @property
    def ok(self) -> bool:
        """Whether the stage ended as asked."""
        return self in (Outcome.CONVERGED, Outcome.REACHED_DURATION, Outcome.COLLAPSED)

    @property
    def is_lost(self) -> bool:
        """Whether nothing can go on from the stage's end."""
        return self in (Outcome.DIVERGED, Outcome.NON_FINITE)
