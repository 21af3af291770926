"""Compiled programs outlive their process: a later one neither traces nor compiles them again.

Tracing a stage takes a second, compiling it several, running it often less. JAX keeps compiled
programs in a folder (its persistent compilation cache); beside them lie the programs themselves,
exported by :mod:`jax.export`, so that what traced them is not needed either. The folder is the
user's own JAX setting or, where there is none, chosen at the first solve, never at import.
"""

import hashlib
import io
import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import equinox as eqx
import jax
import numpy as np
import platformdirs
from jax.core import Tracer
from jaxtyping import Array

from .errors import InputError
from .files import replacing

SETTING = "ADAPTIK_CACHE"  # a folder, or "off"
LARGEST = 2**30  # bytes of compiled programs, and of exported ones
WORTH = 0.02  # seconds of compilation from which a program is kept
# Fused loops compile for as long as all the rest and run no faster (docs/notes/speed.md).
OPTIONS = {"cpu": {"xla_cpu_use_fusion_emitters": False}}
# A function of another package may change without a change of its name.
_KNOWN = sys.stdlib_module_names | {
    "adaptik",
    "diffrax",
    "equinox",
    "jax",
    "jaxlib",
    "jaxtyping",
    "lineax",
    "numpy",
    "optimistix",
}

_jax: Any = jax.config  # whose settings are made when it runs


def keep() -> Path | None:
    """Keep programs from now on; where, or ``None`` if that was switched off or is not possible.

    Nothing is changed where the user has chosen a folder for JAX (``JAX_COMPILATION_CACHE_DIR``)
    or switched its cache off.
    """
    setting = os.environ.get(SETTING, "")
    if setting == "off" or not _jax.jax_enable_compilation_cache:
        return None
    return _prepared(setting)


@cache
def _prepared(setting: str) -> Path | None:
    own = _jax.jax_compilation_cache_dir
    if own and "://" in own:
        return None
    try:
        folder = Path(own or setting or platformdirs.user_cache_path("adaptik")).expanduser()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: nobody has a home
        return None
    # A folder that is full, or locked by many processes for long, costs time and nothing else.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    if not own:
        _jax.update("jax_compilation_cache_dir", str(folder))
        _jax.update("jax_persistent_cache_min_compile_time_secs", WORTH)
        _jax.update("jax_compilation_cache_max_size", LARGEST)
    return folder


def kept(function: Callable) -> Callable:
    """Compile ``function`` once per shape, as :func:`equinox.filter_jit` does, and keep programs.

    Of its arguments, arrays may differ from call to call; all else makes another program. It
    returns arrays in lists, tuples and dicts, and calls nothing back that should be kept.
    """
    compiled: dict[str, Callable] = {}  # for each backend
    programs: dict[str, Callable | None] = {}  # None: it cannot be exported

    def here(args):
        backend = jax.default_backend()
        if backend not in compiled:
            options: Any = dict(compiler_options=_options(backend))
            compiled[backend] = eqx.filter_jit(function, **options)
        return compiled[backend](*args)

    @wraps(function)
    def call(*args):
        leaves, tree = jax.tree.flatten(args)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return function(*args)

        def flat(arrays):
            given = iter(arrays)
            filled = [next(given) if eqx.is_array(leaf) else leaf for leaf in leaves]
            return function(*tree.unflatten(filled))

        with _failed_checks_are_nan():
            arrays = [leaf for leaf in leaves if eqx.is_array(leaf)]
            folder, key = keep(), _fingerprint(function, args)
            if folder is None or key is None or any(map(_is_spread, arrays)):
                return here(args)
            if key not in programs:
                programs[key] = _program(folder / f"{key}{_EXPORTED}", flat, arrays)
            program = programs[key]
            return here(args) if program is None else program(arrays)

    return call


def _is_spread(array: Array | np.ndarray) -> bool:
    """Whether several devices hold it; JAX keeps such programs, but does not export them."""
    return isinstance(array, Array) and len(array.sharding.device_set) > 1


@cache
def _options(backend: str) -> dict[str, Any]:
    """Of :data:`OPTIONS`, where the installed XLA has them: 0.12 has no such option any more."""
    chosen = OPTIONS.get(backend, {})
    try:
        jax.jit(lambda x: x, compiler_options=chosen).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return chosen


