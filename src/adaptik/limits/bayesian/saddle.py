"""The saddle point of a two-layer posterior as a concave maximum over dual coefficients.

Minimising over Phi for given Delta leaves (theory section 6; C columns of Delta, one an output)

    J(Delta) = gamma^2 <Delta, y> - gamma^2/(2 beta) |Delta|^2
               - E_hbar ln E_{h|hbar} exp( gamma^2/2 |Delta^T phi(h)|^2 ),

whose last term is minus a logarithm of sums of exponentials of convex functions: J is strictly
concave, its only maximum is the action at the saddle, and its gradient gamma^2 (y - Delta/beta -
Phi Delta) vanishes there. Newton steps on it use the particles' moments; particles follow in steps
short enough for Monte Carlo to equilibrate them. Steps with falling gains then average the
sampling noise out (Robbins and Monro).
"""

from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...kernels.regression import dual_of
from ...mathematics.chains import Chains, Site
from ...mathematics.losses import relative_residual

REACH = 0.35  # standard deviation of the change of the logarithm of the tilt in one step
FULL_STEPS = 3  # in a row, before averaging begins
AVERAGED = 12  # steps at least
STUCK, TINY = 20, 1e-4  # steps in a row, each so small a part of Newton's, after which to give up


@dataclass(frozen=True, eq=False)
class Saddle:
    """What was found, and how well.

    Attributes
    ----------
    xi, weights
        The particles and their weights, shapes ``(M, k)`` and ``(M,)``.
    delta
        Delta of the law of the particles, shape ``(P, C)``.
    dual
        (Phi + 1/beta)^-1 y on the particles.
    action
        J, from its gradient along the path from Delta = 0.
    residual
        rms of y - Delta/beta - Phi Delta, averaged over the last steps, relative to that of y, of
        the output where it is largest.
    memory
        Correlation of the particles' tilt with that at the start of the averaging.
    acceptance
        Of the last trajectories.
    iterations
        Newton steps.
    settled
        Whether averaging ended before the steps did.
    """

    xi: Float[np.ndarray, "M k"]
    weights: Float[np.ndarray, " M"]
    delta: Float[np.ndarray, "P C"]
    dual: Float[np.ndarray, "P C"]
    action: float
    residual: float
    memory: float
    acceptance: float
    iterations: int
    settled: bool


class Moments:
    """Gradient and curvature of J/gamma^2 at the particles' own Delta."""

    def __init__(self, phi, weights, y, delta, ridge: float, richness: float, earlier=None):
        self.u = phi @ delta
        self.kernel = (phi.T * weights) @ phi
        self.pull = self.kernel @ delta  # gradient of ln Z, without gamma^2
        self.residual = y - ridge * delta - self.pull
        samples, outputs = y.shape
        psi = _outer(phi, delta)
        if earlier is None:
            psi = psi - weights @ psi
        else:
            # Fluctuations given the source neuron: those of independent draws, which moves of the
            # particle bring about.
            psi = (psi - _outer(earlier, delta)) / np.sqrt(2)
        self.richness, self.weights, self.psi = richness, weights, psi
        curvature = np.kron(self.kernel + ridge * np.eye(samples), np.eye(outputs))
        curvature += richness**2 * (psi.T * weights) @ psi
        self.step = np.linalg.solve(curvature, self.residual.ravel()).reshape(y.shape)

    def bend(self, change) -> float:
        """Second derivative of ln Z along a change of Delta, without gamma^2."""
        fluctuation = self.weights @ (self.psi @ change.ravel()) ** 2
        return float(np.sum(change * (self.kernel @ change)) + self.richness**2 * fluctuation)


def _outer(phi, delta) -> Float[np.ndarray, "M PC"]:
    return (phi[:, :, None] * (phi @ delta)[:, None, :]).reshape(len(phi), -1)


class Search:
    """Delta and the particles of one replicate, on their way to the saddle point."""

    def __init__(
        self,
        chains: Chains,
        site: Site,
        y: Float[np.ndarray, "P C"],
        richness: float,
        ridge: float,
        given: Float[np.ndarray, " M"],
        anchors: Float[np.ndarray, "M rank"] | None,
        max_iterations: int,
    ):
        """Arguments as in :func:`settle`."""
        self.chains, self.site, self.y, self.given, self.anchors = chains, site, y, given, anchors
        self.richness, self.ridge, self.max_iterations = richness, ridge, max_iterations
        self.delta, self.action = np.zeros_like(y), 0.0
        self.steps, self.stuck = 0, 0
        self.phi: np.ndarray | None = None  # of the particles where moments were last taken
        self.seen: tuple[np.ndarray, Moments] | None = None  # Delta and moments there

    def goes_on(self) -> bool:
        """Whether there are steps left, and steps that lead somewhere."""
        return self.steps < self.max_iterations and self.stuck < STUCK

    def look(self) -> tuple[Moments, float]:
        """Begin a step: the moments, and how much of Newton's step the particles can follow."""
        self.steps += 1
        earlier = None if self.anchors is None else self.phi
        self.phi, weights = self._weighed()
        now = Moments(self.phi, weights, self.y, self.delta, self.ridge, self.richness, earlier)
        if self.seen is not None:
            self.action += _climbed(self.seen, (self.delta, now), self.y, self.ridge, self.richness)
        self.seen = (self.delta, now)
        part = _reach(self.chains, self.site, self.phi, now.u, now.step, self.richness)
        self.stuck = self.stuck + 1 if part < TINY else 0
        return now, part

    def go(self, now: Moments, part: float, resample: bool) -> None:
        """End the step: go that part of it; particles follow, resampled where they share a law."""
        self.delta = self.delta + part * now.step
        self.site = self.site._replace(directions=jnp.asarray(self.richness * self.delta))
        if self.anchors is None and resample:
            gained = self._tilts(self.phi) - np.sum(now.u**2, 1)
            self.chains.resample(0.5 * self.richness**2 * gained)
        self.chains.move(self.site)

    def found(self, averages: "Averages") -> Saddle:
        phi, weights = self._weighed()
        return Saddle(
            np.asarray(self.chains.xi),
            weights,
            self.delta,
            dual_of(phi, weights, self.y, self.ridge),
            self.action,
            averages.residual(self.y),
            correlation(averages.before, self._tilts(phi)),
            self.chains.acceptance,
            self.steps,
            averages.settled,
        )

    def _weighed(self) -> tuple[Float[np.ndarray, "M P"], Float[np.ndarray, " M"]]:
        phi = self.chains.features(self.site)
        return phi, self.chains.calibrated(self.site, self.given, self.anchors)

    def _tilts(self, phi) -> Float[np.ndarray, " M"]:
        """|Delta^T phi|^2 of every particle: the logarithm of its tilt times 2/gamma^2."""
        return np.sum((phi @ self.delta) ** 2, 1)


