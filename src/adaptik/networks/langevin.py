"""sample_posterior: the posterior of finite networks, by Hamiltonian Monte Carlo.

For the squared loss the head is Gaussian given the hidden weights and integrates out exactly,

    -ln p(hidden) = |hidden|^2/2 + N gamma^2/2 tr y^T (Phi + T)^-1 y + C/2 ln det (Phi + T),

Phi the network's feature kernel on the samples; chains move hidden weights only, and a head is
drawn for each network kept. First-layer weights move in the span of the inputs; outside they keep
their prior. So do the weights above in the span of the features below, where the samples are fewer
than the width: preactivations are xi R^T with R R^T the kernel below and xi standard Gaussians
before the likelihood, and weights are drawn for each network kept.
"""

import math
import time
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..mathematics.activations import Elementwise, check_finite
from ..mathematics.biases import NONE
from ..mathematics.hamiltonian import adapted, trajectory
from ..mathematics.stepping.clock import compile_clock
from ..solution import Cost, Outcome, Solution, StageRecord, recorded_inputs, recorded_tasks
from ..solution.continuing import check_continues
from ..solution.units import in_own_unit, turned, turned_back
from ..system import programs
from ..system.devices import on_device
from ..system.errors import InputError, require_between, require_integers
from ..system.memory import require
from ..tasks import Task, preactivation_scale
from ..tasks.stages import Stage, check_posterior, check_sequence
from .mup import Network
from .posterior_state import PosteriorMember, PosteriorState
from .train import versions

R_HAT = 1.05  # below which chains count as mixed
JITTER = 1e-10  # of a kernel's trace, for samples whose features are those of others


def sample_posterior(
    stages: Sequence[Stage],
    network: Network,
    *,
    temperature: float,
    chains: int = 2,
    warmup: int = 200,
    samples: int = 200,
    keep: int = 10,
    key: int = 0,
    observe: Sequence[Task] = (),
    after: Solution | None = None,
) -> Solution:
    """Sample the posterior that :class:`adaptik.Bayesian` takes to infinite width.

    Parameters
    ----------
    stages
        As for :class:`adaptik.Bayesian`. A stage with ``elastic=delta`` has the prior term
        ``-delta/2 |W_0 - Wbar|^2``, each chain with its own last source sample Wbar, which stays
        what it is (quenched).
    network
        Width, depth and activation. Everything is float64.
    temperature
        T > 0; the likelihood is ``exp(-N gamma^2/(2 T) sum_mu |y_mu - f_mu|^2)``.
    chains
        Independent chains, the members of the result.
    warmup, samples
        Trajectories of every chain before and while it is observed.
    keep
        Networks kept of every chain, evenly spaced; predictions at new inputs and kernels are
        averages over them.
    key
        Seed.
    observe
        Further tasks to record.
    after
        A result of the same network, temperature and number of chains whose stages were sampled
        before; the returned one contains both.

    Returns
    -------
    Solution
        ``kind="network"``. Its members are chains; predictions are posterior means. States hold
        R-hat and effective sample sizes of training predictions and of the kernel's trace; the
        outcome is ``OUT_OF_STEPS`` where R-hat is above 1.05.

    Raises
    ------
    InputError
        For stages without a posterior, or arguments out of range.
    MemoryLimitError
        If the machine's memory would not suffice.

    Examples
    --------
    >>> task = Task([[1.0, 0.5], [-0.5, 1.0]], [-1, 1])
    >>> network = Network(width=64, activation="tanh")
    >>> stages = [Stage(task, richness=1.0)]
    >>> solution = sample_posterior(stages, network, temperature=0.1, warmup=50, samples=50)
    >>> solution.predict(task.X).value.shape
    (2,)
    """
    _check_arguments(network, temperature, chains, warmup, samples, keep, key)
    model = network.describe() | {"temperature": temperature, "samples": samples}
    check_continues(after, "adaptik.sample_posterior", model | {"chains": chains})
    earlier = () if after is None else after.stages
    stages = (*earlier, *stages)
    check_sequence(stages)
    _check_stages(stages, network, chains, keep)
    tasks = recorded_tasks(stages, [*(after.tasks.values() if after else ()), *observe])
    check_finite(network.phi, preactivation_scale(tasks.values()), network.depth, "float64")
    programs.keep()
    records = list(after.records) if after else []
    states = list(after.states) if after else []
    for i in range(len(earlier), len(stages)):
        unit = stages[i].unit
        stage = in_own_unit(stages[i], unit)
        rng = np.random.default_rng(np.random.SeedSequence([key, i]))
        began = time.perf_counter()
        with (
            jax.enable_x64(True),
            jax.default_matmul_precision("highest"),
            compile_clock() as clock,
        ):
            run = _Run(network, stage, temperature, states[-1] if states else None, chains, rng)
            state = run.sampled(warmup, samples, keep)
        taken = time.perf_counter() - began
        predictions = {
            name: state.predict(X)[None] for name, X in recorded_inputs(tasks, stage.task)
        }
        predictions[stage.task.name, "train"] = run.means[None]
        outcome = Outcome.CONVERGED if state.r_hat < R_HAT else Outcome.OUT_OF_STEPS
        cost = Cost(
            "hamiltonian monte carlo",
            chains * (warmup + samples),
            0,
            clock.seconds,
            taken - clock.seconds,
        )
        done = StageRecord.timeless(predictions, stage.task, outcome, cost)
        records.append(turned_back(done, unit).judged())
        states.append(turned(state, unit))
        if records[-1].outcome.is_lost:
            break
    stages = stages[: len(records)]
    provenance = {"model": model, "key": key, "versions": versions()}
    return Solution("network", stages, tuple(records), tuple(states), tasks, {}, provenance)


