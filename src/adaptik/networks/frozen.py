"""Stages in which a network's kernel stays as it was: exact on its empirical Gram matrix.

f(t) = exp(-lambda t) f_0 + K c(t). The dual coefficients c(t) come from
:mod:`adaptik.kernels.regression`; the weights then move to where they put the network:
head + gamma phi^T c if the readout trains, nowhere at richness 0.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..kernels.regression import Relative, SquaredFlow, dual_flow, settling_time
from ..mathematics.activations import Activation
from ..mathematics.stepping import HORIZON
from ..mathematics.stepping.flow import STALL
from ..solution import Cost, Outcome
from ..tasks.stages import Stage
from . import convolution
from .forward import only_above, preactivations, raw
from .mup import (
    Member,
    Network,
    Run,
    Term,
    Weights,
    combine,
    empirical_kernel,
    in_batches,
)


def solve_frozen(network: Network, stage: Stage, start: Member, inputs, grid, snapshots) -> Run:
    """Run a stage with a frozen kernel; parameters as in :func:`.flows.flow_through`."""
    task, lam = stage.task, stage.fade_rate
    gram = _kernel(network, start.weights, task.X, stage)
    f0 = start.predict(task.X, network.phi, network.biases)
    solve = _closed_form if stage.loss == "squared" else _implicit
    flow = solve(gram, task.y, f0, stage)
    end = flow.end_time
    times = np.append(grid[grid < end], end)
    reached = [t for t in snapshots if t <= end]
    duals = flow.duals(np.unique(np.append(times, reached)))
    at_times = np.stack([duals[t] for t in times.tolist()])
    spec = "nm,tmc->ntc" if gram.ndim == 2 else "ncmd,tmd->ntc"

    def moved(x):  # one block of inputs, so that no large kernel is ever whole
        K = _kernel(network, start.weights, x, stage)
        return np.einsum(spec, K, at_times, optimize=True)

    motion = in_batches(moved, inputs, start.weights).transpose(1, 0, 2)
    fades = np.array([_fade(lam, t) for t in times])[:, None, None]
    loss, rate = flow.loss_and_rate(duals[end])

    def member(t: float) -> Member:
        return _moved(network, stage, start, duals[t], _fade(lam, t))

    return Run(
        times=times,
        predictions=fades * start.predict(inputs, network.phi, network.biases) + motion,
        loss=loss,
        rate=rate,
        outcome=flow.outcome if np.isfinite(loss) else Outcome.DIVERGED,
        cost=Cost(flow.method, 1, 0, 0.0, 0.0),
        end=member(end),
        snapshots={t: member(t) for t in reached},
    )


def _kernel(network: Network, weights: Weights, x, stage: Stage) -> np.ndarray:
    """That of the stage between inputs and its samples, the head's part at the head's rate."""
    X, eta, frozen = stage.task.X, stage.head_rate, stage.frozen_layers(network.depth)

    def kernel(kind: str, layer: int) -> np.ndarray:
        return empirical_kernel(weights, x, X, kind, network.phi, layer, network.biases)

    constant = network.biases[1] ** 2
    if stage.trains == "readout":
        return eta * (kernel("feature", frozen) + constant)
    ntk = kernel("ntk", frozen)
    if stage.low_rank is not None:  # the first layer sees inputs along few directions alone
        seen, samples = (_with_constant(v, network.biases[0]) for v in (x, X))
        a = stage.low_rank.directions(seen.shape[1])
        lost = ((seen @ a) @ (samples @ a).T - seen @ samples.T) / X.shape[1]
        ntk = ntk + kernel("gradient", 1) * lost[:, None, :, None]
    if eta == 1:
        return ntk
    feature = kernel("feature", 0) + constant  # of the last layer
    return ntk + (eta - 1) * np.einsum("nm,cd->ncmd", feature, np.eye(ntk.shape[1]))


def _with_constant(X, bias: float) -> np.ndarray:
    """Inputs as first-layer weights see them: their last column, biases, sees b sqrt(D)."""
    X = np.asarray(X)
    return np.pad(X, ((0, 0), (0, 1)), constant_values=bias * X.shape[1] ** 0.5) if bias else X


def _fade(decay: float, t: float) -> float:
    return math.exp(-decay * t) if decay else 1.0


@dataclass(frozen=True)
class _ClosedForm:
    """Squared loss: one flow, or one per output where the kernel does not mix outputs."""

    flows: list[SquaredFlow]
    shape: tuple[int, int]
    end_time: float
    outcome: Outcome
    root: Float[np.ndarray, "P C"] | float = 1.0  # of the weights of the loss
    method: str = "closed form"

    def duals(self, times: np.ndarray) -> dict[float, Float[np.ndarray, "P C"]]:
        def at(t):
            dual = np.stack([flow.dual(t) for flow in self.flows], axis=1).reshape(self.shape)
            return self.root * dual

        return {t: at(t) for t in times.tolist()}

    def loss_and_rate(self, dual) -> tuple[float, float]:
        pairs = [flow.loss_and_rate(self.end_time) for flow in self.flows]
        loss, rate = np.sum(pairs, axis=0)
        return float(loss), float(rate)


def _closed_form(gram, y, f0, stage: Stage) -> _ClosedForm:
    objective = stage.objective
    weights = stage.loss_weights
    root = 1.0 if weights is None else np.sqrt(weights)
    flows = _flows(gram, y, f0, stage.fade_rate, root)
    if stage.duration is not None:
        return _ClosedForm(flows, y.shape, float(stage.duration), Outcome.REACHED_DURATION, root)
    loss_tol, rate_tol = stage.tolerances
    decides = Relative([flows], np.asarray(objective.units(y)))
    end, ended = settling_time([decides], loss_tol, rate_tol, STALL * rate_tol, HORIZON)
    return _ClosedForm(flows, y.shape, end, ended, root)


def _flows(gram, y, f0, lam: float, root) -> list[SquaredFlow]:
    """Of root f, which follows the loss without weights on root K root."""
    if gram.ndim == 4:
        kernel = gram.reshape(y.size, y.size)
        if np.ndim(root):
            kernel = root.ravel()[:, None] * kernel * root.ravel()
        return [SquaredFlow.on(kernel, root * y, root * f0, lam)]
    if np.ndim(root):  # each output is learned on a kernel of its own
        columns = (np.s_[:, c : c + 1] for c in range(y.shape[1]))
        return [
            SquaredFlow.on(root[c] * gram * root[c].T, root[c] * y[c], root[c] * f0[c], lam)
            for c in columns
        ]
    first = SquaredFlow.on(gram, y[:, :1], f0[:, :1], lam)
    labels, starts = first.eigenvectors.T @ y, first.eigenvectors.T @ f0
    return [replace(first, labels=labels[:, c], start=starts[:, c]) for c in range(y.shape[1])]


@dataclass(frozen=True)
class _Implicit:
    """Any other loss: implicit steps in the dual coefficients."""

    gram: Float[np.ndarray, "n n"]
    y: Float[np.ndarray, "P C"]
    f0: Float[np.ndarray, "P C"]
    stage: Stage
    outcome: Outcome = Outcome.REACHED_DURATION
    method: str = "implicit"

    @property
    def end_time(self) -> float:
        assert self.stage.duration is not None  # Stage refuses such losses without one
        return float(self.stage.duration)

    def duals(self, times: np.ndarray) -> dict[float, Float[np.ndarray, "P C"]]:
        loss = self.stage.objective
        rows = dual_flow(self.gram, self.y, self.f0, loss, self.stage.fade_rate, times)
        paired = zip(times.tolist(), rows.reshape(-1, *self.y.shape), strict=True)
        return dict(paired)

    def loss_and_rate(self, dual) -> tuple[float, float]:
        loss, lam = self.stage.objective, self.stage.fade_rate
        f = _fade(lam, self.end_time) * self.f0 + (self.gram @ dual.ravel()).reshape(self.y.shape)
        f, y = jnp.asarray(f), jnp.asarray(self.y)
        signal = np.asarray(loss.signal(f, y))
        motion = (self.gram @ signal.ravel()).reshape(self.y.shape) / len(y) - lam * np.asarray(f)
        value = float(jnp.sum(loss.by_part(f, y)))
        return value, loss.rate_factor * float(np.sum(signal * motion)) / len(y)


def _implicit(gram, y, f0, stage: Stage) -> _Implicit:
    full = np.kron(gram, np.eye(y.shape[1])) if gram.ndim == 2 else gram.reshape(y.size, y.size)
    return _Implicit(full, y, f0, stage)


def _moved(network: Network, stage: Stage, start: Member, dual, fade: float) -> Member:
    """The network and its predictor once the dual coefficients are ``dual``."""
    layers, of = start.weights.layers, (network.phi, network.biases)
    before = (fade, start.terms)
    if stage.trains != "readout":
        *pushes, head = _pull_back(layers, stage.task.X, dual, *of)
        if stage.low_rank is not None:
            pushes = [jnp.asarray(stage.low_rank.reached(np.asarray(push))) for push in pushes]
        push = (*pushes, stage.head_rate * head)
        moving = only_above(stage.frozen_layers(network.depth), push)
        step = tuple(np.asarray(u, network.dtype) for u in moving)
        return Member(start.weights, combine(before, (1.0, [Term(1.0, start.weights, step)])))
    *hidden, head = layers
    features = _feature_sum(layers, stage.task.X, dual, *of)
    learned = stage.head_rate * np.asarray(features)  # phi^T c

    def with_head(values) -> Weights:
        return Weights((*hidden, values.astype(network.dtype)))

    gamma = stage.richness
    end = with_head(fade * head + gamma * learned)
    if gamma == 0:
        moved = [Term(1.0, with_head(learned))]
        return Member(end, combine(before, (1.0, moved)))
    # raw(phi^T c) = [raw(end) - fade raw(start)]/gamma: weights that the next stage shares.
    moved = [Term(1 / gamma, end), Term(-fade / gamma, start.weights)]
    return Member(end, combine(before, (1.0, moved)))


@partial(jax.jit, static_argnums=(3, 4))
def _pull_back(layers, X, dual, activation: Activation, biases: tuple[float, float]):
    """N sum_mu c_mu d raw(x_mu)/d theta."""
    layers = tuple(jnp.asarray(w, jnp.float64) for w in layers)
    transpose = jax.vjp(lambda w: raw(w, X, activation.phi, biases), layers)[1]
    return transpose(len(layers[0]) * dual)[0]


@partial(jax.jit, static_argnums=(3, 4))
def _feature_sum(layers, X, dual, activation: Activation, biases: tuple[float, float]):
    """sum_mu phi(h_L(x_mu)) c_mu, shaped as the head."""
    layers = tuple(jnp.asarray(w, jnp.float64) for w in layers)
    if convolution.is_convolutional(layers, X):
        return convolution.feature_sum(layers, X, dual, activation)
    hidden, width = layers[:-1], len(layers[0])
    seen = activation.phi(preactivations(hidden, X, activation.phi, biases)[-1])
    if biases[1]:
        constant = jnp.full((len(X), 1), biases[1] * math.sqrt(width))
        seen = jnp.concatenate([seen, constant], axis=1)
    return seen.T @ dual
