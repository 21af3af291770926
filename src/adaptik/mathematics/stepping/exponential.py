"""Exponential Runge-Kutta stepping of a flow whose stiffness has low rank.

The flow is y' = A y + N(y) with A = -decay - (1/P) B H B~: B spreads an error signal over the
particles, B~ reads a predictor change off them, H is the curvature of the loss. Every function
of A is then one of the small matrix S = R^T K R / P (K = B~ B the kernel, H = R R^T),

    f(A) v = f(-decay) v + (1/P) B R [(f(-decay - S) - f(-decay)) / S] R^T B~ v,

and the stiffness of the kernel costs nothing. The scheme has three stages, order three (weakly,
in the sense of Hochbruck & Ostermann, SIAM J. Numer. Anal. 43, 1069 (2005), eq. 5.8) and an
embedded solution of order two. A flow with a constant kernel is solved exactly in one step.
"""

from abc import abstractmethod
from collections.abc import Callable
from math import factorial
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from .flow import AbstractFlow, spread_error


class AbstractLinearisation(eqx.Module):
    """The stiff part A of a flow at one point, in the notation of the module's docstring.

    ``S = V diag(rates) V^T`` and ``B R V`` are what :meth:`spread` and :meth:`read` contain.
    """

    @abstractmethod
    def spread(self, u: Float[Array, "members modes"]) -> PyTree:
        """(1/P) B R V u, shaped like a velocity."""

    @abstractmethod
    def read(self, v: PyTree) -> Float[Array, "members modes"]:
        """V^T R^T B~ v; ``read(spread(u)) = rates * u``."""

    def field(
        self, flow: AbstractFlow, y: PyTree, change: PyTree, part: float, h: Array, before: Any
    ) -> "Node":
        """dy/dt at the node of a step of length h that a ``part`` of it leads to: at y + change.

        ``before`` is what the node before said of the way.
        """
        return Node(flow(_add((1.0, y), (1.0, change))))

    def weigh(self, flow: Any, y: PyTree, error: PyTree) -> Float[Array, ""]:
        """Size of an error at y, in units of the predictor: what ``flow.weigh`` is."""
        return flow.weigh(y, error)

    def arrive(self, flow: Any, y0: PyTree, change: PyTree, memory: Any) -> tuple[PyTree, Any]:
        """Where a step ends, in the precision of y0, and what the step after must know of it.

        ``memory`` is that of the last node.
        """
        return jax.tree.map(lambda leaf, c: leaf + c.astype(leaf.dtype), y0, change), memory


class Node(NamedTuple):
    """The flow at a node of a step.

    A flow that jumps on its way is, over the step, what it was at the start, and a jump at once,
    and what grows evenly: ``value`` is that at the node, whatever the flow is there.
    """

    value: PyTree
    jump: PyTree | None = None
    way: Any = None  # for the node after
    memory: Any = None  # of the last node, for the step after


class Linearised(NamedTuple):
    """A flow about one point y0: the part that steps integrate exactly, and its speed there.

    The flow obeys, with A constant and N whatever is left (theory section 2, "stiff and slow
    parts"),

        y' = A y + N(y),        A v = -decay v - stiff.spread(stiff.read(v)),

    so that after a time h, with phi_1(x) = (exp(x) - 1)/x,

        y(h) = y0 + h phi_1(h A) velocity + int_0^h exp((h - s) A) [N(y(s)) - N(y0)] ds.

    The first two terms are exact, whatever the rates; the integral, in which features move, is
    what a step approximates. N vanishes from it where the kernel and the curvature of the loss
    are constant. A need not be all of the flow's Jacobian.

    Attributes
    ----------
    stiff
        B and B~ in the eigenmodes of S = R^T K R/P.
    velocity
        dy/dt = A y0 + N(y0), shaped like y or, where the stiff part knows how a step ends
        (:meth:`AbstractLinearisation.arrive`), like whatever it takes for a move.
    rates
        Eigenvalues of S, at least 0: ``stiff.read(stiff.spread(u)) = rates * u``.
    decay
        Rate at which weight decay shrinks all of y.
    """

    stiff: AbstractLinearisation
    velocity: PyTree
    rates: Float[Array, "members modes"]
    decay: Float[Array, ""]


class LinearisedFlow(AbstractFlow):
    """A flow that knows its stiff part."""

    @abstractmethod
    def linearise(self, y: PyTree, memory: Any = None) -> Linearised:
        """The flow about y, with the curvature and the kernel that it has there.

        ``memory`` is what the step before said of its end.
        """

    def memory(self, y: PyTree) -> Any:
        """What is known before the first step."""
        return None


def phi_functions(x: Float[Array, "..."], count: int) -> list[Float[Array, "..."]]:
    """phi_0 = exp, phi_{k+1}(x) = (phi_k(x) - 1/k!)/x, for x <= 0, k up to ``count``.

    Examples
    --------
    >>> [round(float(p), 4) for p in phi_functions(jnp.asarray(0.0), 2)]
    [1.0, 1.0, 0.5]
    """
    small = jnp.abs(x) < 1
    away = jnp.where(small, -1.0, x)
    near = jnp.where(small, x, 0.0)
    # A loop: unrolled, XLA would copy it into whatever uses one of the functions.
    taylor = jnp.asarray([1.0 / factorial(j + count) for j in reversed(range(18))], near.dtype)
    series = jnp.polyval(taylor, near, unroll=1)  # of the last; the others follow without loss
    downward = [series]
    for k in reversed(range(1, count)):
        downward.append(near * downward[-1] + 1.0 / factorial(k))
    values, recursive = [jnp.exp(x)], jnp.exp(away)
    for k in range(1, count + 1):
        recursive = (recursive - 1 / factorial(k - 1)) / away
        values.append(jnp.where(small, downward[count - k], recursive))
    return values