@dataclass
class Averages:
    """What the steps of the second phase leave behind."""

    before: Float[np.ndarray, " M"] | None = None  # the particles' tilts when it began
    residuals: list[Float[np.ndarray, "P C"]] = field(default_factory=list)
    settled: bool = False

    def residual(self, y) -> float:
        """Relative, averaged over the later half of the steps."""
        if not self.residuals:
            return np.inf
        late = np.mean(self.residuals[len(self.residuals) // 2 :], axis=0)
        return relative_residual(late, y)


def _approach(search: Search) -> None:
    """First phase: as much of Newton's steps as particles can follow, until a few are whole."""
    whole = 0
    while whole < FULL_STEPS and search.goes_on():
        now, part = search.look()
        whole = whole + 1 if part == 1.0 else 0
        search.go(now, part, resample=whole < FULL_STEPS)


def _average(search: Search, tol: float) -> Averages:
    """Second phase: gains that fall as 1/n average the sampling noise out.

    A residual that does not fall from one look at it to the next is no noise: particles still find
    new places. The phase ends then with nothing, and the first begins again.
    """
    averages, level = Averages(), np.inf
    while search.goes_on():
        now, part = search.look()
        if averages.before is None:
            averages.before = np.sum(now.u**2, 1)
        averages.residuals.append(now.residual)
        count, residual = len(averages.residuals), averages.residual(search.y)
        if count > AVERAGED and residual <= tol:
            averages.settled = True
            break
        rises = count % AVERAGED == 0 and residual > level
        search.go(now, min(part, 1 / count), resample=rises)
        if rises:
            return Averages()
        if count % AVERAGED == 0:
            level = residual
    return averages


def _reach(chains: Chains, site: Site, phi, u, step, richness: float) -> float:
    """How much of a step moves the tilt by :data:`REACH` at most, and not over the edge.

    What is allowed is convex in Delta: shorter steps are allowed, too.
    """
    du = phi @ step
    linear = richness**2 * np.sum(u * du, axis=1)
    square = 0.5 * richness**2 * np.sum(du * du, axis=1)
    for part in 0.8 ** np.arange(60):
        there = site._replace(directions=site.directions + part * richness * step)
        if np.std(part * linear + part**2 * square) <= REACH and chains.allows(site, there):
            return float(part)
    return 0.0


def settle(
    chains: Chains,
    site: Site,
    y: Float[np.ndarray, "P C"],
    richness: float,
    ridge: float,
    given: Float[np.ndarray, " M"],
    anchors: Float[np.ndarray, "M rank"] | None,
    tol: float,
    max_iterations: int,
) -> Saddle:
    """Move Delta and the particles to the saddle point, by an approach and an averaging.

    Parameters
    ----------
    chains, site
        Particles of the law without a tilt, and its points, means and scale.
    y
        Labels.
    richness, ridge
        gamma, and 1/beta.
    given
        Weights of the particles before the tilt.
    anchors
        Source neurons whose laws are normalised one by one; ``None`` where all share one law, in
        which the particles are then resampled as the tilt grows.
    tol
        Residual allowed; averaging goes on until it is met.
    max_iterations
        Newton steps before giving up.
    """
    search = Search(chains, site, y, richness, ridge, given, anchors, max_iterations)
    averages = Averages()
    while search.goes_on() and not averages.settled:
        _approach(search)
        averages = _average(search, tol)
    return search.found(averages)


def _climbed(start, end, y, ridge: float, richness: float) -> float:
    """Gain of J between two steps, with ln Z from its derivatives at both ends (Hermite)."""
    (a, at_a), (b, at_b) = start, end
    change = b - a
    plain = np.sum(change * y) - 0.5 * ridge * (np.sum(b * b) - np.sum(a * a))
    trapezoid = 0.5 * np.sum((at_a.pull + at_b.pull) * change)
    return float(richness**2 * (plain - trapezoid - (at_a.bend(change) - at_b.bend(change)) / 12))


def correlation(before, after) -> float:
    if before is None or np.std(before) == 0 or np.std(after) == 0:
        return 0.0
    return float(np.corrcoef(before, after)[0, 1])
