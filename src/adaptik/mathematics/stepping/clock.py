"""Seconds that JAX spent compiling, so that compile and run time can be reported apart."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import jax

COMPILING = "/jax/core/compile/"  # events that take as long as they say


@dataclass
class Clock:
    """Accumulated seconds of tracing and compilation.

    Programs that are traced within another's tracing are heard of first, and count once.

    Examples
    --------
    >>> clock = Clock()
    >>> clock.heard(2.0, until=3.0), clock.heard(5.0, until=5.0), clock.heard(1.0, until=9.0)
    (None, None, None)
    >>> clock.seconds
    6.0
    """

    spans: list[tuple[float, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(end - start for start, end in self.spans)

    def heard(self, duration: float, until: float) -> None:
        """Something took so long until now."""
        start = until - duration
        while self.spans and self.spans[-1][1] > start:
            start = min(start, self.spans.pop()[0])
        self.spans.append((start, until))


class _Running(threading.local):
    """Clocks of this thread."""

    def __init__(self):
        self.clocks: list[Clock] = []


_running = _Running()


@cache
def _listen() -> None:
    def heard(event: str, duration: float, **_) -> None:
        if event.startswith(COMPILING):  # other events tell what a kept program has saved
            for clock in _running.clocks:
                clock.heard(duration, time.perf_counter())

    jax.monitoring.register_event_duration_secs_listener(heard)  # pyright: ignore[reportArgumentType]


@contextmanager
def compile_clock() -> Iterator[Clock]:
    """Measure compilation inside the context."""
    _listen()
    clock = Clock()
    _running.clocks.append(clock)
    try:
        yield clock
    finally:
        _running.clocks.remove(clock)
