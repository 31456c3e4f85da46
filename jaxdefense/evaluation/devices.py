"""Data parallelism: rows of a batch over the devices of this process."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdefense.typing import PyTree

T = TypeVar("T")


@functools.cache
def local_mesh() -> Mesh | None:
    """All devices of this process as one axis ``"data"``; None where there is but one."""
    devices = jax.local_devices()
    return Mesh(np.array(devices), ("data",)) if len(devices) > 1 else None


def whole_rows(rows: int, mesh: Mesh | None) -> int:
    """The least number of rows from `rows` that the devices can share evenly.

    Example:
        >>> whole_rows(5, None)
        5
    """
    return rows if mesh is None else -(-rows // mesh.size) * mesh.size


def with_memory(run: Callable[[int], T], rows: int) -> T:
    """``run(rows)``, with half as many rows as long as the device has not the memory for them.

    Example:
        >>> with_memory(lambda rows: rows, 2048)
        2048
    """
    while True:
        try:
            return run(rows)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or rows == 1:
                raise
        rows = (rows + 1) // 2


def batched(function: Callable[[np.ndarray], Any], count: int, rows: int) -> np.ndarray:
    """``function(indices)`` in batches of one static size, joined."""
    starts = range(0, count, rows)
    padded = (np.minimum(np.arange(start, start + rows), count - 1) for start in starts)
    return np.concatenate([np.asarray(function(index)) for index in padded])[:count]


def by_row(
    mesh: Mesh | None, function: Callable[..., PyTree], shared: tuple[Any, ...], rows: PyTree
) -> PyTree:
    """``function(*shared, rows)`` with the leading axis of every leaf of `rows` over the mesh.

    Every device works on its rows alone, loops included: none waits for another.

    Args:
        mesh: of `local_mesh`.
        function: row i of what it returns depends on row i of `rows` only.
        shared: what every device gets whole.
        rows: a pytree of arrays.
    """
    if mesh is None:
        return function(*shared, rows)
    whole, split = PartitionSpec(), PartitionSpec("data")
    spread = jax.shard_map(
        function, mesh=mesh, in_specs=(*[whole] * len(shared), split), out_specs=split,
        check_vma=False,
    )  # fmt: skip
    return spread(*shared, rows)


def everywhere(mesh: Mesh | None, arrays: PyTree) -> PyTree:
    """Arrays on every device that computes, so that they travel once.

    Also where there is one device: arrays that are bound to it, as restored checkpoints are, and
    arrays that are not would be two programs.
    """
    if mesh is None:
        (device,) = jnp.zeros(()).devices()  # the user may have chosen one
        return jax.device_put(arrays, device)
    return jax.device_put(arrays, NamedSharding(mesh, PartitionSpec()))
