"""Which stages, and which sequences of them, have a meaning."""

from collections.abc import Sequence

from ...system.errors import InputError
from ..base import Task
from .heads import in_heads
from .stage import Stage


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


def check_sequence(stages: Sequence[Stage]) -> None:
    """Refuse sequences of stages that have no meaning, with the reason.

    Raises
    ------
    InputError
        For no stages, differing dimensions, names of columns or outputs, tasks that share a name
        but not their data, a kept head or kept layers with nothing to keep, a kept head of which
        it is not clear whose it is, or weight decay on a kept head whose richness changed.
    """
    if not stages:
        raise InputError("stages is empty; give at least one Stage")
    for stage in stages:
        if not isinstance(stage, Stage):
            raise InputError(f"stages must hold adaptik.Stages, got {type(stage).__name__}")
    named: dict[str, Task] = {}
    for i, stage in enumerate(stages):
        for task in stage.tasks:
            _check_inputs(i, task, stages[0].task)
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
    in_heads(stages)


def _check_inputs(i: int, task: Task, first: Task) -> None:
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
        ("head_scale", stage.head_scale, 1, "the posterior starts from the prior"),
        ("rank", stage.rank, None, "the posterior samples all weights"),
        ("weights", stage.weights, None, "the posterior is that of one task a stage"),
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
    if stage.weight_decay == 0:
        return
    since_fresh = i - next(k for k, s in enumerate(reversed(stages[:i]), 1) if s.head == "fresh")
    segment = stages[since_fresh : i + 1]
    if any(s.richness != stage.richness for s in segment) or stage.richness == 0:
        raise InputError(
            f"stage {i}: weight_decay > 0 with a kept head needs one richness > 0 since the head "
            "was fresh; otherwise the decay of <z phi(h)>/gamma has no limit. Use head='fresh'"
        )
