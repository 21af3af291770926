"""Files are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` that replaces ``path`` on success.

    Raises
    ------
    InputError
        If the folder is missing or cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        if not path.parent.is_dir():
            raise InputError(f"cannot write {str(path)!r}: {str(path.parent)!r} is not a folder")
        if path.is_dir():
            raise InputError(f"cannot write {str(path)!r}: it is a folder; give a file name")
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"cannot write {str(path)!r}: {error.strerror or error}; choose a writable folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
