"""Arrays of .npz archives, checked before memory is taken. Nothing here loads pickles."""

import lzma
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..system import memory
from ..system.errors import InputError

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, OverflowError)
_SUFFIX = ".npy"


def read(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that the archive holds; others are not read.

    Raises
    ------
    InputError
        For what is no archive, or is damaged, encrypted or packed in an unknown way; and for a
        named member that is no array of numbers or text, has no rows, or declares another size
        than it has.
    MemoryLimitError
        For arrays larger than the memory.
    """
    if not zipfile.is_zipfile(path):  # numpy would take it for a single array or a pickle
        raise InputError(f"{path} is not a readable .npz archive; write it with numpy.savez")
    with _one_line(path), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            raise InputError(f"{path} holds two members of one name; write it with numpy.savez")
        for member in members:
            _check_packing(path, member)
            archive.open(member).close()  # compares both records of its name
        wanted = [m for m in members if _key(m) in keys]
        memory.require(
            sum(3 * m.file_size for m in wanted), f"reading {path}", "keep fewer rows in it"
        )
        return {_key(member): _array(archive, member, path) for member in wanted}


def _key(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(_SUFFIX) if member.filename.endswith(_SUFFIX) else ""


def _check_packing(path: Path, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 1:
        raise InputError(f"{path}: {member.filename!r} is encrypted; write it with numpy.savez")
    if member.compress_type not in _METHODS:
        raise InputError(
            f"{path}: {member.filename!r} is compressed by method {member.compress_type}, which "
            "cannot be read; write it with numpy.savez_compressed"
        )


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Every failure of reading as one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, about headers of other versions
            yield
    except InputError:
        raise
    except _DAMAGE as failure:
        raise InputError(f"{path} is damaged ({_first(failure)}); write it again") from None
    except (OSError, ValueError, NotImplementedError, RuntimeError, MemoryError) as failure:
        raise InputError(f"{path} cannot be read ({_first(failure)}); write it again") from None


def _first(failure: BaseException) -> str:
    return (str(failure).splitlines() or [type(failure).__name__])[0][:200]


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    key = _key(member)
    with archive.open(member) as stream:
        shape, fortran, dtype = _header(stream, path, key)
        if dtype.hasobject:
            raise InputError(
                f"{path}: {key} holds Python objects, which cannot be read without pickles; save "
                "it as numbers or text"
            )
        if dtype.kind not in "biufUS" or not dtype.itemsize:
            raise InputError(f"{path}: {key} is of type {dtype}; save it as numbers or text")
        if not shape:
            raise InputError(f"{path}: {key} is a single value; it must be (samples, ...)")
        declared, held = math.prod(shape) * dtype.itemsize, member.file_size - stream.tell()
        if declared != held:
            raise InputError(
                f"{path}: {key} declares shape {shape} of {dtype}, {declared} bytes, but holds "
                f"{held}; write it again"
            )
        if not declared:
            raise InputError(f"{path}: {key} is empty (shape {shape}); give at least one sample")
        content = stream.read()  # to its end, where the checksum is compared
    if len(content) != declared:
        raise InputError(f"{path}: {key} ends after {len(content)} of {declared} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _header(stream, path: Path, key: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"version {version}")
        shape, fortran, dtype = readers[version](stream)
        if any(size < 0 for size in shape):
            raise ValueError(f"shape {shape}")
    except _DAMAGE:
        raise
    except Exception as failure:  # the header is Python text: whatever its parsing may raise
        raise InputError(
            f"{path}: {key} is no array ({_first(failure)}); write it with numpy.savez"
        ) from None
    return shape, fortran, dtype
