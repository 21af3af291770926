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

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...mathematics.losses import relative_residual
from .chains import Chains, Site

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


def dual_of(phi, weights, y, ridge: float) -> Float[np.ndarray, "P C"]:
    """(Phi + ridge)^-1 y."""
    gram = (phi.T * weights) @ phi
    return np.linalg.solve(gram + ridge * np.eye(len(y)), y)


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
    """Move Delta and the particles to the saddle point.

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
    delta, action, full, gains, behind = np.zeros_like(y), 0.0, 0, 0, None
    residuals, before = [], None
    steps, stuck, earlier, settled, level = 0, 0, None, False, np.inf
    while steps < max_iterations and stuck < STUCK:
        steps += 1
        phi = chains.features(site)
        weights = chains.calibrated(site, given, anchors)
        now = Moments(phi, weights, y, delta, ridge, richness, earlier)
        if behind is not None:
            action += _climbed(behind, (delta, now), y, ridge, richness)
        behind = (delta, now)
        earlier = None if anchors is None else phi
        part = _reach(chains, site, phi, now.u, now.step, richness)
        stuck = stuck + 1 if part < TINY else 0
        if full >= FULL_STEPS:
            before = np.sum(now.u**2, 1) if before is None else before
            residuals.append(now.residual)
            late = _late(residuals, y)
            settled = gains >= AVERAGED and late <= tol
            if settled:
                break
            gains += 1
            part = min(part, 1 / gains)
            if gains % AVERAGED == 0:
                # A residual that does not fall is no noise: particles still find new places.
                if late > level:
                    full, gains, residuals, before, late = 0, 0, [], None, np.inf
                level = late
        else:
            full = full + 1 if part == 1.0 else 0
        delta = delta + part * now.step
        site = site._replace(directions=jnp.asarray(richness * delta))
        if anchors is None and full < FULL_STEPS:
            chains.resample(
                0.5 * richness**2 * (np.sum((phi @ delta) ** 2, 1) - np.sum(now.u**2, 1))
            )
        chains.move(site)
    phi = chains.features(site)
    weights = chains.calibrated(site, given, anchors)
    return Saddle(
        np.asarray(chains.xi),
        weights,
        delta,
        dual_of(phi, weights, y, ridge),
        action,
        _late(residuals, y),
        correlation(before, np.sum((phi @ delta) ** 2, 1)),
        chains.acceptance,
        steps,
        settled,
    )


def _late(residuals: list[np.ndarray], y) -> float:
    """Relative residual averaged over the later half of the averaging."""
    if not residuals:
        return np.inf
    late = np.mean(residuals[len(residuals) // 2 :], axis=0)
    return relative_residual(late, y)


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
