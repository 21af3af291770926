"""Directions of a low-rank stage that train with the neurons (theory section 1).

Neurons have numbers b along the directions, w = w_1 + sum_k b_k a_k, and move as those of a stage
whose directions stay; in the mean of all, they move the directions.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...kernels.particles.law import Law
from ...mathematics.stepping import AbstractFlow
from .flow import ParticleFlow, Recorder
from .linearised import strengths_of


class Adapted(NamedTuple):
    """What moves: the b of all neurons with their readouts, and the directions.

    Of all r directions only what neurons feel is kept: b stays in the span of the a^T x_mu, of k
    dimensions, in an orthonormal basis of which b and the columns of ``a`` are given.
    """

    law: Law
    a: Float[Array, "R rank k"]  # in span coordinates; a mean over the neurons of each replicate


class DirectionFlow(AbstractFlow):
    """db = gamma sum Delta g a^T x - lambda b, da = eta_a (gamma <b sum Delta g x> - lambda a)."""

    inner: ParticleFlow  # of b and readouts, along the directions where they start
    samples: Float[Array, "P rank"]  # in span coordinates
    rate: Float[Array, ""]  # eta_a

    def along(self, a: Float[Array, "R rank k"]) -> ParticleFlow:
        """The flow of neurons along directions that stand still."""
        lift = jnp.einsum("pj,rjk->rpk", self.samples, a)
        return eqx.tree_at(lambda flow: flow.anchors.coordinates.lift, self.inner, lift)

    def cast(self, y: Adapted) -> Adapted:
        return jax.tree.map(lambda leaf: leaf.astype(self.inner.dtype), y)

    def __call__(self, y: Adapted) -> Adapted:
        (law, a), given = self.cast(y), y
        flow = self.along(a)
        h, phi, f = flow.forward(law)
        slope, signal = flow.activation.derivative(h), flow.signal(f)
        strength, readouts = strengths_of(law.z, phi, slope, signal, flow.richness, flow.bias)
        pushed = flow.anchors.coordinates.pushed(strength)
        felt = jnp.einsum("rmp,rmk->rpk", strength, law.w) / law.w.shape[1]
        rate, decay = (c.astype(a.dtype) for c in (self.rate, flow.decay))
        turned = rate * (jnp.einsum("pj,rpk->rjk", self.samples, felt) - decay * a)
        move = Adapted(flow.pulled(law, Law(pushed, *readouts)), turned)
        return jax.tree.map(lambda new, old: new.astype(old.dtype), move, given)

    def losses(self, y: Adapted):
        y = self.cast(y)
        return self.along(y.a).losses(y.law)

    def units(self):
        return self.inner.units()

    def burden(self, y: Adapted):
        y, inner = self.cast(y), self.inner
        own = inner.decay * jnp.sum(jnp.square(y.a)) / len(y.a)
        shared = 0.5 * inner.objective.rate_factor * own / inner.richness**2
        return self.along(y.a).burden(y.law) + shared

    def weigh(self, y: Adapted, error: Adapted):
        y, error = self.cast(y), self.cast(error)

        def seen(y: Adapted):
            h, _, f = self.along(y.a).forward(y.law)
            return h, f

        moved, change = jax.jvp(seen, (y,), (error,))[1]
        return self.inner.size_of(y.law, jnp.mean(jnp.square(moved), -1), error.law, change)


def along(recorder: Recorder, y: Adapted) -> tuple[Recorder, Law]:
    """The recorder of weights along the directions of one time, and what it records."""
    basis = jnp.asarray(y.a).astype(recorder.resting.dtype)
    return eqx.tree_at(lambda r: r.basis, recorder, basis), y.law


class DirectionRecorder(eqx.Module):
    """Predictions at recorded inputs while directions train."""

    inner: Recorder

    def __call__(self, t: Any, y: Adapted) -> list[Array]:
        recorder, law = along(self.inner, y)
        return recorder(t, law)
