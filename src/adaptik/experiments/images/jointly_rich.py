"""Image classes learned one after the other, both richly, at several richnesses of the second."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...tasks import Task
from ...tasks.stages import Stage
from ..both import PAPER, Accuracy, Both
from .pairs import Images


@dataclass(frozen=True, kw_only=True)
class Config(Images, Accuracy):
    """Images, richness and times.

    Attributes
    ----------
    source_richness, target_richness
        gamma_1, and values of gamma_2.
    source_duration, target_duration
        Times of gradient flow.
    """

    source_classes: str = "1,2"
    target_classes: str = "8,9"
    source_richness: float = 2.0
    target_richness: tuple[float, ...] = (0.5, 2.0, 8.0)
    source_duration: float = 50.0
    target_duration: float = 100.0
    draws: int = 5


FULL: dict[str, Any] = dict(**PAPER, n_source=1000, n_target=200, n_test=2000)


def runs(config: Config, draw: int, record: int) -> Iterator[tuple[float, Task, Task, Both]]:
    """Every target richness with source and target of one draw, and what came of them."""
    source, target = config.load(config.seed + draw)
    first = Stage(source, config.source_richness, duration=config.source_duration)
    before = Both.run([first], config, draw, observe=[target], record=2)
    for gamma in config.target_richness:
        last = Stage(target, gamma, duration=config.target_duration)
        yield gamma, source, target, Both.run([last], config, draw, after=before, record=record)
