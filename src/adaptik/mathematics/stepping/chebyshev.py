"""Second-order Runge-Kutta-Chebyshev stepping: explicit, but stable far along the real axis.

A step with s internal stages is stable up to h |lambda| of about 0.65 s^2, which suits gradient
flows (real spectrum, moderately stiff) of any model, since only the vector field is needed.
Scheme: Sommeijer, Shampine & Verwer, J. Comput. Appl. Math. 88, 315 (1998). The spectral
radius comes from a warm-started power iteration on the Jacobian.
"""

from collections.abc import Callable
from typing import ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .flow import AbstractFlow, spread_error

MAX_STAGES = 2000
DAMPING = 2 / 13


class _State(eqx.Module):
    direction: PyTree  # unit vector, the current guess of the leading eigenvector
    slope: PyTree  # dy/dt at the start of the step


def _norm(tree: PyTree) -> Float[Array, ""]:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def _scale(tree: PyTree, factor) -> PyTree:
    return jax.tree.map(lambda leaf: leaf * jnp.asarray(factor, leaf.dtype), tree)


class Chebyshev(diffrax.AbstractAdaptiveSolver):
    """The solver; its flow is passed as diffrax's ``args``."""

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable] = diffrax.LocalLinearInterpolation

    def order(self, terms):
        return 2

    def error_order(self, terms):
        return 3

    def init(self, terms, t0, t1, y0, args: AbstractFlow):
        slope = args(y0)
        direction = jax.tree.map(lambda leaf: leaf + 1e-8, slope)
        start = _scale(direction, 1 / _norm(direction))
        direction = jax.lax.fori_loop(0, 15, lambda _, v: _power(args, y0, v)[0], start)
        return _State(direction, slope)

    def step(self, terms, t0, t1, y0, args: AbstractFlow, solver_state: _State, made_jump):
        y1, spread, state = _step(args, y0, t1 - t0, solver_state)
        return y1, spread, dict(y0=y0, y1=y1), state, diffrax.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return args(y0)


@eqx.filter_jit  # diffrax traces a step four times; this, once
def _step(flow: AbstractFlow, y0: PyTree, h, state: _State):
    """y after h, the error in the shape that step control wants, and the state after."""
    direction, _ = _power(flow, y0, state.direction)
    direction, radius = _power(flow, y0, direction)
    stages = 2 + jnp.floor(jnp.sqrt(1 + 1.54 * h * 1.2 * radius))
    too_many = stages > MAX_STAGES
    y1 = _chebyshev_step(flow, y0, state.slope, h, jnp.where(too_many, 2.0, stages))
    slope = flow(y1)
    error = jax.tree.map(
        lambda a, b, fa, fb: 0.8 * (a - b) + jnp.asarray(0.4 * h, a.dtype) * (fa + fb),
        y0,
        y1,
        state.slope,
        slope,
    )
    size = jnp.where(too_many, jnp.inf, flow.weigh(y0, error))
    return y1, spread_error(size, y0), _State(direction, slope)


def _power(flow, y, direction):
    image = jax.jvp(flow, (y,), (direction,))[1]
    radius = _norm(image)
    return _scale(image, 1 / jnp.maximum(radius, 1e-30)), radius


def _chebyshev_step(flow, y0, f0, h, stages):
    w0 = 1 + DAMPING / stages**2

    def extend(t):  # T_j, T_j', T_j'' from the two before
        (a, b) = t
        return (
            b,
            (
                2 * w0 * b[0] - a[0],
                2 * b[0] + 2 * w0 * b[1] - a[1],
                4 * b[1] + 2 * w0 * b[2] - a[2],
            ),
        )

    one, zero = jnp.ones_like(w0), jnp.zeros_like(w0)
    start = ((one, zero, zero), (w0, one, zero))
    last = jax.lax.fori_loop(1, stages.astype(int), lambda _, t: extend(t), start)[1]
    w1 = last[1] / last[2]

    def b(t):
        return t[2] / t[1] ** 2

    second = extend(start)[1]
    b0 = b1 = b(second)  # b_0 = b_1 = b_2
    first_step = b1 * w1
    y1 = jax.tree.map(lambda y, f: y + jnp.asarray(first_step * h, y.dtype) * f, y0, f0)

    def body(carry):
        j, t, (b_before, b_last), a_last, y_before, y_last = carry
        t = extend(t)
        b_new = b(t[1])
        mu, nu = 2 * b_new * w0 / b_last, -b_new / b_before
        mu_step = 2 * b_new * w1 / b_last
        pull = -a_last * mu_step
        f_last = flow(y_last)

        def combine(y, ya, yb, fb, f):
            def cast(c):
                return jnp.asarray(c, y.dtype)

            return (
                cast(1 - mu - nu) * y
                + cast(mu) * yb
                + cast(nu) * ya
                + cast(mu_step * h) * fb
                + cast(pull * h) * f
            )

        y_new = jax.tree.map(combine, y0, y_before, y_last, f_last, f0)
        return j + 1, t, (b_last, b_new), 1 - b_new * t[1][0], y_last, y_new

    carry = (jnp.asarray(2.0, w0.dtype), start, (b0, b1), 1 - b1 * w0, y0, y1)
    return jax.lax.while_loop(lambda c: c[0] <= stages, body, carry)[5]
