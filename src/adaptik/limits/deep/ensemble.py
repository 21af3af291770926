"""Dense networks of moderate width whose initial fields have the moments of infinite ones.

A network of width N differs from the infinite one mostly by the noise of its fields at the start.
Here first-layer weights and readouts are Sobol points with exact second moments, and every hidden
matrix is conditioned on what it does to features and gradients at the start (theory section 5):

    W = F Q^T + S E^T + (1 - S S^T) W_random (1 - Q Q^T)

with Q and S orthonormal bases of features phi_l and gradients g_{l+1} on the training inputs, F and
E fresh points with exact second moments. Replicates with independent points give the error bar.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...kernels.frozen import FrozenPath
from ...mathematics import activations
from ...mathematics.activations import Activation, Elementwise
from ...mathematics.biases import NONE, Bias, deviations
from ...mathematics.losses import Objective
from ...mathematics.stepping import AbstractFlow, Chebyshev
from ...mathematics.stepping.choice import Chosen
from ...solution import Advance, Request, recorded_inputs
from ...system.devices import on_device
from ...system.errors import InputError, require_between, require_integers, require_one_of
from ...tasks import Task
from ...tasks.span import Span, largest_rank
from ...tasks.stages import Stage
from ..base import FLOW, LAYERS, AbstractLimit
from ..run import again, step_error, step_through, timed_together
from .ensemble_state import (
    DenseTerm,
    DenseWeights,
    EnsembleState,
    Layers,
    compiled_pull_back,
    compiled_raw,
    phi_and_g,
    pull_back,
    raw,
    tangent,
    trained,
)

COARSER = 8.0  # tolerance of the second solve that estimates the error of the first: half the steps
EVALUATIONS = 1500  # of the vector field in a rich stage until it converges, both solves; measured
FLOOR = 0.1  # part of an error in the weights that is taken to be felt outside the samples
PROBE = 512  # width at which one evaluation is timed


@dataclass(frozen=True)
class Ensemble(AbstractLimit[EnsembleState]):
    """Deep nonlinear networks at infinite width, from dense networks with matched initial fields.

    Attributes
    ----------
    depth
        Number of hidden layers L.
    activation
        A name, an :class:`adaptik.activations.Activation`, or an elementwise JAX function.
    width
        Neurons N of every hidden layer; ``None`` takes 512, or as many as the rank of the inputs
        needs. Replicates share a bias of order 1/N, which the standard error does not show; judge
        it by doubling the width.
    replicates
        Independent networks; their spread is the standard error.
    dtype
        Of matrix products, ``"float32"`` or ``"float64"``.
    tol
        Error allowed in one step, in units of the labels (:attr:`adaptik.Stage.unit`).
    max_steps
        Steps after which a stage gives up.
    bias
        Standard deviation b of the biases of hidden layers at the start, or a pair (b, b_r); one
        number is both. The readout's bias is 0 under a fresh head and learns by the kernel b_r^2.

    Raises
    ------
    InputError
        For values out of range.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.hermite_pair(1, 2, 0.5, n_source=6, n_target=4, dimension=5, n_test=8)
    >>> limit = ak.Ensemble(depth=2, activation="tanh", width=64, replicates=2)
    >>> solution = ak.solve([ak.Stage(task, richness=1.0, duration=1.0)], limit, record=2)
    >>> solution.outcome.value
    'reached its duration'
    """

    state: ClassVar = EnsembleState
    computes: ClassVar = FLOW - {"lazy decay"} | LAYERS
    samples: ClassVar = "replicates"

    depth: int
    activation: str | Activation | Elementwise = "relu"
    width: int | None = None
    replicates: int = 4
    dtype: str = "float32"
    tol: float = 1e-3
    max_steps: int = 4096
    bias: Bias = NONE

    def __post_init__(self):
        object.__setattr__(self, "bias", deviations(self.bias))
        object.__setattr__(self, "activation", activations.get(self.activation))
        require_integers(1, depth=self.depth, replicates=self.replicates, max_steps=self.max_steps)
        if self.width is not None:
            require_integers(16, width=self.width)
        require_one_of(("float32", "float64"), dtype=self.dtype)
        require_between(0, 1, tol=self.tol)

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        rank = largest_rank(tasks.values(), deviations(self.bias)[0])
        outputs = max(s.task.outputs for s in stages)
        width = self.neurons(rank, outputs)
        weights = width * (rank + (self.depth - 1) * width + outputs)
        samples = max(s.task.n_train for s in stages)
        inputs = sum(len(X) for s in stages for _, X in recorded_inputs(tasks, s.task))
        kernels = [(s.task.n_train * s.task.outputs) ** 2 for s in stages if s.has_fixed_kernel]
        each = 8 * (10 + 2 * len(stages)) * weights + 8 * 6 * max(kernels, default=0)
        each += np.dtype(self.dtype).itemsize * width * (6 * self.depth * samples + 3 * inputs)
        return int(self.replicates * each)

    def neurons(self, rank: int, outputs: int) -> int:
        """The width: matched fields need as many neurons as inputs have coordinates, and outputs.

        Examples
        --------
        >>> Ensemble(2).neurons(rank=60, outputs=1), Ensemble(2).neurons(rank=784, outputs=1)
        (512, 896)
        """
        return self.width or max(512, 128 * -(-(rank + outputs) // 128))

    def predicted_seconds(self, stage: Stage) -> float:
        """Time that a rich stage would take here, within a factor of 2 or 3.

        One evaluation of the vector field is timed now, for one replicate of moderate width, and
        scaled by the number of weights; how many a stage needs is an average over past ones.
        """
        task = stage.task
        rank = min(task.dimension, task.n_train)
        full = self.neurons(rank, task.outputs)
        width = min(full, PROBE)

        def weights(n: int) -> int:
            return n * (rank + (self.depth - 1) * n + task.outputs)

        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            shapes = (1, width, rank), (self.depth - 1, 1, width, width), (1, width, task.outputs)
            y = packed(Layers(*(jnp.full(shape, 1 / width) for shape in shapes)))
            flow = EnsembleFlow(
                jnp.ones((task.n_train, rank), self.dtype),
                on_device(task.y),
                jnp.zeros(()),
                jnp.ones(()),
                jnp.zeros(()),
                self.phi.phi,
                stage.objective.placed(),
            )
            step = eqx.filter_jit(lambda f, y: jax.tree.map(jnp.add, y, f(y)))
            jax.block_until_ready(step(flow, y))
            spent = []
            for _ in range(5):
                began = time.perf_counter()
                jax.block_until_ready(step(flow, y))
                spent.append(time.perf_counter() - began)
        scale = self.replicates * weights(full) / weights(width)
        return EVALUATIONS * scale * float(np.median(spent))

    def start(self, stages, tasks, rng) -> EnsembleState:
        span = Span.of(tasks.values(), deviations(self.bias)[0])
        outputs = stages[0].task.outputs
        if self.width is not None and self.width < span.rank + outputs:
            raise InputError(
                f"width={self.width} cannot hold the second moments of {span.rank} span "
                f"coordinates; give at least rank + outputs = {span.rank + outputs}, or None"
            )
        return self._drawn(rng, span, np.concatenate([t.X for t in tasks.values()]), outputs)

    def _drawn(self, rng: np.random.Generator, span: Span, X, outputs: int) -> EnsembleState:
        sizes = self.replicates, self.neurons(span.rank, outputs), self.depth
        bias = deviations(self.bias)
        return EnsembleState.drawn(rng, self.phi, span, X, outputs, sizes, self.dtype, bias)

    def advance(
        self, state: EnsembleState, stage: Stage, request: Request
    ) -> Advance[EnsembleState]:
        kept = self.depth if stage.fresh_above is None else stage.fresh_above
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            if kept == 0:
                state = self._drawn(request.rng, state.span, stage.task.X, stage.task.outputs)
            elif kept < self.depth:
                state = state.with_fresh_layers(request.rng, stage, kept)
            elif stage.head == "fresh":
                state = state.with_fresh_head(request.rng, stage)
            if stage.has_fixed_kernel:
                return _fixed_kernel(state, stage, request)
            record, end, snapshots = self._flow(state, stage, request, self.tol)
            timed, same = again(stage, replace(request, snapshots=()), record)
            coarse, _, _ = self._flow(state, timed, same, COARSER * self.tol)
        error = state.step_error + step_error(record, coarse)
        cost = timed_together(record.cost, coarse.cost)
        record = replace(record, cost=cost)
        return replace(record, step_error=error), replace(end, step_error=error), snapshots

    def _flow(
        self, state: EnsembleState, stage: Stage, request: Request, tol: float
    ) -> Advance[EnsembleState]:
        gamma, weights, dtype = stage.richness, state.weights, self.dtype
        task, frozen = stage.task, stage.frozen_layers(self.depth)
        layers = weights.layers

        def target(X):
            points = state.span.points(X)
            outside = weights.outside(points.orthogonal)
            inside = points.inside.astype(dtype)
            now = np.asarray(compiled_raw(layers, inside, outside, self.phi.phi), float)
            base = state.predict(X) - now / gamma
            return on_device(inside), on_device(outside), on_device(base)

        keys, points = [], []
        for key, X in recorded_inputs(request.tasks, task):
            keys.append(key)
            points.append(target(X))
        state.span.training_points(task.X)  # refuses inputs outside the span
        inside, _, base = points[keys.index((task.name, "train"))]
        flow = EnsembleFlow(
            inside,
            on_device(task.y),
            base,
            on_device(gamma),
            on_device(stage.weight_decay),
            self.phi.phi,
            stage.objective.placed(),
            frozen,
            state.bias,
        )

        def state_at(t: float, y) -> EnsembleState:
            fade = 1.0 if frozen else math.exp(-stage.weight_decay * t)
            own = jax.tree.map(np.asarray, unpacked(y, dtype))
            now = weights.with_layers(own, fade * weights.shrink)
            return state.moved(now, 1.0, ((-1 / gamma, weights), (1 / gamma, now)))

        return step_through(
            stage,
            request,
            flow,
            packed(layers),
            Recorder(flow, points),
            keys,
            state_at,
            Chosen(Chebyshev()),
            tol,
            self.max_steps,
        )


def packed(layers: Layers) -> Layers:
    """As the time stepper carries it: in double precision, without hidden layers if none."""
    present = layers if len(layers.hidden) else layers._replace(hidden=None, biases=None)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), present)


def unpacked(y: Layers, dtype) -> Layers:
    """The inverse of :func:`packed`, in the precision of matrix products."""
    own = jax.tree.map(lambda leaf: leaf.astype(dtype), y)
    if own.hidden is not None:
        return own
    replicates, width, _ = own.head.shape
    return own._replace(hidden=jnp.zeros((0, replicates, width, width), dtype))


class EnsembleFlow(AbstractFlow):
    """Gradient flow of all replicates; diffrax carries y in double precision."""

    inside: Float[Array, "P rank"]
    labels: Float[Array, "P C"]
    base: Float[Array, "R P C"]  # f - raw/gamma
    richness: Float[Array, ""]
    decay: Float[Array, ""]
    phi: Elementwise = eqx.field(static=True)
    objective: Objective
    frozen: int = eqx.field(static=True, default=0)
    bias: tuple[float, float] = eqx.field(static=True, default=NONE)

    def predict(self, y):
        own = unpacked(y, self.inside.dtype)
        return self.base + raw(own, self.inside, 0.0, self.phi) / self.richness

    def __call__(self, y):
        signal = self.objective.signal(self.predict(y), self.labels) / len(self.labels)
        own = unpacked(y, self.inside.dtype)
        signal = signal.astype(self.inside.dtype)
        push = pull_back(own, signal, self.inside, self.phi, self.frozen, self.bias)
        on = packed(trained(own, self.frozen))
        return jax.tree.map(
            lambda p, w, m: self.richness * p - self.decay * m * w, packed(push), y, on
        )

    def losses(self, y):
        return self.objective.by_part(self.predict(y), self.labels)

    def units(self):
        return self.objective.units(self.labels)

    def burden(self, y):
        on = packed(trained(unpacked(y, self.inside.dtype), self.frozen))
        squares = self._squares(jax.tree.map(lambda m, w: m * w, on, y))
        total = self.decay * squares / len(y.head)
        return 0.5 * self.objective.rate_factor * total / self.richness**2

    def weigh(self, y, error):
        own, error = unpacked(y, self.inside.dtype), unpacked(error, self.inside.dtype)
        change = tangent(own, error, self.inside, 0.0, self.phi)
        seen = jnp.sqrt(jnp.mean(jnp.square(change)))
        size = jnp.sqrt(self._squares(error) / len(own.head))
        return jnp.maximum(seen, FLOOR * size).astype(jnp.float64) / self.richness

    def _squares(self, y: Layers):
        """Of all weights, over N; biases in units of their standard deviations."""
        width, (b, b_r) = y.head.shape[1], self.bias
        outer = jnp.sum(jnp.square(y.first)) / width + jnp.sum(jnp.square(y.head)) / width
        inner = ((y.hidden, 1), (y.biases, width * b**2), (y.c, b_r**2))
        return outer + sum(jnp.sum(jnp.square(w)) / k for w, k in inner if w is not None)


class Recorder(eqx.Module):
    """f at recorded inputs."""

    flow: EnsembleFlow
    points: list[tuple[Array, Array, Array]]  # inside, outside, f - raw/gamma

    def __call__(self, t, y):
        flow = self.flow
        own = unpacked(y, flow.inside.dtype)
        decay = 0.0 if flow.frozen else flow.decay
        fade = jnp.exp(-decay * t).astype(flow.inside.dtype)
        return [
            base + raw(own, inside, fade * outside, flow.phi) / flow.richness
            for inside, outside, base in self.points
        ]


def _fixed_kernel(state: EnsembleState, stage: Stage, request: Request) -> Advance[EnsembleState]:
    """Run a readout or lazy stage."""
    began = time.perf_counter()
    task, decay, w = stage.task, stage.weight_decay, state.weights
    kind = "feature" if stage.trains == "readout" else "ntk"
    frozen = stage.frozen_layers(state.hidden_layers)
    if frozen == state.hidden_layers:
        grams = state.kernel(task.X, None, "feature") + state.bias[1] ** 2
    else:
        grams = state.ntk(task.X, None, frozen)
    if grams.ndim == 5:
        grams = grams.transpose(0, 1, 3, 2, 4).reshape(len(grams), task.y.size, task.y.size)
    path = FrozenPath.of(stage, request, grams, state.predict(task.X))
    inside = state.span.training_points(task.X)
    phi = np.asarray(phi_and_g(w.layers, inside, 0.0, state.activation)[0][-1], float)

    def at(t: float) -> EnsembleState:
        dual = path.duals[t]
        fade = math.exp(-decay * t) if decay else 1.0
        if kind == "ntk":
            phi_of = state.activation.phi
            signal = jnp.asarray(dual)
            move = compiled_pull_back(w.layers, signal, inside, phi_of, frozen, state.bias)
            stored = jax.tree.map(lambda a: np.asarray(a, w.first.dtype), move)
            term = DenseTerm(1.0, w, tuple(stored))
            moved = state.moved(w, fade, ())
            return replace(moved, terms=(*moved.terms, term))
        learned = np.einsum("rpm,rpc->rmc", phi, dual)
        gamma, constant = stage.richness, state.bias[1] ** 2 * np.sum(dual, 1)

        def with_readout(fade: float, gamma: float) -> DenseWeights:
            c = None if w.c is None else (fade * w.c + gamma * constant).astype(w.c.dtype)
            return replace(w, head=(fade * w.head + gamma * learned).astype(w.head.dtype), c=c)

        if gamma == 0:
            return state.moved(w, fade, ((1.0, with_readout(0.0, 1.0)),))
        now = with_readout(fade, gamma)
        return state.moved(now, fade, ((-fade / gamma, w), (1 / gamma, now)))

    states = [at(float(t)) for t in path.times]
    predictions = {
        key: np.stack([s.predict(X) for s in states])
        for key, X in recorded_inputs(request.tasks, task)
    }
    record = replace(path.record(stage, predictions, began), step_error=state.step_error)
    return record, states[-1], {t: at(t) for t in path.kept}
