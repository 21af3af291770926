"""Slopes that a step sees on its way, where particles cross kinks of phi or slide along them.

Within a step of length tau the preactivation of sample mu moves by

    rest_mu + own_mu s_mu,    own_mu = tau gamma K_x(mu, mu) sum_c z_c Delta_c(mu) [phi']/P,

where s_mu is the share of the step that it is above the kink and [phi'] the jump of phi' there.
Where own < 0 both sides may push towards the kink: the particle then stays on it, with the share
that keeps h_mu = 0 (Filippov's convention). A slope taken at a node is one of
the two sides', so that such particles jump to and fro across the kink and limit the step; shares
are what their jumps average to. A particle may slide along several kinks at once, which push one
another through K_x: those that are nearest are solved for together. What a particle does at the end
of a step it does at the start of the next: there, too, one that slides has no slope of one side.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

MOST = 48  # kinks of one particle that are solved for together
SWEEPS = 1  # of Gauss and Seidel
AHEAD = 0.2  # weight of a particle's motion, beside its own push, in what is near


def together(samples: int) -> int:
    """How many kinks of a particle are solved for together."""
    return min(samples, MOST, 8 * math.ceil(math.sqrt(samples) / 8))


class Above(NamedTuple):
    """How a particle spends a step at a kink."""

    share: Float[Array, "..."]  # of the step that it is above
    ending: Float[Array, "..."]  # the same once it has arrived: 0 below, 1 above, between: slides


class Met(NamedTuple):
    """The kinks of every particle that are solved for together."""

    near: Int[Array, "R M kinks"]
    held: Bool[Array, "R M kinks"]  # those that may hold it; others fill up the number
    kernel: Float[Array, "kinks kinks n"]  # K_x among them, of all n = R M particles


def share_above(h: Float[Array, "..."], rest: Float[Array, "..."], own: Float[Array, "..."]):
    """The share s of a step that a preactivation is above 0 when it moves by rest + own s.

    Parameters
    ----------
    h
        The preactivation at the start.
    rest
        By how much it moves below the kink.
    own
        By how much more above it.

    Examples
    --------
    >>> def shares(*steps):
    ...     found = [share_above(*map(jnp.asarray, step)) for step in steps]
    ...     return [round(float(above.share), 3) for above in found]
    >>> shares((1.0, 0.5, 0.0), (1.0, -2.0, 0.0), (-1.0, 4.0, 0.0))  # stays, falls, rises
    [1.0, 0.5, 0.75]
    >>> shares((0.0, 1.0, -4.0), (1.0, 1.0, -3.0))  # slides; falls to the kink and slides
    [0.25, 0.667]
    """
    above = h > 0
    towards = jnp.where(above, -(rest + own), rest)
    reached = jnp.abs(h) / jnp.where(towards > 0, towards, 1.0)
    arrival = jnp.where(towards > 0, jnp.minimum(reached, 1.0), 1.0)
    crosses = jnp.where(above, rest <= 0, rest + own > 0)
    sliding = jnp.clip(rest / jnp.where(own < 0, -own, 1.0), 0.0, 1.0)
    afterwards = jnp.where(crosses, jnp.where(above, 0.0, 1.0), sliding)
    afterwards = jnp.where(arrival < 1, afterwards, jnp.where(above, 1.0, 0.0))
    return Above(jnp.where(above, arrival, 0.0) + (1 - arrival) * afterwards, afterwards)


def shares(
    squares: Float[Array, " P"],
    among: Callable[[Int[Array, "kinks n"]], Float[Array, "kinks kinks n"]],
    h: Float[Array, "R M P"],
    moved: Float[Array, "R M P"],
    assumed: Float[Array, "R M P"],
    push: Float[Array, "R M P"],
    met: Met | None = None,
) -> tuple[Above, Met]:
    """How every particle spends a step at every kink.

    Parameters
    ----------
    squares
        K_x(mu, mu).
    among
        K_x of the samples in each column among themselves.
    h
        Preactivations at the start.
    moved
        By how much they move if the shares are those ``assumed``.
    push
        own / K_x(mu, mu).
    met
        Kinks to solve for together, as they were found at another node of the step; those that
        are nearest unless they are given.
    """
    own = squares * push
    found = share_above(h, moved - own * assumed, own)
    near = _nearest(h, moved, own, together(h.shape[-1])) if met is None else met.near
    near, found = jax.lax.optimization_barrier((near, found))
    if met is None:
        held = jnp.take_along_axis(own, near, -1) < 0
        met = Met(near, held, jax.lax.optimization_barrier(among(_columns(near))))
    take = [jnp.take_along_axis(a, near, -1) for a in (h, moved, assumed, push, *found)]
    solved = _solved(squares, met, *take)
    replicate, particle = (jnp.arange(n) for n in h.shape[:2])
    here = replicate[:, None, None], particle[:, None], near
    return Above(*(a.at[here].set(b) for a, b in zip(found, solved, strict=True))), met


def _nearest(h, moved, own, count: int):
    """The kinks that a particle may slide along, those first that it reaches first.

    Their order, in which they are solved for, does not depend on that of the samples.
    """
    distance = jnp.abs(h) / (jnp.abs(own) + AHEAD * jnp.abs(moved) + 1e-12)
    return jax.lax.top_k(jnp.where(own < 0, -distance, -jnp.inf), count)[1]


def _columns(a: Shaped[Array, "R M kinks"]) -> Shaped[Array, "kinks n"]:
    return jnp.moveaxis(a.reshape(-1, a.shape[-1]), -1, 0)


def _solved(squares, met: Met, h, moved, assumed, push, share, ending) -> Above:
    """The same at the kinks that are met, which push one another; all ``(R, M, kinks)``."""
    near, count = met.near, met.near.shape[-1]
    at, h, moved, assumed, push, share, ending = jax.lax.optimization_barrier(
        tuple(_columns(a) for a in (near, h, moved, assumed, push, share, ending))
    )
    # Of j on i; kinks that push away hold nobody and are left as they were found.
    push = jnp.where(_columns(met.held), jnp.minimum(push, 0.0), 0.0)
    pushes, own = met.kernel * push, squares[at] * push
    base = moved - jnp.sum(pushes * assumed, 1)

    def one(n, found: Above):
        i = n % count
        others = jnp.sum(jax.lax.dynamic_index_in_dim(pushes, i, 0, False) * found.share, 0)
        rest = base[i] + others - own[i] * found.share[i]
        new = share_above(h[i], rest, own[i])
        return Above(
            *(a.at[i].set(jnp.where(own[i] < 0, b, a[i])) for a, b in zip(found, new, strict=True))
        )

    solved = jax.lax.fori_loop(0, SWEEPS * count, one, Above(share, ending))
    return Above(*(jnp.moveaxis(a, 0, -1).reshape(near.shape) for a in solved))
