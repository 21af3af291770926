"""Deep networks at infinite width: the method that suits depth, activation and data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import activations
from ..activations import Activation, Elementwise
from ..errors import require_integers
from ..memory import available_bytes
from ..solution import AbstractState, Solution, recorded_tasks
from ..stages import Stage
from ..tasks import Task
from .base import Advance, Request, growth
from .deep_linear import DeepLinear
from .ensemble import Ensemble, EnsembleState
from .reveal import Reveal, RevealState
from .two_layer import TwoLayer

KINKED = "leaky_relu"  # the family of ReLU: gradients have no low rank
EACH = 12  # directions of a hidden matrix that one sample reveals in a stage, smooth activations
MOST = 500  # directions up to which revealing is the cheaper way to a given error (theory 5)
PARTICLES = 4096  # of Reveal, where no width is given


@dataclass(frozen=True)
class Deep:
    """Any number of hidden layers of any activation, infinitely wide.

    Linear neurons are solved exactly (:class:`adaptik.DeepLinear`), one hidden layer by particles
    (:class:`adaptik.TwoLayer`), rich stages of smooth activations by :class:`adaptik.Reveal` where
    it is predicted to reveal few directions and to fit in memory, and everything else by
    :class:`adaptik.Ensemble`. ``cost.method`` of every stage says what was chosen and why;
    docs/depth.md has the reasons.

    Attributes
    ----------
    depth
        Number of hidden layers L.
    activation
        A name, an :class:`adaptik.activations.Activation`, or an elementwise JAX function.
    width
        Neurons per layer and replicate of the ensemble, or particles of the other methods; ``None``
        takes their own defaults.
    replicates
        Independent replicates; their spread is the standard error (0 for linear neurons).

    Raises
    ------
    InputError
        For values out of range.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.hermite_pair(1, 2, 0.5, n_source=10, n_target=5, dimension=6)
    >>> stages = [ak.Stage(task, richness=1.0)]
    >>> [type(ak.Deep(2, phi).choose(stages)).__name__ for phi in ("linear", "tanh", "relu")]
    ['DeepLinear', 'Reveal', 'Ensemble']
    >>> type(ak.Deep(2, "leaky_relu(0.1)").choose(stages)).__name__
    'Ensemble'
    """

    depth: int
    activation: str | Activation | Elementwise = "relu"
    width: int | None = None
    replicates: int = 4

    def __post_init__(self):
        object.__setattr__(self, "activation", activations.get(self.activation))
        require_integers(1, depth=self.depth, replicates=self.replicates)
        if self.width is not None:
            require_integers(16, width=self.width)

    def choose(self, stages: Sequence[Stage]) -> DeepLinear | TwoLayer | Reveal | Ensemble:
        """The limit that does the work for these stages."""
        phi, width, replicates = self.activation, self.width, self.replicates
        assert isinstance(phi, Activation)
        if phi.name == "linear":
            return DeepLinear(self.depth)
        parted = any(isinstance(s.trains, int) or s.fresh_above is not None for s in stages)
        if self.depth == 1 and not parted:
            return TwoLayer(phi, particles=width, replicates=replicates)
        rich = all(not (stage.has_fixed_kernel or stage.is_lazy) for stage in stages)
        if rich and phi.family != KINKED:
            reveal = Reveal(self.depth, phi, width or PARTICLES, replicates)
            # A population needs well more particles than directions, of which a layer sees
            # those of two matrices from both sides.
            few = sum(map(_directions, stages)) <= min(MOST, reveal.particles // 8)
            needed = reveal.predicted_bytes(stages, recorded_tasks(stages, ()))
            if few and needed <= available_bytes():
                return reveal
        return Ensemble(self.depth, phi, width or 512, replicates)

    def describe(self) -> dict[str, Any]:
        assert isinstance(self.activation, Activation)
        names = ("depth", "width", "replicates")
        fields = {name: getattr(self, name) for name in names}
        return {"limit": "Deep", "activation": self.activation.name, **fields}

    def refined(self, tol: float, tasks: dict[str, Task], found: Solution | None) -> "Deep":
        if found is None:
            return self
        return replace(self, replicates=math.ceil(self.replicates * growth(found, tol)))

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        return self.choose(stages).predicted_bytes(stages, tasks)

    def start(self, stages, tasks, rng) -> AbstractState:
        return self.choose(stages).start(stages, tasks, rng)

    def advance(self, state: Any, stage: Stage, request: Request) -> Advance:
        phi, width, replicates = self.activation, self.width, self.replicates
        limit: Any
        match state:
            case RevealState():
                limit = Reveal(self.depth, phi, width or PARTICLES, replicates)
                reason = f"smooth activation, some {_directions(stage)} directions to reveal"
            case EnsembleState():
                limit = Ensemble(self.depth, phi, width or 512, replicates)
                reason = "too many directions to reveal, or stages that are not rich"
            case _:
                limit, reason = self.choose([stage]), "exact, or independent neurons"
        record, end, snapshots = limit.advance(state, stage, request)
        cost = replace(record.cost, method=f"{record.cost.method} ({reason})")
        return replace(record, cost=cost), end, snapshots


def _directions(stage: Stage) -> int:
    """Predicted number of directions of one hidden matrix that a stage reveals."""
    return EACH * stage.task.n_train * stage.task.outputs