def _check_arguments(network, temperature, chains, warmup, samples, keep, key):
    if not isinstance(network, Network):
        raise InputError(f"network must be an adaptik.Network, got {type(network).__name__}")
    if network.scale != 1:
        raise InputError(
            f"scale={network.scale:g} is not sampled by sample_posterior, whose prior has unit "
            "variances; use scale=1"
        )
    if network.biases != NONE:
        raise InputError(
            f"bias={network.biases} is not sampled by sample_posterior; leave it out, or give the "
            "inputs a constant coordinate"
        )
    require_between(0, math.inf, temperature=temperature)
    require_integers(1, chains=chains, warmup=warmup, keep=keep)
    require_integers(4, samples=samples)
    require_integers(0, key=key)
    if keep > samples:
        raise InputError(f"keep={keep} is more than the {samples} samples; keep at most as many")


def _check_stages(stages, network, chains, keep):
    for i, stage in enumerate(stages):
        check_posterior(i, stage, network.depth)
        if stage.richness == 0 or stage.trains == "readout":
            raise InputError(
                f"stage {i}: richness {stage.richness:g}, trains={stage.trains!r}: features have "
                "their prior there; use richness > 0 and trains='all'"
            )
    N, L, D = network.width, network.depth, stages[0].task.dimension
    size = N * (D + (L - 1) * N + max(s.task.outputs for s in stages))
    hidden = max(s.task.n_train for s in stages) * N * L
    require(
        8 * chains * (len(stages) * keep * size + 6 * size + 8 * hidden),
        "this sampling",
        "use a smaller width, fewer chains or samples to keep",
    )


@partial(jax.jit, static_argnums=0)
def _move(phi: Elementwise, data, xi, key, step):
    return trajectory(lambda x: _log_likelihood(phi, data, x), xi, key, step)


@partial(jax.jit, static_argnums=0)
def _kernel(phi: Elementwise, data, xi):
    features = _features(phi, data, xi)
    return jnp.einsum("cpn,cqn->cpq", features, features) / features.shape[-1]


