"""Synthetic chest CT: a phantom of one axial slice, with or without ground-glass opacities.

Not medical data, and nothing measured on it says anything about patients. Body wall, ribs, spine,
heart, airways and branching vessels vary from image to image, as do window, blur and noise. Both
classes hold distractors (nodules, density that gathers at the back); no slice of a scan went into
them.
"""

from __future__ import annotations

import numpy as np

from jaxdefense.data.synthetic.canvas import Array, Dice, cover, ellipse, grid, paint, turned

BLOCK = 20
AIR, FAT, MUSCLE, BLOOD, BONE = -0.95, -0.1, 0.05, 0.12, 0.35  # thousands of Hounsfield units


def draw_ct(dice: Dice, labels: Array, size: int) -> Array:
    """A block of slices, ``[1, b, size, size]``; label 1 has ground-glass opacities."""
    x, y = grid(size)
    x, y = turned(x, y, dice.normal(0, 0.05))
    # The coordinates are bent, so that no shape is quite an ellipse.
    bend = dice.uniform(0.008, 0.025)
    x, y = x + bend * dice.clouds(size, 4), y + bend * dice.clouds(size, 4)
    wide = dice.uniform(0.86, 0.99)
    high = wide * dice.uniform(0.68, 0.8)
    soft = 2 / size * dice.uniform(1, 2)
    picture = np.full(np.broadcast_shapes(x.shape, wide.shape), AIR, np.float32)
    paint(picture, FAT, cover(ellipse(x, y, 0.94 * wide, high, 0.3), soft))
    muscle = MUSCLE + 0.03 * dice.clouds(size, 8)
    paint(picture, muscle, cover(ellipse(x, y, 0.85 * wide, high - 0.08, 0.3), soft))
    lung, depth = _lungs(dice, x, y, wide, high, soft)
    texture = dice.uniform(-0.88, -0.8) + 0.03 * dice.clouds(size, 3) + 0.06 * y
    paint(picture, texture, lung)
    vessels = _vessels(dice, x, y, wide, soft)
    paint(picture, BLOOD - 0.2, lung * vessels * dice.uniform(0.35, 0.65))
    _skeleton(dice, picture, x, y, wide, high, soft)
    _distract(dice, picture, x, y, lung, wide, soft)
    _opacities(dice, picture, labels, lung, depth, y)
    picture += dice.uniform(0.015, 0.045) * (dice.grain(size)[0] + dice.clouds(size, size // 4))
    level, width = dice.uniform(-0.58, -0.48), dice.uniform(1.1, 1.5)
    return ((picture - level) / width + 0.5)[None]


def _lungs(
    dice: Dice, x: Array, y: Array, wide: Array, high: Array, soft: Array
) -> tuple[Array, Array]:
    """How much of each pixel is lung, and how far inside the lung it lies."""
    side = np.sign(x)

    def either(low: float, top: float) -> Array:
        return np.where(side > 0, dice.uniform(low, top), dice.uniform(low, top))

    across, along = turned(x - 0.44 * side * wide, y - either(0.0, 0.05), side * either(0.05, 0.2))
    shape = ellipse(across, along, either(0.3, 0.36) * wide, either(0.62, 0.74) * high, 0.4)
    # Heart, and between the lungs vessels and airways, push them aside.
    heart_x, heart_y = turned(x - 0.14 * wide, y + 0.14, dice.uniform(0.2, 0.7))
    heart = ellipse(heart_x, heart_y, dice.uniform(0.05, 0.32) * wide, dice.uniform(0.16, 0.28))
    between = ellipse(x, y, dice.uniform(0.1, 0.15) * wide, 0.45)
    shape = np.maximum(shape, -np.minimum(heart, between))
    return cover(shape, soft), -shape


def _vessels(dice: Dice, x: Array, y: Array, wide: Array, soft: Array) -> Array:
    """Trees that leave the middle of each lung's inner side and fork twice."""
    side = np.sign(x)
    across = side * x - 0.2 * wide
    along = y - dice.normal(0.02, 0.04) - side * dice.normal(0, 0.05)
    far = np.hypot(across, along)
    stems = dice.uniform(4, 7)
    # The angle from the nearest stem, folded at each fork: one branch stands for all of them.
    angle = np.arctan2(along, across) + side * dice.uniform(0, 1)
    angle = angle + dice.uniform(0.1, 0.35) * dice.clouds(x.shape[-1], 6)
    apart = 2 * np.pi / stems
    away = np.abs((angle / apart) % 1 - 0.5) * apart
    for fork, share in ((dice.uniform(0.08, 0.16), 0.27), (dice.uniform(0.22, 0.32), 0.13)):
        away = np.abs(away - share * apart * ((far - fork) / 0.1).clip(0, 1))
    thick = dice.uniform(0.014, 0.024) * (1 - far / 0.62).clip(0.05)
    tree = cover(away * far - thick, soft)
    # Vessels that cross the slice are dots.
    dots = (dice.clouds(x.shape[-1], 26) - 2.1).clip(0, 1)
    return np.maximum(tree, dots)


def _skeleton(
    dice: Dice, picture: Array, x: Array, y: Array, wide: Array, high: Array, soft: Array
) -> None:
    """Spine, breastbone, ribs, great vessels, windpipe."""
    bone = dice.uniform(0.8, 1.2) * BONE
    paint(picture, bone, cover(ellipse(x, y - 0.58 * high, 0.13, 0.11), soft))
    paint(picture, MUSCLE, cover(ellipse(x, y - 0.74 * high, 0.045, 0.04), soft))
    paint(picture, bone, cover(ellipse(x, y + high - 0.13, 0.1, 0.025), soft))
    paint(picture, BLOOD, cover(ellipse(x - 0.15, y - 0.42 * high, 0.07, 0.07), soft))
    paint(picture, AIR, cover(ellipse(x, y + 0.2 * wide, 0.055, 0.06), soft))
    # Ribs: stretches of the ring where the lungs end.
    ring = np.abs(ellipse(x, y, 0.86 * wide, high - 0.07, 0.3)) - 0.022
    turn = np.arctan2(y / high, x / wide)
    ribs = np.cos(turn * np.rint(dice.uniform(9, 12)) + dice.uniform(0, 6))
    paint(picture, bone, cover(ring, soft) * (4 * ribs - 0.4).clip(0, 1))


def _distract(
    dice: Dice, picture: Array, x: Array, y: Array, lung: Array, wide: Array, soft: Array
) -> None:
    """What is no ground glass: a nodule in some images, denser lung at the back in some."""
    side = 0.44 * dice.sign() * wide
    there = ellipse(
        x - side - dice.normal(0, 0.08), y - dice.normal(0, 0.15),
        dice.uniform(0.02, 0.06), dice.uniform(0.02, 0.06),
    )  # fmt: skip
    paint(picture, dice.uniform(-0.3, 0.1), dice.chance(0.35) * lung * cover(there, 1.5 * soft))
    back = cover(dice.uniform(0.25, 0.36) - y, 0.12)
    picture += dice.chance(0.3) * dice.uniform(0.05, 0.15) * back * lung


def _opacities(
    dice: Dice, picture: Array, labels: Array, lung: Array, depth: Array, y: Array
) -> None:
    """Faint patches, more often at the rim and at the back; a share of the lungs is given."""
    size = picture.shape[-1]
    edge = (1 - depth / 0.2).clip(0, 1)
    likely = 0.8 * dice.clouds(size, 7) + 0.5 * dice.clouds(size, 14)
    likely += dice.uniform(0.8, 1.8) * edge + 0.5 * y
    share, strength = dice.uniform(0.12, 0.45), dice.uniform(0.2, 0.5)
    uneven = strength * (1 + 0.25 * dice.clouds(size, 24))
    for row in np.flatnonzero(labels):
        inside = likely[row][lung[row] > 0.5]
        border = np.quantile(inside, 1 - share[row].item())
        patch = ((likely[row] - border) / 0.35).clip(0, 1) * lung[row]
        # Ground glass veils the lung, and leaves the vessels in it to be seen.
        picture[row] += patch * uneven[row] * (picture[row] < -0.2)
