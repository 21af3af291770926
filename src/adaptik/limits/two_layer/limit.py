"""The two-layer infinite-width limit: a Markovian process of single neurons (theory section 2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from ...kernels.particles.blocks import held_at_once
from ...kernels.particles.flow import rates
from ...kernels.particles.frozen import LazyControl
from ...kernels.particles.law import Law, Particles, Tangent, row_blocks
from ...kernels.particles.state import ReadoutTerm, TangentTerm
from ...mathematics import activations
from ...mathematics.activations import Activation, Elementwise
from ...mathematics.bases import axes_of
from ...mathematics.biases import NONE, Bias, deviations
from ...mathematics.deflation import COORDINATES
from ...mathematics.sampling import Sampling, neurons
from ...mathematics.stepping import Chebyshev
from ...mathematics.stepping.choice import Chosen, stepper_for
from ...solution import Advance, Request
from ...system.devices import gathered, on_device, spread
from ...system.errors import (
    InputError,
    require_above_zero,
    require_between,
    require_integers,
    require_one_of,
)
from ...tasks import Task
from ...tasks.span import Span, largest_rank
from ...tasks.stages import Stage
from ..one_layer import AbstractOneLayer, Course, is_paired
from .directions import Adapted, DirectionFlow, DirectionRecorder, along
from .flow import Anchors, Coordinates, ParticleFlow, Recorder, Targets
from .memory import Size, dual_pays, needs_blocks, stage_bytes
from .optimal_head import OptimalHead, OptimalRecorder, law_of
from .rest import at_rest
from .state import TwoLayerState

PATIENCE = 512  # steps after which flows that may move to and fro across kinks are brought to rest


@dataclass(frozen=True)
class TwoLayer(AbstractOneLayer[TwoLayerState]):
    """One hidden layer of infinite width.

    Attributes
    ----------
    activation
        A name, an :class:`adaptik.activations.Activation`, or an elementwise JAX function.
    particles
        Samples of the single-neuron process per replicate; ``None`` takes 1024, or more where
        the rank of the data needs it. At least ``rank + outputs``, so that second moments can be
        exact. Doubled at a fresh head with weight decay.
    replicates
        Independent particle systems; their spread is the standard error. Few particles also
        bias every replicate alike, by order 1/particles, which the spread does not show.
    dtype
        Of particle arrays, ``"float32"`` or ``"float64"``; kernels and errors are float64.
    tol
        Error allowed in one step, in units of the labels (:attr:`adaptik.Stage.unit`).
    sampling
        ``"quasi"`` (Sobol points, exact moments) or ``"iid"``.
    max_steps
        Steps after which a stage gives up.
    bias
        Standard deviation b of the hidden layer's biases at the start, or a pair (b, b_r); one
        number is both. The readout's bias is 0 under a fresh head and learns by the kernel b_r^2
        (theory section 1).
    scale
        Standard deviation of hidden weights at the start, those of their biases in units of b;
        1 is that of all other weights. Readouts have :attr:`adaptik.Stage.head_scale`.

    Examples
    --------
    >>> import adaptik as ak
    >>> task = ak.tasks.load("digits", classes=(3, 5), n_train=20, n_test=20)
    >>> limit = ak.TwoLayer("relu", particles=128, replicates=2)
    >>> solution = ak.solve([ak.Stage(task, richness=1.0, duration=5.0)], limit)
    >>> solution.outcome.value
    'reached its duration'
    """

    state: ClassVar = TwoLayerState
    computes: ClassVar = AbstractOneLayer.computes | {"head rate", "optimal head", "low rank"}

    activation: str | Activation | Elementwise = "relu"
    particles: int | None = None
    replicates: int = 4
    dtype: str = "float32"
    tol: float = 3e-3
    sampling: Sampling = "quasi"
    max_steps: int = 4096
    bias: Bias = NONE
    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "activation", activations.get(self.activation))
        object.__setattr__(self, "bias", deviations(self.bias))
        require_integers(1, replicates=self.replicates, max_steps=self.max_steps)
        if self.particles is not None:
            require_integers(2, particles=self.particles)
        require_one_of(("float32", "float64"), dtype=self.dtype)
        require_one_of(("quasi", "iid"), sampling=self.sampling)
        require_between(0, 1, tol=self.tol)
        require_above_zero(scale=self.scale)
        object.__setattr__(self, "scale", float(self.scale))

    def _count(self, rank: int, outputs: int) -> int:
        least = rank + outputs
        if self.particles is None:
            return max(1024, 2 ** math.ceil(math.log2(4 * least)))
        if self.particles < least and self.sampling == "quasi":
            raise InputError(
                f"particles={self.particles} cannot hold the second moments of {rank} span "
                f"coordinates; give at least rank + outputs = {least}"
            )
        return self.particles

    @property
    def _biases(self) -> tuple[float, float]:
        return deviations(self.bias)

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        bias = self._biases[0]
        rank = largest_rank(tasks.values(), bias)
        few = sum(min(s.low_rank.rank, s.task.n_train) for s in stages if s.low_rank)
        rank = min(rank + few, stages[0].task.dimension + (bias > 0))
        outputs = max(s.task.outputs for s in stages)
        count = self._count(rank, outputs) * 2 ** sum(is_paired(s) for s in stages)
        size = self._size(count, rank)
        recorded = 24 * sum(
            t.n_train + (0 if t.X_test is None else len(t.X_test)) for t in tasks.values()
        )
        moving = max(stage_bytes(stage, size) for stage in stages)
        return int(moving + 8 * recorded * self.replicates * outputs)

    def _size(self, particles: int, rank: int) -> Size:
        width = np.dtype(self.dtype).itemsize
        return Size(self.replicates, particles, rank, width, self.phi.has_kink)

    def check_all(self, stages, first, state) -> None:
        for i, stage in enumerate(stages[first:], first):
            if stage.low_rank is None:
                continue
            stage.low_rank.check(stage.task.dimension, self._biases[0])
            if not isinstance(state, TwoLayerState):
                continue
            if state.span.points(self._reached(stage)).rho.any():
                raise InputError(
                    f"stage {i}: rank={stage.low_rank.rank} moves weights along directions for "
                    "which the earlier solve has no coordinates; solve all stages in one call, or "
                    "(without a bias of the hidden layer) name a task in its observe= whose inputs "
                    "are Stage.reached of this one"
                )

    def _reached(self, stage: Stage) -> np.ndarray:
        assert stage.low_rank is not None
        return stage.low_rank.reached(stage.task.X, self._biases[0])

    def least(self, tasks: dict[str, Task]) -> int:
        return largest_rank(tasks.values(), self._biases[0]) + max(
            task.outputs for task in tasks.values()
        )

    def start(self, stages, tasks, rng) -> TwoLayerState:
        first, readout = self._biases
        also = [self._reached(s) for s in stages if s.low_rank is not None]
        span = Span.of(tasks.values(), first, also)
        outputs = stages[0].task.outputs
        count = self._count(span.rank, max(s.task.outputs for s in stages))
        w, z = neurons(rng, self.replicates, count, span.rank, outputs, self.sampling, self.dtype)
        c = np.zeros_like(z) if readout else None
        particles = Particles.drawn(w, z, self.scale, c)
        return TwoLayerState(self.phi, span, particles, bias=readout)

    def moving(
        self, state: TwoLayerState, stage: Stage, request: Request
    ) -> Advance[TwoLayerState]:
        advance = super().moving(state, stage, request)
        if self.sampling == "quasi" and LazyControl.applies(state, stage):
            return LazyControl.of(state, stage).correct(advance, request)
        return advance

    def course(
        self,
        state: TwoLayerState,
        stage: Stage,
        recorded: dict[tuple[str, str], np.ndarray],
    ) -> Course[TwoLayerState]:
        task, few, span = stage.task, stage.low_rank, state.span
        rate = 0.0 if few is None else few.rate
        still = stage.weight_decay == 0 and rate == 0
        short = needs_blocks(stage, self._size(*state.particles.w.shape[1:]))
        optimal = math.isinf(stage.head_rate)
        if optimal and stage.head == "fresh":  # where it starts is forgotten at once
            particles = state.particles
            state = replace(state, particles=replace(particles, z=np.zeros_like(particles.z)))
        directions = None if few is None else span.basis.T @ few.directions(len(span.basis))
        anchor = span.training_points(task.X)
        motion = _coordinates(anchor, state.particles.w, still and not short, directions)
        modes, (_, count, coordinates) = task.n_train * task.outputs, motion.law.shape
        chosen = stepper_for(modes, coordinates, count, self.tol, motion.leading)
        if rate > 0:
            chosen = Chosen(Chebyshev(), "directions train")
        if chosen.deflated and stage.loss_weights is not None:
            # Leading directions are those of samples, whose outputs have to count alike.
            chosen = Chosen(Chebyshev(), "several tasks")
        if optimal:
            chosen = Chosen(Chebyshev(), "readouts are at their optimum")
        if short:
            chosen = Chosen(Chebyshev(), "samples in blocks, for the memory there is")
        flow, recorder, y0 = self._started(state, stage, motion, recorded, chosen)
        state_at = partial(self._state_at, state, recorder, stage)
        if rate > 0:
            own = np.broadcast_to(motion.basis, (len(motion.law), *motion.basis.shape))
            inputs, a = (on_device(part, self.dtype) for part in (anchor, own))
            turning = DirectionFlow(flow, inputs, on_device(rate, self.dtype))
            return Course(turning, Adapted(y0, a), DirectionRecorder(recorder), state_at, chosen)
        if optimal:
            return self._at_optimum(flow, recorder, y0, state_at, chosen, stage)
        # The head's rate says when the flow comes to rest, not where.
        ending = partial(at_rest, flow.at_equal_rates()) if stage.ends_at_rest else None
        patience = PATIENCE if self.phi.has_kink else None
        return Course(flow, y0, recorder, state_at, chosen, ending, patience)

    def _at_optimum(
        self,
        flow: ParticleFlow,
        recorder: Recorder,
        y0: Law,
        state_at,
        chosen: Chosen,
        stage: Stage,
    ) -> Course[TwoLayerState]:
        """The course of a stage whose readout has an infinite rate."""
        own = OptimalHead(flow)

        def at(t: float, w) -> TwoLayerState:
            return state_at(t, law_of(own, on_device(w)))

        ending = own.at_rest if stage.ends_at_rest else None
        patience = PATIENCE if self.phi.has_kink else None
        seen = OptimalRecorder(own, recorder)
        return Course(own, y0.w, seen, at, chosen, ending, patience)

    def _started(
        self,
        state: TwoLayerState,
        stage: Stage,
        motion: "Motion",
        recorded: dict[tuple[str, str], np.ndarray],
        chosen: Chosen,
    ) -> tuple[ParticleFlow, Recorder, Law]:
        """The flow of a stage, the recorder of its predictions, and where they start."""
        task, scalar = stage.task, rates(stage)
        targets = self._targets(state, recorded, 0.0 if stage.is_lazy else 1 / stage.richness)
        start = None if motion.h is None else spread(motion.h)
        lift, principal = (on_device(a, self.dtype) for a in (motion.lift, motion.principal))
        coordinates = Coordinates(lift, start, motion.dual, principal)
        whole = chosen.decomposes or stage.ends_at_rest
        anchors = _anchors(motion.samples, coordinates, task.y, whole)
        c = state.particles.c
        y0 = Law(spread(motion.law), spread(state.particles.z), None if c is None else spread(c))
        bias = on_device(state.bias, self.dtype) if state.bias else None
        home = y0.w if stage.elastic > 0 else on_device(np.zeros((1, 1, 1)), self.dtype)
        equal = stage.head_rate in (1, math.inf)  # OptimalHead has no rate
        flow = ParticleFlow(
            activation=self.phi,
            objective=stage.objective.placed(),
            anchors=anchors,
            offset=targets[task.name, "train"].base,
            home=home,
            head_rate=None if equal else on_device(stage.head_rate, self.dtype),
            deflated=chosen.deflated,
            bias=bias,
            block=None if whole or chosen.deflated or motion.h is not None else held_at_once(y0.w),
            **scalar,
        )
        resting, basis = spread(motion.resting), on_device(motion.basis, self.dtype)
        if stage.low_rank is not None:  # what its directions do not move stays
            scalar = scalar | {"decay": on_device(0.0)}
        recorder = Recorder(self.phi, list(targets.values()), resting, basis, bias=bias, **scalar)
        return flow, recorder, y0

    def _state_at(
        self,
        before: TwoLayerState,
        recorder: Recorder,
        stage: Stage,
        t: float,
        y: Law | Tangent | Adapted,
    ) -> TwoLayerState:
        """The state at time t of a stage, from what the stepper carries."""
        if isinstance(y, Adapted):
            recorder, y = along(recorder, y)
        now: Law | Tangent = jax.tree.map(lambda leaf: spread(leaf, self.dtype), y)
        base = now.base if isinstance(now, Tangent) else now
        w, fade = _weights_at(recorder, on_device(t), base.w)
        shrink = before.particles.shrink * float(fade)
        c = None if base.c is None else gathered(base.c)
        moved = Particles(gathered(w), gathered(base.z), shrink, False, False, c)
        if not isinstance(now, Tangent):
            return before.moved(moved, stage.richness)
        push = np.einsum("rmk,jk->rmj", now.move.w, np.asarray(recorder.basis))
        move_c = None if now.move.c is None else np.asarray(now.move.c)
        term = TangentTerm(moved, push, np.asarray(now.move.z), move_c)
        return replace(before, particles=moved, terms=(term,))

    def _targets(
        self, state: TwoLayerState, inputs: dict[tuple[str, str], np.ndarray], inverse: float
    ) -> dict[tuple[str, str], Targets]:
        """Recorded inputs and their base, f - <z phi> * ``inverse``, by task and split."""

        def base(X):
            f = state.predict(X)
            for cut in row_blocks(len(X)) if inverse else ():
                f[:, cut] -= state.evaluate(ReadoutTerm(state.particles, inverse), X[cut])
            return f

        bases = state.span.together(inputs, base)
        targets = {}
        for key, X in inputs.items():
            points = state.span.points(X)
            parts = points.inside, points.rho * state.particles.shrink, bases[key]
            dtypes = self.dtype, self.dtype, None
            targets[key] = Targets(*map(on_device, parts, dtypes), smooth=points.smooth)
        return targets


@eqx.filter_jit
def _weights_at(recorder: Recorder, t, w):
    return recorder.weights(t, w), recorder.fade(t)


def _anchors(
    samples: Float[np.ndarray, "P s"], coordinates: Coordinates, labels, whole: bool
) -> Anchors:
    """Samples, with all of K_x or, where nothing works with matrices of that size, without."""
    if whole:
        gram = samples @ samples.T
        return Anchors(coordinates, *map(on_device, (labels, np.diag(gram), gram)))
    squares = np.einsum("pk,pk->p", samples, samples)
    return Anchors(coordinates, on_device(labels), on_device(squares))


class Motion(NamedTuple):
    """How weights move in a stage: ``resting + law @ basis.T``, preactivations by ``law @ lift.T``.

    ``h`` are those at the start where the law holds what was added since: ``dual`` coefficients of
    samples, or moves along few directions. ``samples`` are what moves preactivations: their
    products are K_x or x . A x' / D, ``principal`` their leading coordinates, and ``leading`` the
    share of the largest eigenvalue in the trace of that.
    """

    basis: Float[np.ndarray, "rank k"]
    lift: Float[np.ndarray, "P k"]
    resting: Float[np.ndarray, "R M rank"]
    law: Float[np.ndarray, "R M k"]
    h: Float[np.ndarray, "R M P"] | None
    dual: bool
    samples: Float[np.ndarray, "P s"]
    principal: Float[np.ndarray, "P q"]
    leading: float


def _coordinates(
    anchor: Float[np.ndarray, "P rank"],
    w: Float[np.ndarray, "R M rank"],
    still: bool,
    directions: Float[np.ndarray, "rank r"] | None = None,
) -> Motion:
    """Coordinates in the span of the samples, or dual coefficients.

    These take half of the matrix products, but only as many as samples; they need independent
    samples and weights that do not decay (``still``). With ``directions``, of low-rank stages,
    samples are what they are along these.
    """
    dtype = w.dtype
    seen = anchor if directions is None else anchor @ directions
    values, rows = axes_of([seen])
    active = int((values > values[0] * 1e-7).sum())
    leading = float(values[0] ** 2 / max(np.sum(values**2), 1e-300))
    principal = seen @ rows[: min(active, COORDINATES)].T
    dual = still and dual_pays(len(anchor), active)
    basis = seen.T if dual else rows[:active].T
    lift = seen @ basis
    if directions is not None:
        basis = directions @ basis
    if dual or directions is not None:
        law = np.zeros((*w.shape[:2], basis.shape[1]), dtype)
        return Motion(
            basis, lift, w, law, w @ anchor.T.astype(dtype), dual, seen, principal, leading
        )
    law = w @ basis.astype(dtype)
    resting = w - law @ basis.T.astype(dtype)
    return Motion(basis, lift, resting, law, None, dual, seen, principal, leading)
