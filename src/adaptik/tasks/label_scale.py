"""Labels in the user's units, and as they are learned: centred and scaled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..system.registry import register

ROUNDING = 8 * np.finfo(float).eps  # relative to labels: what differs by less is constant


@register
@dataclass(frozen=True, eq=False)
class LabelScale:
    """Mean and unit of every output over training labels: labels = mean + std z.

    Attributes
    ----------
    mean, std
        Shape ``(outputs,)``, the unit positive. Of numbers it is the standard deviation (a
        constant output, as of a single sample, has z = 0 in any unit), of classes one for all.

    Examples
    --------
    >>> scale = LabelScale.of(np.array([[10.0, 5.0], [30.0, 5.0]]))
    >>> scale.mean.tolist(), scale.std.tolist()
    ([20.0, 5.0], [10.0, 1.0])
    >>> scale.standardised(np.array([[40.0, 5.0]])).tolist()
    [[2.0, 0.0]]
    >>> scale.labels(np.array([[2.0, 0.0]])).tolist(), scale.same_as(None)
    ([[40.0, 5.0]], False)
    """

    mean: Float[np.ndarray, " outputs"]
    std: Float[np.ndarray, " outputs"]

    @classmethod
    def of(
        cls, y: Float[np.ndarray, "samples outputs"], otherwise: "LabelScale | None" = None
    ) -> "LabelScale":
        """Fitted to labels, output by output; ``otherwise`` gives the unit of constant ones."""
        rest = y - y[0]  # of constant labels exactly 0
        mean = y[0] + rest.mean(0)
        rest = rest - rest.mean(0)
        largest = np.abs(rest).max(0)
        size = np.where(largest > 0, largest, 1.0)
        std = size * np.sqrt(np.mean(np.square(rest / size), axis=0))
        unit = np.ones_like(std)
        if otherwise is not None and otherwise.std.shape == std.shape:
            unit = otherwise.std
        return cls(mean, np.where(largest > ROUNDING * np.abs(y).max(0), std, unit))

    @classmethod
    def of_classes(cls, y: Float[np.ndarray, "samples classes"]) -> "LabelScale":
        """Fitted to one-hot labels: the shares of the classes, and one unit for all outputs.

        In it the sum of the outputs' variances is 1, so that predicting the shares has loss 1, and
        outputs keep the proportions by which the largest of them is the class.

        Examples
        --------
        >>> scale = LabelScale.of_classes(np.eye(4))
        >>> scale.mean.tolist(), (scale.standardised(np.eye(4)) ** 2).sum(1).round(9).tolist()
        ([0.25, 0.25, 0.25, 0.25], [1.0, 1.0, 1.0, 1.0])
        """
        shares = y.mean(0)
        return cls(shares, np.full(len(shares), np.sqrt(y.var(0).sum())))

    def permuted(self, order: Sequence[int]) -> "LabelScale":
        """With the outputs in another order.

        Examples
        --------
        >>> LabelScale(np.array([0.5, 0.3, 0.2]), np.ones(3)).permuted([2, 0, 1]).mean.tolist()
        [0.2, 0.5, 0.3]
        """
        return LabelScale(self.mean[order], self.std[order])

    def standardised(self, y: Float[np.ndarray, "n outputs"]) -> Float[np.ndarray, "n outputs"]:
        """z of labels."""
        rest = y - self.mean
        return np.where(np.abs(rest) > ROUNDING * np.abs(self.mean), rest / self.std, 0.0)

    def labels(self, z: Float[np.ndarray, "*n outputs"]) -> Float[np.ndarray, "*n outputs"]:
        """Predictions of z in the units of the labels."""
        return self.mean + self.std * z

    def same_as(self, other: "LabelScale | None") -> bool:
        """Whether the other one is equal, as after saving and loading."""
        return other is not None and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("mean", "std")
        )
