"""What the synthetic sets are drawn with: signed distances, soft edges, smooth noise, blocks.

Images are drawn many at a time. A shape is its signed distance at every pixel, ``[b, h, w]`` and
negative inside; a number that differs between images is ``[b, 1, 1]``, so that it spreads over the
pixels; a picture is ``[c, b, h, w]``, so that shapes and numbers apply to each of its channels.
Coordinates run from -1 to 1, x to the right and y down.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
Point = tuple[Any, Any]  # floats, or arrays [b, 1, 1]
Artist = Callable[["Dice", Array, int], Array]


class Dice:
    """The random numbers of one block of ``count`` images."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self.rng, self.count = rng, count

    def uniform(self, low: float, high: float, planes: int = 1) -> Array:
        """``[b, 1, 1]``, or ``[planes, b, 1, 1]`` where there is more than one."""
        return low + (high - low) * self.rng.random(self._shape(planes), np.float32)

    def normal(self, mean: float, deviation: float, planes: int = 1) -> Array:
        """As `uniform`, from a normal distribution cut off at two and a half deviations."""
        drawn = self.rng.standard_normal(self._shape(planes), np.float32)
        return mean + deviation * drawn.clip(-2.5, 2.5)

    def chance(self, probability: float) -> Array:
        """1.0 with a probability, else 0.0; ``[b, 1, 1]``."""
        return (self.uniform(0, 1) < probability).astype(np.float32)

    def sign(self) -> Array:
        """1.0 or -1.0; ``[b, 1, 1]``."""
        return 2 * self.chance(0.5) - 1

    def grain(self, size: int, planes: int = 1) -> Array:
        """Standard normal noise, each pixel by itself; ``[planes, b, size, size]``."""
        return self.rng.standard_normal((planes, self.count, size, size), np.float32)

    def clouds(self, size: int, cells: int) -> Array:
        """Smooth noise of mean 0 and variance 1, about ``cells`` lumps across; ``[b, h, w]``."""
        # Cubic B-splines on a grid of random heights.
        at = (np.arange(size, dtype=np.float32)[:, None] + 0.5) * (cells / size) + 1
        away = np.abs(at - np.arange(cells + 3, dtype=np.float32))
        near = 2 / 3 - away**2 + away**3 / 2
        weights = np.where(away < 1, near, (2 - away).clip(0) ** 3 / 6)
        weights /= np.sqrt((weights**2).sum(1, keepdims=True))
        heights = self.rng.standard_normal((self.count, cells + 3, cells + 3), np.float32)
        # Not with @: BLAS starts threads for products this small, many times slower when busy.
        rows = np.einsum("bij,jq->biq", heights, np.ascontiguousarray(weights.T))
        return np.einsum("pi,biq->bpq", weights, rows)

    def _shape(self, planes: int) -> tuple[int, ...]:
        return (self.count, 1, 1) if planes == 1 else (planes, self.count, 1, 1)


def render(
    artist: Artist, classes: int, count: int, size: int, key: Sequence[int], block: int
) -> tuple[Array, Array]:
    """``count`` images whose labels go round the classes.

    An image depends on the key, the size and its place only: a larger set begins with the smaller.

    Args:
        artist: draws a block: dice, labels ``[b]`` and size to ``[c, b, h, w]`` in [0, 1].
        classes: number of classes.
        count: number of images.
        size: side in pixels.
        key: seeds the random numbers.
        block: images drawn at a time; what is fastest depends on how large they are.

    Returns:
        uint8 ``[count, size, size, c]`` and int32 ``[count]``.
    """
    labels = np.arange(-(-count // block) * block, dtype=np.int32) % classes
    blocks = []
    for number, part in enumerate(labels.reshape(-1, block)):
        dice = Dice(np.random.default_rng([*key, number]), block)
        drawn = artist(dice, part, size).clip(0, 1)
        blocks.append(np.moveaxis(np.rint(255 * drawn).astype(np.uint8), 0, -1))
    return np.concatenate(blocks)[:count], labels[:count]


def grid(size: int) -> tuple[Array, Array]:
    """x and y of the pixels' centres, ``[1, h, w]`` float32."""
    ticks = ((2 * np.arange(size) + 1) / size - 1).astype(np.float32)
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    return x[None], y[None]


def turned(x: Array, y: Array, angle: Array) -> tuple[Array, Array]:
    """Coordinates in a frame that is turned by ``angle`` in radians, clockwise as y points down."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * x + sine * y, cosine * y - sine * x


def cover(distance: Array, soft: Any) -> Array:
    """How much of each pixel a shape covers, 0 to 1; ``soft`` is the width of its edge."""
    return (0.5 - distance / soft).clip(0, 1)


def paint(picture: Array, colour: Any, mask: Array) -> None:
    """Lay a colour over the picture, in place, as far as the mask says."""
    picture += mask * (colour - picture)


def disc(x: Array, y: Array, radius: Any) -> Array:
    """Distance from a disc around the origin."""
    return np.sqrt(x * x + y * y) - radius


def box(x: Array, y: Array, width: Any, height: Any) -> Array:
    """Distance from a box around the origin, given half its width and height."""
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def polygon(x: Array, y: Array, sides: int, radius: float, turn: float = 0.0) -> Array:
    """Distance from a regular polygon; at ``turn`` 0 a side, at half a side's angle a corner."""
    angles = turn + 2 * np.pi * np.arange(sides) / sides
    across = [x * float(np.sin(a)) - y * float(np.cos(a)) for a in angles]
    return np.maximum.reduce(across) - radius * float(np.cos(np.pi / sides))


def ellipse(x: Array, y: Array, width: Any, height: Any, square: float = 0.0) -> Array:
    """Distance from an ellipse, roughly; ``square`` moves it from round (0) to boxy (1)."""
    x, y = (x / width) ** 2, (y / height) ** 2
    inside = np.sqrt(x + y)
    if square:
        inside = inside + square * (np.sqrt(np.sqrt(x * x + y * y)) - inside)
    return (inside - 1) * np.minimum(width, height)


def segment(x: Array, y: Array, start: Point, end: Point) -> tuple[Array, Array, Array]:
    """Distance from a line segment, and the way from its nearest point (right, down)."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    squared = along_x * along_x + along_y * along_y + 1e-9
    right, down = x - start[0], y - start[1]
    share = ((right * along_x + down * along_y) / squared).clip(0, 1)
    right, down = right - share * along_x, down - share * along_y
    return np.sqrt(right * right + down * down), right, down


def stroke(x: Array, y: Array, points: Sequence[Point], width: float) -> Array:
    """Distance from a pen stroke of some width through the points, with round ends."""
    pieces = [segment(x, y, *pair)[0] for pair in itertools.pairwise(points)]
    return np.minimum.reduce(pieces) - width / 2
