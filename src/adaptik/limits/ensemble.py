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
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import activations, losses
from ..activations import Activation, Elementwise
from ..errors import InputError, require_between, require_integers
from ..losses import Loss
from ..registry import register
from ..solution import AbstractState
from ..stages import Stage
from ..stepping import AbstractFlow, Chebyshev
from ..tasks import Task
from . import particles as sampling
from .base import Advance, Request, checked_layer, recorded_inputs
from .frozen_kernel import FrozenPath
from .span import Span
from .stepped import step_through

COARSER = 8.0  # tolerance of the second solve that estimates the error of the first: half the steps
FLOOR = 0.1  # part of an error in the weights that is taken to be felt outside the samples
PART = 8  # a matrix is conditioned on at most width / PART directions of each kind
BLOCK = 2**24  # numbers in one temporary array of hidden units


class Layers(NamedTuple):
    """All weights: h_1 = W a(x), h_{l+1} = U_l phi(h_l), <z phi> = head.phi(h_L)/N."""

    first: Float[Array, "R N rank"]
    hidden: Float[Array, "L-1 R N N"]
    head: Float[Array, "R N C"]


def fields(layers: Layers, inside, outside, phi: Elementwise) -> list[Array]:
    """h_1 .. h_L, each ``(R, n, N)``; ``outside`` is what inputs outside the span add to h_1."""
    h = [jnp.einsum("pk,rmk->rpm", inside, layers.first) + outside]
    for U in layers.hidden:
        h.append(jnp.einsum("rmk,rpk->rpm", U, phi(h[-1])))
    return h


def raw(layers: Layers, inside, outside, phi: Elementwise) -> Float[Array, "R n C"]:
    """<z phi(h_L)>."""
    top = phi(fields(layers, inside, outside, phi)[-1])
    return jnp.einsum("rpm,rmc->rpc", top, layers.head) / layers.head.shape[1]


def tangent(layers: Layers, move: Layers, inside, outside, phi: Elementwise):
    """Derivative of :func:`raw` along ``move``."""
    return jax.jvp(lambda w: raw(w, inside, outside, phi), (layers,), (move,))[1]


def pull_back(layers: Layers, signal, inside, phi: Elementwise) -> Layers:
    """How all weights answer an error signal ``(R, P, C)`` at richness 1."""
    gradient = jax.vjp(lambda w: raw(w, inside, 0.0, phi), layers)[1](signal)[0]
    width = layers.head.shape[1]
    return Layers(width * gradient.first, gradient.hidden, width * gradient.head)


def packed(layers: Layers) -> tuple[Array, ...]:
    """As the time stepper carries it: in double precision, without hidden matrices if none."""
    present = layers if len(layers.hidden) else (layers.first, layers.head)
    return tuple(leaf.astype(jnp.float64) for leaf in present)


def unpacked(y: tuple[Array, ...], dtype) -> Layers:
    """The inverse of :func:`packed`, in the precision of matrix products."""
    first, head = y[0].astype(dtype), y[-1].astype(dtype)
    replicates, width, _ = head.shape
    hidden = y[1].astype(dtype) if len(y) > 2 else jnp.zeros((0, replicates, width, width), dtype)
    return Layers(first, hidden, head)


