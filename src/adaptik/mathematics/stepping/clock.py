"""Seconds that JAX spent compiling, so that compile and run time can be reported apart."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import jax


@dataclass
class Clock:
    """Accumulated seconds of tracing and compilation."""

    seconds: float = 0.0


class _Running(threading.local):
    """Clocks of this thread."""

    def __init__(self):
        self.clocks: list[Clock] = []


_running = _Running()


@cache
def _listen() -> None:
    def heard(event: str, duration: float, **_) -> None:
        if "/compile" in event:
            for clock in _running.clocks:
                clock.seconds += duration

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
