"""Single-index teachers as source and target: the part of a configuration that says which."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...tasks import Task, hermite_pair
from ...tasks.stages import Stage
from ..both import Accuracy, Both


@dataclass(frozen=True, kw_only=True)
class Teachers:
    """Two polynomials of one direction each.

    Attributes
    ----------
    alignment, dimension
        Overlap of their directions, and D.
    n_source, n_target, n_test
        Numbers of samples.
    """

    alignment: float = 1.0
    dimension: int = 12
    n_source: int = 60
    n_target: int = 60
    n_test: int = 1000

    def pair(
        self, source_degree: int, target_degree: int, seed: int, **other: Any
    ) -> tuple[Task, Task]:
        """Source and target: the draw that ``seed`` fixes.

        Examples
        --------
        >>> source, target = Teachers(n_target=5).pair(1, 2, seed=0)
        >>> source.X.shape, target.X.shape
        ((60, 12), (5, 12))
        """
        sizes = {name: getattr(self, name) for name in ("n_source", "n_target", "n_test")}
        return hermite_pair(
            source_degree,
            target_degree,
            self.alignment,
            dimension=self.dimension,
            seed=seed,
            **sizes,
            **other,
        )


def switched(
    source: Task, richness: float, times: Sequence[float], config: Accuracy, draw: int, target: Task
) -> Iterator[tuple[float, Both]]:
    """A rich source stage at increasing times, going on from each to the next."""
    before = None
    for time, length in zip(times, np.diff((0.0, *times)), strict=True):
        head: Literal["fresh", "kept"] = "fresh" if before is None else "kept"
        stage = Stage(source, richness, duration=float(length), head=head)
        before = Both.run([stage], config, draw, after=before, observe=[target], record=2)
        yield time, before
