"""What a transfer study answers: plain values only."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .recorded import Curve, Moment

if TYPE_CHECKING:
    import xarray as xr


def label_of(mode: str, source: float | None, target: float | None) -> str:
    """What a row does, in few words; richnesses that it has none of are ``None`` or NaN.

    Examples
    --------
    >>> label_of("rich", 2.0, 1.0), label_of("scratch", None, 0.0)
    ('rich (γ₂ = 1), γ₁ = 2', 'scratch (γ₂ = 0)')
    """
    words = mode
    if mode in ("scratch", "rich") and target is not None and np.isfinite(target):
        words += f" (γ₂ = {target:g})"
    return words if source is None or not np.isfinite(source) else f"{words}, γ₁ = {source:g}"


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
    stop: float = np.nan
    test_loss_at_end: float = np.nan
    outcome: str = "not run"
    seconds: float = 0.0
    relative_test_loss: float | None = None
    relative_test_loss_se: float | None = None
    relative_sampling_se: float | None = None
    relative_test_loss_at_end: float | None = None
    relative_network_test_loss: float | None = None
    relative_network_test_loss_se: float | None = None
    relative_source_loss_before: float | None = None
    relative_source_loss_after: float | None = None
    relative_cv_loss: float | None = None
    relative_cv_loss_se: float | None = None


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
    """Result of :func:`adaptik.transfer.run`.

    Examples
    --------
    >>> from adaptik.transfer import TransferConfig, run
    >>> few = dict(n_source=12, n_target=8, n_test=20, folds=2, check_seeds=0, particles=64)
    >>> config = TransferConfig(richness=(0.0,), target_richness=(0.0,), head="kept", **few)
    >>> study = run(config)
    >>> study.complete, [row.mode for row in study.rows]
    (True, ['scratch', 'readout', 'lazy'])
    >>> study.verdict.sentence.split(":")[0] in ("Yes", "No", "Unclear")
    True
    >>> study.to_xarray().test_loss.shape
    (3,)
    >>> dict(study.evolution().sizes)
    {'curve': 9, 'point': 15}
    """

    config: dict[str, Any]
    rows: tuple[Row, ...]
    verdict: Verdict
    curves: tuple[Curve, ...]
    kernels: dict[str, np.ndarray]
    alignments: dict[str, dict[float, tuple[float, float]]]
    tasks: dict[str, dict[str, Any]]
    notes: tuple[str, ...]
    complete: bool
    moments: tuple[Moment, ...] = ()

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

    def evolution(self) -> "xr.Dataset":
        """Curves over time, kernels and preactivations on the way, with labelled axes.

        See :func:`adaptik.transfer.evolution.to_xarray`.
        """
        from .evolution import to_xarray

        return to_xarray(self.curves, self.moments)
