"""Results of a sweep: one zarr group, one chunk a case, a marker written last.

The group's attributes say what was computed: axes, configuration, its hash, seed and versions.
Every variable has the grid's dimensions first and is chunked by case, so that a case is a handful
of files which are replaced as a whole; ``status`` (0 missing, 1 done, 2 failed) follows when they
all lie on disk. What was in flight at a crash is thus missing, and nothing is half there.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from ..errors import InputError
from .grid import Grid, Index

FORMAT = 1
MISSING, DONE, FAILED = 0, 1, 2
ERROR_BYTES = 400
TEXT_BYTES = 80
PACKAGES = ("adaptik", "jax", "diffrax", "numpy")
RESERVED = ("status", "error", "seconds")


class Store:
    """The folder of one sweep.

    Parameters
    ----------
    path
        Folder; made when missing.
    grid
        Axes of the sweep.
    config
        Everything else that determines the results, as JSON values.

    Attributes
    ----------
    status
        0 missing, 1 done, 2 failed; shape of the grid. One process writes to a store at a time.

    Raises
    ------
    InputError
        If the folder holds something else, was written by another configuration or by other
        versions, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike, grid: Grid, config: Mapping[str, Any]):
        self.path, self.grid = Path(path), grid
        self.origin = {
            "axes": [[name, list(values)] for name, values in grid.axes],
            "config": json.loads(json.dumps(dict(config))),
            "versions": {name: version(name) for name in PACKAGES},
        }
        if not self.path.exists():
            self._create()
        self.group = self._open()
        self._arrays: dict[str, Any] = {}
        self.status = np.array(self.group["status"])

    def _create(self) -> None:
        text = json.dumps([self.origin["axes"], self.origin["config"]], sort_keys=True)
        attributes = {
            "adaptik_sweep": FORMAT,
            **self.origin,
            "config_hash": hashlib.sha256(text.encode()).hexdigest(),
        }
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            group = zarr.create_group(temporary, attributes=attributes, zarr_format=3)
            self._array(group, "status", (), np.uint8, MISSING)
            self._array(group, "error", (ERROR_BYTES,), np.uint8, 0, ("byte",), text=True)
            self._array(group, "seconds", (), np.float64, np.nan)
            temporary.rename(self.path)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise InputError(
                f"store: cannot write {str(self.path)!r}: {error.strerror or error}; choose a "
                "writable folder"
            ) from error

    def _open(self) -> zarr.Group:
        try:
            group = zarr.open_group(self.path, mode="r+", zarr_format=3)
        except Exception as error:  # any file can lie there
            raise InputError(
                f"store: {str(self.path)!r} exists and holds no sweep; choose another path"
            ) from error
        there: Any = dict(group.attrs)
        if there.get("adaptik_sweep") != FORMAT:
            raise InputError(
                f"store: {str(self.path)!r} exists and holds no sweep of this format; choose "
                "another path"
            )
        for part, name in (
            ("axes", "axes"),
            ("config", "configuration"),
            ("versions", "versions"),
        ):
            if there[part] != self.origin[part]:
                raise InputError(
                    f"store: {str(self.path)!r} was written with other {name} "
                    f"({_difference(there[part], self.origin[part])}); choose another path, or "
                    f"go on with the same {name}"
                )
        return group

    def _array(self, group, name, inner, dtype, fill, dims=(), **attributes):
        return group.create_array(
            name,
            shape=(*self.grid.shape, *inner),
            chunks=(*(1 for _ in self.grid.shape), *inner),
            dtype=dtype,
            fill_value=fill,
            dimension_names=(*self.grid.names, *(f"{name}_{d}" for d in dims)),
            attributes={"inner": list(dims), **attributes},
        )

    def missing(self, *, retry_failed: bool = False) -> list[Index]:
        """Cases that are not there yet."""
        wanted = (self.status == MISSING) | (retry_failed & (self.status == FAILED))
        return [tuple(int(i) for i in index) for index in np.argwhere(wanted)]

    def write(self, index: Index, result: xr.Dataset, seconds: float) -> None:
        """Keep the result of one case.

        Raises
        ------
        InputError
            If it has other variables or shapes than the cases before.
        """
        names = sorted(map(str, result.data_vars))
        known = self._attributes().get("variables")
        if known is None:
            self._declare(result, names)
        elif known != names:
            raise InputError(
                f"result has variables {names}, other cases have {known}; every case must return "
                "the same ones"
            )
        encoded = {}
        for name, variable in result.data_vars.items():
            array = self._held(str(name))
            values = _encoded(variable.values)
            inner = array.shape[len(self.grid.shape) :]
            if values.shape != inner:
                raise InputError(
                    f"result {name!r} has shape {values.shape}, other cases have {inner}; every "
                    "case must return the same shapes"
                )
            encoded[name] = (array, values)
        for array, values in encoded.values():
            array[index] = values
        if self.status[index] == FAILED:
            self._set("error", index, 0)
        self._finish(index, DONE, seconds)

    def fail(self, index: Index, error: str, seconds: float) -> None:
        """Keep the reason why one case has no result."""
        self._set("error", index, _bytes(error, ERROR_BYTES))
        self._finish(index, FAILED, seconds)

    def _declare(self, result: xr.Dataset, names: list[str]) -> None:
        """Make room for results like the first one; what a crash left of an earlier try goes."""
        for name in names:
            if name in RESERVED or name in self.grid.names:
                raise InputError(
                    f"result {name!r} has the name of an axis or of the store's own data"
                )
        for name in set(self.group.array_keys()) - set(RESERVED):
            del self.group[name]
        for name in names:
            dims, values = [str(d) for d in result[name].dims], _encoded(result[name].values)
            text = values.ndim > len(dims)
            fill = np.nan if values.dtype.kind == "f" else values.dtype.type(0)
            inner = (*dims, "byte") if text else tuple(dims)
            self._array(self.group, name, values.shape, values.dtype, fill, inner, text=text)
        coordinates = {
            str(n): v.values.tolist() for n, v in result.coords.items() if n in result.dims
        }
        self.group.attrs.update({"coordinates": coordinates, "variables": names})

    def _attributes(self) -> dict[str, Any]:
        return dict(self.group.attrs)

    def _held(self, name: str) -> Any:
        """An array, opened once: opening takes as long as writing a case."""
        if name not in self._arrays:
            self._arrays[name] = self.group[name]
        return self._arrays[name]

    def _set(self, name: str, index: Index, value: Any) -> None:
        self._held(name)[index] = value

    def _finish(self, index: Index, status: int, seconds: float) -> None:
        self._set("seconds", index, seconds)
        self._set("status", index, status)
        self.status[index] = status

    def to_xarray(self) -> xr.Dataset:
        """Everything computed so far.

        Returns
        -------
        xr.Dataset
            The axes as dimensions with their values as coordinates; ``status`` (0 missing, 1 done,
            2 failed), ``error``, ``seconds`` and the results, NaN (or 0, or empty) where missing.
        """
        return _dataset(self.group)


