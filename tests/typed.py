"""Commands as a person types them."""

import sys

from adaptik import cli


def run(monkeypatch, command: str) -> int:
    monkeypatch.setattr(sys, "argv", ["adaptik", *command.split()])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
