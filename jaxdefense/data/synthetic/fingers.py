"""Synthetic hands: a left or right hand that raises 0 to 5 fingers, in grey.

Rounded limbs lit from one side, seen from the palm, with the other fingers folded over it; the
background is uneven. No picture of Kaggle Fingers went into them.
"""

from __future__ import annotations

import numpy as np

from jaxdefense.data.synthetic.canvas import (
    Array,
    Dice,
    Point,
    cover,
    grid,
    segment,
    turned,
)

BLOCK = 60

# Thumb to little finger of a left hand, in units of half the palm's width: base right and down,
# degrees from upright, length, half width.
_FINGERS = (
    (-0.80, 0.25, -52, 1.25, 0.26),
    (-0.68, -0.80, -14, 1.40, 0.22),
    (-0.23, -0.98, -4, 1.65, 0.23),
    (0.23, -0.94, 6, 1.50, 0.22),
    (0.67, -0.72, 18, 1.15, 0.20),
)
# The sets of fingers that people raise for each count.
_POSES = (
    ((),),
    ((1,), (1,), (0,), (4,)),
    ((1, 2), (1, 2), (0, 1), (0, 4), (1, 4)),
    ((1, 2, 3), (0, 1, 2), (2, 3, 4), (0, 1, 4)),
    ((1, 2, 3, 4), (1, 2, 3, 4), (0, 1, 2, 3)),
    ((0, 1, 2, 3, 4),),
)


class _Relief:
    """What is seen from above: the highest limb at each pixel, and how it faces the light."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.height = np.zeros(shape, np.float32)
        self.right, self.down = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.distance = np.full(shape, np.inf, np.float32)

    def add(self, distance: Array, right: Array, down: Array, lift: float) -> None:
        """A round limb: distance from its surface, its slope, how far it stands out."""
        flat = 1 - np.minimum(right * right + down * down, 1)
        height = np.where(distance < 0, lift * (0.3 + 0.7 * np.sqrt(flat)), 0)
        higher = height > self.height
        np.copyto(self.height, height, where=higher)
        np.copyto(self.right, right, where=higher)
        np.copyto(self.down, down, where=higher)
        np.minimum(self.distance, distance, out=self.distance)

    def limb(self, x: Array, y: Array, start: Point, end: Point, width: Array, lift: float) -> None:
        """A straight piece of finger or arm."""
        distance, right, down = segment(x, y, start, end)
        self.add(distance - width, right / width, down / width, lift)


def draw_fingers(dice: Dice, labels: Array, size: int) -> Array:
    """A block of hands, ``[1, b, size, size]``; a label is the number of raised fingers."""
    x, y = grid(size)
    scale = dice.uniform(0.35, 0.41)
    right, down = turned(
        x - dice.normal(0, 0.06), y - 0.3 - dice.normal(0, 0.05), dice.normal(0, 0.13)
    )
    right = right / scale * dice.sign()
    down = down / scale
    relief = _hand(dice, _raised(dice, labels), right, down)
    soft = 2 / size * dice.uniform(1, 2)
    shadow = cover(relief.distance * scale - 0.12, 0.3)
    angle, slant = dice.uniform(0, 2 * np.pi), dice.uniform(0.1, 0.35)
    lit = slant * (np.cos(angle) * relief.right + np.sin(angle) * relief.down)
    skin = dice.uniform(0.55, 0.95) * (0.45 + 0.55 * relief.height + lit)
    back = dice.uniform(0.05, 0.3) + 0.06 * dice.clouds(size, 3) + 0.04 * dice.clouds(size, 12)
    back = back * (1 - dice.uniform(0, 0.6) * shadow)
    picture = back + cover(relief.distance * scale, soft) * (skin - back)
    picture = picture * (1 + 0.1 * dice.clouds(size, 2))
    return picture + dice.uniform(0.01, 0.025) * dice.grain(size)


def _raised(dice: Dice, labels: Array) -> Array:
    """Which fingers each image raises, ``[5, b, 1, 1]``."""
    raised = np.zeros((5, len(labels), 1, 1), bool)
    for row, (label, turn) in enumerate(zip(labels, dice.uniform(0, 1).ravel(), strict=True)):
        poses = _POSES[label]
        raised[list(poses[int(turn * len(poses))]), row] = True
    return raised


def _hand(dice: Dice, raised: Array, x: Array, y: Array) -> _Relief:
    """The hand in a frame whose unit is half the palm's width, its middle the origin."""
    relief = _Relief(x.shape)
    wide, high = dice.uniform(0.92, 1.04), dice.uniform(1.0, 1.12)
    lean, arm = dice.normal(0, 0.12), dice.uniform(0.55, 0.7)
    relief.limb(x, y, (0.0, 0.7), (lean, 4.0), arm, 0.8)
    # The palm: a box with corners so round that they are half of it.
    across, along = np.abs(x) - (wide - 0.5), np.abs(y) - (high - 0.5)
    outside = np.hypot(across.clip(0), along.clip(0)) + np.maximum(across, along).clip(None, 0)
    steep = ((outside / 0.5) ** 3).clip(0, 1)
    relief.add(outside - 0.5, steep * np.sign(x) * 0.7, steep * np.sign(y) * 0.7, 0.8)
    spread = dice.uniform(0.85, 1.25)
    for number, (right, down, degrees, length, width) in enumerate(_FINGERS):
        base = right * wide, down * high
        angle = np.deg2rad(degrees * spread + dice.normal(0, 3))
        bent = angle + np.deg2rad(dice.normal(0, 6))
        half, thick = length / 2 * dice.uniform(0.9, 1.1), width * dice.uniform(0.9, 1.1)
        knee = base[0] + half * np.sin(angle), base[1] - half * np.cos(angle)
        tip = knee[0] + half * np.sin(bent), knee[1] - half * np.cos(bent)
        # A folded finger is one bump that ends on the palm, the thumb's across it.
        rest = 0.1 if number == 0 else 0.9 * base[0], dice.normal(0, 0.06)
        knee, tip = (
            (np.where(raised[number], to[0], rest[0]), np.where(raised[number], to[1], rest[1]))
            for to in (knee, tip)
        )
        relief.limb(x, y, base, knee, thick, 1.0)
        relief.limb(x, y, knee, tip, 0.92 * thick, 1.0)
    return relief
