"""Where a flow of particles under weight decay ends: a root found by Newton steps.

The flow descends, per neuron (theory sections 2 and 6),

    E = gamma^2/(2 P) sum_mu |y_mu - f_mu|^2 + lambda/2 <|w|^2 + |z|^2> + delta/2 <|w - home|^2>

whose slowest modes take thousands of times 1/lambda. A step of implicit Euler of length 1/sigma
solves (sigma + E'') step = -E'; it follows the flow where sigma is large and is a Newton step where
it is small. A step is taken where E falls by what its quadratic model says, which a step over
negative curvature does not: near a saddle point (the origin, say) sigma stays large and the flow's
way off it is followed. Families of stationary points (neurons of homogeneous activations may share
what they carry in any way) are no obstacle: sigma stays positive.

E'' couples neurons through f alone. Within one neuron only phi'' keeps it from having a closed
inverse; without phi'' it is the preconditioner of conjugate gradients (:class:`Curvature`), exact
for ReLU.

Neurons that come to rest on kinks of phi are held there (see kinks.py): a step that carries them
across ends on the kink, following steps keep to it, until it can no longer hold them.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ...kernels.particles.law import Law
from ...mathematics.stepping import Rest
from .flow import ParticleFlow, push_of
from .kinks import MOST, Held, caught, let_go

FIRST = 1.0  # sigma at the start, in units of lambda
FASTER, SLOWER = 0.1, 3.0  # factors of sigma after a step that is taken, and one that is not
CAREFUL = 0.7  # after one that is taken where the one before was not
NEWTON = 1e-7  # sigma, in units of lambda, up to which steps count as Newton's
CHANGE = 1e-7  # of the predictor by the last step
STEPS, KINKED_STEPS = 600, 2000  # with many neurons on kinks it takes hundreds to find on which
RATE = 1e-12  # at which E falls along the flow where it is at rest
# Stopped early, steps creep along flat valleys of E: after 30 they fell below CHANGE where E still
# fell at 1e-6, and where they did arrive it took seven times as many.
CG_TOL, CG_STEPS = 0.1, 200
AGREEMENT = 0.3  # of the fall of E with that of its quadratic model, relative
ROUNDING = 1e-13  # relative, of E


class Resting(NamedTuple):
    """Stationary particles of one replicate, and the kinks that hold them there."""

    law: Law
    on: Bool[Array, "M P"]


def at_rest(flow: ParticleFlow, law: Law) -> Rest:
    """Where a flow that is nearly at rest comes to rest: stationary particles in double precision.

    Nothing where they were not found for every replicate.
    """
    precise = _doubled(flow)
    found, held, rates, steps = [], 0.0, [], 0
    for r in range(len(law.w)):
        one = _of_replicate(precise, r)
        own = jax.tree.map(lambda leaf, r=r: leaf[r : r + 1], _doubled(law))
        there, taken = _descend(one, own)
        steps += taken
        if there is None:
            return Rest(None, steps)
        found.append(there.law)
        rates.append(_rate(one, *there))
        held += float(jnp.mean(jnp.any(there.on, 1))) / len(precise.offset)
    remark = f", {held:.1%} of neurons on kinks" if held else ""
    found = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *found)
    return Rest(found, steps, float(np.mean(rates)), remark)


def _of_replicate(flow: ParticleFlow, r: int) -> ParticleFlow:
    def parts(flow: ParticleFlow):
        start = flow.anchors.coordinates.start  # there in low-rank stages
        return [a for a in (flow.offset, flow.home, start) if a is not None]

    own = [a if len(a) == 1 else a[r : r + 1] for a in parts(flow)]
    return eqx.tree_at(parts, flow, own)


def peak_bytes(particles: int, coordinates: int, samples: int, outputs: int) -> int:
    """An upper bound of what one compiled Newton step allocates for a replicate."""
    per_particle = 6 * coordinates + samples * (24 + 2.5 * outputs**2)
    per_particle += 2 * MOST * (MOST + coordinates)
    return int(8 * (particles * per_particle + 8 * (samples * outputs) ** 2))


def _doubled(tree):
    def double(leaf):
        return leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf

    return jax.tree.map(double, tree)


def _descend(flow: ParticleFlow, law: Law) -> tuple[Resting | None, int]:
    """One replicate's particles at rest, nothing where they were not found, and the steps taken."""
    decay = float(flow.decay)
    sigma, factor = FIRST * decay, FASTER
    on = jnp.zeros((law.w.shape[1], len(flow.labels)), bool)
    fresh, most = on, KINKED_STEPS if flow.activation.has_kink else STEPS
    for step in range(1, most + 1):
        tried = _attempt(flow, law, on, fresh, jnp.asarray(sigma))
        if not tried.surprise <= 1:
            sigma, factor = SLOWER * sigma, CAREFUL
            continue
        law, on, fresh = tried.law, tried.on, tried.caught
        still = sigma <= NEWTON * decay and tried.length <= CHANGE and tried.same_kinks
        if still and _rate(flow, law, on) <= RATE:
            return Resting(law, on), step
        sigma, factor = max(factor * sigma, 0.1 * NEWTON * decay), max(FASTER, factor**2)
    return (Resting(law, on) if _rate(flow, law, on) <= RATE else None), most