class EnsembleFlow(AbstractFlow):
    """Gradient flow of all replicates; diffrax carries y in double precision."""

    inside: Float[Array, "P rank"]
    labels: Float[Array, "P C"]
    base: Float[Array, "R P C"]  # f - raw/gamma
    richness: Float[Array, ""]
    decay: Float[Array, ""]
    phi: Elementwise = eqx.field(static=True)
    objective: Loss = eqx.field(static=True)

    def predict(self, y):
        own = unpacked(y, self.inside.dtype)
        return self.base + raw(own, self.inside, 0.0, self.phi) / self.richness

    def __call__(self, y):
        signal = self.objective.signal(self.predict(y), self.labels) / len(self.labels)
        own = unpacked(y, self.inside.dtype)
        push = pull_back(own, signal.astype(self.inside.dtype), self.inside, self.phi)
        pushes = zip(packed(push), y, strict=True)
        return tuple(self.richness * p - self.decay * w for p, w in pushes)

    def loss(self, y):
        return jnp.mean(self.objective.value(self.predict(y), self.labels))

    def weigh(self, y, error):
        own, error = unpacked(y, self.inside.dtype), unpacked(error, self.inside.dtype)
        change = tangent(own, error, self.inside, 0.0, self.phi)
        seen = jnp.sqrt(jnp.mean(jnp.square(change)))
        width = own.head.shape[1]
        parts = [jnp.sum(jnp.square(error.first)) / width, jnp.sum(jnp.square(error.head)) / width]
        parts += [jnp.sum(jnp.square(error.hidden))]
        size = jnp.sqrt(sum(parts) / len(own.head))
        return jnp.maximum(seen, FLOOR * size).astype(jnp.float64) / self.richness


class Recorder(eqx.Module):
    """f at recorded inputs."""

    flow: EnsembleFlow
    points: list[tuple[Array, Array, Array]]  # inside, outside, f - raw/gamma

    def __call__(self, t, y):
        flow = self.flow
        own = unpacked(y, flow.inside.dtype)
        fade = jnp.exp(-flow.decay * t).astype(flow.inside.dtype)
        return [
            base + raw(own, inside, fade * outside, flow.phi) / flow.richness
            for inside, outside, base in self.points
        ]


@register
@dataclass(frozen=True, eq=False)
class DenseWeights:
    """Weights of all replicates at one time.

    Attributes
    ----------
    first, hidden, head
        Shapes ``(R, N, rank)``, ``(L - 1, R, N, N)`` and ``(R, N, C)``.
    seed
        Of the first-layer weights of directions outside the span, which never learn.
    shrink
        Factor by which weight decay has scaled those.
    """

    first: Float[np.ndarray, "R N rank"]
    hidden: Float[np.ndarray, "L-1 R N N"]
    head: Float[np.ndarray, "R N C"]
    seed: int
    shrink: float = 1.0

    @property
    def layers(self) -> Layers:
        return Layers(*map(jnp.asarray, (self.first, self.hidden, self.head)))

    def outside(self, orthogonal: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "R n N"]:
        """What parts outside the span add to h_1."""
        replicates, width, _ = self.first.shape
        if not orthogonal.any():
            return np.zeros((replicates, 1, 1), self.first.dtype)
        rng = np.random.default_rng(self.seed)
        rows = [rng.standard_normal((orthogonal.shape[1], width)) for _ in range(replicates)]
        return np.stack([self.shrink * orthogonal @ W for W in rows]).astype(self.first.dtype)


