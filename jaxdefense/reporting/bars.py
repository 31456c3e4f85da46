"""Printed numbers beside measured ones, as grouped bars."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jaxdefense.errors import InputError

from .figures import COLORS, styled, with_legend

# The first way of measuring is pale, so that the last and hardest stands out.
SHADES = {"palest": 0.3, "pale": 0.6, "full": 1.0}


class Bar(NamedTuple):
    """One subject in one group.

    Attributes:
        group: what stands under the group, for example an attack with its radius.
        subject: what has a colour, for example a model.
        measured: way of measuring -> accuracy, low and high, fractions.
        printed: the paper's number, a fraction; None where it has none.
    """

    group: str
    subject: str
    measured: Mapping[str, tuple[float, float, float]]
    printed: float | None = None


@styled
def bars(panels: Mapping[str, Sequence[Bar]]) -> Figure:
    """Grouped bars of accuracy in percent: one panel a title, a colour a subject, a shade a way.

    Args:
        panels: title -> bars; groups stand in the order in which they first come.

    Returns:
        The figure.

    Raises:
        InputError: there is nothing to draw.

    Example:
        >>> bar = Bar("PGD 0.1", "U-AE", {"oblivious": (0.9, 0.8, 1.0)}, printed=0.98)
        >>> len(bars({"Fingers": [bar]}).axes)
        1
    """
    every = [bar for some in panels.values() for bar in some]
    if not every:
        raise InputError("no bars to draw: the panels are empty")
    subjects = list(dict.fromkeys(bar.subject for bar in every))
    # In the order of a bar that has most of them.
    fullest = sorted(every, key=lambda bar: -len(bar.measured))
    ways = list(dict.fromkeys(way for bar in fullest for way in bar.measured))
    colors = dict(zip(subjects, np.resize(COLORS, len(subjects)), strict=True))
    tones = list(SHADES)[-len(ways) :]
    shades = dict(zip(ways, np.resize(tones, len(ways)).tolist(), strict=True))
    figure = Figure(figsize=(max(4.4, 2.9 * len(panels)), 3.4), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, some) in zip(grid, panels.items(), strict=True):
        groups = list(dict.fromkeys(bar.group for bar in some))
        width = 0.84 / len(subjects)
        for bar in some:
            left = groups.index(bar.group) - 0.42 + width * subjects.index(bar.subject)
            thin = width * 0.94 / max(1, len(bar.measured))
            for i, (way, (value, low, high)) in enumerate(bar.measured.items()):
                # A bar of nothing is still to be seen.
                height, place = max(100 * value, 0.6), left + thin * (i + 0.5)
                axes.bar(place, height, thin, color=colors[bar.subject], alpha=SHADES[shades[way]])
                axes.errorbar(
                    place, 100 * value, [[100 * (value - low)], [100 * (high - value)]],
                    color="#444444", linewidth=0.8,
                )  # fmt: skip
            if bar.printed is not None:
                ends = (left, left + width * 0.94)
                axes.hlines(100 * bar.printed, *ends, color="black", linewidth=1.6, zorder=4)
        axes.set_xticks(range(len(groups)), groups)
        axes.set_title(title)
        axes.set_ylim(0, 102)
        axes.grid(visible=False, axis="x")
    grid[0].set_ylabel("Accuracy (%)")
    key: list[Artist] = [Patch(color=color, label=subject) for subject, color in colors.items()]
    # A grey swatch alone looks like the bars of a black subject.
    key += [
        Patch(color="#444444", alpha=SHADES[tone], label=f"{tone}: {way}")
        for way, tone in shades.items()
    ]
    if any(bar.printed is not None for bar in every):
        key.append(Line2D([], [], color="black", linewidth=1.6, label="printed in the paper"))
    return with_legend(figure, key)