class Attempt(NamedTuple):
    """Where a step leads, and what decides whether it is taken."""

    law: Law
    on: Bool[Array, "M P"]  # kinks that hold there
    caught: Bool[Array, "M P"]  # those of them that this step ended on
    same_kinks: Bool[Array, ""]  # whether on is what it was before
    surprise: Float[Array, ""]  # how far E falls from its quadratic model's fall; 1 is allowed
    length: Float[Array, ""]  # of the step, in units of the predictor


@eqx.filter_jit
def _attempt(flow: ParticleFlow, law: Law, on, fresh, sigma) -> Attempt:
    """One step from a law that is held on kinks, ``fresh`` those that the step before ended on."""
    given = on
    law, on = let_go(flow, law, on, fresh)
    held = Held.at(flow, on)

    def curved(v: Law) -> Law:
        """(sigma + E'') v along the kinks; E'' is minus the derivative of the flow."""
        change = jax.jvp(flow, (law,), (v,))[1]
        return held.along(jax.tree.map(lambda a, b: sigma * a - b, v, change))

    downhill = held.along(flow(law))  # -E'
    nearly = Curvature.at(flow, law, on, sigma)
    step, _ = jax.scipy.sparse.linalg.cg(
        curved, downhill, tol=CG_TOL, maxiter=CG_STEPS, M=lambda v: held.along(nearly.solve(v))
    )
    there = jax.tree.map(jnp.add, law, step)
    # Of a quadratic E, <-E', step> - <step, E'' step>/2, with (sigma + E'') step = -E'.
    expected = 0.5 * (_product(downhill, step) + sigma * _product(step, step))
    hits = caught(flow, held, law, there)
    on = on | hits
    there = Held.at(flow, on).along(there)
    before = _energy(flow, law)
    fallen = before - _energy(flow, there)
    allowed = AGREEMENT * jnp.maximum(expected, 0.0) + ROUNDING * before
    surprise = jnp.where(  # across kinks E is not quadratic: all that is asked is that it falls
        hits.any(), -fallen / (ROUNDING * before), jnp.abs(fallen - expected) / allowed
    )
    return Attempt(there, on, hits, jnp.all(on == given), surprise, flow.weigh(law, step))


@eqx.filter_jit
def _rate(flow: ParticleFlow, law: Law, on):
    """Of the loss and the burden, along the kinks that hold."""
    return flow.loss_and_rate(law, Held.at(flow, on).along(flow(law)))[1]


def _product(a: Law, b: Law):
    each = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
    return sum(jax.tree.leaves(each)) / a.z.shape[1]


def _energy(flow: ParticleFlow, law: Law):
    return 0.5 * flow.richness**2 * (flow.loss(law) + flow.burden(law))


