"""Dense networks of moderate width whose initial fields have the moments of infinite ones.

A network of width N differs from the infinite one mostly by the noise of its fields at the start.
Here first-layer weights and readouts are Sobol points with exact second moments, and every hidden
matrix is conditioned on what it does to the features and gradients at the start (theory 5):

    W = F Q^T + S E^T + (1 - S S^T) W_random (1 - Q Q^T)

with Q and S orthonormal bases of features phi_l and gradients g_{l+1} on the training inputs, F and
E fresh points with exact second moments. Replicates with independent points give the error bar.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import activations, losses
from ..activations import Activation, Elementwise
from ..errors import InputError, require_between, require_integers
from ..registry import register
from ..solution import AbstractState, Solution, StageRecord
from ..stages import Stage
from ..stepping import Chebyshev
from ..tasks import Task
from . import particles as sampling
from .base import Advance, Request, checked_layer, growth, recorded_inputs
from .dense import (
    PART,
    DenseTerm,
    DenseWeights,
    EnsembleFlow,
    Layers,
    Recorder,
    basis_of,
    compiled_pull_back,
    compiled_raw,
    compiled_tangent,
    conditioned,
    fields,
    off,
    packed,
    phi_and_g,
    unpacked,
)
from .frozen_kernel import FrozenPath
from .span import Span
from .step_error import again, step_error
from .stepped import step_through

COARSER = 8.0  # tolerance of the second solve that estimates the error of the first: half the steps
BLOCK = 2**24  # numbers in one temporary array of hidden units
EVALUATIONS = 500  # of the vector field in a stage, those of the coarser solve included
FLOPS = 3e10  # a second on two cores


@dataclass(frozen=True)
class Ensemble:
    """Deep nonlinear networks at infinite width, from dense networks with matched initial fields.

    Attributes
    ----------
    depth
        Number of hidden layers L.
    activation
        A name, an :class:`adaptik.activations.Activation`, or an elementwise JAX function.
    width
        Neurons N of every hidden layer. Replicates share a bias of order 1/N, which the standard
        error does not show; judge it by doubling the width.
    replicates
        Independent networks; their spread is the standard error.
    dtype
        Of matrix products, ``"float32"`` or ``"float64"``.
    tol
        Error allowed in one step, in units of the predictor.
    max_steps
        Steps after which a stage gives up.

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

    depth: int
    activation: str | Activation | Elementwise = "relu"
    width: int = 512
    replicates: int = 4
    dtype: str = "float32"
    tol: float = 1e-3
    max_steps: int = 4096

    def __post_init__(self):
        object.__setattr__(self, "activation", activations.get(self.activation))
        require_integers(1, depth=self.depth, replicates=self.replicates, max_steps=self.max_steps)
        require_integers(16, width=self.width)
        if self.dtype not in ("float32", "float64"):
            raise InputError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")
        require_between(0, 1, tol=self.tol)

    @property
    def phi(self) -> Activation:
        assert isinstance(self.activation, Activation)
        return self.activation

    def describe(self) -> dict[str, Any]:
        names = ("depth", "width", "replicates", "dtype", "tol")
        fields = {name: getattr(self, name) for name in names}
        return {"limit": "Ensemble", "activation": self.phi.name, **fields}

    def refined(self, tol: float, found: Solution | None) -> "Ensemble":
        if found is None:
            return replace(self, tol=min(self.tol, tol / 10))
        return replace(self, replicates=math.ceil(self.replicates * growth(found, tol)))

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        rank = min(stages[0].task.dimension, sum(t.n_train for t in tasks.values()))
        outputs = max(s.task.outputs for s in stages)
        weights = self.width * (rank + (self.depth - 1) * self.width + outputs)
        samples = max(s.task.n_train for s in stages)
        inputs = sum(len(X) for s in stages for _, X in recorded_inputs(tasks, s.task.outputs))
        kernels = [(s.task.n_train * s.task.outputs) ** 2 for s in stages if s.has_fixed_kernel]
        each = 8 * (10 + 2 * len(stages)) * weights + 8 * 6 * max(kernels, default=0)
        each += np.dtype(self.dtype).itemsize * self.width * (6 * self.depth * samples + 3 * inputs)
        return int(self.replicates * each)

    def predicted_seconds(self, stage: Stage) -> float:
        """Order of magnitude of the time that a rich stage takes on two cores."""
        task = stage.task
        weights = self.width * (
            min(task.dimension, task.n_train) + (self.depth - 1) * self.width + task.outputs
        )
        # Forward and backward each multiply by every weight once or twice.
        return EVALUATIONS * 6.0 * self.replicates * task.n_train * weights / FLOPS

    def start(self, stages, tasks, rng) -> "EnsembleState":
        for i, stage in enumerate(stages):
            stage.frozen_layers(self.depth)
            if stage.is_lazy and stage.weight_decay > 0:
                raise InputError(
                    f"stage {i}: richness=0 with weight_decay > 0 is not available at depth > 1 "
                    "for nonlinear networks; use weight_decay=0 or a small richness"
                )
        span, outputs = Span.of(tasks.values()), stages[0].task.outputs
        if self.width < span.rank + outputs:
            raise InputError(
                f"width={self.width} cannot hold the second moments of {span.rank} span "
                f"coordinates; give at least rank + outputs = {span.rank + outputs}"
            )
        return self._drawn(rng, span, np.concatenate([t.X for t in tasks.values()]), outputs)

    def _drawn(self, rng: np.random.Generator, span: Span, X: np.ndarray, outputs: int):
        """Networks at initialisation, with exact moments of the fields on X."""
        inside = span.points(X).inside
        one = sampling.initial(
            rng, self.replicates, self.width, span.rank, outputs, "quasi", "float64"
        )
        drawn = [
            conditioned(rng, W @ inside.T, W, z, self.depth - 1, self.phi)
            for W, z in zip(one.w, one.z, strict=True)
        ]
        hidden = np.stack([U for U, _ in drawn], axis=1).astype(self.dtype)
        head = np.stack([w for _, w in drawn]).astype(self.dtype)
        seed = int(rng.integers(2**31))
        weights = DenseWeights(one.w.astype(self.dtype), hidden, head, seed)
        return EnsembleState(self.phi, span, weights, initial=True)

    def advance(self, state: "EnsembleState", stage: Stage, request: Request) -> Advance:
        stage.frozen_layers(self.depth)
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
        return replace(record, step_error=error), replace(end, step_error=error), snapshots

    def _flow(
        self, state: "EnsembleState", stage: Stage, request: Request, tol: float
    ) -> tuple[StageRecord, Any, dict[float, AbstractState]]:
        gamma, weights, dtype = stage.richness, state.weights, self.dtype
        task, frozen = stage.task, stage.frozen_layers(self.depth)
        layers = weights.layers

        def target(X):
            points = state.span.points(X)
            outside = weights.outside(points.orthogonal)
            inside = points.inside.astype(dtype)
            now = np.asarray(compiled_raw(layers, inside, outside, self.phi.phi), float)
            base = state.predict(X) - now / gamma
            return jnp.asarray(inside), jnp.asarray(outside), jnp.asarray(base)

        keys, points = [], []
        for key, X in recorded_inputs(request.tasks, task.outputs):
            keys.append(key)
            points.append(target(X))
        state.span.training_points(task.X)  # refuses inputs outside the span
        inside, _, base = points[keys.index((task.name, "train"))]
        flow = EnsembleFlow(
            inside, jnp.asarray(task.y), base, jnp.asarray(gamma),
            jnp.asarray(stage.weight_decay), self.phi.phi, losses.get(stage.loss), frozen,
        )  # fmt: skip

        def state_at(t: float, y) -> EnsembleState:
            fade = 1.0 if frozen else math.exp(-stage.weight_decay * t)
            first, hidden, head = map(np.asarray, unpacked(y, dtype))
            now = DenseWeights(first, hidden, head, weights.seed, fade * weights.shrink)
            return state.moved(now, 1.0, ((-1 / gamma, weights), (1 / gamma, now)))

        return step_through(
            stage, request, flow, packed(layers), Recorder(flow, points), keys,
            state_at, Chebyshev(), tol, self.max_steps,
        )  # fmt: skip


