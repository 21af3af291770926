"""The posterior of infinitely wide networks that learn features (theory section 6)."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ...kernels.regression import dual_of
from ...mathematics import activations, sampling
from ...mathematics.activations import Activation, Elementwise
from ...mathematics.chains import Chains, Site
from ...mathematics.stepping.clock import compile_clock
from ...solution import (
    Advance,
    Cost,
    Outcome,
    Request,
    Solution,
    StageRecord,
    recorded_inputs,
)
from ...system.errors import InputError, require_between, require_integers
from ...tasks import Task
from ...tasks.span import Span, largest_rank
from ...tasks.stages import Stage, check_posterior
from ..base import AbstractLimit
from .deep_saddle import DeepSaddle, root_of, settle_deep
from .deep_state import DeepBayesianState
from .saddle import Saddle, settle
from .state import BayesianState

Law = TypeVar("Law", BayesianState, DeepBayesianState)

GROWTH = 1.05  # exponent of phi's growth up to which every tilt leaves a normalisable law
MEMORY = 0.5  # correlation with where the particles came from above which they are not trusted


@dataclass(frozen=True)
class Bayesian(AbstractLimit[BayesianState | DeepBayesianState]):
    """The posterior of networks of infinite width that learn features.

    In place of gradient flow, a stage of a network f(x) = w.phi(W x/sqrt(D))/(gamma N) has the
    posterior (theory section 6)

        exp( -N gamma^2/(2 T) sum_mu |y_mu - f_mu|^2 - |theta|^2/2 )

    whose predictor is ``f(x) = Phi(x, .) (Phi + T)^-1 y`` with the feature kernel Phi that it has
    adapted to the labels: the temperature T = 1/beta is the ridge, in units of the kernel. The
    error is summed over samples, so that weight decay lambda in a flow corresponds to
    T = lambda P. Stages have no duration, weight decay or kept head. A stage with ``elastic=delta``
    draws its first-layer weights near those of the stage before: the prior has the extra term
    ``-delta/2 |W - W_before|^2`` for a typical sample W_before of the earlier posterior (flows:
    delta lambda); it is for one hidden layer. ``elastic=0`` starts over; ``trains="readout"`` keeps
    the features as they are, for one hidden layer the limit of large delta.

    Attributes
    ----------
    activation
        A name, an :class:`adaptik.activations.Activation`, or an elementwise JAX function; it
        grows at most linearly.
    depth
        Number of hidden layers.
    temperature
        T > 0.
    particles
        Samples of the law of single neurons per replicate and layer.
    replicates
        Independent particle systems; their spread is the standard error.
    tol
        Residual of the saddle-point equations relative to the labels, of the worst output, up to
        which a stage counts as converged.
    max_iterations
        Steps after which a stage gives up.

    Raises
    ------
    InputError
        For values out of range, an elastic coupling of more than one hidden layer, and activations
        under which no posterior exists.

    Examples
    --------
    >>> import adaptik as ak
    >>> source, target = ak.tasks.linear_pair(0.9, n_source=6, n_target=4, dimension=8)
    >>> stages = [ak.Stage(source, richness=0.5), ak.Stage(target, richness=0.5, elastic=1.0)]
    >>> limit = ak.Bayesian("erf", temperature=0.1, particles=256, replicates=2)
    >>> solution = ak.solve(stages, limit)
    >>> solution.predict(target.X).value.shape
    (4,)
    """

    state: ClassVar = BayesianState | DeepBayesianState
    computes: ClassVar = frozenset({"lazy", "readout", "elastic"})
    samples: ClassVar = "particles"
    free: ClassVar = ("temperature",)

    activation: str | Activation | Elementwise = "relu"
    depth: int = 1
    temperature: float = 0.01
    particles: int = 4096
    replicates: int = 4
    tol: float = 0.02
    max_iterations: int = 200

    def __post_init__(self):
        object.__setattr__(self, "activation", activations.get(self.activation))
        require_integers(
            1, depth=self.depth, replicates=self.replicates, max_iterations=self.max_iterations
        )
        require_integers(2, particles=self.particles)
        require_between(0, math.inf, temperature=self.temperature)
        require_between(0, 1, tol=self.tol)

    def refined(self, tol: float, tasks: dict[str, Task], found: Solution | None) -> "Bayesian":
        # Its own tol bounds a residual, which is no part of the sampling error.
        return self if found is None else super().refined(tol, tasks, found)

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        rank = largest_rank(tasks.values())
        samples = max(s.task.n_train for s in stages)
        duals = max(s.task.n_train * s.task.outputs for s in stages)
        kept = len(stages) * self.replicates * self.particles * rank
        moments = self.particles * (8 * rank + 6 * samples + 3 * duals)
        kept += (self.depth - 1) * len(stages) * self.replicates * self.particles * samples
        return 8 * (kept + self.depth * moments + self.particles**2 // 8 + 4 * duals**2)

    def start(self, stages, tasks, rng):
        """The prior: neurons without coordinates, for any number of layers, and f = 0."""
        task, none = stages[0].task, np.zeros(self.replicates)
        span, dual = Span(task.X[:0].T), np.zeros((self.replicates, 0, task.outputs))
        w = np.zeros((self.replicates, self.particles, 0))
        weights = np.full(w.shape[:2], 1 / self.particles)
        return BayesianState(
            self.phi,
            span,
            w,
            weights,
            1.0,
            task.X[:0],
            dual,
            dual,
            action=none * np.nan,
            residual=none,
            effective=none + self.particles,
            memory=none,
            acceptance=none + 1,
        )

    def check_all(self, stages, first, state):
        rank = 0
        for i, stage in enumerate(stages):
            carried = rank if stage.elastic > 0 or stage.trains == "readout" else 0
            rank = min(carried + stage.task.n_train, stage.task.dimension)
            if self.depth > 1:
                rank = max(rank, stage.task.n_train)  # coordinates of the layers above
            if self.particles <= 2 * rank + 1:
                raise InputError(
                    f"particles={self.particles} cannot hold the second moments of {rank} "
                    f"coordinates in stage {i}; give at least {2 * rank + 2}"
                )

    def check_stage(self, i: int, stage: Stage) -> None:
        check_posterior(i, stage, self.depth)
        if stage.richness == 0:
            return
        growth = growth_exponent(self.phi)
        if growth > GROWTH:
            raise InputError(
                f"activation {self.phi.name!r} grows faster than linearly: at richness "
                f"{stage.richness:g} and temperature {self.temperature:g} of stage {i}, as at any, "
                "the weights' law cannot be normalised; use one like erf, tanh or relu"
            )

    def advance(
        self, state: BayesianState | DeepBayesianState, stage: Stage, request: Request
    ) -> Advance[BayesianState | DeepBayesianState]:
        began = time.perf_counter()
        with jax.enable_x64(True), compile_clock() as clock:
            after, iterations, settled = self._posterior(state, stage, request.rng)
            predictions = {
                key: after.predict(X)[None] for key, X in recorded_inputs(request.tasks, stage.task)
            }
        taken = time.perf_counter() - began
        trusted = settled and after.residual.max() <= self.tol and self._moved(after, stage)
        outcome = Outcome.CONVERGED if trusted else Outcome.OUT_OF_STEPS
        cost = Cost("saddle point", iterations, 0, clock.seconds, taken - clock.seconds)
        return StageRecord.timeless(predictions, stage.task, outcome, cost), after, {}

    def _posterior(self, state, stage: Stage, rng):
        if self.depth > 1:
            return self._deep(state, stage, rng.spawn(self.replicates))
        task, delta, streams = stage.task, stage.elastic, rng.spawn(self.replicates)
        if stage.trains == "readout":
            return (
                self._readout(
                    self._wider(state, state.weights, state.shrink, task.X, streams), stage
                ),
                0,
                True,
            )
        if delta > 0:
            before = self._wider(state, state.weights, state.shrink, task.X, streams)
            span, source, prior = before.span, before.w, before.weights
        else:
            before, span = None, Span.of([task])
            source = np.zeros((self.replicates, 1, span.rank))
            prior = np.full((self.replicates, self.particles), 1 / self.particles)
        anchor = span.training_points(task.X)
        _, values, rows = np.linalg.svd(anchor)
        active = int((values > values[0] * 1e-7).sum())
        turn = rows.T  # coordinates in which the first ``active`` ones see the samples
        scale, pull = 1 / math.sqrt(1 + delta), delta / (1 + delta)
        w, found = [], []
        for wbar, given, stream in zip(source @ turn, prior, streams, strict=True):
            xi = self._gaussian(stream, span.rank)
            mean = np.broadcast_to(pull * wbar, xi.shape)
            site = Site(
                jnp.asarray(mean[:, :active]),
                jnp.asarray(scale),
                jnp.asarray(anchor @ turn[:, :active]),
                jnp.zeros((task.n_train, task.outputs)),
                jnp.ones(task.outputs),
            )
            chains = Chains(self.phi, xi[:, :active], stream)
            saddle = settle(
                chains,
                site,
                task.y,
                stage.richness,
                self.temperature,
                given,
                None if before is None else wbar,
                self.tol,
                self.max_iterations,
            )
            xi[:, :active] = saddle.xi
            if active < span.rank:
                columns = np.column_stack([np.ones(len(xi)), xi[:, :active], wbar])
                xi[:, active:] = sampling.independent(xi[:, active:], columns, saddle.weights)
            w.append((mean + scale * xi) @ turn.T)
            found.append(saddle)
        shrink = 1.0 if before is None else math.hypot(scale, pull * before.shrink)
        after = self._joined(span, np.stack(w), shrink, stage, found)
        return after, sum(f.iterations for f in found), all(f.settled for f in found)

    def _deep(self, state, stage: Stage, streams) -> tuple[DeepBayesianState, int, bool]:
        task = stage.task
        if stage.trains == "readout" and isinstance(state, DeepBayesianState):
            state = self._wider(state, state.weights[:, 0], 1.0, task.X, streams)
            return state.with_readout(task, stage.richness, self.temperature), 0, True
        # Features without a stage before have their prior, as those of richness 0.
        richness = stage.richness if stage.trains == "all" else 0.0
        span = Span.of([task])
        anchor = span.training_points(task.X)
        found = [
            settle_deep(
                [
                    Chains(self.phi, self._gaussian(stream, k), stream)
                    for k in (span.rank, *[task.n_train] * (self.depth - 1))
                ],
                anchor,
                task.y,
                richness,
                self.temperature,
                self.tol,
                self.max_iterations,
            )
            for stream in streams
        ]
        after = self._joined_deep(span, stage, found)
        return after, sum(f.iterations for f in found), all(f.settled for f in found)

    def _wider(self, state: Law, weights, shrink: float, X, streams) -> Law:
        """The same law with coordinates for all of X; what they add was a Gaussian so far."""
        rest = X - X @ state.span.basis @ state.span.basis.T
        size = np.linalg.norm(X, axis=1).max()
        _, values, rows = np.linalg.svd(rest, full_matrices=False)
        added = rows[values > 1e-7 * size].T
        if not added.shape[1]:
            return state
        span = Span(np.linalg.qr(np.column_stack([state.span.basis, added]))[0])
        # QR may flip signs of the coordinates that exist.
        old = span.basis[:, : state.span.rank].T @ state.span.basis
        w = [
            np.column_stack(
                [
                    before @ old.T,
                    shrink
                    * sampling.independent(
                        self._gaussian(stream, added.shape[1]),
                        np.column_stack([np.ones(len(before)), before]),
                        given,
                    ),
                ]
            )
            for before, given, stream in zip(state.w, weights, streams, strict=True)
        ]
        return replace(state, span=span, w=np.stack(w))

    def _joined(self, span, w, shrink, stage: Stage, found: list[Saddle]) -> BayesianState:
        weights = np.stack([s.weights for s in found])
        return BayesianState(
            self.phi,
            span,
            w,
            weights,
            shrink,
            stage.task.X,
            stage.richness * np.stack([s.delta for s in found]),
            np.stack([s.dual for s in found]),
            np.array([s.action for s in found]),
            np.array([s.residual for s in found]),
            1 / np.sum(weights**2, axis=1),
            np.array([s.memory for s in found]),
            np.array([s.acceptance for s in found]),
        )

    def _joined_deep(self, span, stage: Stage, found: list[DeepSaddle]) -> DeepBayesianState:
        weights = np.stack([s.weights for s in found])
        return DeepBayesianState(
            self.phi,
            span,
            np.stack([s.xi[0] for s in found]),
            np.stack([np.stack(s.xi[1:]) for s in found]),
            np.stack([[root_of(kernel)[0] for kernel in s.at.kernels] for s in found]),
            weights,
            stage.task.X,
            stage.richness * np.stack([s.at.delta for s in found]),
            np.stack([s.dual for s in found]),
            np.array([s.action for s in found]),
            np.stack([s.residual for s in found]),
            1 / np.sum(weights**2, axis=-1),
            np.array([s.memory for s in found]),
            np.array([s.acceptance for s in found]),
        )

    def _readout(self, state: BayesianState, stage: Stage) -> BayesianState:
        """Features as they are; the predictor is kernel regression on them."""
        anchor = state.span.training_points(stage.task.X)
        phi = np.asarray(self.phi.phi(jnp.asarray(state.w @ anchor.T)))
        dual = np.stack(
            [
                dual_of(p, o, stage.task.y, self.temperature)
                for p, o in zip(phi, state.weights, strict=True)
            ]
        )
        none = np.zeros(self.replicates)
        return replace(
            state,
            inputs=stage.task.X,
            delta=stage.richness * dual,
            dual=dual,
            action=none * np.nan,
            residual=none,
            memory=none,
            acceptance=none + 1,
        )

    def _moved(self, after: BayesianState | DeepBayesianState, stage: Stage) -> bool:
        # Neurons coupled to source neurons remember them, however often they move.
        return stage.elastic > 0 or after.memory.max() <= MEMORY

    def _gaussian(self, rng: np.random.Generator, rank: int) -> np.ndarray:
        return sampling.neurons(rng, 1, self.particles, rank, 1)[0][0]


def growth_exponent(activation: Activation) -> float:
    """Exponent p of the growth |phi(h)| ~ |h|^p at large |h|, the larger of both sides.

    Examples
    --------
    >>> round(growth_exponent(activations.get("hermite(3)")), 2)
    3.0
    """
    if activation.degree is not None:
        return float(activation.degree)
    with jax.enable_x64(True):
        near, far = (
            np.abs(np.asarray(activation.phi(jnp.asarray([-h, h])))) for h in (50.0, 500.0)
        )
    if not np.isfinite(far).all():
        return math.inf
    return float(np.max(np.log10(np.maximum(far, 1e-9) / np.maximum(near, 1e-9))))
