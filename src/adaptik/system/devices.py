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
    devices = jax.device_count()
    if devices == 1:
        return jax.device_put(array)
    used = math.gcd(array.shape[1], devices)
    if jax.process_count() > 1 and used < devices:
        raise InputError(
            f"particles={array.shape[1]} cannot be shared out over the {devices} devices of "
            f"{jax.process_count()} processes; take a multiple of {devices}"
        )
    return jax.device_put(array, NamedSharding(_mesh(used), PARTICLES))


def gathered(array: Any) -> np.ndarray:
    """All of an array, in the memory of every process."""
    if isinstance(array, Array) and not array.is_fully_addressable:
        return np.asarray(process_allgather(array, tiled=True))
    return np.asarray(array)


def _mesh(devices: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:devices]), ("particles",))
