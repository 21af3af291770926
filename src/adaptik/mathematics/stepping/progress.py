"""A place where running computations say how far they are; silent unless somebody listens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[float, float], None]
_listeners: list[Listener] = []


def report(time, loss) -> None:
    """Tell the innermost listener the time within the stage and its training loss."""
    if _listeners:
        _listeners[-1](float(time), float(loss))


def listened() -> bool:
    """Whether somebody listens."""
    return bool(_listeners)


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Send reports to ``listener`` while the context is open."""
    if listener is None:
        yield
        return
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
