"""What a transfer study is asked and what it answers: plain values only."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ..system.errors import InputError
from ..tasks.labels import Kind, checked_kind

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class TransferConfig:
    """Everything that determines a study; stored with it."""

    source: str = "digits:1,4"
    target: str = "digits:1,7"
    n_source: int | None = 200
    n_target: int | None = 40
    n_test: int | None = None
    kind: Kind | None = None
    richness: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0)
    target_richness: tuple[float, ...] = (0.0, 1.0)
    head: str = "fresh"
    splits: int = 1
    folds: int = 4
    activation: str = "relu"
    depth: int = 1
    particles: int | None = None
    replicates: int = 4
    check_width: int = 1024
    check_seeds: int = 8
    seed: int = 0

    def __post_init__(self):
        checked_kind(self.kind)
        for name in ("richness", "target_richness"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name} must name different values, got {list(values)}")
        if self.depth < 1:
            raise InputError(f"depth must be at least 1, got {self.depth}")
        if self.splits < 1:
            raise InputError(f"splits must be at least 1, got {self.splits}")
        if self.folds < 2:
            raise InputError(f"folds must be at least 2, got {self.folds}")
        if self.check_seeds < 0 or self.check_width < 1:
            raise InputError("check_width must be positive and check_seeds >= 0 (0: no networks)")
        if self.seed < 0:
            raise InputError(f"seed must be >= 0, got {self.seed}")


@dataclass(frozen=True)
class Row:
    """One combination of source richness and what the target stage does.

    Losses and their errors are in squares of the labels as they stand in the data; for regression
    the same stand in ``relative_...`` in variances of the training labels.
    """

    mode: str
    source_richness: float | None
    target_richness: float | None
    test_loss: float = np.nan
    test_loss_se: float = np.nan
    sampling_se: float = np.nan
    network_test_loss: float | None = None
    network_test_loss_se: float | None = None
    difference_in_se: float | None = None
    accuracy: float | None = None
    source_loss_before: float | None = None
    source_loss_after: float | None = None
    cv_loss: float | None = None
    cv_loss_se: float | None = None
    outcome: str = "not run"
    seconds: float = 0.0
    relative_test_loss: float | None = None
    relative_test_loss_se: float | None = None
    relative_sampling_se: float | None = None
    relative_network_test_loss: float | None = None
    relative_network_test_loss_se: float | None = None
    relative_source_loss_before: float | None = None
    relative_source_loss_after: float | None = None
    relative_cv_loss: float | None = None
    relative_cv_loss_se: float | None = None


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
class Verdict:
    """Does pretraining help, against the best model without it?"""

    sentence: str
    helps: bool | None = None
    gain: float | None = None
    gain_se: float | None = None
    confidence: float | None = None
    source_richness: float | None = None
    target_richness: float | None = None
    mode: str | None = None


@dataclass(frozen=True)
class TransferStudy:
    """Result of :func:`adaptik.transfer.run`."""

    config: dict[str, Any]
    rows: tuple[Row, ...]
    verdict: Verdict
    curves: tuple[Curve, ...]
    kernels: dict[str, np.ndarray]
    alignments: dict[str, dict[float, tuple[float, float]]]
    tasks: dict[str, dict[str, Any]]
    notes: tuple[str, ...]
    complete: bool

    def to_xarray(self) -> "xr.Dataset":
        """The table with labelled columns, one entry a row."""
        import xarray as xr

        def column(name):
            values = [getattr(row, name) for row in self.rows]
            if name in ("mode", "outcome"):
                return np.array(values, dtype=str)
            return np.array([np.nan if v is None else v for v in values], dtype=float)

        names = list(Row.__dataclass_fields__)
        return xr.Dataset({name: ("row", column(name)) for name in names})
