"""Axes of radii: ticks where radii were measured, or at whole steps of 8-bit pixels."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from .cells import radius_name


def scale_by_root(axes: Axes, eps: Sequence[float]) -> None:
    """A grid from tiny to large radii on a square-root axis, with the measured radii as ticks."""
    positive = [e for e in eps if e > 0]
    if not positive or positive[-1] / positive[0] < 20:
        scale_evenly(axes, eps)
        return
    root = lambda e: np.sqrt(np.maximum(e, 0))
    axes.set_xscale("function", functions=(root, np.square))
    ticks = [positive[-1]]
    for e in reversed(eps[:-1]):
        if root(ticks[-1]) - root(e) > 0.17 * root(positive[-1]):
            ticks.append(e)
    ticks = ticks if ticks[-1] == 0 else [*ticks[:-1], 0.0]
    axes.set_xticks(ticks, [radius_name(e) for e in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def scale_evenly(axes: Axes, eps: Sequence[float]) -> None:
    """A linear axis; radii that count 8-bit steps (``"8/255"``) have ticks that count them too."""
    whole = all(abs(255 * e - round(255 * e)) < 1e-4 for e in eps)
    if not whole or not any(radius_name(e).endswith("/255") for e in eps):
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return
    last = round(255 * max(eps))
    steps = MaxNLocator(4, integer=True, steps=[1, 2, 4, 5, 10]).tick_values(0, last)
    steps = [round(step) for step in steps if 0 <= step <= last]
    axes.set_xticks([n / 255 for n in steps], [f"{n}/255" if n else "0" for n in steps])
