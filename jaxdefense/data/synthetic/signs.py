"""Synthetic traffic signs: 20 of the 43 of GTSRB, redrawn from strokes and plain shapes.

Turned, tilted, shifted, blurred, faded, shaded and partly hidden, before a cluttered background.
No photograph and no file of GTSRB went into them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxdefense.data.synthetic.canvas import (
    Array,
    Dice,
    box,
    cover,
    disc,
    grid,
    paint,
    polygon,
    stroke,
    turned,
)

BLOCK = 200
Layers = list[tuple[Array, Array]]  # distance and colour, from the back to the front


def _colour(*rgb: float) -> Array:
    return np.array(rgb, np.float32).reshape(3, 1, 1, 1)


RED, BLUE, YELLOW = _colour(0.78, 0.1, 0.12), _colour(0.08, 0.28, 0.68), _colour(0.95, 0.74, 0.1)
WHITE, BLACK = _colour(0.96, 0.96, 0.96), _colour(0.08, 0.08, 0.08)

# Pen strokes in a cell from -1 to 1.
_GLYPHS = {
    "0": "-.3,-1 .3,-1 .6,-.6 .6,.6 .3,1 -.3,1 -.6,.6 -.6,-.6 -.3,-1",
    "1": "-.4,-.6 .1,-1 .1,1",
    "2": "-.6,-.6 -.3,-1 .3,-1 .6,-.6 .5,-.1 -.6,1 .65,1",
    "3": "-.6,-.8 -.2,-1 .3,-1 .55,-.6 .4,-.15 0,-.05 .5,.15 .6,.6 .25,1 -.25,1 -.6,.75",
    "5": ".5,-1 -.45,-1 -.5,-.1 .1,-.25 .55,.1 .55,.6 .2,1 -.3,1 -.6,.75",
    "6": ".4,-1 -.1,-.8 -.5,-.2 -.6,.5 -.3,1 .3,1 .6,.55 .35,.05 -.2,.05 -.55,.4",
    "8": "0,-.05 -.5,-.4 -.4,-.9 0,-1 .4,-.9 .5,-.4 0,-.05 -.6,.4 -.45,.9 0,1 .45,.9 .6,.4 0,-.05",
    "S": ".5,-.75 .1,-1 -.4,-.85 -.5,-.4 .5,.3 .4,.85 -.1,1 -.5,.75",
    "T": "-.6,-1 .6,-1 0,-1 0,1",
    "O": "-.3,-1 .3,-1 .6,-.6 .6,.6 .3,1 -.3,1 -.6,.6 -.6,-.6 -.3,-1",
    "P": "-.5,1 -.5,-1 .2,-1 .55,-.7 .55,-.3 .2,0 -.5,0",
}


def _points(line: str) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in line.split())
    return [(float(x), float(y)) for x, y in pairs]


def _word(x: Array, y: Array, word: str, width: float, height: float, pen: float) -> Array:
    """Distance from a word whose letters are ``2 width`` wide and ``2 height`` high."""
    gap, first = 2 * width * 0.85, -(len(word) - 1) * width * 0.85
    letters = [
        stroke(
            x, y, [(first + i * gap + width * a, height * b) for a, b in _points(_GLYPHS[c])], pen
        )
        for i, c in enumerate(word)
    ]
    return np.minimum.reduce(letters)


def _limit(x: Array, y: Array, number: str) -> Layers:
    width = 0.43 if len(number) == 2 else 0.31
    return [*_ring(x, y), (_word(x, y, number, width, 0.42, 0.17), BLACK)]


def _ring(x: Array, y: Array) -> Layers:
    return [(disc(x, y, 1), RED), (disc(x, y, 0.77), WHITE)]


def _stop(x: Array, y: Array) -> Layers:
    word = _word(x, y, "STOP", 0.24, 0.32, 0.13)
    return [(polygon(x, y, 8, 1.06), WHITE), (polygon(x, y, 8, 0.98), RED), (word, WHITE)]


def _yield(x: Array, y: Array) -> Layers:
    y = y + 0.2
    return [(polygon(x, y, 3, 1.2), RED), (polygon(x, y, 3, 0.72), WHITE)]


def _warning(x: Array, y: Array, *lines: str) -> Layers:
    triangle = [(polygon(x, y - 0.25, 3, r, np.pi / 3), c) for r, c in ((1.25, RED), (0.86, WHITE))]
    return [*triangle, *((stroke(x, y, _points(line), 0.19), BLACK) for line in lines)]


def _no_entry(x: Array, y: Array) -> Layers:
    return [(disc(x, y, 1), RED), (box(x, y, 0.72, 0.2), WHITE)]


def _priority(x: Array, y: Array) -> Layers:
    layers = ((1.12, WHITE), (1.06, BLACK), (1.02, WHITE), (0.74, YELLOW))
    return [(polygon(x, y, 4, r, np.pi / 4), c) for r, c in layers]


def _end(x: Array, y: Array) -> Layers:
    across, along = (x + y) * 0.7071, (x - y) * 0.7071
    bars = np.abs(np.abs(across) - 0.14) - 0.06
    bars = np.maximum(bars, np.abs(along) - 0.85)
    return [(disc(x, y, 1), BLACK), (disc(x, y, 0.94), WHITE), (bars, BLACK)]


def _order(x: Array, y: Array, *lines: str) -> Layers:
    arrow = np.minimum.reduce([stroke(x, y, _points(line), 0.24) for line in lines])
    return [(disc(x, y, 1.04), WHITE), (disc(x, y, 0.97), BLUE), (arrow, WHITE)]


def _mirrored(draw: Callable[..., Layers], *lines: str) -> Callable[[Array, Array], Layers]:
    return lambda x, y: draw(-x, y, *lines)


_BEND = (".05,.75 .05,.4 -.3,.05 -.3,-.15",)
_TURN = ("-.35,.6 -.35,-.1 .5,-.1", ".2,-.45 .55,-.1 .2,.25")
_KEEP = ("-.45,-.45 .4,.4", "-.1,.48 .48,.48 .48,-.1")
_AHEAD = ("0,.65 0,-.55", "-.38,-.2 0,-.6 .38,-.2")
SIGNS: dict[str, Callable[[Array, Array], Layers]] = {
    "speed limit 20": lambda x, y: _limit(x, y, "20"),
    "speed limit 30": lambda x, y: _limit(x, y, "30"),
    "speed limit 50": lambda x, y: _limit(x, y, "50"),
    "speed limit 60": lambda x, y: _limit(x, y, "60"),
    "speed limit 80": lambda x, y: _limit(x, y, "80"),
    "speed limit 100": lambda x, y: _limit(x, y, "100"),
    "priority road": _priority,
    "yield": _yield,
    "stop": _stop,
    "no vehicles": _ring,
    "no entry": _no_entry,
    "general caution": lambda x, y: _warning(x, y, "0,-.3 0,.3", "0,.62 0,.64"),
    "bend left": lambda x, y: _warning(x, y, *_BEND),
    "bend right": _mirrored(_warning, *_BEND),
    "end of all limits": _end,
    "turn right ahead": lambda x, y: _order(x, y, *_TURN),
    "turn left ahead": _mirrored(_order, *_TURN),
    "ahead only": lambda x, y: _order(x, y, *_AHEAD),
    "keep right": lambda x, y: _order(x, y, *_KEEP),
    "keep left": _mirrored(_order, *_KEEP),
}


def draw_signs(dice: Dice, labels: Array, size: int) -> Array:
    """A block of signs, ``[3, b, size, size]``; labels count through `SIGNS`."""
    x, y = grid(size)
    picture = _background(dice, size)
    scale = dice.uniform(0.68, 0.94)
    tilt = 1 + dice.normal(0, 0.08) * x + dice.normal(0, 0.08) * y  # seen from the side
    across = (x - dice.normal(0, 0.07)) / (scale * tilt * dice.uniform(0.88, 1.05))
    down = (y - dice.normal(0, 0.07)) / (scale * tilt)
    across, down = turned(across, down, dice.normal(0, 0.1))
    pixel = 2 / size
    blur = pixel * (1 + dice.uniform(0, 1) ** 2 * size / 12) / scale  # most are sharp
    for label, draw in enumerate(SIGNS.values()):
        rows = np.flatnonzero(labels == label)
        part = picture[:, rows]
        for distance, colour in draw(across[rows], down[rows]):
            paint(part, colour, cover(distance, blur[rows]))
        picture[:, rows] = part
    _hide(dice, picture, x, y, blur)
    light = np.exp(dice.normal(-0.25, 0.3)) * np.exp(dice.normal(0, 0.07, planes=3))
    picture *= light * (1 + 0.12 * dice.clouds(size, 2))
    grey = dice.uniform(0.35, 0.6)  # haze: towards one grey
    picture += dice.uniform(0, 0.3) * (grey - picture)
    return picture + dice.uniform(0.005, 0.03) * dice.grain(size, 3)


def _background(dice: Dice, size: int) -> Array:
    """Leaves, walls and sky: two scales of lumps, a horizon, all in muted colours."""
    _, y = grid(size)
    base = dice.uniform(0.15, 0.75) * np.exp(dice.normal(0, 0.15, planes=3))
    sky = dice.chance(0.4) * cover(y - dice.uniform(-0.8, 0.8), dice.uniform(0.05, 0.5))
    picture = base + 0.11 * dice.clouds(size, 3) + 0.1 * dice.uniform(0, 1) * dice.clouds(size, 10)
    paint(picture, dice.uniform(0.5, 1) * np.exp(dice.normal(0, 0.1, planes=3)), sky)
    return picture


def _hide(dice: Dice, picture: Array, x: Array, y: Array, blur: Array) -> None:
    """A post, a leaf or a sticker over a fifth of the signs."""
    x, y = turned(x - dice.normal(0, 0.7), y - dice.normal(0, 0.7), dice.uniform(0, np.pi))
    patch = cover(box(x, y, dice.uniform(0.05, 0.25), dice.uniform(0.1, 0.45)), blur)
    colour = dice.uniform(0.1, 0.7) * np.exp(dice.normal(0, 0.3, planes=3))
    paint(picture, colour, dice.chance(0.2) * patch)
