"""Spikes of deep linear networks after a source stage with abundant data (theory section 5).

With white inputs everything happens along the source's direction n: layer l ends with the feature
kernel I + chi_l n n^T. The error signal only sets the pace at which this one-dimensional network
moves, so one march with signal 1, stopped where <z_L h_L> = gamma, serves every richness.
"""

from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy.integrate import RK45
from scipy.interpolate import CubicSpline

from ..mathematics.bases import BasisFull
from ..mathematics.losses import Loss
from .checked import closed_form
from .revealed import LinearNetworkFlow, LinearWeights

LARGEST = 1e4  # richness up to which the march goes; power laws beyond
TOL, REVEAL_TOL = 1e-8, 1e-6
BETWEEN = 4  # knots per step

UNIT_SIGNAL = Loss(
    "unit signal",
    value=lambda f, y: jnp.zeros(f.shape[:-1]),
    signal=lambda f, y: np.ones_like(f),
    rate_factor=1.0,
    curvature_root=lambda f, y: jnp.zeros((*f.shape, f.shape[-1])),
    reaches_minimum=False,
)


@closed_form
def layer_spikes(
    richness: ArrayLike, q: ArrayLike = 1.0, depth: int = 1
) -> Float[Array, "... depth"]:
    """chi_1 .. chi_L of the feature kernels after a source stage of a deep linear network.

    Interpolated to about 1e-6 from one march for each depth, which takes up to some seconds the
    first time. By symmetry the gradient kernels are ``G_l = 1 + chi_{L+1-l}``.

    Parameters
    ----------
    richness
        gamma_1 >= 0.
    q
        ``|beta_hat|^2/D`` of the learned source predictor.
    depth
        Number of hidden layers L.

    Returns
    -------
    array
        The last axis runs over layers, input side first.

    Examples
    --------
    >>> layer_spikes(1.0, depth=2).round(4).tolist()
    [0.2468, 0.8072]
    """
    return jnp.stack(deep_spikes(jnp.asarray(richness), jnp.asarray(q), depth), axis=-1)


def deep_spikes(richness: Array, q: Array, depth: int) -> list[Array]:
    """chi_1 .. chi_L, one array a layer."""
    table = spike_table(depth)
    strength = richness * jnp.sqrt(q)
    place = jnp.arcsinh(jnp.minimum(strength, LARGEST))
    knots = jnp.asarray(table.knots, place.dtype)
    index = jnp.searchsorted(knots, place, side="right") - 1
    index = jnp.clip(index, 0, len(table.knots) - 2)
    x = place - knots[index]
    beyond = jnp.log(jnp.maximum(strength / LARGEST, 1.0))
    spikes = []
    for layer in range(depth):
        a, b, c, d = (jnp.asarray(row, x.dtype)[index] for row in table.coefficients[:, :, layer])
        log = ((a * x + b) * x + c) * x + d
        spikes.append(jnp.expm1(log + table.slopes[layer] * beyond))
    return spikes


class SpikeTable(NamedTuple):
    """Cubics in arcsinh(gamma) for log(1 + chi_l), and the slopes at the end."""

    knots: Float[np.ndarray, " k"]
    coefficients: Float[np.ndarray, "4 k-1 L"]
    slopes: Float[np.ndarray, " L"]


@cache
def spike_table(depth: int) -> SpikeTable:
    """March one direction through gamma = 0 .. LARGEST."""
    weights = LinearWeights.initial(1, depth).with_fresh_head(1)
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    flow = LinearNetworkFlow(
        weights, one, zero, zero, [], UNIT_SIGNAL, 1.0, 0.0, (True,) * (depth + 1), REVEAL_TOL
    )
    y, t, step, solver = flow.start(), 0.0, None, None
    rows = [np.zeros(depth + 1)]
    while rows[-1][0] < LARGEST:
        try:
            solver = solver or RK45(flow.slope, t, y, np.inf, rtol=TOL, atol=TOL, first_step=step)
            solver.step()
        except BasisFull:
            if solver is not None:
                t, y, step = solver.t, solver.y, solver.step_size
            y, solver = flow.enlarge(y), None
            continue
        dense = solver.dense_output()
        for s in np.linspace(t, solver.t, BETWEEN + 1)[1:]:
            at = flow.weights_at(s, dense(s))
            features = [float(phi[0, 0]) for phi in at.features(one, zero)]
            rows.append(np.array([float(at.predictor()[0, 0]), *np.log(features)]))
        t, y, step = solver.t, solver.y, solver.step_size
    knots, logs = np.arcsinh([row[0] for row in rows]), np.array([row[1:] for row in rows])
    # chi is even in gamma, and a power law at its end.
    ends = ((1, np.zeros(depth)), (2, np.zeros(depth)))
    spline = CubicSpline(knots, logs, bc_type=ends)  # pyright: ignore[reportArgumentType]
    return SpikeTable(knots, spline.c, np.asarray(spline(knots[-1], 1)))
