"""Ctrl-C and SIGTERM end a command at any moment: one exit code, no traceback, its work kept.

Loads nothing but what the interpreter has, as it comes before every slow import.
"""

import os
import signal
import sys
import threading
from contextlib import suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 2  # signals that are answered by an orderly end; the next one ends the process at once

_received: list[int] = []
_orderly = False


def install() -> None:
    """Answer the signals from now on; there is nothing to keep yet, so that they end it all."""
    abrupt()
    _received.clear()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as of a background job
            signal.signal(number, _answer)
    sys.unraisablehook = _again


def orderly() -> None:
    """From now on signals raise KeyboardInterrupt: something may be half done, or worth keeping."""
    global _orderly
    _orderly = True


def abrupt() -> None:
    """From now on signals end the process at once: nothing is half done."""
    global _orderly
    _orderly = False


def code() -> int | None:
    """Exit code of the first signal that came, ``None`` before one has."""
    return 128 + _received[0] if _received else None


def leave(code: int) -> None:
    """End the process now, whatever its threads are still computing."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _answer(number: int, frame: object) -> None:
    _received.append(number)
    if not _orderly or len(_received) > PATIENCE:
        os._exit(128 + number)
    raise KeyboardInterrupt


def _again(unraisable: "sys.UnraisableHookArgs") -> None:
    """An interrupt that came where nothing can be raised, as in a finaliser, comes again."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt) or not _received:
        sys.__unraisablehook__(unraisable)
        return
    number = _received.pop()
    threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
