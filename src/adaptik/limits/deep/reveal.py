"""Deep nonlinear limits from random matrices revealed only along the directions that they meet.

As :mod:`adaptik.linear_theory.revealed`, with neurons' space sampled: a field is a column of N
numbers, one a particle, <a, b> = a.b/N, and fresh directions are Gaussian columns made orthogonal
to all that the same layer has seen. Responses, also those at equal times, come with the algebra
(theory section 5).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import numpy as np

from ...mathematics import activations
from ...mathematics.activations import Activation, Elementwise
from ...mathematics.biases import NONE, Bias, deviations
from ...mathematics.sampling import neurons
from ...solution import (
    Advance,
    Kernels,
    Request,
    SpanState,
    StageRecord,
    recorded_inputs,
)
from ...system.errors import InputError, require_between, require_integers, require_one_of
from ...system.registry import register
from ...tasks import Task
from ...tasks.span import Span, largest_rank
from ...tasks.stages import Stage
from ..base import FLOW, LAYERS, AbstractLimit
from ..run import again, march, step_error, timed_together
from .reveal_flow import Hidden, Population, PopulationFlow, on_host, readout

COARSER = 8.0  # tolerance of the second solve that estimates the error of the first


@register
@dataclass(frozen=True, eq=False)
class RevealState(SpanState):
    """Populations of all replicates; f is the sum of ``coefficient * <z phi>`` over ``terms``.

    ``step_error`` is the sum of the estimates of the stages so far, which later ones inherit.
    """

    activation: Activation
    span: Span
    members: tuple[Population, ...]
    terms: tuple[tuple[float, tuple[Population, ...]], ...] = ()
    step_error: float = 0.0

    def scaled(self, factor):
        terms = tuple((factor * coefficient, at) for coefficient, at in self.terms)
        return replace(self, terms=terms, step_error=abs(factor) * self.step_error)

    def after(self, members: tuple[Population, ...], stage: Stage) -> "RevealState":
        """f(t1) + (<z phi>_t - <z phi>_t1)/gamma."""
        inverse = 1 / stage.richness
        terms, start = [], -inverse
        for coefficient, at in self.terms:
            if all(a is b for a, b in zip(at, self.members, strict=True)):
                start += coefficient
            else:
                terms.append((coefficient, at))
        if abs(start) > 1e-12 * inverse:
            terms.append((start, self.members))
        return replace(self, members=members, terms=(*terms, (inverse, members)))

    def member_predict(self, r: int, points) -> np.ndarray:
        total = np.zeros((len(points.inside), self.members[r].head.shape[1]))
        for coefficient, at in self.terms:
            total = total + coefficient * readout(at[r], points, self.activation)
        return total

    def predict(self, X):
        points = self.span.points(X)
        with jax.enable_x64(True):
            return np.stack([self.member_predict(r, points) for r in range(len(self.members))])

    @property
    def hidden_layers(self):
        return len(self.members[0].hidden) + 1

    @property
    def biases(self):
        return self.members[0].bias

    def kernels(self, X, rows, columns):
        h, g = zip(*self._jointly(X), strict=True)
        phi, _ = on_host(self.activation)
        with jax.enable_x64(True):
            features = [[phi(a).astype(float) for a in layer] for layer in zip(*h, strict=True)]
        gradients = [[a.astype(float) for a in layer] for layer in zip(*g, strict=True)]
        return Kernels.averaged(features, gradients, rows, columns)

    def preactivations(self, X):
        return np.stack([h[-1] for h, _ in self._jointly(X)])

    def _jointly(self, X) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
        """h_l and g_l of every member at all inputs."""
        points, functions = self.span.points(X), on_host(self.activation)
        with jax.enable_x64(True):
            return [m.jointly(points, *functions) for m in self.members]


@dataclass(frozen=True)
class Reveal(AbstractLimit[RevealState]):
    """Deep nonlinear networks at infinite width, by lazily revealed random matrices.

    The most accurate method for smooth activations and few samples. The number of directions
    grows with samples x time steps for activations with kinks: use :class:`adaptik.Ensemble`
    there. Rich stages only.

    Attributes
    ----------
    depth
        Number of hidden layers L.
    activation
        A name, an :class:`adaptik.activations.Activation`, or an elementwise JAX function.
    particles
        Samples of every layer's fields per replicate; well above the directions revealed.
    replicates
        Independent populations; their spread is the standard error.
    tol
        Error allowed in one step, in units of the labels (:attr:`adaptik.Stage.unit`).
    reveal_tol
        Part of a field, relative to its length, that the revealed directions may miss.
    dtype
        Of fields and matrices, ``"float32"`` or ``"float64"``.
    max_steps
        Steps after which a stage gives up.
    bias
        Of hidden layers and readout, as for :class:`adaptik.Ensemble`.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.hermite_pair(1, 2, 0.5, n_source=4, n_target=4, dimension=5, n_test=8)
    >>> limit = ak.Reveal(depth=2, activation="tanh", particles=512, replicates=2)
    >>> ak.solve([ak.Stage(task, richness=1.0, duration=1.0)], limit, record=2).outcome.value
    'reached its duration'
    """

    state: ClassVar = RevealState
    computes: ClassVar = FLOW - {"lazy", "lazy decay", "readout"} | LAYERS
    samples: ClassVar = "particles"

    depth: int
    activation: str | Activation | Elementwise = "tanh"
    particles: int = 4096
    replicates: int = 4
    tol: float = 2e-4
    reveal_tol: float = 1e-2
    dtype: str = "float32"
    max_steps: int = 2048
    bias: Bias = NONE

    def __post_init__(self):
        object.__setattr__(self, "bias", deviations(self.bias))
        object.__setattr__(self, "activation", activations.get(self.activation))
        require_integers(1, depth=self.depth, replicates=self.replicates, max_steps=self.max_steps)
        require_integers(16, particles=self.particles)
        require_one_of(("float32", "float64"), dtype=self.dtype)
        require_between(0, 0.2, tol=self.tol, reveal_tol=self.reveal_tol)

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        rank = largest_rank(tasks.values(), deviations(self.bias)[0])
        samples = max(s.task.n_train * s.task.outputs for s in stages)
        inputs = max(len(X) for t in tasks.values() for X in (t.X, t.X_test) if X is not None)
        directions = min(self.particles // 2, 16 * samples + 2 * rank)
        numbers = self.particles * (12 * rank + 8 * self.depth * directions + 4 * inputs)
        return 8 * (self.replicates + 1) * numbers * len(stages)

    def start(self, stages, tasks, rng) -> RevealState:
        span = Span.of(tasks.values(), deviations(self.bias)[0])
        outputs = stages[0].task.outputs
        if self.particles < 4 * (span.rank + outputs):
            raise InputError(
                f"particles={self.particles} are too few for {span.rank} span coordinates; give at "
                f"least 4 (rank + outputs) = {4 * (span.rank + outputs)}"
            )
        members = self._drawn(rng, span.rank, outputs)
        return RevealState(self.phi, span, members)

    def _drawn(self, rng, rank: int, outputs: int) -> tuple[Population, ...]:
        """Populations at initialisation, of whose hidden matrices nothing is revealed."""
        drawn = neurons(rng, self.replicates, self.particles, rank, outputs, "quasi", self.dtype)
        members = []
        for W, z in zip(*drawn, strict=True):
            hidden = Hidden.unknown(W)
            seen = (W, *[hidden.Q] * (self.depth - 1))
            seed = int(rng.integers(2**31))
            member = Population(W, (hidden,) * (self.depth - 1), z, seen, seed)
            members.append(with_biases(member, 1, rng, deviations(self.bias)))
        return tuple(members)

    def advance(self, state: RevealState, stage: Stage, request: Request) -> Advance[RevealState]:
        with jax.enable_x64(True):
            if stage.head == "fresh":
                state = self._fresh(state, stage, request.rng)
            runs = [self._run(state, 0, stage, request, self.tol)]
            first = runs[0][0]
            timed, same = again(stage, request, first)  # the others take as long as the first
            runs += [self._run(state, r, timed, same, self.tol) for r in range(1, self.replicates)]
            coarse, _, _ = self._run(state, 0, timed, same, COARSER * self.tol)
        predictions = {
            key: np.concatenate([run[0].predictions[key] for run in runs], axis=1)
            for key in first.predictions
        }
        error = state.step_error + step_error(first, coarse)
        cost = timed_together(*(run[0].cost for run in runs), coarse.cost)
        loss, rate = (
            float(np.mean([getattr(r[0], n) for r in runs])) for n in ("train_loss", "rate")
        )
        record = replace(
            first, predictions=predictions, cost=cost, step_error=error, train_loss=loss, rate=rate
        )
        joined = {t: state.after(tuple(run[2][t] for run in runs), stage) for t in runs[0][2]}
        end = replace(state.after(tuple(run[1] for run in runs), stage), step_error=error)
        return record, end, joined

    def _fresh(self, state: RevealState, stage: Stage, rng) -> RevealState:
        """A new readout, new layers where the stage wants them, and f = 0."""
        outputs, kept = stage.task.outputs, stage.fresh_above
        members = state.members
        if kept == 0:
            members = self._drawn(rng, state.span.rank, outputs)
        elif kept is not None:
            members = [with_fresh_layers(m, kept, rng) for m in members]
        X, y = state.span.training_points(stage.task.X), stage.task.y
        members = [
            PopulationFlow(
                m,
                X,
                y,
                0.0,
                [],
                self.phi,
                stage.objective,
                1.0,
                0.0,
                0,
                self.reveal_tol,
                rng,
            ).with_fresh_head(outputs)
            for m in members
        ]
        return replace(state, members=tuple(members), terms=())

    def _run(
        self, state: RevealState, r: int, stage: Stage, request: Request, tol: float
    ) -> tuple[StageRecord, Population, dict[float, Population]]:
        """One replicate; :meth:`advance` joins them to a state."""
        task, start, gamma = stage.task, state.members[r], stage.richness
        points = {k: state.span.points(X) for k, X in recorded_inputs(request.tasks, task)}

        def base(at):
            return state.member_predict(r, at) - readout(start, at, self.phi) / gamma

        flow = PopulationFlow(
            start,
            state.span.training_points(task.X),
            task.y,
            base(state.span.points(task.X)),
            [(at, base(at)) for at in points.values()],
            self.phi,
            stage.objective,
            gamma,
            stage.weight_decay,
            stage.frozen_layers(self.depth),
            self.reveal_tol,
            np.random.default_rng([start.seed, start.seen[0].shape[1]]),
        )
        return march(
            stage,
            request,
            flow,
            list(points),
            flow.population,
            gamma,
            tol,
            self.max_steps,
            "Runge-Kutta 5(4) on revealed matrices",
        )


def with_biases(
    member: Population, kept: int, rng: np.random.Generator, bias: tuple[float, float]
) -> Population:
    """With new biases of hidden layers above ``kept`` >= 1, and one of the readout that is 0.

    They are directions that their layers have seen: what matrices send there is independent.
    """
    (b, b_r), width, new = bias, len(member.first), len(member.hidden) + 1 - kept
    member, dtype = replace(member, bias=bias), member.first.dtype
    if b and member.hidden:
        fresh = rng.standard_normal((width, new)).astype(dtype)
        fresh /= np.sqrt(np.mean(fresh**2, axis=0))
        seen = [*member.seen[:kept], *(fresh[:, [k]] for k in range(new))]
        old = fresh[:, :0] if member.betas is None else member.betas[:, : kept - 1]
        member = replace(member, betas=np.concatenate([old, fresh], axis=1), seen=tuple(seen))
    if b_r:
        member = replace(member, c=np.zeros_like(member.head[:1]))
    return member


def with_fresh_layers(member: Population, kept: int, rng: np.random.Generator) -> Population:
    """Layers above ``kept`` >= 1 as if nothing of them had been revealed."""
    new = len(member.hidden) + 1 - kept
    unknown = Hidden.unknown(member.first)
    hidden = (*member.hidden[: kept - 1], *[unknown] * new)
    member = replace(member, hidden=hidden, seen=(*member.seen[:kept], *[unknown.Q] * new))
    return with_biases(member, kept, rng, member.bias)
