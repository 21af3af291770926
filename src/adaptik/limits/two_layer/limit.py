"""The two-layer infinite-width limit: a Markovian process of single neurons (theory section 2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...mathematics import activations, losses
from ...mathematics.activations import Activation, Elementwise
from ...mathematics.stepping import Chebyshev
from ...solution import Advance, Request, Solution, recorded_inputs
from ...system.errors import InputError, require_between, require_integers
from ...system.programs import on_device
from ...tasks import Task
from ...tasks.stages import Stage, check_elastic_flow
from .. import particles as sampling_module
from ..averages import mean_readout, row_blocks
from ..base import FLOW, AbstractLimit, growth
from ..particles import Particles, Sampling
from ..run import Chosen, step_through, stepper_for
from ..span import Span
from . import control as lazy_control
from .collapse import judged
from .control import LazyControl
from .flow import (
    Anchors,
    Coordinates,
    Law,
    ParticleFlow,
    Recorder,
    Tangent,
    TangentFlow,
    TangentRecorder,
    Targets,
)
from .frozen import advance_frozen
from .kinks import has_kink
from .rest import at_rest, peak_bytes
from .state import ReadoutTerm, TangentTerm, TwoLayerState

DUAL_UP_TO = 1.2  # samples for a coordinate: with more, dual coefficients cost more than they save
PATIENCE = 512  # steps after which flows that may move to and fro across kinks are brought to rest
FEWEST = 256  # particles with which solving for a tolerance begins


@dataclass(frozen=True)
class TwoLayer(AbstractLimit[TwoLayerState]):
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
    computes: ClassVar = FLOW | {"elastic"}
    samples: ClassVar = "particles"

    activation: str | Activation | Elementwise = "relu"
    particles: int | None = None
    replicates: int = 4
    dtype: str = "float32"
    tol: float = 5e-3
    sampling: Sampling = "quasi"
    max_steps: int = 4096

    def __post_init__(self):
        object.__setattr__(self, "activation", activations.get(self.activation))
        require_integers(1, replicates=self.replicates, max_steps=self.max_steps)
        if self.particles is not None:
            require_integers(2, particles=self.particles)
        if self.dtype not in ("float32", "float64"):
            raise InputError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")
        if self.sampling not in ("quasi", "iid"):
            raise InputError(f"sampling must be 'quasi' or 'iid', got {self.sampling!r}")
        require_between(0, 1, tol=self.tol)

    @property
    def phi(self) -> Activation:
        assert isinstance(self.activation, Activation)
        return self.activation

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

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        rank = _rank(tasks)
        outputs = max(s.task.outputs for s in stages)
        count = self._count(rank, outputs) * 2 ** sum(_is_paired(s) for s in stages)
        width = np.dtype(self.dtype).itemsize
        largest = max(s.task.n_train for s in stages)
        active = largest if _dual_pays(largest, rank) else rank
        per_particle = 6 * rank + 30 * active + 14 * largest * outputs
        moving = self.replicates * count * per_particle * width
        if any(s.ends_at_rest for s in stages):
            moving = max(moving, peak_bytes(count, active, largest, outputs))
        recorded = 24 * sum(
            t.n_train + (0 if t.X_test is None else len(t.X_test)) for t in tasks.values()
        )
        kernels = 6 * self.replicates * (largest * outputs) ** 2
        return int(moving + 8 * (recorded * self.replicates * outputs + kernels))

    def check_stage(self, i: int, stage: Stage) -> None:
        check_elastic_flow(i, stage)

    def start(self, stages, tasks, rng) -> TwoLayerState:
        span = Span.of(tasks.values())
        outputs = stages[0].task.outputs
        count = self._count(span.rank, max(s.task.outputs for s in stages))
        first = sampling_module.initial(
            rng, self.replicates, count, span.rank, outputs, self.sampling, self.dtype
        )
        return TwoLayerState(self.phi, span, first)

    def advance(
        self, state: TwoLayerState, stage: Stage, request: Request
    ) -> Advance[TwoLayerState]:
        untouched = not state.terms and state.particles.initial_head
        if stage.head == "fresh":
            if not untouched or state.particles.z.shape[-1] != stage.task.outputs:
                fresh = sampling_module.fresh_head(
                    request.rng, state.particles, stage.task.outputs, self.sampling
                )
                state = replace(state, particles=fresh)
            if _is_paired(stage):
                state = replace(state, particles=sampling_module.in_pairs(state.particles))
            state = replace(state, terms=())
        if stage.has_fixed_kernel:
            return advance_frozen(state, stage, request)
        advance = self._flow(state, stage, request)
        if self.sampling == "quasi" and lazy_control.applies(state, stage):
            return LazyControl.of(state, stage).correct(advance, request)
        return advance

    def refined(self, tol: float, tasks: dict[str, Task], found: Solution | None) -> "TwoLayer":
        if found is None:
            count = self.particles
            if count is None:  # errors tell how many are needed
                least = _rank(tasks) + max(task.outputs for task in tasks.values())
                count = max(FEWEST, 2 ** math.ceil(math.log2(1.25 * least)))
            # Steps leave about a third of their tolerance at the end (docs/speed.md).
            return replace(self, tol=min(self.tol, tol), particles=count)
        state = found.states[-1]
        assert isinstance(state, TwoLayerState)
        particles = math.ceil(state.particles.w.shape[1] * growth(found, tol) / 256) * 256
        return replace(self, particles=particles)

    def _flow(self, state: TwoLayerState, stage: Stage, request: Request) -> Advance[TwoLayerState]:
        task, decay = stage.task, stage.weight_decay
        tangent = stage.is_lazy
        richness = 1.0 if tangent else stage.richness
        anchor = state.span.training_points(task.X)
        particles = state.particles
        basis, lift, resting, w, h, leading = _coordinates(anchor, particles.w, decay == 0)
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            scalar = {
                k: on_device(float(v))
                for k, v in (
                    ("richness", richness),
                    ("decay", decay),
                    ("elastic", stage.elastic),
                )
            }
            start = None if h is None else on_device(h)
            anchors = Anchors(
                Coordinates(on_device(lift, self.dtype), start),
                on_device(anchor @ anchor.T),
                on_device(task.y),
            )
            # In an order of their own: programs do not depend on which task was named first.
            recorded = dict(sorted(recorded_inputs(request.tasks, task.outputs), key=itemgetter(0)))
            targets = self._targets(state, recorded, 0.0 if tangent else 1 / richness)
            y0 = Law(on_device(w), on_device(particles.z))
            flow = ParticleFlow(
                self.phi,
                losses.get(stage.loss),
                anchors,
                targets[task.name, "train"].base,
                home=y0.w if stage.elastic > 0 else on_device(np.zeros((1, 1, 1)), self.dtype),
                **scalar,
            )
            recorder = Recorder(
                self.phi,
                list(targets.values()),
                on_device(resting),
                on_device(basis, self.dtype),
                **scalar,
            )
            modes, coordinates = task.n_train * task.outputs, y0.w.shape[-1]
            chosen = stepper_for(modes, coordinates, y0.w.shape[1], self.tol, leading)
            plain = recorder
            ending = partial(at_rest, flow) if stage.ends_at_rest else None
            patience = PATIENCE if has_kink(self.phi) else None
            if tangent:
                y0 = Tangent(y0, jax.tree.map(jnp.zeros_like, y0))
                flow, recorder = TangentFlow(flow), TangentRecorder(recorder)
                chosen = Chosen(Chebyshev(), "linearised flow")

            def state_at(t: float, y) -> TwoLayerState:
                y = jax.tree.map(lambda leaf: on_device(leaf, self.dtype), y)
                base, move = (y.base, y.move) if tangent else (y, None)
                w, fade = _weights_at(plain, on_device(t), base.w)
                moved = Particles(
                    np.asarray(w),
                    np.asarray(base.z),
                    particles.shrink * float(fade),
                    initial_features=False,
                    initial_head=False,
                )
                if move is None:
                    return replace(
                        state, particles=moved, terms=self._kept_terms(state, moved, richness)
                    )
                push = np.einsum("rmk,jk->rmj", move.w, basis.astype(self.dtype))
                return replace(
                    state, particles=moved, terms=(TangentTerm(moved, push, np.asarray(move.z)),)
                )

            record, after, snapshots = step_through(
                stage,
                request,
                flow,
                y0,
                recorder,
                list(targets),
                state_at,
                chosen,
                self.tol,
                self.max_steps,
                ending,
                patience,
            )
        f = record.predictions[task.name, "train"][-1]
        ended = judged(record.outcome, stage, after.particles.z, f)
        return replace(record, outcome=ended), after, snapshots

    def _targets(
        self, state: TwoLayerState, inputs: dict[tuple[str, str], np.ndarray], inverse: float
    ) -> dict[tuple[str, str], Targets]:
        """Recorded inputs and their base, f - <z phi> * ``inverse``, by task and split."""

        def base(X):
            f = state.predict(X)
            for cut in row_blocks(len(X)) if inverse else ():
                points = state.span.points(X[cut])
                f[:, cut] -= inverse * mean_readout(self.phi, state.particles, points)
            return f

        bases = state.span.together(inputs, base)
        targets = {}
        for key, X in inputs.items():
            points = state.span.points(X)
            parts = points.inside, points.rho * state.particles.shrink, bases[key]
            dtypes = self.dtype, self.dtype, None
            targets[key] = Targets(*map(on_device, parts, dtypes), smooth=points.smooth)
        return targets

    def _kept_terms(self, state: TwoLayerState, moved: Particles, richness: float):
        """f(t1) + (<z phi>_t - <z phi>_{t1}) / gamma, terms at t1 merged."""
        terms, start = [], -1 / richness
        for term in state.terms:
            if isinstance(term, ReadoutTerm) and term.particles is state.particles:
                start += term.coefficient
            else:
                terms.append(term)
        if abs(start) > 1e-12 / richness:
            terms.append(ReadoutTerm(state.particles, start))
        return (*terms, ReadoutTerm(moved, 1 / richness))


@eqx.filter_jit
def _weights_at(recorder: Recorder, t, w):
    return recorder.weights(t, w), recorder.fade(t)


def _rank(tasks: dict[str, Task]) -> int:
    """Upper bound of the number of span coordinates."""
    inputs = [task.X.shape for task in tasks.values()]
    return min(inputs[0][1], sum(count for count, _ in inputs))


def _is_paired(stage: Stage) -> bool:
    return stage.head == "fresh" and stage.weight_decay > 0 and not stage.has_fixed_kernel


def _dual_pays(samples: int, active: int) -> bool:
    return samples <= DUAL_UP_TO * active


def _coordinates(anchor: np.ndarray, w: np.ndarray, still: bool):
    """How weights move in a stage: ``resting + law @ basis.T``, preactivations by ``law @ lift.T``.

    Returns ``basis, lift, resting, law, h, leading``; ``h`` is None unless the law holds dual
    coefficients. These take half of the matrix products, but only as many as samples; they need
    independent samples and weights that do not decay (``still``). ``leading`` is the share of the
    largest eigenvalue in the trace of K_x.
    """
    dtype = w.dtype
    _, values, rows = np.linalg.svd(anchor, full_matrices=False)
    active = int((values > values[0] * 1e-7).sum())
    leading = float(values[0] ** 2 / max(np.sum(values**2), 1e-300))
    if still and _dual_pays(len(anchor), active):
        law = np.zeros((*w.shape[:2], len(anchor)), dtype)
        return anchor.T, anchor @ anchor.T, w, law, w @ anchor.T.astype(dtype), leading
    basis = rows[:active].T
    law = w @ basis.astype(dtype)
    return basis, anchor @ basis, w - law @ basis.T.astype(dtype), law, None, leading
