"""What something costs against how much of it there is, on logarithmic axes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from .figures import COLORS, MARKERS, styled


@styled
def costs(
    panels: Mapping[str, tuple[Sequence[int], Mapping[str, Sequence[float]]]],
    xlabel: str,
    ylabel: str,
) -> Figure:
    """One panel for each subject, one line for each contender.

    Args:
        panels: title -> (how much there is, name of the line -> cost at each).
        xlabel, ylabel: with units.

    Example:
        >>> figure = costs({"net": ([1, 2], {"ours": [1.0, 1.1]})}, "radii", "seconds")
        >>> len(figure.axes)
        1
    """
    figure = Figure(figsize=(2.9 * len(panels), 3.2), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, (counts, lines)) in zip(grid, panels.items(), strict=True):
        for (name, values), color, marker in zip(lines.items(), COLORS[1:], MARKERS, strict=False):
            axes.plot(counts, values, color=color, marker=marker, label=name)
        axes.set(xscale="log", yscale="log", xlabel=xlabel)
        axes.set_title(title, fontsize="medium")
        axes.set_xticks(np.asarray(counts), [str(count) for count in counts])
        axes.minorticks_off()
        axes.legend(fontsize="small")
    grid[0].set_ylabel(ylabel)
    return figure
