"""Deep nonlinear limits from random matrices revealed only along the directions that they meet.

As :mod:`adaptik.revealed`, with neurons' space sampled: a field is a column of N numbers, one a
particle, <a, b> = a.b/N, and fresh directions are Gaussian columns made orthogonal to all that
the same layer has seen. Responses, also those at equal times, come with the algebra (theory 5).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .. import activations, losses
from ..activations import Activation, Elementwise
from ..errors import InputError, require_between, require_integers
from ..registry import register
from ..revealed import BasisFull
from ..solution import AbstractState, StageRecord
from ..stages import Stage
from ..tasks import Task
from . import particles as sampling
from .base import Advance, Request, checked_layer, recorded_inputs
from .march import march
from .span import Span

ROOM = 48  # directions of a matrix that the vector has room for beyond those revealed
QUASI = 128  # Sobol columns of every layer
COARSER = 8.0  # tolerance of the second solve that estimates the error of the first


@register
@dataclass(frozen=True, eq=False)
class Hidden:
    """W = F Q^T + S E^T + S M Q^T, each column one direction of N particles."""

    Q: Float[np.ndarray, "N q"]
    F: Float[np.ndarray, "N q"]
    S: Float[np.ndarray, "N s"]
    E: Float[np.ndarray, "N s"]
    M: Float[np.ndarray, "s q"]
    shrink: float = 1.0

    def forward(self, phi: Float[np.ndarray, "N k"]) -> Float[np.ndarray, "N k"]:
        """W phi, without the fresh directions of what Q does not hold."""
        met, back = self.Q.T @ phi / len(phi), self.E.T @ phi / len(phi)
        return self.shrink * (self.F @ met) + self.S @ (self.shrink * back + self.M @ met)

    def backward(self, g: Float[np.ndarray, "N k"]) -> Float[np.ndarray, "N k"]:
        """W^T g, likewise."""
        met, back = self.S.T @ g / len(g), self.F.T @ g / len(g)
        return self.shrink * (self.E @ met) + self.Q @ (self.shrink * back + self.M.T @ met)


@register
@dataclass(frozen=True, eq=False)
class Population:
    """All weights of one replicate, and orthonormal bases of what every layer has seen.

    Attributes
    ----------
    first
        First-layer weights in span coordinates, shape ``(N, rank)``.
    hidden
        The matrices between hidden layers.
    head
        Shape ``(N, C)``.
    seen
        One basis a layer, each ``(N, d)``.
    seed
        Of the noise of inputs outside of what was met.
    shrink
        Factor by which weight decay has scaled first-layer weights outside the span.
    """

    first: Float[np.ndarray, "N rank"]
    hidden: tuple[Hidden, ...]
    head: Float[np.ndarray, "N C"]
    seen: tuple[Float[np.ndarray, "N d"], ...]
    seed: int
    shrink: float = 1.0

    def fields(self, points, phi, jointly: bool) -> list[Float[np.ndarray, "N n"]]:
        """h_1 .. h_L at any inputs.

        What a matrix has not met is Gaussian noise of known size, independent of all else: one
        draw for all inputs where only their own law counts, else with their joint covariance.
        """
        rng, width = np.random.default_rng(self.seed), len(self.first)
        outside = self.shrink**2 * (points.orthogonal @ points.orthogonal.T if jointly else 0)
        size = self.shrink * points.rho
        h = [self.first @ points.inside.T + self._noise(rng, 0, outside, size, jointly)]
        for k, W in enumerate(self.hidden):
            up = phi(h[-1])
            rest = up - W.Q @ (W.Q.T @ up / width)
            if jointly:
                noise = self._noise(rng, k + 1, W.shrink**2 * rest.T @ rest / width, None, True)
            else:
                size = W.shrink * np.sqrt(np.mean(rest**2, axis=0))
                noise = self._noise(rng, k + 1, None, size, False)
            h.append(W.forward(up) + noise)
        return h

    def _noise(self, rng, layer: int, covariance, size, jointly: bool):
        if jointly:
            values, vectors = np.linalg.eigh(covariance)
            factor = vectors * np.sqrt(np.maximum(values, 0.0))
            return rng.standard_normal((len(self.first), len(values))) @ factor.T
        z = rng.standard_normal((len(self.first), 1))
        return fresh_of(z, self.seen[layer]) * size


def fresh_of(sample: Float[np.ndarray, "N k"], seen: Float[np.ndarray, "N d"]):
    """The sample orthogonal to all that was seen, with <x, x> = I."""
    for _ in range(2):
        sample = sample - seen @ (seen.T @ sample / len(sample))
    return sampling._whiten(sample)


class PopulationFlow:
    """Gradient flow of one replicate in a rich stage, as :class:`.march.Revealing`."""

    def __init__(self, start: Population, X, labels, base, recorded, activation, objective,
                 richness: float, decay: float, tol: float, rng: np.random.Generator):  # fmt: skip
        """``base`` is f - <z phi>/gamma on X; ``recorded`` pairs points with the same there."""
        self.X, self.labels, self.base, self.recorded = X, labels, base, recorded
        self.objective, self.richness, self.decay = objective, richness, decay
        self.first, self.tol, self.rng = start, tol, rng
        self.hidden, self.seen = list(start.hidden), list(start.seen)
        self.width, self.root = len(start.first), math.sqrt(len(start.first))
        both = jax.jit(lambda h: (activation.phi(h), activation.derivative(h)))
        self.both = lambda h: tuple(np.asarray(a) for a in both(jnp.asarray(h)))
        self.phi = lambda h: np.asarray(activation.phi(jnp.asarray(h)))
        quasi = 0 if any(W.S.size for W in start.hidden) else QUASI
        self.pools = [
            rng.permutation(sampling._sobol_normal(rng, self.width, quasi))
            if quasi
            else np.zeros((self.width, 0))
            for _ in range(len(start.hidden) + 1)
        ]
        self._make_room()

    def _make_room(self):
        self.room = [(W.S.shape[1] + ROOM, W.Q.shape[1] + ROOM) for W in self.hidden]

    def _pack(self, first, learned, head):
        parts = [first.ravel() / self.root]
        for M, room in zip(learned, self.room, strict=True):
            padded = np.zeros(room)
            padded[: M.shape[0], : M.shape[1]] = M
            parts.append(padded.ravel())
        return np.concatenate([*parts, head.ravel() / self.root])

    def _unpack(self, t, y):
        rank, outputs = self.first.first.shape[1], self.labels.shape[1]
        first = self.root * y[: self.width * rank].reshape(self.width, rank)
        at, hidden, fade = self.width * rank, [], math.exp(-self.decay * t)
        for W, room, before in zip(self.hidden, self.room, self.first.hidden, strict=True):
            M = y[at : at + room[0] * room[1]].reshape(room)[: W.S.shape[1], : W.Q.shape[1]]
            hidden.append(replace(W, M=M, shrink=fade * before.shrink))
            at += room[0] * room[1]
        return first, hidden, self.root * y[at:].reshape(self.width, outputs)

    def start(self):
        return self._pack(self.first.first, [W.M for W in self.first.hidden], self.first.head)

    def enlarge(self, y):
        first, hidden, head = self._unpack(0.0, y)
        self._make_room()
        return self._pack(first, [W.M for W in hidden], head)

    def population(self, t, y) -> Population:
        first, hidden, head = self._unpack(t, y)
        hidden = tuple(replace(W, M=W.M.copy()) for W in hidden)
        shrink = self.first.shrink * math.exp(-self.decay * t)
        return Population(
            first.copy(), hidden, head.copy(), tuple(self.seen), self.first.seed, shrink
        )

    def _meet(self, k: int, W: Hidden, V, backward: bool) -> Hidden:
        """Extend the basis of matrix k until it holds V."""
        basis = W.S if backward else W.Q
        allowed = self.tol * np.linalg.norm(V, axis=0)
        rest = V - basis @ (basis.T @ V / self.width)
        if (np.linalg.norm(rest, axis=0) <= allowed).all():
            return W
        rest = rest - basis @ (basis.T @ rest / self.width)
        left, values, right = np.linalg.svd(rest, full_matrices=False)
        # What every column misses once the first 0, 1, 2 .. directions are taken.
        missed = np.cumsum((values[:, None] * right)[::-1] ** 2, axis=0)[::-1]
        enough = (missed <= allowed**2).all(axis=1)
        count = int(np.argmax(enough)) if enough.any() else len(values)
        if basis.shape[1] + count > self.room[k][0 if backward else 1]:
            raise BasisFull
        return self._extended(k, W, self.root * left[:, :count], backward)

    def _extended(self, k: int, W: Hidden, v, backward: bool) -> Hidden:
        here, there = (k + 1, k) if backward else (k, k + 1)  # where v lives, where it is sent
        self._see(here, v)
        fresh = fresh_of(self._drawn(there, v.shape[1]), self.seen[there])
        self._see(there, fresh)
        (s, q), new = W.M.shape, v.shape[1]
        M = np.zeros((s + new * backward, q + new * (not backward)))
        M[:s, :q] = W.M
        if backward:
            W = replace(W, S=np.append(W.S, v, 1), E=np.append(W.E, fresh, 1), M=M)
        else:
            W = replace(W, Q=np.append(W.Q, v, 1), F=np.append(W.F, fresh, 1), M=M)
        self.hidden[k] = W
        return W

    def _drawn(self, layer: int, count: int):
        """Columns for fresh directions: Sobol points first, which matter most, then Gaussians."""
        pool = self.pools[layer]
        columns, self.pools[layer] = pool[:, :count], pool[:, count:]
        rest = self.rng.standard_normal((self.width, count - columns.shape[1]))
        return np.concatenate([columns, rest], axis=1)

    def _see(self, layer: int, v):
        seen = self.seen[layer]
        if seen.shape[1] + v.shape[1] > self.width // 2:
            raise InputError(
                f"width={self.width} is too small for the {seen.shape[1]} directions that were "
                "revealed; give more particles or a larger reveal_tol, or use adaptik.Ensemble"
            )
        for _ in range(2):
            v = v - seen @ (seen.T @ v / self.width)
        left, values, _ = np.linalg.svd(v, full_matrices=False)
        new = self.root * left[:, values > 1e-8 * self.root]
        self.seen[layer] = np.append(seen, new, 1)

    def reveal_forward(self, first, hidden: list[Hidden]):
        """phi_l and phi'(h_l) of all layers, revealing the matrices on the way."""
        h, phis, slopes = first @ self.X.T, [], []
        for k in range(len(hidden) + 1):
            phi, slope = self.both(h)
            phis.append(phi)
            slopes.append(slope)
            if k < len(hidden):
                hidden[k] = self._meet(k, hidden[k], phi, backward=False)
                h = hidden[k].forward(phi)
        return phis, slopes

    def with_fresh_head(self, outputs: int) -> Population:
        """The start with a new readout, orthogonal to the features of all samples."""
        hidden = list(self.first.hidden)
        phis, _ = self.reveal_forward(self.first.first, hidden)
        z = fresh_of(self._drawn(len(hidden), outputs), self.seen[-1])
        top = np.concatenate([self.seen[-1], phis[-1]], axis=1)
        z = z - top @ np.linalg.lstsq(top, z, rcond=1e-10)[0]
        head = sampling._whiten(z)
        self._see(len(hidden), head)
        hidden = tuple(replace(W, M=W.M.copy()) for W in hidden)
        return replace(self.first, hidden=hidden, head=head, seen=tuple(self.seen))

    def slope(self, t, y):
        first, hidden, head = self._unpack(t, y)
        phis, slopes = self.reveal_forward(first, hidden)
        signal = self._signal(phis[-1], head)
        gamma, outputs = self.richness, range(self.labels.shape[1])
        z = [head[:, [c]] for c in outputs]
        learned: list[Any] = [None] * len(hidden)
        for k in reversed(range(len(hidden))):
            g = np.concatenate([slopes[k + 1] * z[c] for c in outputs], axis=1)
            hidden[k] = W = self._meet(k, hidden[k], g, backward=True)
            weighed = g * signal.T.ravel()
            total = sum(np.split(W.S.T @ weighed / self.width, len(z), axis=1))
            learned[k] = gamma * total @ (W.Q.T @ phis[k] / self.width).T - self.decay * W.M
            z = np.split(W.backward(g), len(z), axis=1)
        g = sum(slopes[0] * z[c] * signal[:, c] for c in outputs)
        move = gamma * g @ self.X - self.decay * first
        return self._pack(move, learned, gamma * phis[-1] @ signal - self.decay * head)

    def _signal(self, phi, head):
        f = self.base + phi.T @ head / self.width / self.richness
        return np.asarray(self.objective.signal(f, self.labels)) / len(self.labels)

    def _predictor(self, t, y, points, base):
        at = self.population(t, y)
        top = self.phi(at.fields(points, self.phi, jointly=False)[-1])
        return base + top.T @ at.head / self.width / self.richness

    def loss(self, t, y):
        first, hidden, head = self._unpack(t, y)
        h = first @ self.X.T
        for W in hidden:
            h = W.forward(self.phi(h))
        f = self.base + self.phi(h).T @ head / self.width / self.richness
        return float(np.mean(np.asarray(self.objective.value(f, self.labels))))

    def rate(self, t, y, slope):
        """Rate of decrease of the loss, by a difference along the flow."""
        step = 1e-4 / max(float(np.linalg.norm(slope)), 1e-300) * self.richness
        return (self.loss(t - step, y - step * slope) - self.loss(t + step, y + step * slope)) / (
            2 * step
        )

    def predictions(self, t, y):
        return [self._predictor(t, y, points, base) for points, base in self.recorded]


