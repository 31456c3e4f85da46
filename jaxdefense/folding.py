"""Thin convolutions and max pooling as equal programs that XLA on CPU runs fast.

A convolution with one to three channels on either side leaves the CPU's matrix kernels almost
empty: the first layer of a network on grey images, and worse, its input gradient, take longer than
all the rest. Folding 2 x 2 pixels into the channels makes matrices four times as wide: 5 x 5
windows on grey 28 x 28 images were 10 to 15 times faster. The backward pass of max pooling has no
fast kernel either; pools that do not overlap are reshapes and comparisons.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Fewest channels on either side from which the plain convolution is as fast.
_THIN = {3: 3, 5: 4, 7: 4}


def is_thin(lhs: jax.Array, rhs: jax.Array, params: dict[str, Any]) -> bool:
    """Whether a convolution NHWC, HWIO -> NHWC gains by `fold`."""
    if lhs.ndim != 4 or rhs.shape[0] != rhs.shape[1] or rhs.shape[0] not in _THIN:
        return False
    ones = (1, 1)
    plain = (
        params["window_strides"] == params["lhs_dilation"] == params["rhs_dilation"] == ones
        and params["feature_group_count"] == params["batch_group_count"] == 1
    )
    size = rhs.shape[0]
    inputs, outputs = lhs.shape[1:3], _output(lhs, rhs, params)
    even = all(n > 0 and n % 2 == 0 for n in (*inputs, *outputs))
    return plain and even and min(rhs.shape[2:]) <= _THIN[size]


def _output(lhs: jax.Array, rhs: jax.Array, params: dict[str, Any]) -> tuple[int, ...]:
    pairs = zip(lhs.shape[1:3], params["padding"], rhs.shape[:2], strict=True)
    return tuple(size + low + high - window + 1 for size, (low, high), window in pairs)


def fold(lhs: jax.Array, rhs: jax.Array, params: dict[str, Any]) -> jax.Array:
    """The convolution on blocks of 2 x 2 pixels; the same sums in another order."""
    height, width = _output(lhs, rhs, params)
    rows, above = _taps(rhs.shape[0], params["padding"][0][0])
    columns, left = _taps(rhs.shape[1], params["padding"][1][0])
    # a, b: blocks; r, s: the input pixel in its block; p, q: the output pixel in its.
    taps = (rows.astype(rhs.dtype), columns.astype(rhs.dtype))
    wide = jnp.einsum("tuio,tarp,ubsq->abrsipqo", rhs, *taps)
    inputs, outputs = rhs.shape[2:]
    wide = wide.reshape(rows.shape[1], columns.shape[1], 4 * inputs, 4 * outputs)
    batch, tall, broad, _ = lhs.shape
    blocks = lhs.reshape(batch, tall // 2, 2, broad // 2, 2, inputs).transpose(0, 1, 3, 2, 4, 5)
    blocks = blocks.reshape(batch, tall // 2, broad // 2, 4 * inputs)
    below = height // 2 - tall // 2 - above + rows.shape[1] - 1
    right = width // 2 - broad // 2 - left + columns.shape[1] - 1
    found = lax.conv_general_dilated_p.bind(
        blocks, wide, **{**params, "padding": ((above, below), (left, right))}
    )
    found = found.reshape(batch, height // 2, width // 2, 2, 2, outputs)
    return found.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height, width, outputs)


def _taps(window: int, low: int) -> tuple[np.ndarray, int]:
    """Where tap t of a window lies for each output pixel p: ``[t, block, r, p]``; blocks before."""
    offsets = [[p - low + t for p in range(2)] for t in range(window)]
    first = min(min(row) for row in offsets) // 2
    last = max(max(row) for row in offsets) // 2
    table = np.zeros((window, last - first + 1, 2, 2), np.float32)
    for t, row in enumerate(offsets):
        for p, offset in enumerate(row):
            table[t, offset // 2 - first, offset % 2, p] = 1
    return table, -first


def is_tiled(params: dict[str, Any]) -> bool:
    """Whether pooling windows neither overlap nor reach beyond the array."""
    window = params["window_dimensions"]
    dilations = [params.get(name, (1,)) for name in ("base_dilation", "window_dilation")]
    return (
        tuple(window) == tuple(params["window_strides"])
        and not any(map(any, params["padding"]))
        and all(size == 1 for dilation in dilations for size in dilation)
        and 1 < math.prod(window) <= 16
    )


def pool(operand: jax.Array, params: dict[str, Any]) -> jax.Array:
    """``reduce_window_max`` where `is_tiled`."""
    tiles = _tiles(operand, params["window_dimensions"])
    return tiles.max(_inside(operand.ndim))


def unpool(source: jax.Array, operand: jax.Array, params: dict[str, Any]) -> jax.Array:
    """``select_and_scatter_add`` of the largest where `is_tiled`: of equal ones, the first."""
    window, axes = params["window_dimensions"], _inside(operand.ndim)
    tiles = _tiles(operand, window)
    largest = tiles.max(axes, keepdims=True)
    place = np.arange(math.prod(window), dtype=np.int32).reshape(window)
    place = np.expand_dims(place, tuple(range(0, 2 * operand.ndim, 2)))
    first = jnp.where(tiles == largest, place, place.size).min(axes, keepdims=True)
    spread = jnp.where(place == first, jnp.expand_dims(source, axes), 0)
    covered = [size * count for size, count in zip(source.shape, window, strict=True)]
    rest = [(0, size - done, 0) for size, done in zip(operand.shape, covered, strict=True)]
    return lax.pad(spread.reshape(covered), jnp.zeros((), source.dtype), rest)


def _tiles(operand: jax.Array, window: Sequence[int]) -> jax.Array:
    """``[n0, w0, n1, w1, ...]``; what fills no window is left out."""
    counts = [size // width for size, width in zip(operand.shape, window, strict=True)]
    ends = [count * width for count, width in zip(counts, window, strict=True)]
    shape = [n for pair in zip(counts, window, strict=True) for n in pair]
    return lax.slice(operand, [0] * operand.ndim, ends).reshape(shape)


def _inside(rank: int) -> tuple[int, ...]:
    return tuple(range(1, 2 * rank, 2))
