"""Stage: one period of training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

from ...mathematics import losses
from ...mathematics.losses import Objective
from ...system.errors import (
    InputError,
    require_above_zero,
    require_at_least_zero,
    require_integers,
)
from ..base import Task
from ..low_rank import LowRank
from .joint import Joint, joined, shares_of

LOSS_TOL = 1e-4
RATE_TOL = 1e-6


@dataclass(frozen=True, eq=False)
class Stage:
    """One period of gradient flow on one task.

    Attributes
    ----------
    task
        What is learned: a :class:`adaptik.Task`, or a list of several for a joint stage, in which
        all train the hidden layer and each has a head of its own.
    richness
        Feature-learning strength gamma >= 0; 0 is the lazy limit exactly (the network
        linearised at the stage's start).
    duration
        Time of gradient flow (rate ``gamma^2 N`` on the mean loss); ``None`` ends the stage
        when it has converged; ``math.inf`` goes to the end of an exactly solvable stage
        (squared loss, lazy or readout only).
    loss_tol, rate_tol
        Without a duration the stage has converged when the training loss of every output is at
        most ``loss_tol`` (default 1e-4; with weight decay no bound) and falls by at most
        ``rate_tol`` (default 1e-6) per unit time. Both are relative: for squared loss the loss of
        an output counts in the mean square of its own labels (about 0, where a fresh predictor
        starts), so that ``s y`` at richness ``gamma/s`` is the same problem as ``y`` at ``gamma``.
        With weight decay or an elastic pull the rate is that of the loss and their terms, which
        are of all outputs together, in the mean square of all labels. Where weight decay is on and
        none of the three is given, :class:`adaptik.TwoLayer` goes on to where the flow comes to
        rest (by the tolerances where the directions of a low rank train).
    head
        ``"fresh"`` starts from a new random readout and a zero predictor; ``"kept"``
        continues with the readout and the predictor of the stage before.
    trains
        ``"all"`` weights, the ``"readout"`` only, on frozen features, or an integer k: only what
        is above hidden layer k, whose features stay frozen (0 is all weights, the depth is the
        readout).
    weight_decay
        Rate lambda >= 0 at which all trained weights decay; in a low-rank stage, of the first
        layer, what it has moved.
    elastic
        Elastic coupling delta >= 0 of the first-layer weights to their values at the end of the
        stage before; networks with one hidden layer only.
    loss
        ``"squared"``, or ``"logistic"`` (labels -1/+1, or one-hot), which needs a duration.
    head_rate
        Rate eta > 0 of the readout over that of the other weights: dz/dt, decay included, is
        multiplied by it. 1 is the flow of all weights together; ``math.inf`` keeps the readout
        where it is best for the features of the moment: with weight decay these move with it,
        without they stay, and the stage is that of ``trains="readout"`` without end.
    rank
        Low-rank stage: first-layer weights move along ``rank`` directions alone, which all
        neurons share: an integer, or a :class:`LowRank`, whose directions may train; ``None``
        moves them freely. Networks with one hidden layer only.
    fresh_above
        Hidden layers above this one are drawn anew at the stage's start, as the readout is, and
        those up to it keep their weights; 0 draws a new network, ``None`` only what ``head`` says.
    weights
        Of the tasks of a joint stage in its loss, ``sum_k w_k mean_k``, scaled to sum to 1; by
        default as their numbers of samples.
    head_scale
        Standard deviation of the weights of a fresh head. Without decay and with one hidden layer
        a small head is a fast one: ``head_scale=s`` is ``head_rate=1/s**2`` at richness and
        duration over s and times s squared (theory section 1).
    head_of
        After a joint stage, the name of the task whose head is kept; by default that of the
        stage's own task. The other heads stay in the network and do not train.

    Raises
    ------
    InputError
        For values out of range and for combinations that have no meaning. Whether a layer exists
        is checked where the depth is known.

    Examples
    --------
    >>> task = Task([[1.0, 0.0], [0.0, 1.0]], [-1, 1])
    >>> stage = Stage(task, richness=2.0, head="fresh")
    >>> stage.is_lazy, stage.has_fixed_kernel, stage.is_linear_flow
    (False, False, False)
    >>> stage.tolerances, stage.ends_at_rest
    ((0.0001, 1e-06), False)
    >>> few = Stage(task, richness=2.0, rank=1)  # of 2
    >>> few.low_rank, few.reached.shape
    (LowRank(rank=1, draw='orthogonal', seed=0, rate=0.0), (2, 2))
    >>> Stage(task, richness=2.0, trains="readout").frozen_layers(depth=3)
    3
    >>> Stage(task, 0.0, trains="readout", weight_decay=0.1, head_rate=4).fade_rate
    0.4

    Two tasks at once, the second three times as important:

    >>> other = Task([[1.0, 1.0], [0.0, 2.0]], [0.5, 1.0], name="other")
    >>> both = Stage([task, other], richness=2.0, weights=[1, 3])
    >>> both.weights, [task.name for task in both.tasks], both.loss_weights.tolist()
    ((0.25, 0.75), ['task', 'other'], [[0.5, 0.0], [0.5, 0.0], [0.0, 1.5], [0.0, 1.5]])
    >>> both.objective.heads, both.unit.__round__(3)
    ((1, 1), 0.848)
    >>> fine_tuning = Stage(other, richness=2.0, head="kept")  # goes on with the head of "other"
    """

    task: Task  # a list of several becomes a Joint
    richness: float
    duration: float | None = None
    loss_tol: float | None = None
    rate_tol: float | None = None
    head: Literal["fresh", "kept"] = "fresh"
    trains: Literal["all", "readout"] | int = "all"
    weight_decay: float = 0.0
    elastic: float = 0.0
    loss: Literal["squared", "logistic"] = "squared"
    fresh_above: int | None = None
    head_rate: float = 1.0
    rank: int | LowRank | None = None
    weights: Sequence[float] | None = None
    head_of: str | None = None
    head_scale: float = 1.0

    if TYPE_CHECKING:

        def __init__(
            self,
            task: Task | Sequence[Task],
            richness: float,
            duration: float | None = None,
            loss_tol: float | None = None,
            rate_tol: float | None = None,
            head: Literal["fresh", "kept"] = "fresh",
            trains: Literal["all", "readout"] | int = "all",
            weight_decay: float = 0.0,
            elastic: float = 0.0,
            loss: Literal["squared", "logistic"] = "squared",
            fresh_above: int | None = None,
            head_rate: float = 1.0,
            rank: int | LowRank | None = None,
            weights: Sequence[float] | None = None,
            head_of: str | None = None,
            head_scale: float = 1.0,
        ) -> None: ...

    def __post_init__(self):
        self._take_tasks()
        for name in ("richness", "weight_decay", "elastic"):
            require_at_least_zero(**{name: getattr(self, name)})
            object.__setattr__(self, name, float(getattr(self, name)))
        self._check_head()
        for name in ("duration", "loss_tol", "rate_tol"):
            value = getattr(self, name)
            if value is None:
                continue
            if not (isinstance(value, Real) and float(value) > 0):
                raise InputError(f"{name} must be a number > 0 or None, got {value!r}")
            object.__setattr__(self, name, float(value))
        self._check_layers()
        losses.get(self.loss)
        self._check_rank()
        if self.head_rate == math.inf:
            self._take_infinite_rate()
        self._check_combinations()

    def _take_tasks(self):
        task, weights = self.task, self.weights
        if isinstance(task, list | tuple):
            task = joined(task, weights)
        if not isinstance(task, Task):
            raise InputError(
                f"task must be an adaptik.Task or a list of them, got {type(task).__name__}"
            )
        object.__setattr__(self, "task", task)
        shares = shares_of(self.tasks, weights)
        object.__setattr__(self, "weights", shares if isinstance(task, Joint) else None)
        if self.head_of is None:
            return
        if self.head != "kept" or not isinstance(self.head_of, str) or len(self.tasks) > 1:
            raise InputError(
                f"head_of={self.head_of!r} names the head of a joint stage before with which one "
                "task goes on; use it with head='kept', and with several tasks leave it out"
            )

    def _check_head(self):
        if self.head not in ("fresh", "kept"):
            raise InputError(f"head must be one of ('fresh', 'kept'), got {self.head!r}")
        require_above_zero(head_scale=self.head_scale)
        if self.head_rate != math.inf:
            require_above_zero(head_rate=self.head_rate)
        for name in ("head_rate", "head_scale"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.head == "kept" and self.head_scale != 1:
            raise InputError(
                f"head_scale={self.head_scale:g} is of a head that is drawn, and head='kept' goes "
                "on with one; use head='fresh' or head_scale=1"
            )

    def _take_infinite_rate(self):
        """Without decay of features that move, the readout alone trains, to its end."""
        if self.loss == "logistic":
            raise InputError(
                "head_rate=inf with loss='logistic' has no optimal readout on separable data, and "
                "with weight decay none in closed form; use a finite rate or loss='squared'"
            )
        if self.low_rank is not None:
            raise InputError(
                f"head_rate=inf with rank={self.low_rank.rank} is not computed; use a finite rate "
                "or rank=None"
            )
        if self.trains == "readout" or self.weight_decay == 0:
            for name, value in (("trains", "readout"), ("head_rate", 1.0), ("duration", math.inf)):
                object.__setattr__(self, name, value)
        elif self.richness == 0:
            raise InputError(
                "head_rate=inf with richness=0 and weight_decay > 0 is not computed; use a small "
                "richness or a finite rate"
            )

    def _check_rank(self):
        if self.rank is None:
            return
        if not isinstance(self.rank, LowRank):
            object.__setattr__(self, "rank", LowRank(self.rank))
        assert isinstance(self.rank, LowRank)
        self.rank.check(self.task.dimension, bias=1.0)  # whether there is one, models know
        for name, neutral, why in (
            ("trains", "all", "acts on first-layer weights, which have to train"),
            ("fresh_above", None, "keeps the first layer and adds to it"),
            ("elastic", 0, "keeps weights near where they were by itself"),
        ):
            if getattr(self, name) != neutral:
                raise InputError(
                    f"{name}={getattr(self, name)!r} with rank={self.rank.rank}: a low rank {why}; "
                    f"use {name}={neutral!r} or rank=None"
                )
        if self.rank.rate > 0 and self.weight_decay > 0 and self.is_lazy:
            raise InputError(
                f"rank={self.rank.rank} with rate={self.rank.rate:g}, richness=0 and weight decay: "
                "directions learn nothing at richness 0 and would fade alone; use rate=0"
            )

    def _check_layers(self):
        if isinstance(self.trains, str):
            if self.trains not in ("all", "readout"):
                raise InputError(
                    "trains must be 'all', 'readout', or the hidden layer above which weights "
                    f"train, got {self.trains!r}"
                )
        else:
            require_integers(0, trains=self.trains)
            object.__setattr__(self, "trains", int(self.trains) or "all")
        if self.fresh_above is not None:
            require_integers(0, fresh_above=self.fresh_above)
            object.__setattr__(self, "fresh_above", int(self.fresh_above))
            if self.head == "kept":
                raise InputError(
                    f"fresh_above={self.fresh_above} draws hidden layers below a kept readout, "
                    "which has learned to read others; use head='fresh'"
                )

    def _check_combinations(self):
        if self.loss == "logistic":
            if self.duration is None or math.isinf(self.duration):
                raise InputError(
                    "loss='logistic' does not converge on separable data; give a finite duration"
                )
            for task in self.tasks:
                valid = (-1.0, 1.0) if task.outputs == 1 else (0.0, 1.0)
                if not set(task.y.ravel().tolist()) <= set(valid):
                    raise InputError(f"loss='logistic' needs labels in {valid}; task has others")
        if self.is_lazy and self.weight_decay > 0 and self.duration is None:
            raise InputError(
                "richness=0 with weight_decay > 0 decays to a zero predictor; give a duration"
            )
        if self.duration is not None and math.isinf(self.duration) and not self.is_linear_flow:
            raise InputError(
                "duration=inf is for stages solved in closed form (squared loss, richness 0 or "
                "trains='readout', no lazy weight decay); use None to run until convergence"
            )

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is learned, one task or several."""
        return self.task.parts if isinstance(self.task, Joint) else (self.task,)

    @property
    def loss_weights(self) -> Float[np.ndarray, "samples outputs"] | None:
        """What every sample and output counts in the loss; ``None`` where all count 1."""
        if not isinstance(self.task, Joint):
            return None
        assert self.weights is not None
        return self.task.weights(self.weights)

    @property
    def objective(self) -> Objective:
        """What it descends, as a function of predictions on the samples of ``task``."""
        return Objective(losses.get(self.loss), tuple(self.task.heads.values()), self.loss_weights)

    @property
    def low_rank(self) -> LowRank | None:
        """``rank`` as :class:`LowRank`."""
        assert self.rank is None or isinstance(self.rank, LowRank)  # __post_init__ has seen to it
        return self.rank

    @property
    def reached(self) -> Float[np.ndarray, "P D"] | None:
        """Directions in which samples move first-layer weights, where they are not the samples.

        Where those of a low rank start, and without a bias of the hidden layer.
        """
        return None if self.low_rank is None else self.low_rank.reached(self.task.X)

    @property
    def is_lazy(self) -> bool:
        """Whether hidden weights move with a frozen kernel (gamma = 0)."""
        return self.richness == 0 and self.trains != "readout"

    @property
    def has_fixed_kernel(self) -> bool:
        """Whether the predictor moves with a kernel that stays as it was at the stage's start."""
        return self.trains == "readout" or (self.is_lazy and self.weight_decay == 0)

    @property
    def fade_rate(self) -> float:
        """Rate at which the predictor decays where the kernel is fixed: the readout's decay."""
        return self.head_rate * self.weight_decay

    @property
    def is_linear_flow(self) -> bool:
        """Whether the stage has a closed form: fixed kernel and squared loss."""
        return self.has_fixed_kernel and self.loss == "squared"

    def frozen_layers(self, depth: int) -> int:
        """How many of ``depth`` hidden layers stay as they were at the stage's start.

        Raises
        ------
        InputError
            If ``trains`` or ``fresh_above`` name a layer that does not exist.
        """
        for name in ("trains", "fresh_above"):
            layer = getattr(self, name)
            if isinstance(layer, int) and layer > depth:
                raise InputError(
                    f"{name}={layer} is no hidden layer: give one between 0 and the depth {depth}"
                )
        if isinstance(self.trains, int):
            return self.trains
        return depth if self.trains == "readout" else 0

    @property
    def unit(self) -> float:
        """Root of the mean square of the labels, summed over outputs: in it the stage is solved.

        In a joint stage tasks count with their weights.

        Tolerances and errors of predictors count in it; 1 for the logistic loss, whose labels are
        codes.

        Examples
        --------
        >>> Stage(Task([[1.0], [2.0]], [-3e-9, 3e-9]), richness=1.0).unit
        3e-09
        """
        if self.loss != "squared":
            return 1.0
        largest = float(np.abs(self.task.y).max())
        if largest == 0:  # of one standardised sample
            return 1.0
        squares = np.square(self.task.y / largest)
        weights = self.loss_weights
        if weights is not None:
            squares = weights * squares
        return largest * float(np.sqrt(np.mean(np.sum(squares, axis=1)))) or 1.0

    @property
    def ends_at_rest(self) -> bool:
        """Whether the stage ends where weight decay brings the flow to rest."""
        own = self.duration is None and self.loss_tol is None and self.rate_tol is None
        return own and self.weight_decay > 0

    @property
    def tolerances(self) -> tuple[float, float]:
        """``(loss_tol, rate_tol)`` with defaults filled in, relative to the labels."""
        loss_tol = math.inf if self.weight_decay > 0 else LOSS_TOL
        return self.loss_tol or loss_tol, self.rate_tol or RATE_TOL


TARGET_MODES = ("scratch", "readout", "lazy", "rich")


def target_stage(
    task: Task, mode: str, richness: float = 0.0, head: Literal["fresh", "kept"] = "fresh"
) -> Stage:
    """The target stage that a mode names.

    Parameters
    ----------
    mode
        ``"scratch"`` (no source: the head is fresh), ``"readout"`` (frozen features), ``"lazy"``
        (all weights, richness 0) or ``"rich"``.
    richness
        gamma_2; counts for ``"scratch"`` and ``"rich"``.

    Raises
    ------
    InputError
        For an unknown mode, or as :class:`Stage` does.

    Examples
    --------
    >>> from adaptik.tasks import linear_pair
    >>> _, target = linear_pair(0.5, n_source=4, n_target=4, dimension=3)
    >>> target_stage(target, "readout").trains, target_stage(target, "rich", 2.0).richness
    ('readout', 2.0)
    """
    if mode not in TARGET_MODES:
        raise InputError(f"mode={mode!r} is unknown; use one of {TARGET_MODES}")
    if mode == "readout":
        return Stage(task, 0.0, trains="readout", head=head)
    gamma = 0.0 if mode == "lazy" else richness
    return Stage(task, gamma, head="fresh" if mode == "scratch" else head)