@register
@dataclass(frozen=True, eq=False)
class DenseTerm:
    """coefficient * <z phi(h_L)>, or its derivative along ``move`` (shaped like the layers)."""

    coefficient: float
    weights: DenseWeights
    move: tuple[Any, ...] = ()


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
        error does not show; doubling the width halves it.
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

    def start(self, stages, tasks, rng) -> "EnsembleState":
        for i, stage in enumerate(stages):
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
        inside = np.concatenate([span.points(t.X).inside for t in tasks.values()])
        one = sampling.initial(
            rng, self.replicates, self.width, span.rank, outputs, "quasi", "float64"
        )
        drawn = [
            conditioned(rng, W, z, inside, self.depth, self.phi)
            for W, z in zip(one.w, one.z, strict=True)
        ]
        hidden = np.stack([U for U, _ in drawn], axis=1).astype(self.dtype)
        head = np.stack([w for _, w in drawn]).astype(self.dtype)
        seed = int(rng.integers(2**31))
        weights = DenseWeights(one.w.astype(self.dtype), hidden, head, seed)
        return EnsembleState(self.phi, span, weights, initial=True)

    def advance(self, state: "EnsembleState", stage: Stage, request: Request) -> Advance:
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            if stage.head == "fresh":
                state = state.with_fresh_head(request.rng, stage)
            if stage.has_fixed_kernel:
                return _fixed_kernel(state, stage, request)
            record, end, snapshots = self._flow(state, stage, request, self.tol)
            times = record.times[record.times < record.duration]
            timed = replace(stage, duration=stage.duration or record.duration)
            again = replace(request, times=times, snapshots=())
            rough, _, _ = self._flow(state, timed, again, COARSER * self.tol)
            error = max(
                float(np.abs(rough.predictions[key] - f).max())
                for key, f in record.predictions.items()
            )
            return replace(record, step_error=error), end, snapshots

    def _flow(self, state: "EnsembleState", stage: Stage, request: Request, tol: float) -> Advance:
        gamma, weights, dtype = stage.richness, state.weights, self.dtype
        task = stage.task
        layers = weights.layers

        def target(X):
            points = state.span.points(X)
            outside = weights.outside(points.orthogonal)
            inside = points.inside.astype(dtype)
            now = np.asarray(_raw(layers, inside, outside, self.phi.phi), float)
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
            jnp.asarray(stage.weight_decay), self.phi.phi, losses.get(stage.loss),
        )  # fmt: skip

        def state_at(t: float, y) -> EnsembleState:
            shrink = weights.shrink * math.exp(-stage.weight_decay * t)
            first, hidden, head = map(np.asarray, unpacked(y, dtype))
            now = DenseWeights(first, hidden, head, weights.seed, shrink)
            return state.moved(now, 1.0, ((-1 / gamma, weights), (1 / gamma, now)))

        return step_through(
            stage, request, flow, packed(layers), Recorder(flow, points), keys,
            state_at, Chebyshev(), tol, self.max_steps,
        )  # fmt: skip


