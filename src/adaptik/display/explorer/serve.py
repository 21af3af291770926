"""The explorer as a page on this machine: what it shows, and who may ask for it."""

import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...system import programs
from ...system.errors import InputError
from .found import Found, look_in

MISSING = "adaptik explore needs Panel: pip install 'adaptik[explorer]'"
LOCAL = ("localhost", "127.0.0.1", "::1")


def explore(
    folder: str | Path | None = None,
    *,
    address: str = "localhost",
    port: int = 5006,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the explorer until it is interrupted.

    Parameters
    ----------
    folder
        Of studies, findings or sweeps, or with such folders in it; ``None`` looks in this one.
    address
        Where to listen; only this machine unless another is given. Browsers may then come from
        that address, this machine's name, or localhost, and from nowhere else.
    port
        Where to listen; 0 takes a free one.
    browser
        Whether to open one.
    say
        Takes the line that says where the page is.

    Raises
    ------
    InputError
        For a folder with nothing to show, an address or port that cannot be listened at, and
        where Panel is not installed.

    Examples
    --------
    >>> explore("adaptik-transfer")  # doctest: +SKIP
    Explorer: http://localhost:5006
    """
    found = look_in(Path.cwd() if folder is None else folder, needed=folder is not None)
    try:
        import panel as pn
        import panel_material_ui  # noqa: F401
    except ImportError as error:
        raise InputError(MISSING) from error
    port = _free(address, port)
    programs.keep()
    shown = "localhost" if address in (*LOCAL, "0.0.0.0", "::") else address
    where = f"http://{shown}:{port}"
    say(f"Explorer: {where} (Ctrl-C ends it)")
    pn.extension("tabulator", notifications=False)
    server: Any = pn.serve(
        {"/": lambda: view(found)},
        address=address,
        port=port,
        websocket_origin=origins(address, port),
        show=False,
        start=False,
        title="adaptik explorer",
        admin=False,
        verbose=False,
    )
    server.start()
    if browser:
        threading.Timer(0.2, webbrowser.open, (where,)).start()
    server.io_loop.start()


def view(found: Found) -> Any:
    """The page for one visitor; a tab is made when it is looked at."""
    from . import frame
    from .gallery import GalleryView
    from .map import MapView
    from .study import StudyView

    first = 1 if found.studies else 2 if found.findings or found.sweeps else 0
    views = [
        ("Map", lambda: MapView().view),
        ("Study", lambda: StudyView(found).view),
        ("Gallery", lambda: GalleryView(found).view),
    ]
    return frame.page("adaptik explorer", views, first)


def origins(address: str, port: int) -> list[str]:
    """Hosts of pages that may talk to the server.

    Examples
    --------
    >>> origins("localhost", 5006)
    ['localhost:5006', '127.0.0.1:5006']
    """
    names = ["localhost", "127.0.0.1"]
    if address not in LOCAL:
        names += [address, socket.gethostname(), socket.getfqdn()]
    # Bokeh knows no names with colons: with IPv6, pages come from this machine by its name.
    return [f"{name}:{port}" for name in dict.fromkeys(names) if ":" not in name]


def _free(address: str, port: int) -> int:
    """The port, or a free one for 0, if it can be listened at."""
    if not 0 <= port <= 65535:
        raise InputError(f"port must be 0 to 65535, got {port}")
    try:
        with socket.create_server((address, port)) as taken:
            return taken.getsockname()[1]
    except OSError as error:
        raise InputError(
            f"cannot listen at {address}:{port}: {error.strerror or error}; give another --port, "
            "or --port 0 for any that is free"
        ) from error
