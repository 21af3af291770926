"""One row of a transfer study while it is computed: what was found, split by split."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..mathematics.outcome import Outcome
from ..solution import Solution
from ..solution.estimate import deviate
from ..tasks import LossUnit, Task, accuracy, load_pair, standardise_labels
from ..tasks.stages import Stage, target_stage
from .stopping import Path
from .study import Row


def load_standardised(source: str, target: str, **settings: Any) -> tuple[Task, Task]:
    """Both tasks as :func:`adaptik.tasks.load_pair` has them, labels standardised."""
    first, second = load_pair(source, target, **settings)
    first = standardise_labels(first)
    return first, standardise_labels(second, first)


def source_losses(
    solution: Solution, source: Task | None, target: Task, unit: LossUnit, at: int = -1
) -> tuple[float, float] | None:
    """Before and after the target stage, where a source has the same outputs and a test set.

    After is at the recorded time ``at``.
    """
    if source is None or source.outputs != target.outputs or "test" not in source.splits:
        return None
    before = float(solution.loss(source, stage=0, unit=unit))
    return before, float(solution.losses(source, unit=unit)[at].mean())


def accuracy_of(solution: Solution, target: Task, at: int = -1) -> float:
    """On test samples, at the recorded time ``at``; NaN without classes."""
    if not target.classes:
        return float("nan")
    f, y = solution.predictions(target)[at], target.split("test")[1]
    return float(np.mean(accuracy(target, f, y)))


@dataclass
class Case:
    """A source richness and a way to use the target.

    Lists have an entry for each split of the data; all but ``paths`` are of where its target stage
    stops.
    """

    mode: str
    source_richness: float | None
    target_richness: float | None
    paths: list[Path] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    source_losses: list[tuple[float, float]] = field(default_factory=list)
    network_losses: list[np.ndarray] = field(default_factory=list)
    relative: "Case | None" = None  # of regression: the same losses in label variances
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    def stage(self, target: Task, head: Any) -> Stage:
        return target_stage(target, self.mode, self.target_richness or 0.0, head)

    @property
    def member_losses(self) -> list[np.ndarray]:
        """Test losses of the replicates."""
        return [path.members[path.stop] for path in self.paths]

    @property
    def sample_losses(self) -> list[np.ndarray]:
        """Losses of the test samples."""
        return [path.samples[path.stop] for path in self.paths]

    @property
    def held_out(self) -> list[np.ndarray]:
        """Losses of the training samples by refits."""
        return [path.held_out[path.stop] for path in self.paths]

    @property
    def ranked(self) -> "Case":
        """In the unit in which outputs are comparable."""
        return self.relative or self

    def units(self) -> list[tuple["Case", LossUnit]]:
        """Where losses are kept, in which unit."""
        found: list[tuple[Case, LossUnit]] = [(self, "labels")]
        return found if self.relative is None else [*found, (self.relative, "variance")]

    def row(self) -> Row:
        """The numbers of both units."""
        row = self._row()
        if not self.paths:
            return row
        row = replace(row, outcome=Outcome.of_all(self.outcomes).value, seconds=self.seconds)
        if self.relative is None:
            return row
        other, names = self.relative._row(), Row.__dataclass_fields__
        changes: dict[str, Any] = {
            name: getattr(other, name.removeprefix("relative_"))
            for name in names
            if name.startswith("relative_")
        }
        return replace(row, difference_in_se=other.difference_in_se, **changes)

    def _row(self) -> Row:
        row = Row(self.mode, self.source_richness, self.target_richness)
        if not self.paths:
            return row
        means, one = [m.mean() for m in self.member_losses], self.sample_losses[0]
        sampling = (
            np.std(means, ddof=1) / np.sqrt(len(means))
            if len(means) > 1
            else one.std(ddof=1) / np.sqrt(len(one))
        )
        before, after = np.mean(self.source_losses, axis=0) if self.source_losses else (None, None)
        errors = np.concatenate(self.held_out)
        changes: dict[str, Any] = dict(
            stop=float(np.exp(np.mean([np.log(p.times[p.stop]) for p in self.paths]))),
            test_loss=float(np.mean(means)),
            test_loss_se=_error_of_mean(self.member_losses),
            sampling_se=float(sampling),
            test_loss_at_end=float(np.mean([path.members[-1].mean() for path in self.paths])),
            cv_loss=float(errors.mean()),
            cv_loss_se=float(errors.std(ddof=1) / np.sqrt(len(errors))),
            accuracy=float(np.mean(self.accuracies)) if self.accuracies else None,
            source_loss_before=None if before is None else float(before),
            source_loss_after=None if after is None else float(after),
        )
        if self.network_losses:
            networks, theory = np.stack(self.network_losses), np.stack(self.member_losses)
            changes |= dict(
                network_test_loss=float(networks.mean()),
                network_test_loss_se=_error_of_mean(self.network_losses),
                difference_in_se=float(deviate(networks, theory[: len(networks)])),
            )
        return replace(row, **changes)


def _error_of_mean(splits: Sequence[np.ndarray]) -> float:
    """Of the mean over splits, from the spread of the members of each."""
    if min(len(members) for members in splits) < 2:
        return float("nan")
    return float(np.sqrt(sum(m.var(ddof=1) / len(m) for m in splits)) / len(splits))