class Curvature(eqx.Module):
    """sigma + E'' without phi'' (theory section 2, "Rest"), and its inverse.

    One neuron's weights and readout feel each other through the error signals, and all neurons
    through f:

        sigma + E'' = A + U <U^T .>/P,          A = [[a, -V], [-V^T, b]],
        V = gamma sum_mu phi'_mu x_mu Delta_mu^T        (coordinates, C), neuron by neuron
        U_mu,c = (z_c phi'_mu x_mu, phi_mu e_c)         gradient of z_c phi_mu
        a = sigma + lambda + delta,             b = sigma + lambda.

    Readouts c of a constant feature b_r (a bias) add b to A and b_r e_c to U_mu,c.

    A is inverted by eliminating weights, the sum over neurons by Woodbury's identity:

        A^-1 (w, z) = ((w + V t)/a, t),         t = B^-1 (z + V^T w/a),    B = b - V^T V/a,
        (sigma + E'')^-1 = A^-1 - A^-1 U core^-1 <U^T A^-1 .>,    core = P + <U^T A^-1 U>.

    Where samples and outputs have weights in the loss, U has their roots.

    Attributes
    ----------
    pull
        gamma Delta, shape ``(1, P, C)``.
    B_inverse
        Of every neuron, with eigenvalues that are positive.
    core_root
        Cholesky factor of ``core``.
    """

    flow: ParticleFlow
    z: Float[Array, "1 M C"]
    phi: Float[Array, "1 M P"]
    slope: Float[Array, "1 M P"]  # phi', 0 on kinks that hold
    pull: Float[Array, "1 P C"]
    root: Float[Array, "P C"] | float  # of the weights in the loss
    a: Float[Array, ""]
    b: Float[Array, ""]
    B_inverse: Float[Array, "1 M C C"]
    core_root: Float[Array, "PC PC"]

    @classmethod
    def at(cls, flow: ParticleFlow, law: Law, on: Bool[Array, "M P"], sigma) -> "Curvature":
        """At a law of which the kinks ``on`` hold."""
        h, phi, f = flow.forward(law)
        slope = jnp.where(on, 0.0, flow.activation.derivative(h))
        pull = flow.richness * flow.signal(f)
        a, b = sigma + flow.decay + flow.elastic, sigma + flow.decay
        gram = flow.anchors.gram
        assert gram is not None
        # phi'_mu V^T x_mu: how the weights' part of U_mu acts on the readout, without z/a.
        strength = slope[..., None] * pull[:, None]
        felt = slope[..., None] * jnp.einsum("pq,rmqc->rmpc", gram, strength)
        VtV = jnp.einsum("rpc,rmpd->rmcd", pull, felt)
        values, vectors = jnp.linalg.eigh(VtV)
        values = 1 / jnp.maximum(b - values / a, 0.5 * sigma)  # steps that grow are not Newton's
        B_inverse = jnp.einsum("rmce,rme,rmde->rmcd", vectors, values, vectors)
        B_root = vectors * jnp.sqrt(values)[..., None, :]  # of the inverse
        weights = flow.objective.weights
        root = 1.0 if weights is None else jnp.sqrt(weights)
        core = _core(law.z, phi, slope, felt, B_root, a, gram)
        if flow.bias is not None:
            constant = jnp.kron(jnp.ones(gram.shape), jnp.eye(law.z.shape[2]))
            core = core + jnp.square(flow.bias) / b * constant
        if weights is not None:
            core = jnp.ravel(root)[:, None] * core * jnp.ravel(root)
        core = core + len(gram) * jnp.eye(len(core))
        core_root = jnp.linalg.cholesky(core)
        return cls(flow, law.z, phi, slope, pull, root, a, b, B_inverse, core_root)

    def _alone(self, v: Law) -> Law:
        """A^-1 v: neurons by themselves."""
        coordinates = self.flow.anchors.coordinates
        moved = self.slope * coordinates.changes(v.w)
        t = v.z + jnp.einsum("rpc,rmp->rmc", self.pull, moved) / self.a
        t = jnp.einsum("rmcd,rmd->rmc", self.B_inverse, t)
        strength = self.slope * jnp.einsum("rpc,rmc->rmp", self.pull, t)
        c = None if v.c is None else v.c / self.b
        return Law((v.w + coordinates.pushed(strength)) / self.a, t, c)

    def solve(self, v: Law) -> Law:
        """(sigma + E'')^-1 v."""
        coordinates = self.flow.anchors.coordinates
        alone = self._alone(v)
        moved = self.slope * coordinates.changes(alone.w)
        change = jnp.einsum("rmc,rmp->rpc", self.z, moved)
        change = change + jnp.einsum("rmc,rmp->rpc", alone.z, self.phi)
        change = change / self.phi.shape[1] + alone.constant(self.flow.bias)
        change = (self.root * change).ravel()  # <U^T A^-1 v>
        signal = jax.scipy.linalg.cho_solve((self.core_root, True), change)
        signal = self.root * signal.reshape(self.pull.shape)
        # U times the signal
        bias = self.flow.bias
        shared = push_of(self.z, self.phi, self.slope, coordinates, signal, 1.0, bias)
        return jax.tree.map(jnp.subtract, alone, self._alone(shared))


def _core(z, phi, slope, felt, B_root, a, gram) -> Float[Array, "PC PC"]:
    """<U^T A^-1 U>, with B^-1 = ``B_root`` ``B_root``^T and ``felt`` = phi'_mu V^T x_mu."""
    samples, outputs = phi.shape[2], z.shape[2]
    # Readouts, once weights are eliminated: B_root^T (phi_mu e_c + V^T x_mu phi'_mu z_c/a).
    readouts = jnp.einsum("rmp,rmce->rmpce", phi, B_root)
    readouts = readouts + jnp.einsum("rmc,rmpd,rmde->rmpce", z / a, felt, B_root)
    readouts = jnp.moveaxis(readouts[0], -1, 1).reshape(-1, samples * outputs)
    # Weights: z_c phi'_mu x_mu, whose products are those of z_c phi'_mu times the inputs' kernel.
    weights = (z[0][:, None, :] * slope[0][..., None]).reshape(-1, samples * outputs)
    total = weights.T @ weights * jnp.kron(gram, jnp.ones((outputs, outputs))) / a
    return (total + readouts.T @ readouts) / len(weights)
