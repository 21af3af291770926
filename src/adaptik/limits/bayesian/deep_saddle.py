"""The saddle point of a deep posterior, layer by layer (theory section 6).

Neurons of layer l have the law

    h_l ~ N(0, Phi_{l-1}) exp( 1/2 phi(h_l)^T B_l phi(h_l) ),    Phi_0 = K_x,

with B_L = gamma^2 Delta Delta^T in the last layer L and B_l = -Phihat_l below. What has to hold is

    Phi_l = <phi phi^T>_l,    B_l = <a a^T + da/dh>_{l+1},    y = (Phi_L + 1/beta) Delta

with a the gradient of the logarithm of layer l+1's tilt. For h = F xi with F F^T = Phi_l, Stein's
identity makes that B_l = F^-1 <F a xi^T> F^-1 (symmetric F): second derivatives of phi, which ReLU
has not, are not needed, and only the few directions in which the tilt pulls are noisy.

Phi and B follow these equations damped, which contracts at a minimum over Phi of the action (its
maximum over B and Delta taken); Delta follows by the Newton steps of one hidden layer. Two things
keep all laws normalisable on the way: tilts are carried along when the Phi below grows, and B is
made with the kernel that the particles have. Every layer's particles move a little between steps,
each so short that they stay in equilibrium. Gains that fall as 1/n average the sampling noise out
at the end.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...kernels.regression import dual_of
from ...mathematics.chains import Chains, Site
from ...mathematics.losses import relative_residual
from .saddle import REACH, Moments, correlation

DAMPING = 0.1
RELAXED = 40  # steps of full length before weights are calibrated
CALIBRATED_DAMPING = 0.2
CALIBRATED = 20  # steps with calibrated weights before averaging begins
AVERAGED = 24  # steps at least
DIRECTIONS = 12  # those of the strongest pull, in which weights are calibrated on the way
RESOLUTION = 1e-9  # eigenvalues of kernels below this part of the largest count as zero


@dataclass(frozen=True, eq=False)
class Unknowns:
    """Delta, shape ``(P, C)``, and Phi_l and B_l below the last layer, ``(L - 1, P, P)``."""

    delta: Float[np.ndarray, "P C"]
    kernels: Float[np.ndarray, "layers P P"]
    pulls: Float[np.ndarray, "layers P P"]

    def moved(self, by: "Unknowns", part: float) -> "Unknowns":
        return Unknowns(
            self.delta + part * by.delta,
            self.kernels + part * by.kernels,
            self.pulls + part * by.pulls,
        )


@dataclass(frozen=True, eq=False)
class DeepSaddle:
    """What was found, and how well.

    Attributes
    ----------
    xi, weights
        Of every layer, the particles (as standard Gaussians) and their weights.
    at
        Delta, Phi and B of their laws.
    dual
        (Phi_L + 1/beta)^-1 y on the particles.
    action
        At the saddle point; logarithms of partition functions are integrated along the path.
    residual
        Of the equations for Delta, Phi and B: the mean over the last steps relative to y (of the
        worst output), to Phi and to B (as seen by neurons of covariance Phi), the largest over
        layers.
    memory
        Largest over layers of the correlation of the particles' tilt with that when weights were
        first calibrated.
    acceptance
        Smallest over layers, of the last trajectories.
    iterations
        Steps.
    settled
        Whether averaging ended before the steps did.
    """

    xi: tuple[Float[np.ndarray, "M k"], ...]
    weights: Float[np.ndarray, "L M"]
    at: Unknowns
    dual: Float[np.ndarray, "P C"]
    action: float
    residual: Float[np.ndarray, " 3"]
    memory: float
    acceptance: float
    iterations: int
    settled: bool


def root_of(kernel: Float[np.ndarray, "P P"]) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric square root of a kernel, and its pseudo-inverse."""
    values, vectors = np.linalg.eigh(kernel)
    values = np.where(values > RESOLUTION * values[-1], values, 0.0)
    root = np.sqrt(values)
    inverse = np.divide(1, root, out=np.zeros_like(root), where=root > 0)
    return (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T


class Layers:
    """Particles of all layers of one replicate, and the equations that they should satisfy."""

    def __init__(self, chains: list[Chains], anchor, y, richness: float, ridge: float):
        self.chains, self.anchor, self.y = chains, anchor, y
        self.richness, self.ridge = richness, ridge
        count = len(chains[0].xi)
        self.even = np.full(count, 1 / count)

    def start(self) -> Unknowns:
        """Kernels without tilts, and Delta = 0."""
        points, kernels = self.anchor, []
        for chains in self.chains[:-1]:
            phi = chains.features(_site(points, self.y, np.ones(self.y.shape[1])))
            kernels.append(phi.T @ phi / len(phi))
            points = root_of(kernels[-1])[0]
        return Unknowns(np.zeros_like(self.y), np.stack(kernels), np.zeros_like(kernels))

    def sites(self, at: Unknowns) -> list[Site]:
        """The laws of all layers."""
        points = [self.anchor, *(root_of(kernel)[0] for kernel in at.kernels)]
        below = [_pulled(p, pull) for p, pull in zip(points, at.pulls, strict=False)]
        head = _site(points[-1], self.richness * at.delta, np.ones(self.y.shape[1]))
        return [*below, head]

    def weights(self, sites: list[Site], most: int | None = None) -> Float[np.ndarray, "L M"]:
        """Of particles, with Stein's identity exact in as many directions at most."""
        return np.stack(
            [c.calibrated(s, self.even, most=most) for c, s in zip(self.chains, sites, strict=True)]
        )

    def features(self, sites: list[Site]) -> list[Float[np.ndarray, "M P"]]:
        return [c.features(s) for c, s in zip(self.chains, sites, strict=True)]

    def log_tilts(self, sites: list[Site]) -> Float[np.ndarray, "L M"]:
        return np.stack([c.log_tilts(s) for c, s in zip(self.chains, sites, strict=True)])

    def allow(self, now: list[Site], then: list[Site]) -> bool:
        """Whether a step leaves the laws of all layers normalisable."""
        return all(c.allows(a, b) for c, a, b in zip(self.chains, now, then, strict=True))

    def asked(self, at: Unknowns, sites: list[Site], weights, late: bool):
        """What the equations ask to change, and the moments of the last layer."""
        phi = self.features(sites)
        kernels = np.stack([(f.T * w) @ f for f, w in zip(phi[:-1], weights, strict=False)])
        pulls = []
        below = at.kernels if late else kernels
        above = zip(self.chains[1:], sites[1:], weights[1:], below, strict=True)
        for chains, site, w, kernel in above:
            moved = (chains.slopes(site).T * w) @ np.asarray(chains.xi)
            inverse = root_of(kernel)[1]
            pulls.append(inverse @ (moved + moved.T) @ inverse / 2)
        last = Moments(phi[-1], weights[-1], self.y, at.delta, self.ridge, self.richness)
        return Unknowns(last.step, kernels - at.kernels, np.stack(pulls) - at.pulls), last

    def carried(self, at: Unknowns, step: Unknowns) -> Unknowns:
        """The step with tilts following Phi, so that phi(F xi) feels what it felt before."""
        still = Unknowns(np.zeros_like(self.y), step.kernels, np.zeros_like(at.pulls))
        pairs = zip(self.sites(at), self.sites(at.moved(still, 1.0)), self.chains, strict=True)
        pulls = [np.zeros_like(self.y @ self.y.T)]
        for old, new, chains in list(pairs)[1:]:
            now, then = chains.features(old), chains.features(new)
            turn = np.linalg.lstsq(then.T @ then, then.T @ now, rcond=RESOLUTION)[0]
            if len(pulls) < len(at.pulls):
                pull = at.pulls[len(pulls)]
                pulls.append(turn @ pull @ turn.T - pull)
            else:
                delta = turn @ at.delta - at.delta
        return Unknowns(step.delta + delta, step.kernels, step.pulls + np.stack(pulls))

    def plain_action(self, at: Unknowns) -> float:
        """The action but for the logarithms of partition functions."""
        last = np.sum(at.delta * self.y) - 0.5 * self.ridge * np.sum(at.delta**2)
        return float(self.richness**2 * last + 0.5 * np.sum(at.kernels * at.pulls))


def _site(points, directions, signs) -> Site:
    mean, scale = jnp.zeros((1, points.shape[1])), jnp.ones(())
    return Site(mean, scale, *map(jnp.asarray, (points, directions, signs)))


def _pulled(points, pull) -> Site:
    values, vectors = np.linalg.eigh(pull)
    return _site(points, vectors * np.sqrt(np.abs(values)), np.sign(values))


class Search:
    """The unknowns and the particles of one replicate, on their way to the saddle point."""

    def __init__(self, layers: Layers, max_iterations: int):
        self.layers, self.max_iterations = layers, max_iterations
        self.at = layers.start()
        self.sites = layers.sites(self.at)
        self.even = np.tile(layers.even, (len(layers.chains), 1))
        self.logarithms = 0.0  # of all partition functions
        self.steps, self.lost = 0, False

    def goes_on(self) -> bool:
        """Whether there are steps left, and particles that have not run away."""
        return self.steps < self.max_iterations and not self.lost

    def look(self, calibrated: bool) -> "Wanted | None":
        """Begin a step: what the equations ask for, nothing where particles have run away."""
        self.steps += 1
        layers, sites = self.layers, self.sites
        weights = layers.weights(sites, DIRECTIONS) if calibrated else self.even
        try:
            step, last = layers.asked(self.at, sites, weights, calibrated)
        except np.linalg.LinAlgError:
            self.lost = True
            return None
        return Wanted(step, last.residual, weights, layers.log_tilts(sites))

    def go(self, wanted: "Wanted", newton: float, damping: float, resample: bool) -> float:
        """End the step: these parts of Delta's and of the others' as far as particles can follow.

        Returns how much of that it was.
        """
        layers, step = self.layers, wanted.step
        step = Unknowns(newton * step.delta, damping * step.kernels, damping * step.pulls)
        step = layers.carried(self.at, step)
        reached = _reached(layers, self.at, self.sites, step, wanted.tilts)
        if resample:
            for c, logarithm in zip(layers.chains, reached.change, strict=True):
                c.resample(logarithm)
        # d ln Z is the mean change of the tilt's logarithm: half of it from the particles before.
        self.logarithms += 0.5 * np.sum(wanted.weights * reached.change)
        for c, s in zip(layers.chains, reached.sites, strict=True):
            c.move(s)
        change = layers.log_tilts(reached.sites) - layers.log_tilts(self.sites)
        self.logarithms += 0.5 * np.sum(self.even * change)
        self.at, self.sites = reached.at, reached.sites
        return reached.part

    def found(self, averages: "Averages") -> DeepSaddle:
        layers, sites = self.layers, self.sites
        weights = layers.weights(sites)
        return DeepSaddle(
            tuple(np.asarray(c.xi) for c in layers.chains),
            weights,
            self.at,
            dual_of(layers.features(sites)[-1], weights[-1], layers.y, layers.ridge),
            layers.plain_action(self.at) - self.logarithms,
            averages.residual(self.at, layers.y),
            max(map(correlation, averages.before, layers.log_tilts(sites)), default=1.0),
            min(c.acceptance for c in layers.chains),
            self.steps,
            averages.settled,
        )


class Wanted(NamedTuple):
    """What the equations ask to change, and what it was found from."""

    step: Unknowns
    residual: Float[np.ndarray, "P C"]  # of the equation for Delta
    weights: Float[np.ndarray, "L M"]
    tilts: Float[np.ndarray, "L M"]  # their logarithms


class Reached(NamedTuple):
    """Where a step ended, and how much of it that was."""

    at: Unknowns
    sites: list[Site]
    change: Float[np.ndarray, "L M"]  # of the tilts' logarithms
    part: float


@dataclass
class Averages:
    """What the steps of the second phase leave behind."""

    before: Float[np.ndarray, "L M"] | tuple[()] = ()  # the particles' tilts when it began
    asked: list[Unknowns] = field(default_factory=list)  # Delta's residual, other equations' steps
    settled: bool = False

    def residual(self, at: Unknowns, y) -> Float[np.ndarray, " 3"]:
        """As :attr:`DeepSaddle.residual`, averaged over the later half of the steps."""
        if not self.asked:
            return np.full(3, np.inf)
        asked = self.asked[len(self.asked) // 2 :]
        delta = np.mean([a.delta for a in asked], axis=0)
        found = np.array([relative_residual(delta, y), 0.0, 0.0])
        for i, (kernel, pull) in enumerate(zip(at.kernels, at.pulls, strict=True)):
            root, _ = root_of(kernel)
            gap = np.mean([a.kernels[i] for a in asked], axis=0)
            found[1] = max(found[1], np.linalg.norm(gap) / np.linalg.norm(kernel))
            if np.any(pull):
                gap = root @ np.mean([a.pulls[i] for a in asked], axis=0) @ root
                found[2] = max(found[2], np.linalg.norm(gap) / np.linalg.norm(root @ pull @ root))
        return found


def _relax(search: Search) -> None:
    """First phase: damped steps, until particles have followed enough of them all the way."""
    whole = 0
    while whole < RELAXED and search.goes_on():
        wanted = search.look(calibrated=False)
        if wanted is not None:
            whole += search.go(wanted, 1.0, DAMPING, resample=True) == 1.0


def _average(search: Search, tol: float) -> Averages:
    """Second phase: gains that fall as 1/n, after some steps to forget the weights before."""
    averages, began, damping = Averages(), search.steps, CALIBRATED_DAMPING
    while search.goes_on():
        wanted = search.look(calibrated=True)
        if wanted is None:
            break
        if search.steps == began + 1:
            averages.before = wanted.tilts
        if search.steps <= began + CALIBRATED:
            search.go(wanted, 1.0, damping, resample=False)
            continue
        step = wanted.step
        averages.asked.append(Unknowns(wanted.residual, step.kernels, step.pulls))
        count, y = len(averages.asked), search.layers.y
        if count > AVERAGED and averages.residual(search.at, y).max() <= tol:
            averages.settled = True
            break
        search.go(wanted, 1 / count, 1 / (count + 1 / damping), resample=False)
    return averages


def _reached(layers: Layers, at: Unknowns, now: list[Site], step: Unknowns, tilts) -> Reached:
    """As much of a step as moves no layer's tilt by more than :data:`REACH`, nor over the edge."""
    for part in 0.8 ** np.arange(60):
        after = at.moved(step, float(part))
        sites = layers.sites(after)
        change = layers.log_tilts(sites) - tilts
        if np.std(change, axis=1).max() <= REACH and layers.allow(now, sites):
            break
    return Reached(after, sites, change, float(part))


def settle_deep(
    chains: list[Chains],
    anchor: Float[np.ndarray, "P k"],
    y: Float[np.ndarray, "P C"],
    richness: float,
    ridge: float,
    tol: float,
    max_iterations: int,
) -> DeepSaddle:
    """Move Phi, B, Delta and the particles of all layers to the saddle point.

    Particles relax first, with weights that are all the same, and are resampled on the way; with
    weights that make Stein's identity exact the steps are then averaged.

    Parameters
    ----------
    chains
        Particles of every layer without a tilt: k coordinates in the first, P in the others.
    anchor
        Training inputs in span coordinates.
    y
        Labels.
    richness, ridge
        gamma, and 1/beta.
    tol
        Largest residual allowed; averaging goes on until it is met.
    max_iterations
        Steps before giving up.
    """
    search = Search(Layers(chains, anchor, y, richness, ridge), max_iterations)
    _relax(search)
    return search.found(_average(search, tol))
