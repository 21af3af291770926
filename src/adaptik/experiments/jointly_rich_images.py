"""Image classes learned one after the other, both richly, at several richnesses of the second."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..tasks import Task
from ..tasks.stages import Stage
from . import image_pairs
from .both import PAPER, Accuracy, Both


@dataclass(frozen=True, kw_only=True)
class Config(Accuracy):
    """Classes, samples, richness and times.

    Attributes
    ----------
    data, source_classes, target_classes, n_source, n_target, n_test
        Images of both tasks; class pairs as text.
    source_richness, target_richness
        gamma_1, and values of gamma_2.
    source_duration, target_duration
        Times of gradient flow.
    """

    data: str = "cifar10"
    source_classes: str = "1,2"
    target_classes: str = "8,9"
    n_source: int = 50
    n_target: int = 50
    n_test: int = 200
    source_richness: float = 2.0
    target_richness: tuple[float, ...] = (0.5, 2.0, 8.0)
    source_duration: float = 50.0
    target_duration: float = 100.0
    draws: int = 5


FULL: dict[str, Any] = dict(**PAPER, n_source=1000, n_target=200, n_test=2000)


def runs(config: Config, draw: int, record: int) -> Iterator[tuple[Task, Task, Both]]:
    """Source and target of one draw, with what came of them, for every target richness."""
    source, target = image_pairs.load(config, config.n_target, draw)
    first = Stage(source, config.source_richness, duration=config.source_duration)
    before = Both.run([first], config, draw, observe=[target], record=2)
    for gamma in config.target_richness:
        last = Stage(target, gamma, duration=config.target_duration)
        yield source, target, Both.run([last], config, draw, after=before, record=record)
