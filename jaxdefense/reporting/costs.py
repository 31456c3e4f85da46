"""What something costs against how much of it there is, on logarithmic axes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from .figures import COLORS, MARKERS, styled


@styled
def costs(
    counts: Sequence[int],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    xlabel: str,
    ylabel: str,
) -> Figure:
    """One panel for each subject, one line for each contender.

    Args:
        counts: how much, the same for all.
        panels: title -> name of the line -> cost at each count.
        xlabel, ylabel: with units.

    Example:
        >>> figure = costs([1, 2, 4], {"net": {"ours": [1.0, 1.1, 1.2]}}, "radii", "seconds")
        >>> len(figure.axes)
        1
    """
    figure = Figure(figsize=(3.2 * len(panels), 3.0), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, lines) in zip(grid, panels.items(), strict=True):
        for (name, values), color, marker in zip(lines.items(), COLORS[1:], MARKERS, strict=False):
            axes.plot(counts, values, color=color, marker=marker, label=name)
        axes.set(xscale="log", yscale="log", title=title, xlabel=xlabel)
        axes.set_xticks(np.asarray(counts), [str(count) for count in counts])
        axes.minorticks_off()
    grid[0].set_ylabel(ylabel)
    grid[0].legend()
    return figure
