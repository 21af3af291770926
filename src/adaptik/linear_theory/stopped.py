"""A source stage that is stopped, or regularised, for the target's sake (theory section 3.7).

Isotropic inputs and a lazy target stage without ridge, as in :mod:`.isotropic`. Two layers move as

    beta' = (1 + a) r + (a - 1) n (n.r),      r = b - S beta,      b = S beta_s + noise

with S the sample covariance, so beta = phi(S) b with one function phi of its eigenvalues, which
are distributed as Marchenko and Pastur say. Times are in units of D.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .checked import closed_form
from .equivalents import isotropic_kappa
from .isotropic import fine_tuned
from .source_stage import Finetune, Head, source, strength

NODES = 48  # eigenvalues
STEPS = 800  # of time, evenly in its logarithm
LATEST = 1e4  # of times that are searched
RIDGES = np.geomspace(1e-4, 1e3, 1400)  # that are searched


class Stopped(NamedTuple):
    """What a source stage knows when it is stopped.

    Attributes
    ----------
    learned
        m, the part of the source's teacher: ``beta_hat.beta_s/D``.
    q
        ``|beta_hat|^2/D``.
    loss
        Test loss on the source, ``1 - 2 m + q``.

    Examples
    --------
    >>> stopped = stopped_source(1e3, 1.0)  # abundant data without noise, to the end
    >>> [round(float(x), 6) for x in stopped]
    [1.0, 1.0, 0.0]
    """

    learned: Float[Array, "..."]
    q: Float[Array, "..."]
    loss: Float[Array, "..."]


class Best(NamedTuple):
    """The time or the ridge of a source stage that is best, and what it gains.

    Attributes
    ----------
    target, source
        Best for the loss on the target, and on the source. Times of infinity and ridges of 0 are
        those of a source stage that runs to its end.
    gain
        By how much the best for the target lowers the target's loss below that after a source stage
        run to its end, relative to it.
    gain_over_source
        The same, below that with what is best for the source.

    Examples
    --------
    >>> best = best_source_time(1.0, 0.5, 1.0, nu_source=0.5)  # no noise: no reason to stop
    >>> float(best.target), float(best.source), float(best.gain)
    (inf, inf, 0.0)
    """

    target: Float[Array, "..."]
    source: Float[Array, "..."]
    gain: Float[Array, "..."]
    gain_over_source: Float[Array, "..."]


@closed_form
def stopped_source(
    source_time: ArrayLike,
    richness: ArrayLike,
    *,
    nu_source: ArrayLike = np.inf,
    source_noise: ArrayLike = 0.0,
) -> Stopped:
    """A source stage of two layers after a finite time of gradient flow (theory section 3.7).

    Exact for large D at any richness, to about 1e-4 of the steps in time.

    Parameters
    ----------
    source_time
        Duration of the source stage divided by D.
    richness
        gamma_1 >= 0; 0 is the flow of the lazy network.
    nu_source, source_noise
        As in :func:`transfer_loss`.

    Returns
    -------
    Stopped

    Raises
    ------
    InputError
        For values outside the domain.

    Examples
    --------
    >>> early, late = (
    ...     stopped_source(t, 1.0, nu_source=2.0, source_noise=1.0) for t in (0.5, 50.0)
    ... )
    >>> float(early.loss) < float(late.loss)  # it overfits
    True
    """

    def at(time, gamma, nu, s):
        _, m, q = _flow(time, gamma, nu, s)
        return m[-1], q[-1]

    m, q = jnp.vectorize(at)(*map(jnp.asarray, (source_time, richness, nu_source, source_noise)))
    return Stopped(m, q, 1 - 2 * m + q)


@closed_form
def stopped_transfer_loss(
    alignment: ArrayLike,
    nu_target: ArrayLike,
    richness: ArrayLike,
    source_time: ArrayLike,
    *,
    nu_source: ArrayLike = np.inf,
    source_noise: ArrayLike = 0.0,
    target_noise: ArrayLike = 0.0,
    head: Head = "fresh",
    finetune: Finetune = "readout",
) -> Float[Array, "..."]:
    """:func:`transfer_loss` after a source stage that was stopped (theory section 3.7).

    Parameters
    ----------
    alignment, nu_target, richness, nu_source, source_noise, target_noise
        As in :func:`transfer_loss`; the target is independent of the source's samples.
    source_time
        As in :func:`stopped_source`.
    head, finetune
        As in :func:`spike`.

    Returns
    -------
    array
        Excess over the label noise.

    Raises
    ------
    InputError
        For values outside the domain.

    Examples
    --------
    >>> settings = dict(nu_source=2.0, source_noise=1.0)
    >>> loss = stopped_transfer_loss(1.0, 0.5, 30.0, [0.2, 50.0], **settings)
    >>> bool(loss[0] < loss[1])  # rich features: stop before the source overfits
    True
    """
    align, nu2, gamma, s2 = map(jnp.asarray, (alignment, nu_target, richness, target_noise))
    m, q, _ = stopped_source(source_time, gamma, nu_source=nu_source, source_noise=source_noise)
    return fine_tuned(q, align * m / jnp.sqrt(q), nu2, gamma, s2, head, finetune)


@closed_form
def best_source_time(
    alignment: ArrayLike,
    nu_target: ArrayLike,
    richness: ArrayLike,
    *,
    nu_source: ArrayLike = np.inf,
    source_noise: ArrayLike = 0.0,
    target_noise: ArrayLike = 0.0,
    finetune: Finetune = "readout",
) -> Best:
    """When to switch from source to target under a fresh head (theory section 3.7).

    The best time does not depend on the alignment, what it gains does. Losses are compared along
    the flow, at 800 times evenly spaced in their logarithm.

    Parameters
    ----------
    alignment, nu_target, richness, nu_source, source_noise, target_noise, finetune
        As in :func:`transfer_loss`. From ``nu_target = 1`` on all times are equal for the target.

    Returns
    -------
    Best
        Times divided by D.

    Raises
    ------
    InputError
        For values outside the domain.

    Examples
    --------
    >>> best = best_source_time(1.0, 0.5, [0.5, 30.0], nu_source=2.0, source_noise=1.0)
    >>> best.target > best.source  # the target wants a longer source stage than the source
    array([ True,  True])
    """

    def at(align, nu2, gamma, nu1, s1, s2):
        times, m, q = _flow(jnp.asarray(LATEST), gamma, nu1, s1)
        end, _ = source(jnp.ones(()), nu1, jnp.zeros(()), s1)
        m, q = jnp.append(m, jnp.minimum(nu1, 1.0)), jnp.append(q, end)
        return _best(jnp.append(times, jnp.inf), m, q, align, nu2, gamma, s2, finetune)

    numbers = alignment, nu_target, richness, nu_source, source_noise, target_noise
    return Best(*jnp.vectorize(at)(*map(jnp.asarray, numbers)))


@closed_form
def best_source_ridge(
    alignment: ArrayLike,
    nu_target: ArrayLike,
    richness: ArrayLike,
    *,
    nu_source: ArrayLike = np.inf,
    source_noise: ArrayLike = 0.0,
    target_noise: ArrayLike = 0.0,
    finetune: Finetune = "readout",
) -> Best:
    """How much ridge the source wants under a fresh head (theory section 3.7).

    Ridge regression gives the source predictor and the spike is taken along it, as in
    :func:`spectral_transfer_loss`: a surrogate for early stopping, which no gradient flow is.

    Parameters
    ----------
    alignment, nu_target, richness, nu_source, source_noise, target_noise, finetune
        As in :func:`transfer_loss`.

    Returns
    -------
    Best
        Ridges, searched from 1e-4 to 1000.

    Raises
    ------
    InputError
        For values outside the domain.

    Examples
    --------
    >>> best = best_source_ridge(1.0, 0.5, [1.0, 1e4], nu_source=2.0, source_noise=1.0)
    >>> (best.target / best.source).round(2).tolist()  # none, and as much as the source
    [0.0, 1.0]
    """

    def at(align, nu2, gamma, nu1, s1, s2):
        ridges = jnp.asarray(RIDGES[::-1])  # the end last, as of times
        k = jax.vmap(lambda ridge: isotropic_kappa(nu1, ridge / nu1))(ridges)
        d, left = 1 / (1 + k), k / (1 + k)
        error = (left**2 + s1) / (1 - d**2 / nu1)
        end, _ = source(jnp.ones(()), nu1, jnp.zeros(()), s1)
        m = jnp.append(d, jnp.minimum(nu1, 1.0))
        q = jnp.append(d**2 * (1 + error / nu1), end)
        return _best(jnp.append(ridges, 0.0), m, q, align, nu2, gamma, s2, finetune)

    numbers = alignment, nu_target, richness, nu_source, source_noise, target_noise
    return Best(*jnp.vectorize(at)(*map(jnp.asarray, numbers)))


def _best(levels, m, q, align, nu2, gamma, s2, finetune):
    """The best of ``levels``, the last of which is a source stage that runs to its end."""
    losses = fine_tuned(q, align * m / jnp.sqrt(q), nu2, gamma, s2, "fresh", finetune)
    # For which level is best, the overlap's size does not matter, but 0 has no best.
    chi = strength(gamma, q, finetune, "fresh")
    worth = jnp.where(jnp.isinf(q), 0.0, m**2 / q * (1 - 1 / (1 + chi * nu2) ** 2))
    worth = jnp.where(gamma > 0, worth, 0.0)
    target, own = _last_best(worth), _last_best(2 * m - q)
    end = losses[-1]
    known = jnp.isfinite(end) & (end > 0)

    def below(i):
        return jnp.where(known, 1 - losses[i] / jnp.where(known, end, 1.0), 0.0)

    over = jnp.where(known, 1 - losses[target] / jnp.where(known, losses[own], 1.0), 0.0)
    return levels[target], levels[own], below(target), over


def _last_best(values):
    """Index of the largest value; of the last one where rounding alone tells them apart."""
    good = values >= jnp.max(values) - 1e-9 * jnp.abs(jnp.max(values))
    return len(values) - 1 - jnp.argmax(good[::-1])


def _flow(time, gamma, nu, noise):
    """Times up to ``time`` with m and q along the flow.

    Exponential midpoint steps: exact where a and the pull along n stay, whatever the eigenvalues.
    """
    angle = np.pi * np.arange(1, NODES + 1) / (NODES + 1)
    spread = 2 / jnp.sqrt(nu)
    S = 1 + 1 / nu + spread * jnp.cos(angle)
    weight = 2 / (NODES + 1) * np.sin(angle) ** 2 / S  # mass min(nu, 1): the rest is never seen
    power = weight * (S**2 + noise * S / nu)  # of b

    def rates(phi):
        a = jnp.sqrt(1 + gamma**2 * (power @ phi**2))
        pull = gamma**2 * (power @ (phi * (1 - S * phi))) / (1 + a)
        return 1 + a, pull - (1 + a) * S

    def moved(phi, h, pace, rate):
        z = h * rate
        small = jnp.abs(z) < 1e-6
        grown = jnp.where(small, 1 + z / 2, jnp.expm1(z) / jnp.where(small, 1.0, z))
        return jnp.exp(z) * phi + h * pace * grown

    def step(phi, h):
        middle = moved(phi, h / 2, *rates(phi))
        phi = moved(phi, h, *rates(middle))
        return phi, (weight @ (S * phi), power @ phi**2)

    first = jnp.minimum(1e-3 / ((1 + gamma) * (1 + jnp.max(S)) * (1 + noise)), time / 2)
    times = first * (time / first) ** jnp.linspace(0.0, 1.0, STEPS)
    _, (m, q) = jax.lax.scan(step, 2 * first * jnp.ones(NODES), jnp.diff(times))
    return times[1:], m, q
