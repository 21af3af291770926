"""Text inside HTML."""

import html
from typing import Any


def text(value: Any) -> str:
    """With everything escaped that HTML would take for its own.

    Examples
    --------
    >>> text("a < b")
    'a &lt; b'
    """
    return html.escape(str(value))
