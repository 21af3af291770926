"""Save and load solutions: one zip file of zarr arrays and a JSON tree, never a pickle.

The root group's attributes hold the tree. Plain JSON values stand for themselves, everything
else is an object with one tag: ``{"tuple": [...]}``, ``{"list": [...]}``, ``{"dict": [[k, v],
...]}``, ``{"float": "nan"}``, ``{"enum": [class, member]}``, ``{"activation": name}``,
``{"array": i}`` (the zarr array called ``i``) and ``{"object": i}`` (entry ``i`` of the table of
dataclass instances). What is referenced twice is stored once and shared again after loading.
"""

import importlib
import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import zarr
from zarr.storage import ZipStore

from ..mathematics import activations
from ..mathematics.activations import Activation
from ..system.errors import InputError
from ..system.files import replacing
from ..system.memory import require
from ..system.registry import CLASSES, register
from ..tasks import Task
from ..tasks.stages import Joint, Stage
from .annotations import check_fields
from .estimate import Estimate
from .record import Cost, Outcome, StageRecord
from .trajectory import Trajectory

__all__ = ["load", "register", "save"]

FORMAT = 1
STORED = "biufc"  # kinds of arrays
DEFLATE, PACKED = 1100, 40_000  # how many times smaller deflate and Zstandard can make things
REASON = 300  # letters of what was wrong with a file
_OWN_MODULE = re.compile(r"adaptik(\.[a-z]\w*)+")

for _cls in (Task, Joint, Stage, StageRecord, Outcome, Cost, Estimate):
    register(_cls)


def save(solution: Trajectory, path: str | os.PathLike) -> None:
    """Write ``solution`` to one zip file, atomically: a crash leaves the old file or none.

    Parameters
    ----------
    solution
        What to save. JAX arrays are stored as NumPy arrays, NumPy scalars as Python numbers.
    path
        The file to write; its folder must exist.

    Raises
    ------
    InputError
        If the solution holds something that cannot be stored (such as a custom activation), or
        the file cannot be written. Nothing is left behind.
    """
    if not isinstance(solution, Trajectory):
        raise InputError(f"save needs an adaptik.Solution, got {type(solution).__name__}")
    writer = _Writer()
    tree = {
        "adaptik_format": FORMAT,
        "root": writer.encode(solution, "solution"),
        "objects": writer.objects,
    }
    with replacing(path) as temporary, _zip_store(temporary, "w") as store:
        root = zarr.create_group(store, attributes=tree, zarr_format=3)
        for i, array in enumerate(writer.arrays):
            # Chunks of zeros are written too, so that -0.0 survives.
            root.create_array(str(i), data=array, config={"write_empty_chunks": True})


