"""The readouts of a network as it goes through stages: which there are, which one a task trains."""

from collections.abc import Sequence
from dataclasses import replace

from ...system.errors import InputError
from ..base import Task
from .joint import Joint
from .stage import Stage


def in_heads(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages as the network goes through them.

    After a joint stage a kept head is one of several. The others stay in the network, untrained,
    so that their predictions go on to be known: the stage's task has all of their outputs, of which
    its labels are in some.

    Raises
    ------
    InputError
        Where it is not said which head goes on, or none of that name does.

    Examples
    --------
    >>> a, b = (Task([[1.0], [2.0]], [-1, 1], name=name) for name in "ab")
    >>> kept = Stage(b, 1.0, head="kept")
    >>> in_heads([Stage([a, b], 1.0), kept])[1].task.y.tolist()
    [[0.0, -1.0], [0.0, 1.0]]
    >>> in_heads([Stage(a, 1.0), kept])[1] is kept  # there is only one
    True
    """
    found, heads = [], {}
    for i, stage in enumerate(stages):
        if stage.head == "fresh":
            heads = stage.task.heads
            found.append(stage)
            continue
        names = kept_names(i, stage, heads)
        if len(heads) > 1:
            stage = replace(stage, task=Joint(stage.tasks, heads, names))
        found.append(stage)
    return tuple(found)


def kept_names(i: int, stage: Stage, heads: dict[str, int]) -> tuple[str, ...]:
    """The heads that the tasks of a stage with a kept head go on training."""
    if len(stage.tasks) > 1:
        names = tuple(task.name for task in stage.tasks)
        missing = [name for name in names if name not in heads]
        if missing:
            raise InputError(
                f"stage {i}: head='kept' needs a head for each task, and {missing[0]!r} has none "
                f"among {', '.join(heads)}; use head='fresh'"
            )
    else:
        names = (_kept_name(i, stage, heads),)
    for name, task in zip(names, stage.tasks, strict=True):
        if task.outputs != heads[name]:
            raise InputError(
                f"stage {i}: head='kept' needs the outputs of the stage before ({heads[name]}), "
                f"task {task.name!r} has {task.outputs}"
            )
    return names


def _kept_name(i: int, stage: Stage, heads: dict[str, int]) -> str:
    asked, own = stage.head_of, stage.task.name
    if asked is None and (own in heads or len(heads) == 1):
        return own if own in heads else next(iter(heads))
    if asked not in heads:
        wrong = f"task {own!r}" if asked is None else f"head_of={asked!r}"
        raise InputError(
            f"stage {i}: {wrong} has no head in the stage before, whose heads are "
            f"{', '.join(heads)}; say which goes on, as head_of={next(iter(heads))!r}"
        )
    return asked


def head_of(task: Task, of: Task) -> str | None:
    """The head that predicts a task in a stage that learns ``of``; ``None`` where none is its own.

    Examples
    --------
    >>> a, b, c = (Task([[1.0], [2.0]], [-1, 1], name=name) for name in "abc")
    >>> head_of(a, Joint((a, b))), head_of(c, Joint((a, b))), head_of(c, a)
    ('a', None, 'a')
    """
    if isinstance(of, Joint):
        names = [p.name for p in of.parts]
        name = of.trained[names.index(task.name)] if task.name in names else task.name
    else:
        name = of.name
    return name if of.heads.get(name) == task.outputs else None