def _features(phi: Elementwise, data, xi):
    """Last features of every chain, shape ``(chains, P, N)``."""
    points, mean, scale, _, _, _ = data
    field = jnp.einsum("cnk,pk->cpn", mean + scale * xi[0], points)
    for W in xi[1:]:
        features = phi(field)
        if W.shape[1] == W.shape[2]:
            field = jnp.einsum("cnm,cpm->cpn", W, features) / math.sqrt(W.shape[-1])
        else:
            field = jnp.einsum("cnq,cpq->cpn", W, _root(features))
    return phi(field)


def _root(features):
    """R of the kernel of features (chains, P, N): R R^T = <phi phi>."""
    gram = jnp.einsum("cpn,cqn->cpq", features, features) / features.shape[-1]
    size = JITTER * jnp.trace(gram, axis1=1, axis2=2)
    return jnp.linalg.cholesky(gram + size[:, None, None] * jnp.eye(gram.shape[-1]))


def _log_likelihood(phi: Elementwise, data, xi):
    _, _, _, y, temperature, strength = data
    features = _features(phi, data, xi)
    gram = jnp.einsum("cpn,cqn->cpq", features, features) / features.shape[-1]
    root = jnp.linalg.cholesky(gram + temperature * jnp.eye(len(y)))
    solved = jax.vmap(lambda r: jax.scipy.linalg.solve_triangular(r, y, lower=True))(root)
    logdet = jnp.sum(jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)), -1)
    return -0.5 * strength * jnp.sum(jnp.square(solved), (1, 2)) - y.shape[1] * logdet


