"""What limits of one hidden layer share: how its neurons, which are samples, go through stages."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ..kernels.particles.flow import AbstractParticleFlow, TangentFlow
from ..kernels.particles.frozen import advance_frozen
from ..kernels.particles.law import Tangent
from ..kernels.particles.state import ParticleState
from ..mathematics.sampling import Sampling
from ..mathematics.stepping import AbstractFlow, Chebyshev, Rest
from ..mathematics.stepping.choice import Chosen
from ..solution import Advance, Outcome, Request, Solution, recorded_inputs
from ..tasks import Task
from ..tasks.stages import Stage, check_elastic_flow
from .base import FLOW, AbstractLimit, growth
from .run import step_through

FEWEST = 256  # particles with which solving for a tolerance begins
VANISHED = 1e-2  # of the mean square of readouts and of labels

S = TypeVar("S", bound=ParticleState)


class Course(NamedTuple, Generic[S]):
    """A stage whose kernel moves, as :func:`step_through` takes it."""

    flow: AbstractFlow
    y0: Any  # a law; weights alone where readouts follow from them; with directions that train
    recorder: Callable[[Any, Any], list]
    state_at: Callable[[float, Any], S]
    chosen: Chosen
    ending: Callable[[Any], Rest] | None = None
    patience: int | None = None


class AbstractOneLayer(AbstractLimit[S]):
    """A limit whose neurons, samples of their law, move each by itself.

    What is left to a limit is where they start, and the flow of a stage whose kernel moves.
    """

    computes: ClassVar = FLOW | {"elastic", "head scale"}
    samples: ClassVar = "particles"

    particles: int | None
    dtype: str
    tol: float
    sampling: Sampling
    max_steps: int

    @abstractmethod
    def course(
        self, state: S, stage: Stage, recorded: dict[tuple[str, str], np.ndarray]
    ) -> Course[S]:
        """The flow of a stage, in a lazy one at richness 1; ``recorded`` are inputs by name."""

    @abstractmethod
    def least(self, tasks: dict[str, Task]) -> int:
        """Particles that hold second moments exactly, whatever the inputs of the tasks are."""

    def check_stage(self, i: int, stage: Stage) -> None:
        check_elastic_flow(i, stage)

    def refined(self, tol: float, tasks: dict[str, Task], found: Solution | None) -> Self:
        if found is not None:
            state = found.states[-1]
            assert isinstance(state, ParticleState)
            count = state.particles.w.shape[1] * growth(found, tol)
            changed: dict[str, Any] = {"particles": math.ceil(count / FEWEST) * FEWEST}
            return type(self)(**self.settings | changed)
        count = self.particles
        if count is None:  # errors tell how many are needed
            count = max(FEWEST, 2 ** math.ceil(math.log2(1.25 * self.least(tasks))))
        # Steps leave about a third of their tolerance at the end (docs/notes/speed.md).
        changed = {"tol": min(self.tol, tol), "particles": count}
        return type(self)(**self.settings | changed)

    def advance(self, state: S, stage: Stage, request: Request) -> Advance[S]:
        if stage.head == "fresh":
            state = self._with_fresh_head(state, stage, request.rng)
        if stage.has_fixed_kernel:
            return advance_frozen(state, stage, request)
        return self.moving(state, stage, request)

    def _with_fresh_head(self, state: S, stage: Stage, rng: np.random.Generator) -> S:
        untouched = not state.terms and state.particles.initial_head
        particles, outputs = state.particles, stage.task.outputs
        if not untouched or state.outputs != outputs:
            particles = particles.with_fresh_head(rng, outputs * state.heads, self.sampling)
        particles = particles.with_head_of(stage.head_scale)
        particles = particles.in_pairs() if is_paired(stage) else particles
        return state.altered(particles=particles, terms=())

    def moving(self, state: S, stage: Stage, request: Request) -> Advance[S]:
        """Run a stage whose kernel moves."""
        task = stage.task
        # In an order of their own: programs do not depend on which task was named first.
        recorded = dict(sorted(recorded_inputs(request.tasks, task), key=itemgetter(0)))
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            course = self.course(state, stage, recorded)._asdict()
            if stage.is_lazy:
                nothing = jax.tree.map(jnp.zeros_like, course["y0"])
                course["y0"] = Tangent(course["y0"], nothing)
                assert isinstance(course["flow"], AbstractParticleFlow)
                course["flow"] = TangentFlow(course["flow"])
                course["chosen"] = Chosen(Chebyshev(), "linearised flow")
            record, after, snapshots = step_through(
                stage,
                request,
                keys=list(recorded),
                tol=self.tol,
                max_steps=self.max_steps,
                **course,
            )
        f = record.predictions[task.name, "train"][-1]
        ended = judged(record.outcome, stage, after.particles.z, f)
        return replace(record, outcome=ended), after, snapshots


def is_paired(stage: Stage) -> bool:
    """Whether a stage starts with every neuron twice, so that f stays 0 under decay alone."""
    fades = stage.weight_decay > 0 and not stage.has_fixed_kernel
    return stage.head == "fresh" and fades and math.isfinite(stage.head_rate)


def judged(outcome: Outcome, stage: Stage, z: np.ndarray, f: np.ndarray) -> Outcome:
    """The outcome of a stage, or that weight decay has taken the network to the origin."""
    ended = outcome in (Outcome.CONVERGED, Outcome.STALLED)
    if not ended or stage.weight_decay == 0 or stage.richness == 0:
        return outcome
    gone = np.mean(z**2) < VANISHED and np.mean(f**2) < VANISHED * np.mean(stage.task.y**2)
    return Outcome.COLLAPSED if gone else outcome
