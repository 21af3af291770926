"""Deep networks at infinite width: the method that suits depth, activation and data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ...mathematics import activations
from ...mathematics.activations import Activation, Elementwise
from ...mathematics.biases import NONE, Bias, deviations
from ...solution import AbstractState, Advance, Request, recorded_tasks
from ...system.errors import InputError, require_integers
from ...system.memory import available_bytes
from ...tasks import Task
from ...tasks.stages import Stage
from ..base import FLOW, LAYERS, AbstractLimit
from ..linear.deep import DeepLinear, DeepLinearState
from ..two_layer.limit import TwoLayer, TwoLayerState
from .ensemble import Ensemble, EnsembleState
from .reveal import Reveal, RevealState

KINKED = "leaky_relu"  # the family of ReLU: gradients have no low rank
EACH = 12  # directions of a hidden matrix that one sample reveals in a stage, smooth activations
MOST = 500  # directions up to which revealing is cheaper at a given error (theory section 5)
PARTICLES = 4096  # of Reveal, where no width is given


DeepState = DeepLinearState | TwoLayerState | RevealState | EnsembleState


@dataclass(frozen=True)
class Deep(AbstractLimit[DeepState]):
    """Any number of hidden layers of any activation, infinitely wide.

    Linear neurons are solved exactly (:class:`adaptik.DeepLinear`), one hidden layer by particles
    (:class:`adaptik.TwoLayer`), rich stages of smooth activations by :class:`adaptik.Reveal` where
    it is predicted to reveal few directions and to fit in memory, and everything else by
    :class:`adaptik.Ensemble`. ``cost.method`` of every stage says what was chosen and why;
    docs/notes/depth.md has the reasons.

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
    bias
        Of hidden layers and readout, as for :class:`adaptik.Ensemble`.

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

    state: ClassVar = DeepState
    computes: ClassVar = FLOW | LAYERS
    samples: ClassVar = "replicates"

    depth: int
    activation: str | Activation | Elementwise = "relu"
    width: int | None = None
    replicates: int = 4
    bias: Bias = NONE

    def __post_init__(self):
        object.__setattr__(self, "bias", deviations(self.bias))
        object.__setattr__(self, "activation", activations.get(self.activation))
        require_integers(1, depth=self.depth, replicates=self.replicates)
        if self.width is not None:
            require_integers(16, width=self.width)

    def choose(self, stages: Sequence[Stage]) -> DeepLinear | TwoLayer | Reveal | Ensemble:
        """The limit that does the work for these stages."""
        if self.phi.name == "linear" and self.bias == NONE:
            return self._linear()
        parted = any(isinstance(s.trains, int) or s.fresh_above is not None for s in stages)
        if self.depth == 1 and not parted:
            return self._two_layer()
        rich = all(not (stage.has_fixed_kernel or stage.is_lazy) for stage in stages)
        if rich and self.phi.family != KINKED:
            reveal = self._reveal()
            # A population needs well more particles than directions, of which a layer sees
            # those of two matrices from both sides.
            few = sum(map(_directions, stages)) <= min(MOST, reveal.particles // 8)
            needed = reveal.predicted_bytes(stages, recorded_tasks(stages, ()))
            if few and needed <= available_bytes():
                return reveal
        return self._ensemble()

    def check_all(self, stages, first, state):
        if state is None:
            return self.choose(stages).check(stages)
        method, _ = self._of(state)
        try:
            method.check(stages, first, state)
        except InputError as refusal:
            raise InputError(
                f"{refusal}; after= was solved by {type(method).__name__}, and all stages in one "
                "call by what suits them all"
            ) from None

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        return self.choose(stages).predicted_bytes(stages, tasks)

    def start(self, stages, tasks, rng) -> DeepState:
        return self.choose(stages).start(stages, tasks, rng)

    def advance(self, state: DeepState, stage: Stage, request: Request) -> Advance[DeepState]:
        limit, reason = self._of(state)
        if isinstance(state, RevealState):
            reason = f"smooth activation, some {_directions(stage)} directions to reveal"
        record, end, snapshots = limit.advance(state, stage, request)
        cost = replace(record.cost, method=f"{record.cost.method} ({reason})")
        return replace(record, cost=cost), end, snapshots

    def _of(self, state: AbstractState) -> tuple[AbstractLimit, str]:
        """The limit that a state belongs to, and why it was chosen."""
        match state:
            case DeepLinearState():
                return self._linear(), "exact"
            case TwoLayerState():
                return self._two_layer(), "independent neurons"
            case RevealState():
                return self._reveal(), "smooth activation"
        return self._ensemble(), "too many directions to reveal, or stages that are not rich"

    def _linear(self) -> DeepLinear:
        return DeepLinear(self.depth)

    def _two_layer(self) -> TwoLayer:
        count, replicates, bias = self.width, self.replicates, self.bias
        return TwoLayer(self.activation, particles=count, replicates=replicates, bias=bias)

    def _reveal(self) -> Reveal:
        count = self.width or PARTICLES
        return Reveal(self.depth, self.activation, count, self.replicates, bias=self.bias)

    def _ensemble(self) -> Ensemble:
        return Ensemble(self.depth, self.activation, self.width, self.replicates, bias=self.bias)


def _directions(stage: Stage) -> int:
    """Predicted number of directions of one hidden matrix that a stage reveals."""
    return EACH * stage.task.n_train * stage.task.outputs