def _divided(h, rates, decay):
    """[phi_k(-h (decay + rates)) - phi_k(-h decay)] / rates for k = 1, 2."""
    at, shift = -h * decay, h * rates
    tiny = shift < 1e-4
    safe = jnp.where(tiny, 1.0, rates)
    near, far = phi_functions(at, 4), phi_functions(at - shift, 2)
    divided = []
    for k in (1, 2):
        slope = near[k] - k * near[k + 1]  # phi_k' = phi_k - k phi_{k+1}
        bend = slope - k * (near[k + 1] - (k + 1) * near[k + 2])
        taylor = -h * (slope - 0.5 * shift * bend)
        divided.append(jnp.where(tiny, taylor, (far[k] - near[k]) / safe))
    return divided


def _add(*terms: tuple[ArrayLike, PyTree]) -> PyTree:
    def total(*leaves):
        return sum(
            jnp.asarray(c, leaf.dtype) * leaf for (c, _), leaf in zip(terms, leaves, strict=True)
        )

    return jax.tree.map(total, *(tree for _, tree in terms))


class _Parts(NamedTuple):
    """The vector ``apart + spread(within)`` and its reading, V^T R^T B~ of it."""

    apart: PyTree
    within: Float[Array, "members modes"]
    read: Float[Array, "members modes"]


class Exponential(diffrax.AbstractAdaptiveSolver):
    """The solver; its flow is passed as diffrax's ``args`` and must be a LinearisedFlow."""

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable] = diffrax.LocalLinearInterpolation

    def order(self, terms):
        return 3

    def init(self, terms, t0, t1, y0, args: LinearisedFlow):
        return args.memory(y0)

    def step(self, terms, t0, t1, y0, args: LinearisedFlow, solver_state, made_jump):
        y1, spread, memory = _step(args, y0, t1 - t0, solver_state)
        return y1, spread, dict(y0=y0, y1=y1), memory, diffrax.RESULTS.successful

    def func(self, terms, t0, y0, args):
        return args(y0)


@eqx.filter_jit  # diffrax traces a step four times; this, once
def _step(flow: LinearisedFlow, y0: PyTree, h, memory: Any = None):
    """y after h, the error in the shape that step control wants, and what the next step wants."""
    stiff, velocity, rates, decay = flow.linearise(y0, memory)

    # All functions of the step in one evaluation: compiles fast.
    fractions = (1 / 2, 2 / 3, 1.0)
    hs = h * jnp.asarray(fractions)
    plain = phi_functions(jnp.asarray(-hs * decay), 2)
    divided = [None, *_divided(hs.reshape(-1, *(1,) * rates.ndim), rates, decay)]

    def moved(c, *terms):
        """sum factor h phi_k(c h A) v, from triples (factor, k, v), and its reading."""
        i = fractions.index(c)
        apart = [(factor * h * plain[k][i], v.apart) for factor, k, v in terms]
        within, read = jnp.zeros_like(rates), jnp.zeros_like(rates)
        for factor, k, v in terms:
            within += factor * h * (divided[k][i] * v.read + plain[k][i] * v.within)
            read += factor * h * (plain[k][i] + rates * divided[k][i]) * v.read
        return _add(*apart, (1.0, stiff.spread(within))), read

    # In the precision of the flow, which may be less than that of y.
    dtype = jax.tree.leaves(velocity)[0].dtype
    low = jax.tree.map(lambda leaf: leaf.astype(dtype), y0)

    def parts(apart, within):
        return _Parts(apart, within, stiff.read(apart) + rates * within)

    nowhere = jnp.zeros_like(rates)

    def defect(c, change, change_read, before=None):
        """N(y0 + change) - N(y0): what grows evenly, what jumped; and the node."""
        node = stiff.field(flow, low, change, c, h, before)
        apart = _add((1.0, node.value), (-1.0, velocity), (decay, change))
        if node.jump is None:
            return parts(apart, change_read), None, node
        grown = parts(_add((1.0, apart), (-1.0, node.jump)), change_read)
        return grown, parts(node.jump, nowhere), node

    def at_once(c, jumped):
        return [] if jumped is None else [(c, 1, jumped)]

    start = parts(velocity, nowhere)
    change, change_read = moved(1 / 2, (1 / 2, 1, start))
    d2, jump2, node = defect(1 / 2, change, change_read)
    change, change_read = moved(2 / 3, (2 / 3, 1, start), (8 / 9, 2, d2), *at_once(2 / 3, jump2))
    d3, jump3, node = defect(2 / 3, change, change_read, node.way)
    change, _ = moved(1.0, (1.0, 1, start), (1.5, 2, d3), *at_once(1.0, jump3))
    y1, memory = stiff.arrive(flow, y0, change, node.memory)
    jumps = *at_once(1.0, jump3), *at_once(-1.0, jump2)
    error, _ = moved(1.0, (1.5, 2, d3), (-2.0, 2, d2), *jumps)
    spread = spread_error(stiff.weigh(flow, low, error), y0)
    return y1, spread, memory
