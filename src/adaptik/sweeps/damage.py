"""What of a store can be trusted: its seal, and chunks that cannot be read."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ..system.errors import InputError

SEAL = "seal"


def seal(folder: Path, attributes: Mapping[str, Any], arrays: Iterable[str]) -> str:
    """A digest of a group's attributes and of the descriptions of its arrays.

    Chunks have checksums of their own (:class:`zarr.codecs.Crc32cCodec`).
    """
    plain = {name: value for name, value in attributes.items() if name != SEAL}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update((folder / name / "zarr.json").read_bytes())
    return digest.hexdigest()


def check_seal(folder: Path, attributes: Mapping[str, Any], arrays: Iterable[str]) -> None:
    """Refuse a store whose description is not the one that was written.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        whole = attributes.get(SEAL) == seal(folder, attributes, arrays)
    except (OSError, TypeError, ValueError):
        whole = False
    if not whole:
        raise InputError(
            f"store: the description of {str(folder)!r} is damaged; choose another path, or "
            "delete the folder to compute everything again"
        )


def readable(array: zarr.Array, cases: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The values of an array, its fill where they cannot be read, and which cases can."""
    sound = np.ones(cases, bool)
    try:
        return np.asarray(array[...]), sound
    except Exception:  # a damaged chunk can fail anywhere in a codec
        values = np.full(array.shape, _fill(array), _dtype(array))
    for index in np.ndindex(*cases):
        try:
            values[index] = array[index]
        except Exception:
            sound[index] = False
    return values, sound


def written(folder: Path, array: zarr.Array, cases: tuple[int, ...]) -> np.ndarray:
    """Which cases have a file in an array that writes all of them."""
    inner = (0,) * (array.ndim - len(cases))
    there = np.zeros(cases, bool)
    for index in np.ndindex(*cases):
        key: Any = array.metadata.encode_chunk_key((*index, *inner))
        there[index] = (folder / array.basename / key).is_file()
    return there


def _dtype(array: Any) -> Any:
    return object if array.dtype.kind in "OT" else array.dtype


def _fill(array: Any) -> Any:
    return "" if array.dtype.kind in "OT" else array.fill_value
