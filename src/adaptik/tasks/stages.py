"""Stage: one period of training, and which sequences of stages have a meaning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np
from jaxtyping import Float

from ..mathematics import losses
from ..system.errors import InputError, require_at_least_zero, require_integers
from . import Task
from .low_rank import LowRank

LOSS_TOL = 1e-4
RATE_TOL = 1e-6


@dataclass(frozen=True, eq=False)
class Stage:
    """One period of gradient flow on one task.

    Attributes
    ----------
    task
        What is learned.
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
        rest.
    head
        ``"fresh"`` starts from a new random readout and a zero predictor; ``"kept"``
        continues with the readout and the predictor of the stage before.
    trains
        ``"all"`` weights, the ``"readout"`` only, on frozen features, or an integer k: only what
        is above hidden layer k, whose features stay frozen (0 is all weights, the depth is the
        readout).
    weight_decay
        Rate lambda >= 0 at which all trained weights decay.
    elastic
        Elastic coupling delta >= 0 of the first-layer weights to their values at the end of the
        stage before; networks with one hidden layer only.
    loss
        ``"squared"``, or ``"logistic"`` (labels -1/+1, or one-hot), which needs a duration.
    head_rate
        Rate eta > 0 of the readout over that of the other weights: dz/dt, decay included, is
        multiplied by it. 1 is the flow of all weights together.
    rank
        Low-rank stage: first-layer weights move along ``rank`` fixed directions alone, an integer
        or a :class:`LowRank`; ``None`` moves them freely. Networks with one hidden layer only.
    fresh_above
        Hidden layers above this one are drawn anew at the stage's start, as the readout is, and
        those up to it keep their weights; 0 draws a new network, ``None`` only what ``head`` says.

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
    (LowRank(rank=1, draw='orthogonal', seed=0), (2, 2))
    >>> Stage(task, richness=2.0, trains="readout").frozen_layers(depth=3)
    3
    >>> Stage(task, 0.0, trains="readout", weight_decay=0.1, head_rate=4).fade_rate
    0.4
    """

    task: Task
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

    def __post_init__(self):
        if not isinstance(self.task, Task):
            raise InputError(f"task must be an adaptik.Task, got {type(self.task).__name__}")
        for name in ("richness", "weight_decay", "elastic"):
            require_at_least_zero(**{name: getattr(self, name)})
            object.__setattr__(self, name, float(getattr(self, name)))
        self._check_head_rate()
        for name in ("duration", "loss_tol", "rate_tol"):
            value = getattr(self, name)
            if value is None:
                continue
            if not (isinstance(value, Real) and float(value) > 0):
                raise InputError(f"{name} must be a number > 0 or None, got {value!r}")
            object.__setattr__(self, name, float(value))
        if self.head not in ("fresh", "kept"):
            raise InputError(f"head must be one of ('fresh', 'kept'), got {self.head!r}")
        self._check_layers()
        losses.get(self.loss)
        self._check_rank()
        self._check_combinations()

    def _check_head_rate(self):
        rate = self.head_rate
        if isinstance(rate, bool) or not (isinstance(rate, Real) and float(rate) > 0):
            raise InputError(f"head_rate must be a finite number > 0, got {rate!r}")
        if float(rate) == math.inf:
            raise InputError(
                "head_rate=inf moves the readout alone; use trains='readout', which runs it to the "
                "end, or a finite rate"
            )
        object.__setattr__(self, "head_rate", float(rate))

    def _check_rank(self):
        if self.rank is None:
            return
        if not isinstance(self.rank, LowRank):
            object.__setattr__(self, "rank", LowRank(self.rank))
        assert isinstance(self.rank, LowRank)
        self.rank.check(self.task.dimension)
        for name, neutral, why in (
            ("trains", "all", "acts on first-layer weights, which have to train"),
            ("fresh_above", None, "keeps the first layer and adds to it"),
            ("elastic", 0, "keeps weights near where they were by itself"),
            ("weight_decay", 0, "leaves most of the first layer where it is, decay moves all"),
        ):
            if getattr(self, name) != neutral:
                raise InputError(
                    f"{name}={getattr(self, name)!r} with rank={self.rank.rank}: a low rank {why}; "
                    f"use {name}={neutral!r} or rank=None"
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
            valid = (-1.0, 1.0) if self.task.outputs == 1 else (0.0, 1.0)
            if not set(self.task.y.ravel().tolist()) <= set(valid):
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
    def low_rank(self) -> LowRank | None:
        """``rank`` as :class:`LowRank`."""
        assert self.rank is None or isinstance(self.rank, LowRank)  # __post_init__ has seen to it
        return self.rank

    @property
    def reached(self) -> Float[np.ndarray, "P D"] | None:
        """Directions in which samples move first-layer weights, where they are not the samples."""
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
        squares = np.sum(np.square(self.task.y / largest), axis=1)
        return largest * float(np.sqrt(np.mean(squares)))

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


def check_elastic_flow(i: int, stage: Stage) -> None:
    """Refuse an elastic coupling of features that do not move.

    Raises
    ------
    InputError
        For ``elastic > 0`` with richness 0 or with the readout alone training.

    Examples
    --------
    >>> check_elastic_flow(1, Stage(Task([[1.0], [2.0]], [-1, 1]), richness=1.0, elastic=2.0))
    """
    if stage.elastic > 0 and (stage.richness == 0 or stage.trains == "readout"):
        raise InputError(
            f"stage {i}: elastic={stage.elastic:g} pulls features back, which stay where they are "
            "at richness 0 and with trains='readout'; use 0"
        )


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


def check_sequence(stages: Sequence[Stage]) -> None:
    """Refuse sequences of stages that have no meaning, with the reason.

    Raises
    ------
    InputError
        For no stages, differing dimensions, names of columns or outputs, tasks that share a name
        but not their data, a kept head or kept layers with nothing to keep, or weight decay on a
        kept head whose richness changed.
    """
    if not stages:
        raise InputError("stages is empty; give at least one Stage")
    for stage in stages:
        if not isinstance(stage, Stage):
            raise InputError(f"stages must hold adaptik.Stages, got {type(stage).__name__}")
    first = stages[0].task
    named: dict[str, Task] = {}
    for i, stage in enumerate(stages):
        task = stage.task
        if task.dimension != first.dimension:
            raise InputError(
                f"stage {i}: task {task.name!r} has {task.dimension} features, task "
                f"{first.name!r} has {first.dimension}; all stages share one input space"
            )
        if task.features and first.features and task.features != first.features:
            raise InputError(
                f"stage {i}: columns of task {task.name!r} are {', '.join(task.features):.200}, of "
                f"task {first.name!r} {', '.join(first.features):.200}; give the same in one order"
            )
        if not named.setdefault(task.name, task).same_as(task):
            raise InputError(f"two different tasks are called {task.name!r}; rename one")
        if i == 0 and stage.fresh_above is not None:
            raise InputError("stage 0: fresh_above has no earlier layers to keep; leave it out")
        if i == 0 and stage.elastic > 0:
            raise InputError(
                f"stage 0: elastic={stage.elastic:g} has no earlier stage to pull towards; use 0"
            )
        if stage.head == "kept":
            _check_kept(i, stages)


def check_posterior(i: int, stage: Stage, depth: int = 1) -> None:
    """Refuse a stage that has no meaning for a posterior, in which there is no time.

    Raises
    ------
    InputError
        For a duration or tolerances, weight decay, a kept head, kept or frozen lower layers,
        another loss than squared, or an elastic coupling of more than one hidden layer.

    Examples
    --------
    >>> check_posterior(0, Stage(Task([[1.0], [2.0]], [-1, 1]), richness=1.0))
    """
    for name, value, allowed, why in (
        ("duration", stage.duration, None, "a posterior has no time"),
        ("loss_tol", stage.loss_tol, None, "a posterior has no time"),
        ("rate_tol", stage.rate_tol, None, "a posterior has no time"),
        ("weight_decay", stage.weight_decay, 0, "the prior decays weights; set the temperature"),
        ("head", stage.head, "fresh", "a posterior has no earlier head to continue from"),
        ("head_rate", stage.head_rate, 1, "a posterior has no time"),
        ("rank", stage.rank, None, "the posterior samples all weights"),
        ("loss", stage.loss, "squared", "the posterior is that of the squared loss"),
        ("fresh_above", stage.fresh_above, None, "the posterior starts from the prior"),
    ):
        if value != allowed:
            raise InputError(f"stage {i}: {name}={value!r}: {why}; use {allowed!r}")
    if not isinstance(stage.trains, str):
        raise InputError(
            f"stage {i}: trains={stage.trains}: the posterior moves all layers or none; use 'all' "
            "or 'readout'"
        )
    if stage.elastic > 0 and depth > 1:
        raise InputError(
            f"stage {i}: elastic={stage.elastic:g} is for one hidden layer, not {depth}: in deeper "
            "ones the features of source and target overlap, which no theory covers yet; use 0"
        )
    if stage.elastic > 0 and stage.trains == "readout":
        raise InputError(
            f"stage {i}: elastic={stage.elastic:g} acts on the features, which trains='readout' "
            "keeps as they are; use 0"
        )


def _check_kept(i: int, stages: Sequence[Stage]) -> None:
    stage = stages[i]
    if i == 0:
        raise InputError("stage 0: head='kept' has no earlier head to keep; use 'fresh'")
    previous = stages[i - 1]
    if stage.task.outputs != previous.task.outputs:
        raise InputError(
            f"stage {i}: head='kept' needs the outputs of the stage before "
            f"({previous.task.outputs}), task {stage.task.name!r} has {stage.task.outputs}"
        )
    if stage.weight_decay == 0:
        return
    since_fresh = i - next(k for k, s in enumerate(reversed(stages[:i]), 1) if s.head == "fresh")
    segment = stages[since_fresh : i + 1]
    if any(s.richness != stage.richness for s in segment) or stage.richness == 0:
        raise InputError(
            f"stage {i}: weight_decay > 0 with a kept head needs one richness > 0 since the head "
            "was fresh; otherwise the decay of <z phi(h)>/gamma has no limit. Use head='fresh'"
        )
