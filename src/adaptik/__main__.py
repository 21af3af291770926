"""The ``adaptik`` command: answers signals before anything slow is imported."""

from .system import interrupts


def main() -> None:
    """Entry point of the ``adaptik`` command."""
    interrupts.install()
    from .cli import main as run

    try:
        run()
    finally:
        interrupts.abrupt()
        stopped = interrupts.code()
        if stopped is not None:
            interrupts.leave(stopped)


if __name__ == "__main__":
    main()
