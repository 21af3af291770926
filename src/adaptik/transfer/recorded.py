"""What is recorded while a study trains: curves over time, and features at moments."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Curve:
    """Test loss against time in one stage of one row, in squares of the task's labels.

    For regression ``relative_loss`` and ``relative_error`` are the same in variances of its
    training labels.
    """

    origin: str
    mode: str
    source_richness: float | None
    target_richness: float | None
    stage: str
    task: str
    times: Float[np.ndarray, " T"]
    loss: Float[np.ndarray, " T"]
    standard_error: Float[np.ndarray, " T"]
    relative_loss: Float[np.ndarray, " T"] | None = None
    relative_error: Float[np.ndarray, " T"] | None = None


@dataclass(frozen=True)
class Moment:
    """What the features are at one time of a stage, seen on target training samples.

    Attributes
    ----------
    stage
        ``"source"`` or ``"target"``.
    time
        Since the stage's start.
    source_richness, target_richness
        Of the row; ``None`` for the target's in the source stage.
    kernel
        The feature kernel between the samples, which are sorted by label.
    labels
        Of every sample.
    groups
        What densities are told apart by: classes, or all samples.
    preactivation, density
        Densities of the last layer's preactivations h over neurons and samples of a group.
    """

    stage: str
    time: float
    source_richness: float
    target_richness: float | None
    kernel: Float[np.ndarray, "n n"]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    preactivation: Float[np.ndarray, " bins"]
    density: Float[np.ndarray, "groups bins"]