_raw = partial(jax.jit, static_argnums=3)(raw)
_tangent = partial(jax.jit, static_argnums=4)(tangent)
_pull_back = partial(jax.jit, static_argnums=3)(pull_back)


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
    """

    activation: Activation
    span: Span
    weights: DenseWeights
    terms: tuple[DenseTerm, ...] = ()
    initial: bool = False

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
        top = np.asarray(_fields(w.layers, inside, 0.0, self.activation)[0][-1], float)
        heads = []
        for phi in top:
            z = rng.permutation(sampling._sobol_normal(rng, phi.shape[1], outputs))
            heads.append(off(basis_of(phi.T, phi.shape[1] // PART), z))
        head = np.stack(heads).astype(w.head.dtype)
        return replace(self, weights=replace(w, head=head), terms=(), initial=False)

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
                        value = _tangent(layers, move, inside, outside, phi)
                    else:
                        value = _raw(layers, inside, outside, phi)
                    total[:, rows] += term.coefficient * np.asarray(value, float)
        return total

    def layer_kernel(self, X, X2, kind, layer):
        checked_layer(layer, len(self.weights.hidden) + 1)
        both = X if X2 is None else np.concatenate([X, X2])
        rows, columns = (slice(None),) * 2 if X2 is None else (slice(len(X)), slice(len(X), None))
        points, w = self.span.points(both), self.weights
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            found = _fields(w.layers, points.inside, w.outside(points.orthogonal), self.activation)
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
            for k in range(1, depth + 1):
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


@partial(jax.jit, static_argnums=3)
def _fields(layers: Layers, inside, outside, activation: Activation):
    """phi(h_l), each ``(R, n, N)``, and g_l, each ``(R, n, C, N)``, for every layer."""
    h = fields(layers, inside, outside, activation.phi)
    z = layers.head.transpose(0, 2, 1)[:, None]
    gradients = []
    for k in reversed(range(len(h))):
        g = activation.derivative(h[k])[:, :, None, :] * z
        gradients.insert(0, g)
        z = jnp.einsum("rpcm,rmk->rpck", g, layers.hidden[k - 1]) if k else z
    return [activation.phi(x) for x in h], gradients


def _blocks(count: int, weights: DenseWeights):
    rows = max(1, BLOCK // (weights.first.shape[0] * weights.first.shape[1]))
    return [slice(i, i + rows) for i in range(0, count, rows)]


# -- initialisation ------------------------------------------------------------------------------


def basis_of(vectors: Float[np.ndarray, "N k"], most: int) -> Float[np.ndarray, "N q"]:
    """Directions, in the norm <x, x> = x.x/N, that hold most of ``vectors``."""
    left, values, _ = np.linalg.svd(vectors, full_matrices=False)
    count = min(most, int((values > 1e-3 * values[0]).sum()))
    return math.sqrt(len(vectors)) * left[:, :count]


def off(basis: Float[np.ndarray, "N q"], sample: Float[np.ndarray, "N k"]):
    """The sample orthogonal to ``basis`` (orthonormalised) with unit second moments."""
    q, _ = np.linalg.qr(basis)
    return sampling._whiten(sample - q @ (q.T @ sample))


def conditioned(
    rng: np.random.Generator, W: Float[np.ndarray, "N rank"], z: Float[np.ndarray, "N C"],
    inside: Float[np.ndarray, "P rank"], depth: int, activation: Activation,
) -> tuple[Float[np.ndarray, "L-1 N N"], Float[np.ndarray, "N C"]]:  # fmt: skip
    """Hidden matrices U_l and readout of one network, whose initial fields have exact moments."""
    width, most = len(W), max(1, len(W) // PART)

    def phi(h):
        return np.asarray(activation.phi(jnp.asarray(h)))

    def slope(h):
        return np.asarray(activation.derivative(jnp.asarray(h)))

    with jax.enable_x64(True):
        h, seen, known = [W @ inside.T], [W], []
        for _ in range(depth - 1):
            features = phi(h[-1])
            Q = basis_of(features, most)
            F = sampling._whiten(sampling._sobol_normal(rng, width, Q.shape[1]))
            F = F[rng.permutation(width)]
            known.append((Q, F))
            h.append(F @ (Q.T @ features) / width)
            seen.append(F)
        top = basis_of(phi(h[-1]), most)
        head = off(top, z)
        back, U = [head[:, c : c + 1] for c in range(head.shape[1])], []
        for k in reversed(range(depth - 1)):
            g = np.concatenate([slope(h[k + 1]) * b for b in back], axis=1)
            S, (Q, F) = basis_of(g, most), known[k]
            used = np.concatenate([seen[k][:, : 2 * most], Q], axis=1)
            E = off(used, rng.permutation(sampling._sobol_normal(rng, width, S.shape[1])))
            rest = rng.standard_normal((width, width)) / math.sqrt(width)
            rest = rest - S @ (S.T @ rest) / width
            rest = rest - (rest @ Q) @ Q.T / width
            U.insert(0, (F @ Q.T + S @ E.T) / width + rest)
            sent = U[0].T @ g
            back = np.split(sent, len(back), axis=1)
    return np.reshape(U, (depth - 1, width, width)), head


# -- stages whose kernel stays -------------------------------------------------------------------


def _fixed_kernel(state: EnsembleState, stage: Stage, request: Request) -> Advance:
    """Readout and lazy stages, exact on the kernel of every replicate."""
    began = time.perf_counter()
    task, decay, w = stage.task, stage.weight_decay, state.weights
    kind = "feature" if stage.trains == "readout" else "ntk"
    grams, outputs = state.kernel(task.X, None, kind), task.outputs
    if grams.ndim == 5:
        grams = grams.transpose(0, 1, 3, 2, 4).reshape(len(grams), task.y.size, task.y.size)
    path = FrozenPath.of(stage, request, grams, state.predict(task.X))
    inside = state.span.training_points(task.X)
    phi = np.asarray(_fields(w.layers, inside, 0.0, state.activation)[0][-1], float)

    def at(t: float) -> EnsembleState:
        dual = path.duals[t]
        fade = math.exp(-decay * t) if decay else 1.0
        if kind == "ntk":
            move = _pull_back(w.layers, jnp.asarray(dual), inside, state.activation.phi)
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
    return path.record(stage, predictions, began), states[-1], {t: at(t) for t in path.kept}
