"""Single neurons under a tilted Gaussian law, as chains of Hamiltonian Monte Carlo.

The law of the weights of one neuron in the span of the training inputs (theory section 6) is

    p(w) ~ N(w; mean, scale^2) exp( 1/2 sum_j signs_j (d_j . phi(A w))^2 ),

which a chain carries as xi = (w - mean)/scale, a standard Gaussian before the tilt.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .activations import Activation
from .hamiltonian import adapted, trajectory

TRAJECTORIES = 2  # between two looks at the particles
CONDITIONS = 1 / 8  # of the particles' number: as many moments are made exact at most
FAR = 1e6  # standard deviations from the origin, where phi is what it is at infinity
TO_EDGE = 0.5  # of the way to where a law stops being normalisable, at most, in one step
CLIMBERS, CLIMB = 256, 50  # particles, and steps, that look for the steepest direction


class Site(NamedTuple):
    """A tilted law for every particle.

    Attributes
    ----------
    mean
        Shape ``(M, k)``.
    scale
        Standard deviation before the tilt.
    points
        A, shape ``(P, k)``.
    directions
        d_j, shape ``(P, J)``; for one hidden layer gamma Delta.
    signs
        Shape ``(J,)``.
    """

    mean: Float[Array, "M k"]
    scale: Float[Array, ""]
    points: Float[Array, "P k"]
    directions: Float[Array, "P J"]
    signs: Float[Array, " J"]

    def weights(self, xi):
        return self.mean + self.scale * xi


def _log_tilt(phi, site: Site, xi):
    u = phi(site.weights(xi) @ site.points.T) @ site.directions
    return 0.5 * jnp.square(u) @ site.signs


@partial(jax.jit, static_argnums=0)
def _log_tilts(activation: Activation, site: Site, xi):
    return _log_tilt(activation.phi, site, xi)


@partial(jax.jit, static_argnums=0)
def _refreshed(activation: Activation, site: Site, xi, key, step):
    """Trajectories, then two reflections that carry particles between modes of the tilt."""

    def tilt(x):
        return _log_tilt(activation.phi, site, x)

    *keys, mirror, turn = jax.random.split(key, TRAJECTORIES + 2)
    total = 0.0
    for k in keys:
        xi, chance = trajectory(tilt, xi, k, step)
        total += chance / TRAJECTORIES
    axis = site.points.T @ (site.directions @ jax.random.normal(turn, site.signs.shape))
    axis = axis / jnp.maximum(jnp.linalg.norm(axis), 1e-30)
    for i, along in enumerate((axis, None)):  # each from where the particles are by then
        w = site.weights(xi)
        image = -w if along is None else w - 2 * (w @ along)[:, None] * along
        there = (image - site.mean) / site.scale
        gain = tilt(there) - tilt(xi) + 0.5 * jnp.sum(xi**2 - there**2, -1)
        taken = jnp.log(jax.random.uniform(jax.random.fold_in(mirror, i), gain.shape)) < gain
        xi = jnp.where(taken[:, None], there, xi)
    return xi, total


@partial(jax.jit, static_argnums=0)
def _steepness(activation: Activation, site: Site, xi):
    """Largest 2 ln(tilt)/|xi|^2 at infinity that climbing from the particles' directions finds."""
    far = site._replace(mean=jnp.zeros((1, xi.shape[1])))

    def steepness(u):
        return 2 * _log_tilt(activation.phi, far, FAR * u) / FAR**2

    def unit(u):
        return u / jnp.maximum(jnp.linalg.norm(u, axis=-1, keepdims=True), 1e-30)

    def climb(carry, angle):  # angles that shrink settle on ridges where phi has a kink
        u, top = carry
        value, back = jax.vjp(steepness, u)
        (slope,) = back(jnp.ones_like(value))
        slope = slope - jnp.sum(slope * u, -1, keepdims=True) * u
        return (unit(u + angle * unit(slope)), jnp.maximum(top, jnp.max(value))), None

    start = (unit(xi[:: max(1, len(xi) // CLIMBERS)]), jnp.zeros(()))
    (u, top), _ = jax.lax.scan(climb, start, jnp.geomspace(1.0, 1e-3, CLIMB))
    return jnp.maximum(top, jnp.max(steepness(u)))


@partial(jax.jit, static_argnums=0)
def _features(activation: Activation, site: Site, xi):
    return activation.phi(site.weights(xi) @ site.points.T)


@partial(jax.jit, static_argnums=0)
def _slopes(activation: Activation, site: Site, xi):
    """Gradient of the logarithm of the tilt in xi."""
    return jax.grad(lambda x: jnp.sum(_log_tilt(activation.phi, site, x)))(xi)


class Chains:
    """All particles of one replicate."""

    def __init__(self, activation: Activation, xi: np.ndarray, rng: np.random.Generator):
        self.activation, self.xi, self.rng = activation, jnp.asarray(xi), rng
        self.step, self.acceptance = 0.3, 1.0

    def move(self, site: Site) -> None:
        """Let every particle move under its law."""
        key = jax.random.key(int(self.rng.integers(2**32)))
        self.xi, chance = _refreshed(self.activation, site, self.xi, key, jnp.asarray(self.step))
        self.acceptance = float(chance)
        self.step = adapted(self.step, self.acceptance)

    def resample(self, logarithms: np.ndarray) -> None:
        """Particles in proportion to weights, by systematic resampling."""
        weights = np.exp(logarithms - logarithms.max())
        edges = np.cumsum(weights) / weights.sum()
        at = (self.rng.uniform() + np.arange(len(edges))) / len(edges)
        chosen = np.minimum(np.searchsorted(edges, at), len(edges) - 1)
        self.xi = self.xi[chosen]

    def features(self, site: Site) -> Float[np.ndarray, "M P"]:
        return np.asarray(_features(self.activation, site, self.xi))

    def slopes(self, site: Site) -> Float[np.ndarray, "M k"]:
        """Gradient of the logarithm of the tilt in xi."""
        return np.asarray(_slopes(self.activation, site, self.xi))

    def steepness(self, site: Site) -> float:
        """By how much the tilt outgrows the Gaussian at infinity.

        1 is where the law stops being normalisable: sup over unit vectors u of
        2 ln(tilt(R u))/R^2 as R grows. It depends on ``scale``, not on ``mean``.
        """
        return float(_steepness(self.activation, site, self.xi))

    def allows(self, now: Site, then: Site) -> bool:
        """Whether a step of the law keeps off the edge of what is normalisable.

        Beyond it the partition function is infinite, which particles, being few, do not see: they
        would follow and run away.
        """
        room = 1 - self.steepness(now)
        return self.steepness(then) <= 1 - (1 - TO_EDGE) * room

    def log_tilts(self, site: Site) -> Float[np.ndarray, " M"]:
        return np.asarray(_log_tilts(self.activation, site, self.xi))

    def calibrated(
        self,
        site: Site,
        given: Float[np.ndarray, " M"],
        anchors: Float[np.ndarray, "M rank"] | None = None,
        most: int | None = None,
    ) -> Float[np.ndarray, " M"]:
        """Weights of the particles that make known moments of their law exact.

        Stein's identity gives moments that vanish under the law: <s_i> = 0 and
        <s_i xi_j> = -delta_ij for the score s, and <s_i wbar_j> = 0 where the mean follows a
        source neuron wbar, whose own second moments are kept. Of all weights that satisfy them,
        these are nearest to ``given``. A linear neuron's second moments are then exact, and those
        of any other are nearly so; directions in which the tilt acts most come first where there
        are too few particles for all, or more than ``most``. Weights are positive: conditions are
        dropped until they are.
        """
        xi = np.asarray(self.xi)
        slopes = np.asarray(_slopes(self.activation, site, self.xi))
        _, axes = np.linalg.eigh((slopes.T * given) @ slopes)
        axes = axes[:, ::-1]
        score, turned = (slopes - xi) @ axes, xi @ axes
        k = xi.shape[1]
        if anchors is not None:
            anchors = np.column_stack([anchors[:, :k] @ axes, anchors[:, k:]])
        k = min(k, most or k)
        first = None if anchors is None else anchors[:1]
        while k > 0:
            count = _identities(score[:1], turned[:1], first, given[:1], k).shape[1]
            if count <= CONDITIONS * len(xi):
                weights = _nearest(given, _identities(score, turned, anchors, given, k))
                if weights.min() > 0:
                    return weights
            k = 3 * k // 4
        return given


def _identities(score, xi, wbar, given, k: int) -> Float[np.ndarray, "M n"]:
    """Functions of a particle that average to 0, from its first k coordinates.

    Source neurons enter with twice as many coordinates outside of the samples' span.
    """
    i, j = np.triu_indices(k)
    columns = [
        score[:, :k],
        0.5 * (score[:, i] * xi[:, j] + score[:, j] * xi[:, i]) + (i == j),
    ]
    if wbar is not None:
        wbar = np.column_stack([wbar[:, :k], wbar[:, xi.shape[1] :][:, : 2 * k]])
        i, j = np.triu_indices(wbar.shape[1])
        pairs = wbar[:, i] * wbar[:, j]
        columns += [
            (score[:, :k, None] * wbar[:, None, :]).reshape(len(xi), -1),
            pairs - given @ pairs,
        ]
    return np.concatenate(columns, axis=1)


def _nearest(given, zeros) -> Float[np.ndarray, " M"]:
    """Weights of sum 1 nearest to ``given`` under which all columns of ``zeros`` average to 0."""
    columns = np.column_stack([np.ones(len(given)), zeros])
    gram = (columns.T * given) @ columns
    # Scaled to a unit diagonal; conditions may repeat each other.
    size = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    scaled = gram / np.outer(size, size) + 1e-12 * np.eye(len(gram))
    wanted = np.zeros(len(gram))
    wanted[0] = 1 / size[0]
    factors = np.linalg.solve(scaled, wanted) / size
    return given * (columns @ factors)
