"""Robustness curves, for paper and screen, and what all figures share.

Figures are built on `matplotlib.figure.Figure` without pyplot, so nothing is global and nothing
needs a display. Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color), which stay apart for
colour-blind readers; markers and line styles say the same again, for grey print.
"""

import functools
import io
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxdefense.errors import InputError

from .cells import attack_name, distinct, undefended_in_both, unit_name, varying
from .records import Record, write_atomically
from .scales import scale_by_root

COLORS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# The dotted line is left to the chance level.
LINES: tuple = ("-", (0, (5, 2)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2, 1, 2, 1, 2)), (0, (2, 1)))
CHANCE: dict = {"color": "#555555", "linestyle": ":", "linewidth": 1.2}
PANELS = {
    "sigma": "Random noise",
    "none": "No gradients",
    "oblivious": "Oblivious attacker",
    "white-box": "White-box attacker",
}
STYLE: dict = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "white",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "text.color": "black",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "svg.hashsalt": "jaxdefense",
}

_Made = TypeVar("_Made")


def styled(build: Callable[..., _Made]) -> Callable[..., _Made]:
    """Run with our style whatever the user's matplotlibrc says, and leave theirs as it was."""

    @functools.wraps(build)
    def run(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return build(*args, **kwargs)

    return run


@styled
def save(fig: Figure, path: str | Path, dpi: int = 200) -> tuple[Path, Path]:
    """Write a figure as PNG and as SVG; equal figures give equal bytes.

    Args:
        fig: the figure.
        path: where, with or without ``.png`` or ``.svg``.
        dpi: pixels per inch of the PNG.

    Returns:
        The paths of the PNG and of the SVG.

    Raises:
        InputError: they cannot be written.
    """
    base = Path(path)
    if base.suffix in (".png", ".svg"):
        base = base.with_suffix("")
    # Dates and versions in the files would make every run differ from the last.
    fixed: dict[str, dict] = {
        ".png": {"metadata": {"Software": None}, "dpi": dpi},
        ".svg": {"metadata": {"Date": None, "Creator": None}},
    }
    paths = []
    for suffix, options in fixed.items():
        content = io.BytesIO()
        fig.savefig(content, format=suffix[1:], **options)
        paths.append(base.with_name(base.name + suffix))
        write_atomically(paths[-1], content.getvalue())
    return paths[0], paths[1]


def curve(
    axes: Axes,
    records: Sequence[Record],
    *,
    color: str = COLORS[0],
    marker: str = MARKERS[0],
    linestyle: str | tuple = LINES[0],
) -> Axes:
    """Draw accuracy in percent against the radius, with its 95 % intervals as a band.

    Args:
        axes: where to draw.
        records: the cells of one curve, in any order.
        color, marker, linestyle: as in matplotlib.

    Returns:
        The same axes.
    """
    rows = sorted(records, key=lambda record: record.eps)
    eps = [r.eps for r in rows]
    value, low, high = (
        100 * np.array([getattr(r, name) for r in rows]) for name in ("value", "low", "high")
    )
    axes.fill_between(eps, low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot(
        eps,
        value,
        color=color,
        marker=marker,
        linestyle=linestyle,
        markeredgecolor="white",
        markeredgewidth=0.4,
        clip_on=False,
        zorder=3,
    )
    return axes


@styled
def robustness_curves(records: Sequence[Record], chance: float | None = None) -> Figure:
    """Accuracy against radius: one panel per attacker's knowledge, oblivious left of white-box.

    One row of panels per norm. Colour and marker tell the defence, the line style tells the attack.
    Clean accuracy is the point at 0 of each curve measured on as many examples.

    Args:
        records: the measured cells.
        chance: the accuracy of guessing, a fraction; drawn as a dotted line.

    Returns:
        The figure.

    Raises:
        InputError: there is nothing to draw.

    Example:
        >>> save(robustness_curves(records, chance=0.1), "curves")  # doctest: +SKIP
    """
    records = undefended_in_both(records)
    drawn = [r for r in records if r.attack != "none" and not math.isnan(r.value)]
    if not drawn:
        raise InputError("no curve to draw: the records hold no attack with a measured accuracy")
    context = varying(records)

    def series(record: Record) -> tuple[str, ...]:
        return (record.defence, *(str(getattr(record, field)) for field in context))

    names = sorted(dict.fromkeys(map(series, drawn)), key=lambda name: name[0] != "none")
    looks = dict(zip(names, map(look, range(len(names))), strict=True))
    noise = distinct((r for r in drawn if r.norm == "sigma"), "attack")
    others = distinct((r for r in drawn if r.norm != "sigma"), "attack")
    # The last attack listed is usually the strongest, and solid is the line that is seen first.
    lines = {
        attack: LINES[i % len(LINES)]
        for family in (noise, others)
        for i, attack in enumerate(reversed(family))
    }
    fig, panels = _panels(drawn)
    for axes, cells in panels:
        for name, attack in itertools.product(names, distinct(cells, "attack")):
            points = [r for r in cells if series(r) == name and r.attack == attack]
            if points:
                points = _clean(records, points, series) + points
                curve(axes, points, linestyle=lines[attack], **looks[name])
        if chance is not None:
            axes.axhline(100 * chance, **CHANCE)
    key = [Line2D([], [], label=_series_label(name), **looks[name]) for name in names]
    key += [
        Line2D([], [], color="#555555", linestyle=lines[attack], label=attack_name(attack))
        for family in (noise, others)
        for attack in family
        if len(family) > 1  # a lone attack is named in its panel's title
    ]
    if chance is not None:
        key.append(Line2D([], [], label=f"chance ({100 * chance:.3g} %)", **CHANCE))
    return with_legend(fig, key)


def look(i: int) -> dict:
    """Colour and marker of the i-th curve."""
    return {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]}


def with_legend(fig: Figure, key: Sequence[Artist]) -> Figure:
    """Below the panels, where it never covers data."""
    inches = np.array(
        [0.7 + 0.072 * len(str(line.get_label())) for line in key]
    )  # at STYLE's font size
    columns = 1
    for wanted in range(2, len(key) + 1):
        # matplotlib fills column by column, the first ones longer, as array_split does
        widest = (column.max() for column in np.array_split(inches, wanted))
        columns = wanted if sum(widest) <= fig.get_figwidth() else columns
    fig.legend(handles=key, loc="outside lower center", ncols=columns, handlelength=2.8)
    return fig


def _panels(records: Sequence[Record]) -> tuple[Figure, list[tuple[Axes, list[Record]]]]:
    """One labelled panel per norm (rows) and knowledge (columns), only where there are records."""
    groups: dict[tuple[str, str], list[Record]] = {}
    norms = [norm for norm in distinct(records, "norm") if norm != "sigma"] or ["sigma"]
    for record in records:
        # Noise has a unit of its own and stands at the left of the first row.
        noise = record.norm == "sigma"
        place = (norms[0], "sigma") if noise else (record.norm, record.knowledge)
        groups.setdefault(place, []).append(record)
    rank = {"sigma": 0, "none": 1, "oblivious": 2, "white-box": 4}
    columns = sorted({column for _, column in groups}, key=lambda c: (rank.get(c, 3), c))
    size = (max(2.45 * len(columns), 3.4), 2.5 * len(norms) + 0.6)
    fig = Figure(figsize=size, layout="constrained")
    grid = fig.add_gridspec(len(norms), len(columns))
    panels: list[tuple[Axes, list[Record]]] = []
    for (i, norm), (j, column) in itertools.product(enumerate(norms), enumerate(columns)):
        cells = groups.get((norm, column))
        if not cells:
            continue
        axes = fig.add_subplot(grid[i, j], sharey=panels[0][0] if panels else None)
        attacks = [attack_name(attack) for attack in distinct(cells, "attack")]
        title = PANELS.get(column, f"{column[:1].upper()}{column[1:]} attacker")
        axes.set_title(f"{title}: {attacks[0]}" if len(attacks) == 1 else title)
        axes.set_xlabel(unit_name(cells[0].norm))
        axes.set_xlim(0, max(r.eps for r in cells) * 1.02 or 1)
        scale_by_root(axes, sorted({r.eps for r in cells}))
        axes.set_ylim(0, 100)
        if any((norm, left) in groups for left in columns[:j]):
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("Accuracy (%)")
        panels.append((axes, cells))
    return fig, panels


def _clean(records: Sequence[Record], points: Sequence[Record], series: Callable) -> list[Record]:
    """The clean record that stands at radius 0 of a curve, if it was measured on the same scale."""
    if min(r.eps for r in points) == 0:
        return []
    same = (series(points[0]), points[0].n, points[0].metric)
    return [r for r in records if r.attack == "none" and (series(r), r.n, r.metric) == same][:1]


def _series_label(name: tuple[str, ...]) -> str:
    return ", ".join(("no defence" if name[0] == "none" else name[0], *name[1:]))
