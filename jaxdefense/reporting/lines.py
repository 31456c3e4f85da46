"""Grids of panels with plain lines or points: reliability, histograms, learning, embeddings."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxdefense.errors import InputError

from .figures import CHANCE, LINES, look, styled, with_legend


class Line(NamedTuple):
    """One line of a panel; points that are NaN are left out.

    Attributes:
        x, y: ``[n]``.
        low, high: a band around it, ``[n]``, or None for none.
    """

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    low: Sequence[float] | np.ndarray | None = None
    high: Sequence[float] | np.ndarray | None = None


@styled
def line_panels(
    panels: Mapping[str, Mapping[str, Line]],
    labels: tuple[str, str],
    columns: int = 3,
    diagonal: bool = False,
    marked: bool = True,
) -> Figure:
    """Lines, one panel for each title; equal names look the same in all panels, axes are shared.

    Args:
        panels: title -> name of a line -> line.
        labels: of both axes.
        columns: panels beside each other.
        diagonal: also a dotted line from (0, 0) to (1, 1), and both axes in [0, 1].
        marked: with a marker at each point.

    Returns:
        The figure, with one legend below all panels.

    Raises:
        InputError: there is no line.

    Example:
        >>> line = Line([0.5, 1.0], [0.4, 0.9])
        >>> len(line_panels({"clean": {"none": line}}, ("sure", "right"), diagonal=True).axes)
        1
    """
    looks = _looks(panels, "line")
    fig, grid = _grid(list(panels), columns, labels, shared=True)
    for axes, lines in zip(grid, panels.values(), strict=True):
        if diagonal:
            axes.plot([0, 1], [0, 1], **CHANCE)
            axes.set(xlim=(0, 1), ylim=(0, 1))
        for name, line in lines.items():
            style = looks[name] if marked else {**looks[name], "marker": ""}
            x, y = (np.asarray(part, float) for part in (line.x, line.y))
            there = np.isfinite(x) & np.isfinite(y)
            if line.low is not None and line.high is not None:
                ends = (np.asarray(end, float)[there] for end in (line.low, line.high))
                axes.fill_between(x[there], *ends, color=style["color"], alpha=0.15, linewidth=0)
            axes.plot(x[there], y[there], **style)
    return _keyed(fig, looks, marked)


@styled
def scatter_panels(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    columns: int = 3,
    labels: tuple[str, str] = ("", ""),
) -> Figure:
    """Points in the plane, one panel for each title, each with axes of its own and without ticks.

    Args:
        panels: title -> name of a set of points -> ``[n, 2]``.
        columns: panels beside each other.
        labels: of both axes.

    Returns:
        The figure, with one legend below all panels.

    Raises:
        InputError: there is no point, or points are not ``[n, 2]``.

    Example:
        >>> points = np.zeros((3, 2))
        >>> len(scatter_panels({"code": {"clean": points, "attacked": points + 1}}).axes)
        1
    """
    looks = {name: {**style, "linestyle": ""} for name, style in _looks(panels, "point").items()}
    fig, grid = _grid(list(panels), columns, labels, shared=False)
    for axes, sets in zip(grid, panels.values(), strict=True):
        for name, points in sets.items():
            if np.ndim(points) != 2 or np.shape(points)[1] != 2:
                raise InputError(f"points of {name!r} have shape {np.shape(points)}, not [n, 2]")
            style = {**looks[name], "markersize": 3, "alpha": 0.6}
            axes.plot(*np.asarray(points).T, markeredgewidth=0, **style)
        axes.set(xticks=[], yticks=[])
    return _keyed(fig, looks, marked=True)


def _looks(panels: Mapping[str, Mapping[str, Any]], what: str) -> dict[str, dict[str, Any]]:
    names = list(dict.fromkeys(name for drawn in panels.values() for name in drawn))
    if not names:
        raise InputError(f"no {what} to draw: the panels hold none")
    return {name: {**look(i), "linestyle": LINES[i % len(LINES)]} for i, name in enumerate(names)}


def _grid(
    titles: Sequence[str], columns: int, labels: tuple[str, str], shared: bool
) -> tuple[Figure, list[Axes]]:
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    fig = Figure(figsize=(max(2.6 * columns, 3.4), 2.4 * rows + 0.6), layout="constrained")
    grid: list[Axes] = []
    for i, title in enumerate(titles):
        first = grid[0] if shared and grid else None
        axes = fig.add_subplot(rows, columns, i + 1, sharex=first, sharey=first)
        axes.set_title(title)
        if i + columns >= len(titles):
            axes.set_xlabel(labels[0])
        if i % columns == 0:
            axes.set_ylabel(labels[1])
        if shared:
            axes.xaxis.set_major_locator(MaxNLocator(5))
        grid.append(axes)
    return fig, grid


def _keyed(fig: Figure, looks: Mapping[str, dict[str, Any]], marked: bool) -> Figure:
    shown = {name: style if marked else {**style, "marker": ""} for name, style in looks.items()}
    return with_legend(fig, [Line2D([], [], label=name, **style) for name, style in shown.items()])
