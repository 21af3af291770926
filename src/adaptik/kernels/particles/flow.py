"""What flows of particles share: pulls on weights, their part of the loss, and lazy motion.

A flow of its own says what particles predict and how error signals push them.
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...mathematics.losses import Objective
from ...mathematics.stepping import AbstractFlow, LinearisedFlow
from ...system.devices import on_device
from ...tasks.stages import Stage
from .law import Law, Tangent

PARTICLE_WEIGHT = 0.02  # of single-particle errors against errors of the predictor


def rates(stage: Stage) -> dict[str, Array]:
    """Richness, decay and pull of a stage; lazy ones are linearised around richness 1."""
    richness = 1.0 if stage.is_lazy else stage.richness
    given = {"richness": richness, "decay": stage.weight_decay, "elastic": stage.elastic}
    return {name: on_device(float(value)) for name, value in given.items()}


def left_after(t, decay: Float[Array, ""], elastic: Float[Array, ""]) -> Float[Array, ""]:
    """What is left of weights that no sample sees, pulled to 0 and to where they started."""
    rate = decay + elastic
    left = (elastic + decay * jnp.exp(-rate * t)) / jnp.where(rate > 0, rate, 1.0)
    return jnp.where(rate > 0, left, 1.0)


class AbstractParticleFlow(LinearisedFlow):
    """dw = push - decay w - elastic (w - home), dz = push - decay z.

    Attributes
    ----------
    objective
        The loss, weighted where several tasks are learned.
    offset
        Predictor minus <z phi>/gamma, constant in a stage, shape ``(R, P, C)``.
    richness, decay, elastic
        gamma, lambda and delta.
    home
        Weights that elastic pulls towards, broadcast to those of a :class:`Law`.
    """

    objective: eqx.AbstractVar[Objective]
    offset: eqx.AbstractVar[Float[Array, "R P C"]]
    richness: eqx.AbstractVar[Float[Array, ""]]
    decay: eqx.AbstractVar[Float[Array, ""]]
    elastic: eqx.AbstractVar[Float[Array, ""]]
    home: eqx.AbstractVar[Float[Array, "#R #M k"]]

    @property
    @abstractmethod
    def labels(self) -> Float[Array, "P C"]:
        """Of the samples."""

    @property
    @abstractmethod
    def dtype(self) -> jnp.dtype:
        """Of the arithmetic with particles."""

    @abstractmethod
    def predictor(self, law: Law) -> Float[Array, "R P C"]:
        """On the samples."""

    @abstractmethod
    def tangent(self, law: Law, move: Law) -> Float[Array, "R P C"]:
        """<u_z phi + z phi' u_h> on the samples: gamma times how the predictor moves."""

    @abstractmethod
    def pushed(self, law: Law, move: Law | None = None) -> Law:
        """gamma sum_mu Delta_mu times the gradient of gamma f at the law.

        Error signals are those of the predictor there, or with a ``move`` of its linearisation.
        """

    @abstractmethod
    def squares(self, w: Float[Array, "R M k"]) -> Float[Array, "R M"]:
        """Squared lengths of weights that differ by ``w``."""

    @abstractmethod
    def felt(self, w: Float[Array, "R M k"]) -> Float[Array, "R M"]:
        """Mean squares of what a move of w does to preactivations."""

    def cast(self, y):
        # diffrax promotes the state to the dtype of time; the arithmetic stays as asked.
        return jax.tree.map(lambda leaf: leaf.astype(self.dtype), y)

    def __call__(self, y: Law) -> Law:
        law = self.cast(y)
        move = self.pulled(law, self.pushed(law))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), move, y)

    def pulled(self, law: Law, push: Law) -> Law:
        """The motion of a law that is pushed, and pulled by decay and home."""
        decay, elastic = (c.astype(law.w.dtype) for c in (self.decay, self.elastic))
        pull = decay * law.w + elastic * (law.w - self.home)
        z, c = jax.tree.map(lambda p, old: p - decay * old, push[1:], law[1:])
        return self.paced(Law(push.w - pull, z, c))

    def paced(self, move: Law) -> Law:
        """A motion with that of readouts at a rate of their own, where a flow has one."""
        return move

    def losses(self, y: Law):
        return self.objective.by_part(self.predictor(self.cast(y)), self.labels)

    def units(self):
        return self.objective.units(self.labels)

    def burden(self, y: Law):
        y = self.cast(y)
        squares = self.squares(y.w) + y.readouts_squared()
        pulled = self.squares(y.w - self.home)
        weighed = jnp.mean(self.decay * squares + self.elastic * pulled)
        return 0.5 * self.objective.rate_factor * weighed / self.richness**2

    def weigh(self, y: Law, error: Law):
        y, error = self.cast(y), self.cast(error)
        return self.weighed(y, error, self.tangent(y, error) / self.richness)

    def weighed(self, y: Law, error: Law, change: Float[Array, "R P C"]) -> Float[Array, ""]:
        """Size of an error that changes the predictor on the samples so."""
        return self.size_of(y, self.felt(error.w), error, change)

    def size_of(
        self, y: Law, felt: Float[Array, "R M"], error: Law, change: Float[Array, "R P C"]
    ) -> Float[Array, ""]:
        """The same, ``felt`` being what the error does to preactivations."""
        # Errors of single particles average out there (a kink of phi is crossed by a few particles
        # at a time), so the Cauchy-Schwarz bound (rms dz rms phi + rms z rms dh)/gamma enters with
        # a small weight only.
        size = 1 + jnp.mean(jnp.sum(jnp.square(y.z), -1))
        moved = jnp.mean(felt + error.readouts_squared()).astype(jnp.float64)
        bound = jnp.sqrt(moved * size) / self.richness
        return jnp.sqrt(jnp.mean(jnp.square(change))) + PARTICLE_WEIGHT * bound


class TangentFlow(AbstractFlow):
    """Lazy flow with weight decay: the base decays, its linear response follows the loss."""

    inner: AbstractParticleFlow  # at richness 1

    def __call__(self, y: Tangent) -> Tangent:
        given, y = y, self.inner.cast(y)
        push = self.inner.pushed(y.base, y.move)
        decay = self.inner.decay.astype(y.base.w.dtype)
        shrink = jax.tree.map(lambda leaf: -decay * leaf, y)
        move = Tangent(shrink.base, jax.tree.map(jnp.add, push, shrink.move))
        move = Tangent(*map(self.inner.paced, move))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), move, given)

    def losses(self, y: Tangent):
        y = self.inner.cast(y)
        f = self.inner.offset + self.inner.tangent(y.base, y.move)
        return self.inner.objective.by_part(f, self.inner.labels)

    def units(self):
        return self.inner.units()

    def weigh(self, y: Tangent, error: Tangent):
        return self.inner.weigh(y.base, error.base) + self.inner.weigh(y.base, error.move)