class _Run:
    """All chains of one stage."""

    def __init__(self, network: Network, stage: Stage, temperature: float, before, chains, rng):
        self.phi, self.rng, self.stage, self.temperature = network.phi, rng, stage, temperature
        task, N = stage.task, network.width
        X = task.X / math.sqrt(task.dimension)
        _, values, rows = np.linalg.svd(X, full_matrices=False)
        self.basis = rows[values > values[0] * 1e-10].T
        delta = stage.elastic
        self.scale, pull = 1 / math.sqrt(1 + delta), delta / (1 + delta)
        self.centre = np.zeros((chains, N, task.dimension))
        if delta > 0:
            assert before is not None  # check_sequence has seen to it
            self.centre = pull * np.stack([m.networks[-1][0] for m in before.members])
        self.data = (
            on_device(X @ self.basis),
            on_device(self.centre @ self.basis),
            on_device(self.scale),
            on_device(task.y),
            on_device(temperature),
            on_device(N * stage.richness**2),
        )
        above = (N, min(N, task.n_train))
        shapes = [(N, self.basis.shape[1]), *[above] * (network.depth - 1)]
        self.xi = tuple(on_device(rng.standard_normal((chains, *s))) for s in shapes)
        self.step = 0.1
        self.activation = network.phi

    def _next(self) -> float:
        key = jax.random.key(int(self.rng.integers(2**32)))
        self.xi, chance = _move(self.phi.phi, self.data, self.xi, key, on_device(self.step))
        return float(chance)

    def sampled(self, warmup: int, samples: int, keep: int) -> PosteriorState:
        for _ in range(warmup):
            self.step = adapted(self.step, self._next())
        kept_at = set(np.linspace(0, samples - 1, keep).round().astype(int).tolist())
        chances, kernels, means, networks = [], [], [], []
        for i in range(samples):
            chances.append(self._next())
            gram = np.asarray(_kernel(self.phi.phi, self.data, self.xi))
            eye = self.temperature * np.eye(gram.shape[-1])
            kernels.append(gram)
            means.append(gram @ np.linalg.solve(gram + eye, self.stage.task.y))
            if i in kept_at:
                networks.append(self._networks())
        self.means = np.mean(means, axis=0)
        watched = np.concatenate(
            [
                np.reshape(means, (samples, len(gram), -1)),
                np.trace(kernels, axis1=2, axis2=3)[..., None],
            ],
            axis=-1,
        ).swapaxes(0, 1)
        members = tuple(
            PosteriorMember(tuple(each[c] for each in networks)) for c in range(len(gram))
        )
        # Chains with source networks of their own have posteriors of their own.
        groups = watched[:, None] if self.stage.elastic > 0 else watched[None]
        r_hat, effective = zip(*map(convergence, groups), strict=True)
        return PosteriorState(
            self.activation,
            members,
            self.stage.task.X,
            self.stage.task.y,
            self.temperature,
            np.mean(kernels, axis=0),
            float(np.mean(chances)),
            float(np.max(r_hat)),
            float(np.min(effective)),
        )

    def _networks(self) -> list[tuple[np.ndarray, ...]]:
        """Hidden weights and a head of every chain now."""
        first, *deeper = (np.asarray(x) for x in self.xi)
        features = np.asarray(_features(self.phi.phi, self.data, self.xi))
        drawn = []
        for c in range(len(first)):
            resting = self.centre[c] + self.scale * self.rng.standard_normal(self.centre[c].shape)
            inside = self.centre[c] @ self.basis + self.scale * first[c]
            W0 = resting + (inside - resting @ self.basis) @ self.basis.T
            head = self._head(features[c])
            drawn.append((W0, *self._above(self.data[0] @ inside.T, [W[c] for W in deeper]), head))
        return drawn

    def _above(self, h, coordinates: list[np.ndarray]) -> list[np.ndarray]:
        """Weights above the first layer, from its preactivations (P, N)."""
        weights = []
        for xi in coordinates:
            phi, N = np.asarray(self.phi.phi(on_device(h))), xi.shape[0]
            W = xi
            if xi.shape[1] < N:
                wanted = np.asarray(_root(phi[None])[0]) @ xi.T
                rough = self.rng.standard_normal((N, N))
                gap = math.sqrt(N) * wanted - phi @ rough.T
                W = rough + np.linalg.lstsq(phi, gap, rcond=None)[0].T
            h = phi @ W.T / math.sqrt(N)
            weights.append(W)
        return weights

    def _head(self, phi: np.ndarray) -> np.ndarray:
        """A draw of the head given the features (P, N): prior sample plus its correction."""
        N, y, gamma = phi.shape[1], self.stage.task.y, self.stage.richness
        rough = self.rng.standard_normal((N, y.shape[1]))
        noise = self.rng.standard_normal(y.shape) * math.sqrt(self.temperature / N) / gamma
        gap = y - phi @ rough / (gamma * N) + noise
        gram = phi @ phi.T / N + self.temperature * np.eye(len(y))
        return rough + gamma * phi.T @ np.linalg.solve(gram, gap)


def convergence(chains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split R-hat and effective sample size of quantities, from values (chains, samples, q).

    The effective size divides the number of values by the integrated autocorrelation time, summed
    while pairs of autocorrelations are positive (Geyer).

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((2, 400, 1))
    >>> r_hat, effective = convergence(noise)
    >>> bool(r_hat[0] < 1.02), bool(600 < effective[0] < 1000)
    (True, True)
    """
    half = chains.shape[1] // 2
    parts = np.concatenate([chains[:, :half], chains[:, half : 2 * half]])
    count, length, _ = parts.shape
    within = parts.var(axis=1, ddof=1).mean(0)
    between = parts.mean(axis=1).var(axis=0, ddof=1)
    variance = (length - 1) / length * within + between
    safe = np.maximum(within, 1e-300)
    centred = parts - parts.mean(axis=1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(centred, 2 * length, axis=1)) ** 2
    covariance = np.fft.irfft(spectrum, axis=1)[:, :length].mean(0) / length
    correlation = 1 - (within - covariance) / np.maximum(variance, 1e-300)
    pairs = correlation[: length // 2 * 2].reshape(length // 2, 2, -1).sum(1)
    positive = np.cumprod(pairs > 0, axis=0)
    time = np.maximum(2 * np.sum(pairs * positive, axis=0) - 1, 1 / length)
    return np.sqrt(variance / safe), np.minimum(count * length / time, count * length)