def load(path: str | os.PathLike) -> xr.Dataset:
    """What a sweep has computed so far, by whatever versions; see :meth:`Store.to_xarray`.

    Raises
    ------
    InputError
        If ``path`` holds no sweep.
    """
    try:
        group = zarr.open_group(Path(path), mode="r", zarr_format=3)
    except Exception as error:  # any file can lie there
        raise InputError(f"{str(path)!r} holds no sweep; name the folder of its store") from error
    if group.attrs.get("adaptik_sweep") != FORMAT:
        raise InputError(f"{str(path)!r} holds no sweep of this format; name the folder of a store")
    return _dataset(group)


def _dataset(group: zarr.Group) -> xr.Dataset:
    there: Any = dict(group.attrs)
    coordinates = {name: values for name, values in there["axes"]}
    names, variables = tuple(coordinates), {}
    for name, array in group.arrays():
        attributes: Any = dict(array.attrs)
        inner, values = list(attributes["inner"]), np.asarray(array)
        if attributes.get("text"):
            inner, values = inner[:-1], _text(values)
        variables[name] = ((*names, *inner), values)
    coordinates |= there.get("coordinates", {})
    about = {key: json.dumps(there[key]) for key in ("config", "versions", "config_hash")}
    return xr.Dataset(variables, coords=coordinates, attrs=about)


def _encoded(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind in "UOT":
        return np.array([_bytes(str(v), TEXT_BYTES) for v in values.ravel()], np.uint8).reshape(
            *values.shape, TEXT_BYTES
        )
    if values.dtype.kind not in "fiub":
        raise InputError(f"results must be numbers or strings, got dtype {values.dtype}")
    return values


def _bytes(text: str, size: int) -> np.ndarray:
    raw = text.encode()[:size].decode(errors="ignore").encode()
    return np.frombuffer(raw.ljust(size, b"\0"), np.uint8)


def _text(values: np.ndarray) -> np.ndarray:
    rows = values.reshape(-1, values.shape[-1])
    text = [row.tobytes().rstrip(b"\0").decode() for row in rows]
    return np.array(text, dtype=str).reshape(values.shape[:-1])


def _difference(there: Any, here: Any) -> str:
    there, here = dict(there), dict(here)
    for name in sorted({*there, *here}):
        if there.get(name) != here.get(name):
            return f"{name}: {there.get(name)} there, {here.get(name)} here"
    return "another order"