@register
@dataclass(frozen=True, eq=False)
class EnsembleState(AbstractState):
    """Dense networks, and the predictor as a sum of terms.

    Attributes
    ----------
    activation, span
        phi, and the coordinates of inputs.
    weights
        Of all replicates.
    terms
        The predictor f.
    initial
        Whether nothing has been trained yet.
    step_error
        Sum of the estimates of the stages so far, which later ones inherit.
    """

    activation: Activation
    span: Span
    weights: DenseWeights
    terms: tuple[DenseTerm, ...] = ()
    initial: bool = False
    step_error: float = 0.0

    def moved(self, weights: DenseWeights, fade: float, added) -> "EnsembleState":
        """The state after a stage: terms faded, readout terms added, equal weights merged."""
        sums: dict[int, tuple[float, DenseWeights]] = {}
        kept = [replace(t, coefficient=fade * t.coefficient) for t in self.terms]
        for c, w in [*((t.coefficient, t.weights) for t in kept if not t.move), *added]:
            sums[id(w)] = (sums.get(id(w), (0.0, w))[0] + c, w)
        terms = [t for t in kept if t.move]
        terms += [DenseTerm(c, w) for c, w in sums.values() if abs(c) > 1e-12]
        return replace(self, weights=weights, terms=tuple(terms), initial=False)

    def with_fresh_head(self, rng: np.random.Generator, stage: Stage) -> "EnsembleState":
        """A new readout, orthogonal to the features of the stage's samples, and f = 0."""
        outputs, w = stage.task.outputs, self.weights
        if self.initial and w.head.shape[-1] == outputs:
            return self
        inside = self.span.training_points(stage.task.X)
        top = np.asarray(phi_and_g(w.layers, inside, 0.0, self.activation)[0][-1], float)
        heads = []
        for phi in top:
            z = rng.permutation(sampling._sobol_normal(rng, phi.shape[1], outputs))
            heads.append(off(basis_of(phi.T, phi.shape[1] // PART), z))
        head = np.stack(heads).astype(w.head.dtype)
        return replace(self, weights=replace(w, head=head), terms=(), initial=False)

    def with_fresh_layers(self, rng: np.random.Generator, stage: Stage, kept: int):
        """New hidden layers above layer ``kept``, a new readout, and f = 0."""
        w, count = self.weights, len(self.weights.hidden) + 1 - kept
        inside = self.span.training_points(stage.task.X)
        lowest = fields(w.layers, jnp.asarray(inside), 0.0, self.activation.phi)[kept - 1]
        drawn = []
        for h in np.asarray(lowest, float):
            z = rng.permutation(sampling._sobol_normal(rng, h.shape[1], stage.task.outputs))
            drawn.append(conditioned(rng, h.T, h.T, z, count, self.activation))
        hidden = np.concatenate([w.hidden[: kept - 1], np.stack([U for U, _ in drawn], axis=1)])
        head = np.stack([z for _, z in drawn]).astype(w.head.dtype)
        weights = replace(w, hidden=hidden.astype(w.hidden.dtype), head=head)
        return replace(self, weights=weights, terms=(), initial=False)

    def predict(self, X):
        points = self.span.points(X)
        replicates, _, outputs = self.weights.head.shape
        total = np.zeros((replicates, len(X), outputs))
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            for rows in _blocks(len(X), self.weights):
                inside = points.inside[rows].astype(self.weights.first.dtype)
                for term in self.terms:
                    outside = term.weights.outside(points.orthogonal[rows])
                    layers, phi = term.weights.layers, self.activation.phi
                    if term.move:
                        move = Layers(*map(jnp.asarray, term.move))
                        value = compiled_tangent(layers, move, inside, outside, phi)
                    else:
                        value = compiled_raw(layers, inside, outside, phi)
                    total[:, rows] += term.coefficient * np.asarray(value, float)
        return total

    def layer_kernel(self, X, X2, kind, layer, frozen=0):
        """The NTK (``kind="ntk"``) is that of the weights above the first ``frozen`` layers."""
        checked_layer(layer, len(self.weights.hidden) + 1)
        both = X if X2 is None else np.concatenate([X, X2])
        rows, columns = (slice(None),) * 2 if X2 is None else (slice(len(X)), slice(len(X), None))
        points, w = self.span.points(both), self.weights
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            found = phi_and_g(
                w.layers, points.inside, w.outside(points.orthogonal), self.activation
            )
        phi, g = ([np.asarray(a, float) for a in part] for part in found)
        width, depth, outputs = w.first.shape[1], len(phi), w.head.shape[-1]

        def feature(k):
            if k == 0:
                inputs = points.inside @ points.inside.T + points.orthogonal @ points.orthogonal.T
                return inputs[None, rows, columns]
            return phi[k - 1][:, rows] @ phi[k - 1][:, columns].transpose(0, 2, 1) / width

        def gradient(k):
            a, b = g[k - 1][:, rows], g[k - 1][:, columns]
            return np.einsum("rncm,rpdm->rnpcd", a, b, optimize=True) / width

        if kind == "feature":
            return feature(layer)
        if kind == "gradient":
            full = gradient(layer)
        else:
            full = feature(depth)[..., None, None] * np.eye(outputs)
            for k in range(frozen + 1, depth + 1):
                full = full + gradient(k) * feature(k - 1)[..., None, None]
        return full[..., 0, 0] if outputs == 1 else full

    def kernel(self, X, X2, kind):
        return self.layer_kernel(X, X2, kind, len(self.weights.hidden) + 1)

    def preactivations(self, X):
        points, w = self.span.points(X), self.weights
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            outside = w.outside(points.orthogonal)
            h = fields(w.layers, jnp.asarray(points.inside), outside, self.activation.phi)[-1]
        return np.asarray(h).transpose(0, 2, 1)


def _blocks(count: int, weights: DenseWeights):
    rows = max(1, BLOCK // (weights.first.shape[0] * weights.first.shape[1]))
    return [slice(i, i + rows) for i in range(0, count, rows)]


# -- stages whose kernel stays -------------------------------------------------------------------


def _fixed_kernel(state: EnsembleState, stage: Stage, request: Request) -> Advance:
    """Readout and lazy stages, exact on the kernel of every replicate."""
    began = time.perf_counter()
    task, decay, w = stage.task, stage.weight_decay, state.weights
    kind = "feature" if stage.trains == "readout" else "ntk"
    depth, outputs = len(w.hidden) + 1, task.outputs
    frozen = stage.frozen_layers(depth)
    grams = state.layer_kernel(task.X, None, kind, depth, frozen)
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
            move = compiled_pull_back(w.layers, jnp.asarray(dual), inside, phi_of, frozen)
            term = DenseTerm(1.0, w, tuple(np.asarray(a, w.first.dtype) for a in move))
            moved = state.moved(w, fade, ())
            return replace(moved, terms=(*moved.terms, term))
        learned = np.einsum("rpm,rpc->rmc", phi, dual)
        dtype = w.head.dtype
        if stage.richness == 0:
            return state.moved(w, fade, ((1.0, replace(w, head=learned.astype(dtype))),))
        now = replace(w, head=(fade * w.head + stage.richness * learned).astype(dtype))
        gamma = stage.richness
        return state.moved(now, fade, ((-fade / gamma, w), (1 / gamma, now)))

    states = [at(float(t)) for t in path.times]
    predictions = {
        key: np.stack([s.predict(X) for s in states])
        for key, X in recorded_inputs(request.tasks, outputs)
    }
    record = replace(path.record(stage, predictions, began), step_error=state.step_error)
    return record, states[-1], {t: at(t) for t in path.kept}
