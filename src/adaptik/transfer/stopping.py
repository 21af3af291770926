"""When a target stage stops: few samples are learned by heart long after they taught what they can.

A stage of gradient flow on P samples has learned the mean mode of its kernel K at a time of about
P / mean eigenvalue; what it learns later are weak modes, which few or noisy samples do not
determine. So a stage is expected to stop then, and stops where refits are best only if they say so
by more than their standard error: on tens of samples the best of many times is mostly the luckiest
(docs/practice.md has the measurement).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from ..solution import Solution
from ..tasks import Task
from ..tasks.stages import Stage

SEEN = 100  # samples of which the kernel is asked


@dataclass(frozen=True, eq=False)
class Stopping:
    """Where the target stage of one split of the data stops.

    Attributes
    ----------
    held_out
        Losses of the training samples at the times of a :class:`Path`, by refits without them.
    expected
        Which of the times the stage stops at unless refits say otherwise; ``None``: the last,
        whatever they say.

    Examples
    --------
    >>> Stopping(np.array([[0.6, 0.5], [0.4, 0.2], [0.3, 0.1]]), expected=0).stop
    2
    >>> Stopping(np.array([[0.6, 0.5], [0.4, 0.6], [0.9, 0.1]]), expected=0).stop  # within errors
    0
    """

    held_out: Float[np.ndarray, "T P"]
    expected: int | None = None

    @cached_property
    def stop(self) -> int:
        """Which of the times the stage stops at."""
        return self.on(np.arange(self.held_out.shape[1]))

    def on(self, rows: Int[np.ndarray, " P"]) -> int:
        """Which it were if the target's training samples had been ``rows`` of them."""
        if self.expected is None:
            return len(self.held_out) - 1
        held_out = self.held_out[:, rows]
        best = int(held_out.mean(1).argmin())
        better = held_out[self.expected] - held_out[best]
        return best if better.mean() > better.std(ddof=1) / np.sqrt(len(rows)) else self.expected


@dataclass(frozen=True, eq=False)
class Path:
    """Losses of one split of the data, in one unit, while the target stage trains.

    Attributes
    ----------
    times
        Since the stage's start, those recorded and the end; 0 is none of them.
    members
        Test loss of every replicate.
    samples
        Of every test sample.
    held_out
        Of every training sample, by refits without its fold.
    stopping
        Where it stops, judged in the unit in which outputs are comparable.
    """

    times: Float[np.ndarray, " T"]
    members: Float[np.ndarray, "T replicates"]
    samples: Float[np.ndarray, "T n"]
    held_out: Float[np.ndarray, "T P"]
    stopping: Stopping

    @property
    def stop(self) -> int:
        return self.stopping.stop


def times_of(solution: Solution) -> Float[np.ndarray, " T"]:
    """Recorded times of the last stage without its start, of which nothing was learned."""
    times = solution.records[-1].times
    return times[1:] if len(times) > 1 else times


def expected_stop(solution: Solution, stage: Stage, target: Task) -> int:
    """Which of :func:`times_of` is nearest to P / mean eigenvalue.

    The kernel is that with which the stage starts, of which ``solution`` has a snapshot: of the
    features where the readout alone trains, else the tangent kernel.
    """
    kind = "feature" if stage.trains == "readout" else "ntk"
    K = np.asarray(solution.kernel(target.X[:SEEN], kind=kind, time=0.0).value)
    times = times_of(solution)
    if K.ndim == 4:  # (samples, samples, C, C), of several outputs
        K = np.einsum("abcc->ab", K) / target.outputs
    mean = float(np.trace(K)) / len(K)
    if mean == 0 or times[0] == 0:
        return len(times) - 1
    return int(np.abs(np.log(times * mean / target.n_train)).argmin())


def held_out_squares(
    refit: Solution, fold: Task, times: Float[np.ndarray, " T"]
) -> Float[np.ndarray, "T held_out C"]:
    """Squares of the errors on a fold's held-out samples at the times of the whole fit.

    A refit that has ended stays where it is, and the end of one is that of the other.
    """
    own = refit.records[-1].times
    at = np.minimum(np.searchsorted(own, times * (1 - 1e-9)), len(own) - 1)
    at[-1] = len(own) - 1
    f = refit.predictions(fold)[at].mean(1)
    return (f - fold.split("test")[1]) ** 2
