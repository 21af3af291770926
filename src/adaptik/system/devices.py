"""Where arrays lie: particles shared out over all devices that JAX sees, the rest on each."""

import math
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .errors import InputError

PARTICLES = PartitionSpec(None, "particles")


def on_device(array: Any, dtype: Any = None) -> Array:
    """An array for JAX; ``jnp.asarray`` would compile a program for each new shape.

    Among several processes each device has a copy.
    """
    array = np.asarray(array, dtype)
    if jax.process_count() == 1:
        return jax.device_put(array)
    return jax.device_put(array, NamedSharding(_mesh(jax.device_count()), PartitionSpec()))


def spread(array: Any, dtype: Any = None) -> Array:
    """An array of particles ``(R, M, ...)`` with M shared out over the devices of all processes.

    Where their number does not divide M, fewer devices take part.

    Raises
    ------
    InputError
        Among several processes, where some device would take no part.
    """
    array = np.asarray(array, dtype)
    count = jax.device_count()
    if count == 1:
        return jax.device_put(array)
    mesh = _mesh(parts(array.shape[1], count))
    return jax.device_put(array, NamedSharding(mesh, PARTICLES))


def accelerator_bytes() -> float:
    """Memory of all devices together, infinite where they compute in that of the machine."""
    known = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return math.inf if known is None else float(known * jax.device_count())


def parts(particles: int, devices: int) -> int:
    """Into how many parts particles are cut, one for a device; raises as :func:`spread` does.

    Examples
    --------
    >>> parts(512, 8), parts(100, 8)
    (8, 4)
    """
    used = math.gcd(particles, devices)
    if jax.process_count() > 1 and used < devices:
        raise InputError(
            f"particles={particles} cannot be shared out over the {devices} devices of "
            f"{jax.process_count()} processes; take a multiple of {devices}"
        )
    return used


def gathered(array: Any) -> np.ndarray:
    """All of an array, in the memory of every process."""
    if isinstance(array, Array) and not array.is_fully_addressable:
        return np.asarray(process_allgather(array, tiled=True))
    return np.asarray(array)


def _mesh(devices: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:devices]), ("particles",))
