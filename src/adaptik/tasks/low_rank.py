"""Low-rank updates: the directions along which the first layer of a stage may move."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from ..system.errors import InputError, require_at_least_zero, require_integers, require_one_of
from ..system.registry import register
from .span import with_constant

STREAM = 0x10A


@register
@dataclass(frozen=True)
class LowRank:
    """First-layer weights move by sum_k b_k a_k alone, theory section 1 (LoRA).

    The r directions a_k in R^D are shared by all neurons; they stay, or train at a ``rate``. The
    numbers b_k, one of each neuron, start at 0 and train. Networks and limits with an equal
    ``LowRank`` start from equal a_k, so what they compute is conditional on that draw: average
    over ``seed`` for the mean over draws. Stages after it start from the weights that it led to.

    With a bias b of the hidden layer, inputs have one more coordinate, b sqrt(D), along which
    directions go too; D + 1 stands for D then.

    Attributes
    ----------
    rank
        r, from 1 to the dimension D (D + 1 with a bias of the hidden layer).
    draw
        ``"orthogonal"``: a_k are sqrt(D/r) times orthonormal, uniformly drawn; at r = D the stage
        is the full one exactly. ``"gaussian"``: entries of variance 1/r, as is usual. Both have
        the mean of sum_k a_k a_k^T equal to the identity.
    seed
        Of the draw.
    rate
        Rate eta_a >= 0 of the a_k over that of all other weights, in the limit where one a_k feels
        the average over all neurons: learning rates gamma^2 eta_a beside gamma^2 N. At 0 they
        stay; at 1, no rank gives the full stage. With weight decay they decay at it as well. At
        richness 0 they do not move, whatever the rate.

    Raises
    ------
    InputError
        For a rank below 1, an unknown draw, or a seed or a rate below 0.

    Examples
    --------
    >>> a = LowRank(3).directions(5)
    >>> a.shape, np.allclose(a.T @ a, 5 / 3 * np.eye(3))
    ((5, 3), True)
    >>> full = LowRank(5).directions(5)
    >>> np.allclose(full @ full.T, np.eye(5)), LowRank(2).reached(np.ones((4, 5))).shape
    (True, (4, 5))
    """

    rank: int
    draw: Literal["orthogonal", "gaussian"] = "orthogonal"
    seed: int = 0
    rate: float = 0.0

    def __post_init__(self):
        require_integers(1, rank=self.rank)
        require_integers(0, seed=self.seed)
        require_one_of(("orthogonal", "gaussian"), draw=self.draw)
        require_at_least_zero(rate=self.rate)
        object.__setattr__(self, "rate", float(self.rate))

    def check(self, dimension: int, bias: float = 0.0) -> None:
        """Refuse more directions than there are.

        Raises
        ------
        InputError
            For a rank above the dimension, or above one more with a bias of the hidden layer.

        Examples
        --------
        >>> LowRank(2).check(2)
        >>> LowRank(3).check(2, bias=0.5)
        """
        if self.rank > dimension + (bias > 0):
            raise InputError(
                f"rank={self.rank} is above the dimension of the inputs, {dimension}; give at most "
                f"{dimension} ({dimension + 1} with a bias of the hidden layer), or None for a "
                "full stage"
            )

    def directions(self, dimension: int) -> Float[np.ndarray, "D r"]:
        """The a_k as columns, where they start; with a bias, ``dimension`` is D + 1."""
        self.check(dimension)
        # A stream of its own: data of an equal seed would have its teachers among the directions.
        rng = np.random.default_rng([self.seed, STREAM])
        normal = rng.standard_normal((dimension, self.rank))
        if self.draw == "gaussian":
            return normal / np.sqrt(self.rank)
        q, r = np.linalg.qr(normal)  # uniform once the signs of r are positive
        return np.sqrt(dimension / self.rank) * q * np.sign(np.diag(r))

    def reached(self, X: Float[np.ndarray, "n D"], bias: float = 0.0) -> Float[np.ndarray, "n D"]:
        """A x with A = sum_k a_k a_k^T: the moves of weights that samples x cause at first.

        With a ``bias`` of the hidden layer, of inputs and results with one coordinate more.
        """
        seen = with_constant(X, bias)
        a = self.directions(seen.shape[1])
        return (seen @ a) @ a.T