def load(path: str | os.PathLike) -> Trajectory:
    """Read what :func:`save` wrote.

    Parameters
    ----------
    path
        The zip file.

    Returns
    -------
    Solution
        Equal to what was saved; arrays are NumPy arrays.

    Raises
    ------
    InputError
        If the file is missing, damaged, not one of adaptik's, or from a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"cannot load {str(path)!r}: there is no such file")
    try:
        sizes = _sizes(path)
        with _zip_store(path, "r") as store:
            group = zarr.open_group(store, mode="r", zarr_format=3)
            tree = dict(group.attrs)
            if "adaptik_format" not in tree:
                raise InputError("it was not written by adaptik")
            if tree["adaptik_format"] != FORMAT:
                raise InputError(
                    f"it has format {tree['adaptik_format']}, this version reads {FORMAT}; "
                    "upgrade adaptik"
                )
            solution = _Reader(group, tree["objects"], sizes).decode(tree["root"])
        if not isinstance(solution, Trajectory):
            raise InputError("it holds no solution")
        _check(solution)
    except Exception as error:  # a damaged file can fail anywhere in zipfile, zarr or a constructor
        reason = error if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        reason = " ".join(str(reason).split())[:REASON]
        raise InputError(
            f"cannot load {str(path)!r}, not a readable adaptik result: {reason}"
        ) from error
    return solution


def _sizes(path: Path) -> dict[str, int]:
    """Bytes of every entry of a zip file that declares no more than it can hold."""
    whole = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    for entry in entries:
        packed = entry.compress_size * (1 if entry.compress_type == zipfile.ZIP_STORED else DEFLATE)
        if entry.file_size > packed or entry.compress_type not in (0, zipfile.ZIP_DEFLATED):
            raise InputError(f"{entry.filename!r} declares {entry.file_size} bytes")
    if sum(entry.compress_size for entry in entries) > whole:
        raise InputError(f"its entries declare more than its {whole} bytes")
    return {entry.filename: entry.file_size for entry in entries}


def _check(solution: Trajectory) -> None:
    """Refuse records, states and tasks that are not those of one solution."""
    counts = {len(solution.stages), len(solution.records), len(solution.states)}
    if len(counts) > 1 or counts == {0}:
        raise InputError("it has not one record and one state for every stage")
    if solution.kind not in ("limit", "network"):
        raise InputError(f"kind must be 'limit' or 'network', got {solution.kind!r}")
    for name, task in solution.tasks.items():
        if task.name != name:
            raise InputError(f"task {task.name!r} is stored as {name!r}")
    members = {f.shape[1] for r in solution.records for f in r.predictions.values()}
    if len(members) != 1:
        raise InputError(f"its predictions have {sorted(members)} members")
    for i, record in enumerate(solution.records):
        if not record.predictions:
            raise InputError(f"record {i} has no predictions")
        for (name, split), f in record.predictions.items():
            if name not in solution.tasks or split not in solution.tasks[name].splits:
                raise InputError(f"record {i} predicts {name!r}, {split!r}, which is not there")
            samples = len(solution.tasks[name].split(split)[0])
            if (len(f), f.shape[2]) != (len(record.times), samples):
                raise InputError(
                    f"record {i} holds predictions of shape {f.shape} for {len(record.times)} "
                    f"times and {samples} samples of {name!r}, {split!r}"
                )
    for stage, _ in solution.snapshots:
        if not 0 <= stage < len(solution.stages):
            raise InputError(f"it has a snapshot of stage {stage}")


@contextmanager
def _zip_store(path: Path, mode: Literal["r", "w"]) -> Iterator[ZipStore]:
    """A zarr store in a zip file, closed at the end even where opening it fails."""
    store = ZipStore(path, mode=mode)
    try:
        yield store
    finally:
        with suppress(AttributeError):  # zarr's close() fails on a store that could not be opened
            store.close()


class _Writer:
    """Turns objects into a JSON tree, a table of dataclass instances and a list of arrays."""

    def __init__(self):
        self.objects: list[Any] = []
        self.arrays: list[np.ndarray] = []
        self._seen: dict[int, dict[str, int]] = {}
        self._alive: list[Any] = []  # ids are unique among live objects only

    def encode(self, value: Any, where: str) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, Enum):
            return {"enum": [self._class_of(value, where), value.name]}
        if value is None or isinstance(value, str | bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, Activation):
            return {"activation": _activation_name(value, where)}
        if type(value) is dict:
            return {"dict": [self._pair(k, v, where) for k, v in value.items()]}
        if type(value) in (list, tuple):
            items = [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]
            return {type(value).__name__: items}
        if id(value) not in self._seen:
            self._alive.append(value)
            self._seen[id(value)] = self._store(value, where)
        return self._seen[id(value)]

    def _pair(self, key: Any, value: Any, where: str) -> list[Any]:
        return [self.encode(key, f"{where} key {key!r}"), self.encode(value, f"{where}[{key!r}]")]

    def _store(self, value: Any, where: str) -> dict[str, int]:
        if isinstance(value, np.ndarray | jax.Array):
            self.arrays.append(_as_storable(value, where))
            return {"array": len(self.arrays) - 1}
        if not is_dataclass(value):
            raise InputError(f"cannot save {where}: {type(value).__name__} objects are not stored")
        name = self._class_of(value, where)
        attributes = {
            f.name: self.encode(getattr(value, f.name), f"{where}.{f.name}")
            for f in fields(value)
            if f.init
        }
        module = type(value).__module__
        self.objects.append({"class": name, "module": module, "fields": attributes})
        return {"object": len(self.objects) - 1}

    @staticmethod
    def _class_of(value: Any, where: str) -> str:
        cls = type(value)
        if CLASSES.get(cls.__qualname__) is not cls:
            raise InputError(
                f"cannot save {where}: class {cls.__qualname__} is not registered; decorate it "
                "with adaptik.system.registry.register"
            )
        return cls.__qualname__


class _Reader:
    """The inverse of :class:`_Writer`; builds registered classes only."""

    def __init__(self, group: zarr.Group, objects: Any, sizes: dict[str, int]):
        self._group = group
        self._table = objects
        self._sizes = sizes
        self._objects: dict[int, Any] = {}
        self._arrays: dict[int, np.ndarray] = {}
        self._total = 0

    def decode(self, node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        ((tag, content),) = node.items()
        match tag:
            case "float":
                return float(content)
            case "list":
                return [self.decode(v) for v in content]
            case "tuple":
                return tuple(self.decode(v) for v in content)
            case "dict":
                return {self.decode(k): self.decode(v) for k, v in content}
            case "enum":
                return _registered(content[0])[content[1]]
            case "activation":
                return activations.get(str(content))
            case "array":
                if content not in self._arrays:
                    self._arrays[content] = self._read(str(int(content)))
                return self._arrays[content]
            case "object":
                if content not in self._objects:
                    self._objects[content] = self._build(self._table[content])
                return self._objects[content]
        raise InputError(f"unknown entry {tag!r}")

    def _build(self, entry: Any) -> Any:
        cls = _registered(entry["class"], entry["module"])
        made = cls(**{name: self.decode(v) for name, v in entry["fields"].items()})
        check_fields(made)
        return made

    def _read(self, name: str) -> np.ndarray:
        """An array whose chunks all lie in the file, and can be as large as they are said to be."""
        stored: Any = self._group[name]
        if not isinstance(stored, zarr.Array) or stored.dtype.kind not in STORED:
            raise InputError(f"entry {name!r} is no array of numbers")
        chunks = {p: size for p, size in self._sizes.items() if p.startswith(f"{name}/c")}
        bytes_each = math.prod(stored.chunks) * stored.dtype.itemsize
        room = PACKED * max(chunks.values(), default=0) + 4096
        if stored.shards or len(chunks) != stored.nchunks or bytes_each > room:
            raise InputError(
                f"array {name!r} of shape {stored.shape} is larger than the file can hold"
            )
        grid = np.ndindex(*(-(-n // c) for n, c in zip(stored.shape, stored.chunks, strict=True)))
        for place in grid:
            if f"{name}/{stored.metadata.encode_chunk_key(place)}" not in chunks:
                raise InputError(f"a part of array {name!r} is missing")
        self._total += stored.nbytes
        require(self._total, "its arrays", "load it where there is more memory")
        return np.asarray(stored[...])


def _registered(name: str, module: str = "") -> Any:
    if name not in CLASSES and _OWN_MODULE.fullmatch(module):
        # A module of this package that nothing has imported yet registers its classes now; where
        # it has moved to a room of its folder, the folder imports all its rooms.
        for home in (module, module.rpartition(".")[0]):
            with suppress(ImportError):
                importlib.import_module(home)
    if name not in CLASSES:
        raise InputError(f"it needs the class {name!r}; import {module or 'its module'} first")
    return CLASSES[name]


def _as_storable(value: Any, where: str) -> np.ndarray:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise InputError(f"cannot save {where}: random keys are not stored; keep the seed instead")
    array = np.asarray(value)
    if array.dtype.kind not in STORED:
        raise InputError(f"cannot save {where}: arrays of {array.dtype} are not stored; use a list")
    return array


def _activation_name(activation: Activation, where: str) -> str:
    """The name, if it gives the very same function back."""
    try:
        named = activations.get(activation.name)
    except InputError:
        named = None
    same_form = named is not None and (
        (named.family, named.parameters) == (activation.family, activation.parameters) != ("", ())
    )
    if named is activation or same_form:
        return activation.name
    raise InputError(
        f"cannot save {where}: the activation {activation.name!r} is a custom function, which only "
        f"a pickle could hold; use a named activation ({', '.join(activations.names())})"
    )
