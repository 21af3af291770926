"""Results of a sweep: one zarr group, one chunk a case, a marker written last.

The group's attributes say what was computed: axes, configuration, its hash, seed and versions.
Every variable has the grid's dimensions first and is chunked by case, so that a case is a handful
of files which are replaced as a whole; ``status`` (0 missing, 1 done, 2 failed) follows when they
all lie on disk. What was in flight at a crash is thus missing, and nothing is half there. Chunks
carry checksums, the descriptions a seal: a case that was damaged later counts as missing.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from filelock import FileLock, Timeout
from zarr.codecs import Crc32cCodec, ZstdCodec

from ..system.errors import InputError
from ..system.moved import present
from . import damage
from .grid import Grid, Index

FORMAT = 2
READ = (1, 2)  # in format 1 texts were bytes, and nothing had a checksum
MISSING, DONE, FAILED = 0, 1, 2
ERROR_LENGTH = 2000
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
    optional
        Results that a store of an earlier version may lack: it goes on without them.

    Attributes
    ----------
    status
        0 missing, 1 done, 2 failed; shape of the grid.
    damaged
        How many cases were there and cannot be read any more; they count as missing.
    first
        Whether no other process is at work on this store. Several can be: each case has the same
        result in all of them, and is replaced as a whole.

    Raises
    ------
    InputError
        If the folder holds something else, was written by another configuration or by other
        versions, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = Store(f"{folder.name}/sweep", Grid.of({"x": [0, 1]}), {"what": "squares"})
    >>> store.missing(), store.first
    ([(0,), (1,)], True)
    >>> store.write((1,), xr.Dataset({"square": 1.0}), seconds=0.1)
    >>> store.fail((0,), "ValueError: no square today", seconds=0.1)
    >>> store.refreshed().tolist(), store.missing(retry_failed=True), store.is_wanted((1,))
    ([2, 1], [(0,)], False)
    >>> store.to_xarray().square.values.tolist()
    [nan, 1.0]
    >>> store.close()
    >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | os.PathLike,
        grid: Grid,
        config: Mapping[str, Any],
        optional: Iterable[str] = (),
    ):
        self.path, self.grid, self.optional = Path(path), grid, frozenset(optional)
        self.origin = {
            "axes": [[name, list(values)] for name, values in grid.axes],
            "config": json.loads(json.dumps(dict(config))),
            "versions": {name: version(name) for name in PACKAGES},
        }
        if not self.path.exists():
            self._create()
        self.group = self._open()
        self._arrays: dict[str, Any] = {}
        tables = _Tables(self.path, self.group, self.grid.shape)
        self.status, self.damaged = tables.status, int(tables.damaged.sum())
        for index in np.argwhere(tables.damaged):
            self._set("status", tuple(index), MISSING)
        self._work = FileLock(self.path / "status" / "work.lock")
        self.first = _acquired(self._work)

    def close(self) -> None:
        """Let another process be the first."""
        self._work.release()

    def _create(self) -> None:
        text = json.dumps([self.origin["axes"], self.origin["config"]], sort_keys=True)
        attributes = {
            "adaptik_sweep": FORMAT,
            **self.origin,
            "config_hash": hashlib.sha256(text.encode()).hexdigest(),
        }
        temporary = self.path.with_name(f".{self.path.name[:50]}.{secrets.token_hex(4)}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            group = zarr.create_group(temporary, zarr_format=3)
            self._array(group, "status", (), np.uint8, MISSING)
            self._array(group, "error", (), str, "")
            self._array(group, "seconds", (), np.float64, np.nan)
            attributes[damage.SEAL] = damage.seal(temporary, attributes, RESERVED)
            group.attrs.update(attributes)
            temporary.rename(self.path)
        except OSError as error:
            if self.path.is_dir():  # another process was faster
                return
            raise InputError(
                f"store: cannot write {str(self.path)!r}: {error.strerror or error}; choose a "
                "writable folder"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

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
        damage.check_seal(self.path, there, _names(there))
        if "function" in there["config"]:  # its module may have moved since
            there["config"] = there["config"] | {"function": present(there["config"]["function"])}
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

    def _array(self, group, name, inner, dtype, fill, dims=()):
        return group.create_array(
            name,
            shape=(*self.grid.shape, *inner),
            chunks=(*(1 for _ in self.grid.shape), *(max(size, 1) for size in inner)),
            dtype=dtype,
            fill_value=fill,
            compressors=[ZstdCodec(), Crc32cCodec()],
            dimension_names=(*self.grid.names, *(f"{name}_{d}" for d in dims)),
            attributes={"inner": list(dims)},
            overwrite=True,  # what a crash left of an earlier try
        )

    def is_wanted(self, index: Index) -> bool:
        """Whether no other process has finished this case since the store was opened."""
        there = int(self._held("status")[index])
        return there != DONE and (there != FAILED or self.status[index] == FAILED)

    def refreshed(self) -> np.ndarray:
        """The status of every case with what other processes have finished."""
        self.status = np.array(self.group["status"])
        return self.status

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
        known = self._variables()
        if known is None:
            with FileLock(self.path / "status" / "declare.lock"):
                self.group = zarr.open_group(self.path, mode="r+", zarr_format=3)
                if (known := self._variables()) is None:
                    self._declare(result, names)
        if known is not None and known != names:
            result = result.drop_vars([n for n in self.optional - {*known} if n in names])
            more, fewer = ({*map(str, result.data_vars)} - {*known}, {*known} - {*names})
            if more or fewer:
                parts = [f"has {sorted(more)} besides"] if more else []
                parts += [f"lacks {sorted(fewer)}"] if fewer else []
                raise InputError(
                    f"result {' and '.join(parts)}, compared with other cases of this store; "
                    "every case must return the same variables"
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
            exact = values.dtype.kind != "i" or array.dtype.kind == "i"
            if not (exact and np.can_cast(values.dtype, array.dtype, "same_kind")):
                raise InputError(
                    f"result {name!r} has type {values.dtype}, other cases have {array.dtype}; "
                    "every case must return the same types"
                )
            encoded[name] = (array, values)
        for array, values in encoded.values():
            array[index] = values
        if self.status[index] == FAILED:
            self._set("error", index, "")
        self._finish(index, DONE, seconds)

    def fail(self, index: Index, error: str, seconds: float) -> None:
        """Keep the reason why one case has no result."""
        self._set("error", index, _plain(error)[:ERROR_LENGTH])
        self._finish(index, FAILED, seconds)

    def _declare(self, result: xr.Dataset, names: list[str]) -> None:
        """Make room for results like the first one."""
        for name in names:
            if name in RESERVED or name in self.grid.names:
                raise InputError(
                    f"result {name!r} has the name of an axis or of the store's own data"
                )
        for name in names:
            dims, values = [str(d) for d in result[name].dims], _encoded(result[name].values)
            dtype, fill = values.dtype, values.dtype.type(0)
            if values.dtype.kind == "T":
                dtype, fill = str, ""
            elif values.dtype.kind == "f":
                fill = np.nan
            self._array(self.group, name, values.shape, dtype, fill, tuple(dims))
        coordinates = {
            str(n): v.values.tolist() for n, v in result.coords.items() if n in result.dims
        }
        added = {"coordinates": coordinates, "variables": names}
        # As JSON has it: what is sealed is what is read.
        attributes = json.loads(json.dumps({**dict(self.group.attrs), **added}))
        sealed = damage.seal(self.path, attributes, _names(attributes))
        self.group.attrs.update({**added, damage.SEAL: sealed})

    def _variables(self) -> list[str] | None:
        found: Any = dict(self.group.attrs).get("variables")
        return found

    def _held(self, name: str) -> Any:
        """An array, opened once: opening takes as long as writing a case."""
        if name not in self._arrays:
            with zarr.config.set({"array.write_empty_chunks": True}):  # no file: no case
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
        return _dataset(self.path, self.group)


def load(path: str | os.PathLike) -> xr.Dataset:
    """What a sweep has computed so far, by whatever versions; see :meth:`Store.to_xarray`.

    Raises
    ------
    InputError
        If ``path`` holds no sweep.

    Examples
    --------
    >>> import tempfile
    >>> from adaptik.sweeps import sweep
    >>> def square(x):
    ...     return {"square": x * x}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = sweep(square, {"x": [1, 2, 3]}, store=f"{folder}/sweep", executor="serial")
    ...     data = load(f"{folder}/sweep")
    >>> data.square.values.tolist(), data.x.values.tolist()
    ([1.0, 4.0, 9.0], [1, 2, 3])
    """
    path = Path(path)
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
    except Exception as error:  # any file can lie there
        raise InputError(f"{str(path)!r} holds no sweep; name the folder of its store") from error
    there: Any = dict(group.attrs)
    if there.get("adaptik_sweep") not in READ:
        raise InputError(f"{str(path)!r} holds no sweep of this format; name the folder of a store")
    if there["adaptik_sweep"] == FORMAT:
        damage.check_seal(path, there, _names(there))
    try:
        return _dataset(path, group)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # of format 1, unsealed
        raise InputError(f"the store {str(path)!r} is damaged: {error}") from error


def counted(data: xr.Dataset) -> dict[str, int]:
    """How many cases are missing, done and failed."""
    words = {"missing": MISSING, "done": DONE, "failed": FAILED}
    return {word: int((data.status == code).sum()) for word, code in words.items()}


def summary(data: xr.Dataset) -> str:
    """How far a sweep is, as a person reads it."""
    counts = counted(data)
    return f"{counts['done']} of {data.status.size} cases done, {counts['failed']} failed"


class _Tables:
    """All arrays of a store, read as far as they can be.

    Attributes
    ----------
    values
        By name; the fill value where a case cannot be read.
    status
        Of every case; missing where something of it cannot be read.
    damaged
        Where that is so.
    """

    def __init__(self, path: Path, group: zarr.Group, cases: tuple[int, ...]):
        self.values: dict[str, np.ndarray] = {}
        sound: dict[str, np.ndarray] = {}
        attributes: Any = dict(group.attrs)
        sealed = attributes["adaptik_sweep"] == FORMAT
        for name in _names(attributes):
            array: Any = group[name]
            self.values[name], sound[name] = damage.readable(array, cases)
            if sealed and name not in ("status", "error"):  # those have no file before there is one
                sound[name] &= damage.written(path, array, cases) | (self.values["status"] != DONE)
        status = self.values["status"]
        results = [ok for name, ok in sound.items() if name not in RESERVED]
        whole = sound["status"] & (status <= FAILED)
        whole &= np.all(results, axis=0) | (status != DONE) if results else status != DONE
        whole &= (sound["error"] & sound["seconds"]) | (status == MISSING)
        self.damaged = ~whole
        self.status = self.values["status"] = np.where(whole, status, MISSING).astype(np.uint8)


def _names(attributes: Mapping[str, Any]) -> list[str]:
    """Of all arrays, ``status`` first."""
    return [*RESERVED, *attributes.get("variables", ())]


def _dataset(path: Path, group: zarr.Group) -> xr.Dataset:
    there: Any = dict(group.attrs)
    coordinates = {name: values for name, values in there["axes"]}
    names, variables = tuple(coordinates), {}
    tables = _Tables(path, group, tuple(len(values) for values in coordinates.values()))
    for name, values in tables.values.items():
        attributes: Any = dict(group[name].attrs)
        inner = list(attributes["inner"])
        if attributes.get("text"):  # of format 1
            inner, values = inner[:-1], _text(values)
        if values.dtype.kind in "OT":
            values = np.array(values.tolist(), str).reshape(values.shape)
        variables[name] = ((*names, *inner), values)
    coordinates |= there.get("coordinates", {})
    about = {key: json.dumps(there[key]) for key in ("config", "versions", "config_hash")}
    return xr.Dataset(variables, coords=coordinates, attrs=about)


def _acquired(lock: FileLock) -> bool:
    """Whether the lock is ours; where a file system has none, as if it were."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except (OSError, NotImplementedError):
        pass
    return True


def _encoded(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind in "UOT":
        text = [_plain(str(value)) for value in values.ravel()]
        return np.array(text, np.dtypes.StringDType()).reshape(values.shape)
    if values.dtype.kind not in "fiub":
        raise InputError(f"results must be numbers or strings, got dtype {values.dtype}")
    if values.dtype.kind in "iu" and np.abs(values.astype(float)).max(initial=0) <= 2**53:
        return values.astype(float)  # NaN may follow in another case
    return values.astype(np.int64) if values.dtype.kind == "u" else values


def _plain(text: str) -> str:
    """Without what UTF-8 cannot write, such as bytes of file names that are no text."""
    return text.encode(errors="replace").decode()


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
