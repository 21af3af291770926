"""What a limit must do for :func:`adaptik.solve`; every default of limits stands here."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields
from types import UnionType
from typing import Any, ClassVar, Generic, NamedTuple, Self

import numpy as np

from ..mathematics import activations
from ..mathematics.activations import Activation, check_finite
from ..solution import AbstractState, Advance, Request, Solution, State
from ..system.errors import InputError
from ..tasks import Task, preactivation_scale
from ..tasks.stages import Stage

GRAMS = 6  # kernels on the samples of a stage that are taken to be held at once


class Option(NamedTuple):
    """Something that a stage may ask for and not every limit computes."""

    names: tuple[str, ...]  # of the stage's fields that ask for it
    asked: Callable[[Stage], bool]
    instead: str


OPTIONS = {
    "duration": Option(("duration",), lambda s: s.duration is not None, "duration=None"),
    "tolerances": Option(
        ("loss_tol", "rate_tol"),
        lambda s: s.loss_tol is not None or s.rate_tol is not None,
        "loss_tol=None and rate_tol=None",
    ),
    "kept": Option(("head",), lambda s: s.head == "kept", "head='fresh'"),
    "readout": Option(("trains",), lambda s: s.trains == "readout", "trains='all'"),
    "above a layer": Option(
        ("trains",),
        lambda s: isinstance(s.trains, int),
        "trains='all' or 'readout' (the same as 1 where there is one hidden layer)",
    ),
    "layers anew": Option(
        ("fresh_above",), lambda s: s.fresh_above is not None, "fresh_above=None"
    ),
    "lazy decay": Option(
        ("richness", "weight_decay"),
        lambda s: s.is_lazy and s.weight_decay > 0,
        "weight_decay=0 or a small richness",
    ),
    "lazy": Option(("richness",), lambda s: s.is_lazy, "a richness > 0"),
    "decay": Option(("weight_decay",), lambda s: s.weight_decay > 0, "weight_decay=0"),
    "elastic": Option(("elastic",), lambda s: s.elastic > 0, "elastic=0"),
    "head rate": Option(("head_rate",), lambda s: s.head_rate not in (1, math.inf), "head_rate=1"),
    "optimal head": Option(
        ("head_rate", "weight_decay"),
        lambda s: s.head_rate == math.inf,
        "a finite rate or weight_decay=0",
    ),
    "head scale": Option(("head_scale",), lambda s: s.head_scale != 1, "head_scale=1"),
    "low rank": Option(("rank",), lambda s: s.rank is not None, "rank=None"),
    "joint": Option(("weights",), lambda s: s.weights is not None, "one task a stage"),
    "logistic": Option(("loss",), lambda s: s.loss == "logistic", "loss='squared'"),
}
LAYERS = frozenset({"above a layer", "layers anew"})  # what parts hidden layers
FLOW = (
    frozenset(OPTIONS) - LAYERS - {"elastic", "head rate", "optimal head", "head scale", "low rank"}
)  # what gradient flow of one hidden layer knows


class AbstractLimit(ABC, Generic[State]):
    """An infinite-width limit: a frozen dataclass of its settings.

    A limit says which states it has, how they start and how one stage changes them; everything
    else has a default. Classes that derive from it are final.

    Attributes
    ----------
    state
        The class of its states, or several as a union; the only ones it goes on from.
    computes
        Which of :data:`OPTIONS` it computes: stages that ask for others are refused.
    samples
        The setting whose value is a number of independent samples, so that squared standard errors
        fall as its inverse; empty where nothing is sampled.
    free
        Settings, beside those of accuracy, in which a limit that goes on from a solution may
        differ from the one that made it.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.linear_pair(0.5, n_source=4, n_target=4, dimension=5)
    >>> limit, stages, tasks = ak.TwoLayer("relu", particles=64), [ak.Stage(task, 0.0)], {"t": task}
    >>> limit.phi.name, limit.settings["particles"], limit.describe()["limit"]
    ('relu', 64, 'TwoLayer')
    >>> limit.check(stages)  # calls check_stage and check_all
    >>> limit.check_values(tasks)
    >>> limit.predicted_bytes(stages, tasks) > 0, limit.refined(0.01, tasks, None).tol <= limit.tol
    (True, True)

    What :func:`adaptik.solve` does, with one stage:

    >>> from adaptik.solution import Request, record_grid
    >>> rng = np.random.default_rng(0)
    >>> state = limit.start(stages, tasks, rng)
    >>> request = Request({task.name: task}, record_grid(None, 4), (), rng)
    >>> record, end, snapshots = limit.advance(state, stages[0], request)
    >>> record.outcome.value, end.predict(task.X).shape
    ('converged', (4, 4, 1))
    >>> limit.check_stage(0, stages[0])
    >>> limit.check_all(stages, 0, None)
    """

    state: ClassVar[type[AbstractState] | UnionType]
    computes: ClassVar[frozenset[str]] = frozenset()
    samples: ClassVar[str] = ""
    free: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def start(
        self, stages: Sequence[Stage], tasks: dict[str, Task], rng: np.random.Generator
    ) -> State:
        """The law at initialisation, with room for ``tasks``, which are all that are recorded."""

    @abstractmethod
    def advance(self, state: State, stage: Stage, request: Request) -> Advance[State]:
        """Run one stage from ``state``: what happened, the state at its end, the snapshots."""

    def check_stage(self, i: int, stage: Stage) -> None:
        """Refuse what is wrong with stage ``i`` beside options that are not in ``computes``."""

    def check_all(self, stages: Sequence[Stage], first: int, state: AbstractState | None) -> None:
        """Refuse what is wrong with stages together; parameters as in :meth:`check`."""

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        """Peak memory of a solve, which is refused beyond what the machine has.

        By default :data:`GRAMS` kernels on samples x outputs of the largest stage.
        """
        return 8 * GRAMS * max(stage.task.n_train * stage.task.outputs for stage in stages) ** 2

    def refined(self, tol: float, tasks: dict[str, Task], found: Solution | None) -> Self:
        """The limit set for predictions with standard errors of ``tol``.

        By default a tenth of it is left to the setting ``tol``, where there is one, and as many
        ``samples`` are taken as the errors found ask for.

        Parameters
        ----------
        tasks
            Those recorded, as in :meth:`predicted_bytes`.
        found
            A solution by the limit as it is, whose errors are too large; ``None`` before there
            is one.
        """
        settings = self.settings
        if found is not None and self.samples:
            settings[self.samples] = math.ceil(settings[self.samples] * growth(found, tol))
        elif found is None and "tol" in settings:
            settings["tol"] = min(settings["tol"], tol / 10)
        return type(self)(**settings)

    @property
    def phi(self) -> Activation:
        """The setting ``activation`` of limits that have it, resolved."""
        return activations.get(self.settings["activation"])

    @property
    def settings(self) -> dict[str, Any]:
        """Its fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # pyright: ignore[reportArgumentType]

    def describe(self) -> dict[str, Any]:
        """Its settings, as stored with results; they decide what can go on from a solution."""
        found: dict[str, Any] = {"limit": type(self).__name__}
        for name, value in self.settings.items():
            if isinstance(value, Activation):
                value = value.name
            found[name] = value.item() if isinstance(value, np.generic) else value
        return found

    def check(
        self, stages: Sequence[Stage], first: int = 0, state: AbstractState | None = None
    ) -> None:
        """Refuse stages from ``first`` on that cannot be computed, before anything is.

        Parameters
        ----------
        stages
            All stages, those before ``first`` having been solved by an equal limit.
        state
            Their end, ``None`` at the start.

        Raises
        ------
        InputError
            For an option of a stage that is not in ``computes``, a hidden layer that does not
            exist, tasks that ``state`` has no coordinates for, and as :meth:`check_stage` and
            :meth:`check_all` do.
        """
        for i, stage in enumerate(stages[first:], first):
            self._check_options(i, stage)
            self.check_stage(i, stage)
            if state is not None:
                state.check_task(i, stage.task)
        self.check_all(stages, first, state)

    def check_values(self, tasks: dict[str, Task]) -> None:
        """Refuse an activation, if it has one, that is not finite where networks start.

        Raises
        ------
        InputError
            As :func:`adaptik.activations.check_finite` does.
        """
        settings = self.settings
        activation = settings.get("activation")
        if isinstance(activation, Activation):
            depth, dtype = settings.get("depth", 1), settings.get("dtype", "float32")
            scale = settings.get("scale", 1.0) * preactivation_scale(tasks.values())
            check_finite(activation, scale, depth, dtype)

    def _check_options(self, i: int, stage: Stage) -> None:
        for option, (names, asked, instead) in OPTIONS.items():
            if option not in self.computes and asked(stage):
                given = ", ".join(f"{name}={getattr(stage, name)!r}" for name in names)
                others = [c.__name__ for c in every_limit() if option in c.computes]
                raise InputError(
                    f"stage {i}: {given} is not computed by {type(self).__name__}; use {instead}, "
                    f"or a limit that computes it: {', '.join(sorted(others))}"
                )
        stage.frozen_layers(self.settings.get("depth", 1))


def every_limit(kind: type[AbstractLimit] = AbstractLimit) -> list[type[AbstractLimit]]:
    """The final classes that derive from one kind of limits."""
    below = kind.__subclasses__()
    return [limit for each in below for limit in every_limit(each)] if below else [kind]


def growth(found: Solution, tol: float) -> float:
    """By how much to enlarge a sample so that its standard errors become ``tol``."""
    return 1.1 * (found.sampling_error / tol) ** 2
