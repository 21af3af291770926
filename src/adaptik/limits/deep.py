"""Deep networks at infinite width: the method that suits depth, activation and data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import activations
from ..activations import Activation, Elementwise
from ..errors import InputError
from ..solution import AbstractState
from ..stages import Stage
from ..tasks import Task
from .base import Advance, Request
from .deep_linear import DeepLinear
from .ensemble import Ensemble
from .two_layer import TwoLayer


@dataclass(frozen=True)
class Deep:
    """Any number of hidden layers of any activation, infinitely wide.

    Linear neurons are solved exactly (:class:`adaptik.DeepLinear`), one hidden layer by particles
    (:class:`adaptik.TwoLayer`), and everything else by :class:`adaptik.Ensemble`: dense networks
    whose initial fields have the moments of infinite ones. ``describe`` and the provenance of the
    solution say what was chosen and why; docs/depth.md has the reasons.

    Attributes
    ----------
    depth
        Number of hidden layers L.
    activation
        A name, an :class:`adaptik.activations.Activation`, or an elementwise JAX function.
    width
        Neurons per layer and replicate of the ensemble (particles at depth 1).
    replicates
        Independent replicates; their spread is the standard error (0 for linear neurons).

    Raises
    ------
    InputError
        For values out of range.

    Examples
    --------
    >>> import adaptik as ak
    >>> ak.Deep(3, "linear").describe()["limit"], ak.Deep(2, "relu").describe()["limit"]
    ('DeepLinear', 'Ensemble')
    """

    depth: int
    activation: str | Activation | Elementwise = "relu"
    width: int | None = None
    replicates: int = 4

    def __post_init__(self):
        object.__setattr__(self, "activation", activations.get(self.activation))
        if isinstance(self.depth, bool) or not isinstance(self.depth, int) or self.depth < 1:
            raise InputError(f"depth must be an integer >= 1, got {self.depth!r}")
        self.chosen  # noqa: B018 (refuses a bad width or replicates now)

    @property
    def chosen(self) -> DeepLinear | TwoLayer | Ensemble:
        """The limit that does the work."""
        assert isinstance(self.activation, Activation)
        if self.activation.name == "linear":
            return DeepLinear(self.depth)
        if self.depth == 1:
            return TwoLayer(self.activation, particles=self.width, replicates=self.replicates)
        width = 512 if self.width is None else self.width
        return Ensemble(self.depth, self.activation, width, self.replicates)

    @property
    def reason(self) -> str:
        """Why this one."""
        match self.chosen:
            case DeepLinear():
                return "linear neurons: closed equations, nothing is sampled"
            case TwoLayer():
                return "one hidden layer: neurons move independently, as particles"
        return "nonlinear and deep: replicated dense networks with matched initial fields"

    def describe(self) -> dict[str, Any]:
        return {**self.chosen.describe(), "reason": self.reason}

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        return self.chosen.predicted_bytes(stages, tasks)

    def start(self, stages, tasks, rng) -> AbstractState:
        return self.chosen.start(stages, tasks, rng)

    def advance(self, state: Any, stage: Stage, request: Request) -> Advance:
        return self.chosen.advance(state, stage, request)
