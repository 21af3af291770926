"""How an iteration ended: the one ladder of outcomes that every limit and network uses."""

from collections.abc import Iterable
from enum import Enum


class Outcome(Enum):
    """How a stage ended, from best to worst.

    Losses and their rates are judged relative to the labels of each output; see ``loss_tol`` of
    :class:`adaptik.Stage`.

    Examples
    --------
    >>> Outcome.CONVERGED.ok, Outcome.STALLED.ok, Outcome.STALLED.is_lost, Outcome.DIVERGED.is_lost
    (True, False, False, True)
    """

    CONVERGED = "converged"
    REACHED_DURATION = "reached its duration"
    COLLAPSED = "collapsed: weight decay took all weights to zero"
    STALLED = "stalled: the loss stopped falling above loss_tol"
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

    @classmethod
    def of_all(cls, outcomes: "Iterable[Outcome]") -> "Outcome":
        """How several ended together: as the worst did, as the last one where all are ok.

        Examples
        --------
        >>> Outcome.of_all([Outcome.STALLED, Outcome.CONVERGED]).name
        'STALLED'
        >>> Outcome.of_all([Outcome.REACHED_DURATION, Outcome.CONVERGED]).name
        'CONVERGED'
        """
        *_, last = each = tuple(outcomes)
        return last if all(o.ok for o in each) else max(each, key=list(cls).index)
