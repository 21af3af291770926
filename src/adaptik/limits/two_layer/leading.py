"""The leading part of the kernel, and steps that are exact for it (theory section 2).

A step's products of all particles with all samples are what it costs. Moves of weights are kept as
how strongly they add samples to them: strengths are summed first, and turned into weights and
preactivations once for every node of a step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...kernels.particles.law import Law
from ...mathematics import deflation
from ...mathematics.stepping import Node
from .linearised import Linearisation, Memory, alike, strengths_of

WEIGHED = 256  # samples on which errors of steps are weighed


class Move(NamedTuple):
    """A motion of particles: ``rest``, and weights by ``strength`` times the samples."""

    strength: Float[Array, "R M P"]
    rest: Law


class Leading(Linearisation):
    """Of leading directions of the samples, and of leading coordinates of the inputs."""

    directions: Float[Array, "R P directions"]  # of the next step
    reduced: deflation.Reduced
    modes: Float[Array, "R directions C modes"]

    def motion(self, flow: Any, y: Law, phi, slope, signal) -> Move:
        """dy/dt."""
        strength, readouts = strengths_of(y.z, phi, slope, signal, flow.richness, flow.bias)
        return Move(strength, flow.pulled(y, Law(jnp.zeros_like(y.w), *readouts)))

    def moved(self, change: Move) -> Law:
        w = change.rest.w + self.at.coordinates.pushed(change.strength)
        return change.rest._replace(w=w)

    def field(self, flow: Any, y: Law, change: Move, part, h, before):
        moved = self.moved(change)
        there = jax.tree.map(jnp.add, y, moved)
        preactivations = self.at.h + self.at.coordinates.changes(moved.w)
        phi, f = flow.readout(preactivations, there)
        signal = flow.signal(f)
        if self.at.above is None:
            slope = flow.activation.derivative(preactivations)
            return Node(
                self.motion(flow, there, phi, slope, signal), memory=Memory(None, self.directions)
            )
        seen = self.slopes(flow, preactivations, there.z, signal, part, h, before)
        return Node(
            value=self.motion(flow, there, phi, seen.there, signal),
            jump=Move(seen.sudden, jax.tree.map(jnp.zeros_like, there)),
            way=seen.way,
            memory=Memory(seen.ending, self.directions),
        )

    def arrive(self, flow: Any, y0: Law, change: Move, memory: Memory):
        y1, _ = super().arrive(flow, y0, self.moved(change), memory)
        h = self.at.coordinates.preactivations(flow.cast(y1).w)
        return y1, memory._replace(h=h)

    def weigh(self, flow: Any, y: Law, error: Move):
        """On some samples."""
        at, coordinates = self.at, self.at.coordinates
        count = at.h.shape[-1]
        some = np.random.default_rng(0).permutation(count)[:WEIGHED]
        moved = jnp.einsum("rmk,pk->rmp", error.rest.w, coordinates.lift[some])
        moved = moved + jnp.einsum("rmp,ps->rms", error.strength, coordinates.columns(some))
        slope = flow.activation.derivative(at.h[..., some])
        change = jnp.einsum("rmc,rmp->rpc", error.rest.z, at.phi[..., some])
        change = change + jnp.einsum("rmc,rmp->rpc", y.z, slope * moved)
        change = change.astype(jnp.float64) / at.h.shape[1] + error.rest.constant(at.bias)
        felt = jnp.mean(jnp.square(moved), -1)
        return flow.size_of(y, felt, error.rest, change / at.richness)

    def spread(self, u):
        at = self.at
        u = jnp.einsum("rjcn,rn->rjc", self.modes, u.astype(self.modes.dtype))
        u = (at.richness / at.phi.shape[-1]).astype(u.dtype) * u
        dz = jnp.einsum("rmj,rjc->rmc", self.reduced.features, u)
        constant, dc = self.reduced.constant, None
        if constant is not None:
            dc = alike(jnp.einsum("rj,rjc->rc", constant, u), dz)
        moved = jnp.einsum("rmkj,rmj->rmk", self.reduced.gradients, at.y.z @ jnp.swapaxes(u, 1, 2))
        rest = Law(at.coordinates.of_axes(moved), dz, dc)
        # The features have the root of the head's rate.
        rest = rest if at.head_rate is None else rest.with_rate(jnp.sqrt(at.head_rate))
        return Move(jnp.zeros_like(at.h), rest)

    def read(self, v: Move):
        at, axes = self.at, self.at.coordinates.principal
        assert axes is not None
        strength, rest = jax.tree.map(lambda leaf: leaf.astype(at.phi.dtype), v)
        along = at.coordinates.along(rest.w) + jnp.einsum("rmp,pq->rmq", strength, axes)
        moved = jnp.einsum("rmkj,rmk->rmj", self.reduced.gradients, along)
        rest = rest if at.head_rate is None else rest.with_rate(1 / jnp.sqrt(at.head_rate))
        change = jnp.einsum("rmj,rmc->rjc", self.reduced.features, rest.z)
        change = change + jnp.einsum("rmj,rmc->rjc", moved, at.y.z)
        if self.reduced.constant is not None:
            assert rest.c is not None
            total = jnp.sum(rest.c, 1)[:, None]
            change = change + self.reduced.constant[..., None] * total
        change = change.astype(jnp.float64) / (at.phi.shape[1] * at.richness)
        return jnp.einsum("rjcn,rjc->rn", self.modes, change)
