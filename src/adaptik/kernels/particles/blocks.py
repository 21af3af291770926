"""Work on rows block by block: nothing is held for all particles and all rows at once.

Blocks are of one size, so that they compile once; the last overlaps the one before.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

BLOCK = 2**22  # preactivations that flows hold at once: 16 MiB in single precision


def held_at_once(w: Float[Array, "R M k"], places: int = 1) -> int:
    """Rows of a block for flows of these particles, which look at each row in so many places."""
    return max(1, BLOCK // (w.shape[0] * w.shape[1] * places))


def stacked(function: Callable[[Any, int], PyTree], count: int, size: int) -> PyTree:
    """``function(start, size)`` of all blocks, one after another along the leading axis."""
    starts, size = _starts(count, size)
    if len(starts) == 1:
        return function(0, size)
    out = jax.lax.map(lambda start: function(start, size), starts)
    return jax.tree.map(lambda leaf: _joined(leaf, count), out)


def summed(
    function: Callable[[Any, int, Bool[Array, " size"]], tuple[PyTree, PyTree]],
    nothing: PyTree,
    count: int,
    size: int,
) -> tuple[PyTree, PyTree]:
    """The sum over blocks of the first that ``function`` returns, the second stacked.

    ``function(start, size, new)`` leaves out of its sum the rows that are not ``new``, which the
    block before had; ``nothing`` is the sum of no blocks.
    """
    starts, size = _starts(count, size)
    if len(starts) == 1:
        return function(0, size, jnp.ones(size, bool))

    def body(total, first):
        start = jnp.minimum(first, count - size)
        part, rows = function(start, size, start + jnp.arange(size) >= first)
        return jax.tree.map(jnp.add, total, part), rows

    total, out = jax.lax.scan(body, nothing, jnp.arange(0, count, size))
    return total, jax.tree.map(lambda leaf: _joined(leaf, count), out)


def _starts(count: int, size: int) -> tuple[Int[Array, " blocks"], int]:
    """Where blocks start, and their size."""
    size = max(1, min(size, count))
    return jnp.minimum(jnp.arange(0, count, size), count - size), size


def _joined(blocks: Float[Array, "blocks size ..."], count: int) -> Float[Array, "count ..."]:
    """The rows of blocks whose last overlaps the one before."""
    overlap = blocks.shape[0] * blocks.shape[1] - count
    ahead = blocks[:-1].reshape(-1, *blocks.shape[2:])
    return jnp.concatenate([ahead, blocks[-1, overlap:]])