_EXPORTED = "-exported"


def _program(file: Path, function: Callable, arrays: list[Array]) -> Callable | None:
    """Read from ``file`` or, failing that, made and written there."""
    exported = _read(file)
    if exported is None:
        try:
            exported = jax.export.export(jax.jit(function))(arrays)
        except (NotImplementedError, ValueError):  # it calls back, or calls what has no export
            return None
        _write(file, exported)
    return jax.jit(exported.call, compiler_options=_options(jax.default_backend()))


def _read(file: Path) -> "jax.export.Exported | None":
    try:
        digest, data = (content := file.read_bytes())[:32], content[32:]
        if hashlib.sha256(data).digest() != digest:
            return None
        os.utime(file)  # the oldest are deleted first
    except OSError:
        return None
    return jax.export.deserialize(bytearray(data))


def _write(file: Path, exported: "jax.export.Exported") -> None:
    data = exported.serialize()
    with suppress(InputError, OSError):  # a full disk is no reason to stop
        with replacing(file) as new:
            new.write_bytes(hashlib.sha256(data).digest() + data)
        _bound(file.parent)


def _bound(folder: Path) -> None:
    """Delete the exported programs that were not used for longest."""
    entries = [(e.stat(), e.path) for e in os.scandir(folder) if e.name.endswith(_EXPORTED)]
    total = 0
    for status, path in sorted(entries, key=lambda entry: -entry[0].st_mtime):
        total += status.st_size
        if total > LARGEST:
            os.unlink(path)


# -- what a program depends on ---------------------------------------------------------------------


_NAMES: dict[int, str] = {}  # by identity; whoever names a function keeps it alive


def name_function(function: Callable, name: str) -> None:
    """Say what identifies a function in every process, so that its programs can be kept."""
    _NAMES[id(function)] = name


def name_of(function: Callable) -> str:
    """What identifies a function in every process, such as a named activation; empty for others.

    Examples
    --------
    >>> from adaptik import activations
    >>> name_of(activations.get("hermite(3)").derivative)
    "hermite(3)'"
    """
    return _NAMES.get(id(function), "")


class _Statics(pickle.Pickler):
    """Writes what a program depends on: for arrays their shapes, for functions their names."""

    def persistent_id(self, obj: Any):
        if isinstance(obj, jax.Array):
            return obj.shape, str(obj.dtype), obj.weak_type
        if not callable(obj):
            return None
        if name := name_of(obj):
            return name
        module = getattr(obj, "__module__", None) or type(obj).__module__
        if module.partition(".")[0] not in _KNOWN:
            raise pickle.PicklingError(f"{obj!r} may change without its name")
        return None


_TRACED = "jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion"


def _fingerprint(function: Callable, args: tuple) -> str | None:
    """Of the program that ``function`` is for ``args``; ``None`` where that has no name."""
    text = io.BytesIO()
    try:
        _Statics(text).dump((function.__module__, function.__qualname__, args))
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    settings = [getattr(_jax, name) for name in _TRACED]
    digest = hashlib.sha256(text.getvalue())
    digest.update(repr((settings, _origin())).encode())
    return digest.hexdigest()


@cache
def _origin() -> tuple:
    """Everything else: our source, the versions of what we call, the device."""
    source = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        source.update(file.read_bytes())
    packages = ("jax", "jaxlib", "equinox", "diffrax", "optimistix", "lineax", "numpy")
    devices = jax.default_backend(), jax.devices()[0].device_kind, jax.device_count()
    return source.hexdigest(), tuple(map(version, packages)), devices, sys.version_info[:2]


@contextmanager
def _failed_checks_are_nan() -> Iterator[None]:
    """Checks of equinox and diffrax raise by calling back, and such programs cannot be kept.

    What EQX_ON_ERROR=nan does, for our own programs alone; their results are checked to be finite.
    """
    # The environment variable is read when equinox is imported, by whoever does so first.
    with patch.object(sys.modules["equinox._errors"], "EQX_ON_ERROR", "nan"):
        yield