@dataclass(frozen=True)
class Reveal:
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
        Error allowed in one step, in units of the predictor.
    reveal_tol
        Part of a field, relative to its length, that the revealed directions may miss.
    max_steps
        Steps after which a stage gives up.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.hermite_pair(1, 2, 0.5, n_source=4, n_target=4, dimension=5, n_test=8)
    >>> limit = ak.Reveal(depth=2, activation="tanh", particles=512, replicates=2)
    >>> ak.solve([ak.Stage(task, richness=1.0, duration=1.0)], limit, record=2).outcome.value
    'reached its duration'
    """

    depth: int
    activation: str | Activation | Elementwise = "tanh"
    particles: int = 4096
    replicates: int = 4
    tol: float = 1e-3
    reveal_tol: float = 3e-3
    max_steps: int = 2048

    def __post_init__(self):
        object.__setattr__(self, "activation", activations.get(self.activation))
        require_integers(1, depth=self.depth, replicates=self.replicates, max_steps=self.max_steps)
        require_integers(16, particles=self.particles)
        require_between(0, 0.2, tol=self.tol, reveal_tol=self.reveal_tol)

    @property
    def phi(self) -> Activation:
        assert isinstance(self.activation, Activation)
        return self.activation

    def describe(self) -> dict[str, Any]:
        names = ("depth", "particles", "replicates", "tol", "reveal_tol")
        return {
            "limit": "Reveal",
            "activation": self.phi.name,
            **{name: getattr(self, name) for name in names},
        }

    def predicted_bytes(self, stages: Sequence[Stage], tasks: dict[str, Task]) -> int:
        rank = min(stages[0].task.dimension, sum(t.n_train for t in tasks.values()))
        samples = max(s.task.n_train * s.task.outputs for s in stages)
        inputs = max(len(X) for t in tasks.values() for X in (t.X, t.X_test) if X is not None)
        directions = min(self.particles // 2, 16 * samples + 2 * rank)
        numbers = self.particles * (12 * rank + 8 * self.depth * directions + 4 * inputs)
        return 8 * (self.replicates + 1) * numbers * len(stages)

    def start(self, stages, tasks, rng) -> "RevealState":
        for i, stage in enumerate(stages):
            if stage.has_fixed_kernel or stage.is_lazy:
                raise InputError(
                    f"stage {i}: Reveal solves rich stages only (richness > 0, trains='all'); use "
                    "adaptik.Ensemble for lazy and readout stages"
                )
        span, outputs = Span.of(tasks.values()), stages[0].task.outputs
        if self.particles < 4 * (span.rank + outputs):
            raise InputError(
                f"particles={self.particles} are too few for {span.rank} span coordinates; give at "
                f"least 4 (rank + outputs) = {4 * (span.rank + outputs)}"
            )
        drawn = sampling.initial(
            rng, self.replicates, self.particles, span.rank, outputs, "quasi", "float64"
        )
        empty, members = np.zeros((self.particles, 0)), []
        for W, z in zip(drawn.w, drawn.z, strict=True):
            hidden = Hidden(empty, empty, empty, empty, np.zeros((0, 0)))
            seen = (W, *[empty] * (self.depth - 1))
            seed = int(rng.integers(2**31))
            members.append(Population(W, (hidden,) * (self.depth - 1), z, seen, seed))
        return RevealState(self.phi, span, tuple(members))

    def advance(self, state: "RevealState", stage: Stage, request: Request) -> Advance:
        with jax.enable_x64(True):
            if stage.head == "fresh":
                state = self._fresh(state, stage, request.rng)
            runs, timed = [], stage
            for r in range(self.replicates):
                runs.append(self._run(state, r, timed, request, self.tol))
                if timed.duration is None:  # the others take as long as the first
                    record = runs[0][0]
                    timed = replace(stage, duration=record.duration)
                    times = record.times[record.times < record.duration]
                    request = replace(request, times=times)
            rough, _, _ = self._run(state, 0, timed, request, COARSER * self.tol)
        first: StageRecord = runs[0][0]
        predictions = {
            key: np.concatenate([run[0].predictions[key] for run in runs], axis=1)
            for key in first.predictions
        }
        error = max(
            float(np.abs(rough.predictions[key] - f).max()) for key, f in first.predictions.items()
        )
        costs = [run[0].cost for run in runs]
        cost = replace(
            first.cost,
            compile_seconds=sum(c.compile_seconds for c in costs),
            run_seconds=sum(c.run_seconds for c in costs),
        )
        loss, rate = (
            float(np.mean([getattr(r[0], n) for r in runs])) for n in ("train_loss", "rate")
        )
        record = replace(
            first, predictions=predictions, cost=cost, step_error=error, train_loss=loss, rate=rate
        )
        joined: dict[float, AbstractState] = {
            t: state.after(tuple(run[2][t] for run in runs), stage) for t in runs[0][2]
        }
        return record, state.after(tuple(run[1] for run in runs), stage), joined

    def _fresh(self, state: "RevealState", stage: Stage, rng) -> "RevealState":
        X, y, zero = state.span.training_points(stage.task.X), stage.task.y, 0.0
        members = [
            PopulationFlow(
                m, X, y, zero, [], self.phi, losses.get(stage.loss), 1.0, 0.0, self.reveal_tol, rng
            ).with_fresh_head(stage.task.outputs)
            for m in state.members
        ]
        return replace(state, members=tuple(members), terms=())

    def _run(self, state: "RevealState", r: int, stage: Stage, request: Request, tol: float) -> Any:
        task, start, gamma = stage.task, state.members[r], stage.richness
        points = {k: state.span.points(X) for k, X in recorded_inputs(request.tasks, task.outputs)}

        def base(at):
            return state.member_predict(r, at) - start_readout(start, at, self.phi) / gamma

        flow = PopulationFlow(
            start, state.span.training_points(task.X), task.y,
            base(state.span.points(task.X)), [(at, base(at)) for at in points.values()],
            self.phi, losses.get(stage.loss), gamma, stage.weight_decay, self.reveal_tol,
            np.random.default_rng([start.seed, start.seen[0].shape[1]]),
        )  # fmt: skip
        state_at: Any = flow.population  # one replicate; advance joins them to a state
        return march(
            stage, request, flow, list(points), state_at, gamma, tol, self.max_steps,
            "Runge-Kutta 5(4) on revealed matrices",
        )  # fmt: skip


def start_readout(member: Population, points, activation: Activation) -> np.ndarray:
    """<z phi(h_L)> of one replicate."""

    def phi(h):
        return np.asarray(activation.phi(jnp.asarray(h)))

    top = phi(member.fields(points, phi, jointly=False)[-1])
    return top.T @ member.head / len(member.first)


@register
@dataclass(frozen=True, eq=False)
class RevealState(AbstractState):
    """Populations of all replicates; f is the sum of ``coefficient * <z phi>`` over ``terms``."""

    activation: Activation
    span: Span
    members: tuple[Population, ...]
    terms: tuple[tuple[float, tuple[Population, ...]], ...] = ()

    def after(self, members: tuple[Population, ...], stage: Stage) -> "RevealState":
        """f(t1) + (<z phi>_t - <z phi>_t1)/gamma."""
        inverse = 1 / stage.richness
        terms, start = [], -inverse
        for coefficient, at in self.terms:
            if at is self.members:
                start += coefficient
            else:
                terms.append((coefficient, at))
        if abs(start) > 1e-12 * inverse:
            terms.append((start, self.members))
        return replace(self, members=members, terms=(*terms, (inverse, members)))

    def member_predict(self, r: int, points) -> np.ndarray:
        total = np.zeros((len(points.inside), self.members[r].head.shape[1]))
        for coefficient, at in self.terms:
            total = total + coefficient * start_readout(at[r], points, self.activation)
        return total

    def predict(self, X):
        points = self.span.points(X)
        with jax.enable_x64(True):
            return np.stack([self.member_predict(r, points) for r in range(len(self.members))])

    def kernel(self, X, X2, kind):
        return self.layer_kernel(X, X2, kind, len(self.members[0].hidden) + 1)

    def layer_kernel(self, X, X2, kind, layer):
        checked_layer(layer, len(self.members[0].hidden) + 1)
        both = X if X2 is None else np.concatenate([X, X2])
        rows, columns = (slice(None),) * 2 if X2 is None else (slice(len(X)), slice(len(X), None))
        points = self.span.points(both)
        inputs = points.inside @ points.inside.T + points.orthogonal @ points.orthogonal.T
        found = []
        with jax.enable_x64(True):
            for m in self.members:
                phi, G = self._kernels(m, points)
                if kind == "feature":
                    found.append(phi[layer - 1][rows, columns])
                elif kind == "gradient":
                    found.append(G[layer - 1][rows, columns])
                else:
                    total = phi[-1][..., None, None] * np.eye(m.head.shape[1])
                    for below, gradient in zip([inputs, *phi], G, strict=False):
                        total = total + gradient * below[..., None, None]
                    found.append(total[rows, columns])
        stacked = np.stack(found)
        return stacked[..., 0, 0] if stacked.ndim == 5 and stacked.shape[-1] == 1 else stacked

    def _kernels(self, m: Population, points):
        def phi_of(h):
            return np.asarray(self.activation.phi(jnp.asarray(h)))

        width, outputs = m.head.shape
        h = m.fields(points, phi_of, jointly=True)
        phi = [phi_of(x) for x in h]
        z, gradients = [m.head[:, [c]] for c in range(outputs)], []
        for k in reversed(range(len(h))):
            slope = np.asarray(self.activation.derivative(jnp.asarray(h[k])))
            g = np.stack([slope * z[c] for c in range(outputs)], axis=-1)
            gradients.insert(0, np.einsum("mnc,mpd->npcd", g, g, optimize=True) / width)
            if k:
                z = [m.hidden[k - 1].backward(g[..., c]) for c in range(outputs)]
        return [a.T @ a / width for a in phi], gradients

    def preactivations(self, X):
        def phi(h):
            return np.asarray(self.activation.phi(jnp.asarray(h)))

        points = self.span.points(X)
        with jax.enable_x64(True):
            return np.stack([m.fields(points, phi, jointly=True)[-1] for m in self.members])
