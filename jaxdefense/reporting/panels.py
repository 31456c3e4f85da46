"""Grids of panels with curves of accuracy, as papers lay out their figures."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxdefense.errors import InputError

from .cells import unit_name
from .figures import CHANCE, LINES, curve, look, styled, with_legend
from .records import Record
from .scales import scale_evenly


@styled
def curve_panels(
    panels: Mapping[str, Mapping[str, Sequence[Record]]],
    columns: int = 4,
    chance: float | None = None,
) -> Figure:
    """Accuracy against radius, one panel for each title; equal names look the same in all panels.

    Args:
        panels: title -> name of a curve -> its cells, one for each radius.
        columns: panels beside each other.
        chance: the accuracy of guessing, a fraction; drawn as a dotted line.

    Returns:
        The figure, with one legend below all panels.

    Raises:
        InputError: there is no curve.

    Example:
        >>> curve_panels({"FGSM": {"no defence": records}}, chance=0.1)  # doctest: +SKIP
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    if not names:
        raise InputError("no curve to draw: the panels hold none")
    looks = {name: {**look(i), "linestyle": LINES[i % len(LINES)]} for i, name in enumerate(names)}
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    size = (max(2.45 * columns, 3.4), 2.3 * rows + 0.6)
    fig = Figure(figsize=size, layout="constrained")
    for i, (title, curves) in enumerate(panels.items()):
        axes = fig.add_subplot(rows, columns, i + 1)
        axes.set_title(title)
        for name, cells in curves.items():
            curve(axes, cells, **looks[name])
        if chance is not None:
            axes.axhline(100 * chance, **CHANCE)
        drawn = [cell for cells in curves.values() for cell in cells]
        axes.set_xlim(0, max((cell.eps for cell in drawn), default=1) * 1.02 or 1)
        axes.set_ylim(0, 100)
        scale_evenly(axes, sorted({cell.eps for cell in drawn}))
        if i + columns >= len(panels) and drawn:
            axes.set_xlabel(unit_name(drawn[0].norm))
        if i % columns == 0:
            axes.set_ylabel("Accuracy (%)")
        else:
            axes.tick_params(labelleft=False)
    key = [Line2D([], [], label=name, **style) for name, style in looks.items()]
    if chance is not None:
        key.append(Line2D([], [], label=f"chance ({100 * chance:.3g} %)", **CHANCE))
    return with_legend(fig, key)
