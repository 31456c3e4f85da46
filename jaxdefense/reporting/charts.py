"""Curves as inline SVG, for pages on which one can point at them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .figures import COLORS

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 400, 56, 700, 14, 340
_DASHES = ("", "8 4", "2 4", "10 4 2 4", "4 4")


class Line(NamedTuple):
    """One curve.

    Attributes:
        name: in the legend.
        accuracy: ``[e]``, shares.
        interval: ``[e, 2]``.
        bold: draw its interval as a band.
    """

    name: str
    accuracy: Sequence[float]
    interval: Sequence[Sequence[float]]
    bold: bool = False


def chart(
    norm: str,
    radii: Sequence[float],
    lines: Sequence[Line],
    claims: Sequence[tuple[float, float, str]] = (),
) -> dict[str, Any]:
    """Coordinates of a chart of robust accuracy, for a template that draws it.

    Args:
        norm: of the radii.
        radii: ``[e]``, ascending from 0; drawn on a square-root scale.
        lines: the curves.
        claims: radius, accuracy and verdict of each claim.

    Returns:
        Sizes, grid, lines with their points and what to say at each, claims.
    """
    widest = max(radii) or 1.0
    across = lambda eps: round(_LEFT + (_RIGHT - _LEFT) * math.sqrt(eps / widest), 1)
    up = lambda share: round(_BOTTOM - (_BOTTOM - _TOP) * share, 1)
    drawn = []
    for index, line in enumerate(lines):
        color, dash = COLORS[index % len(COLORS)], _DASHES[index % len(_DASHES)]
        dots = [
            {
                "x": across(eps),
                "y": up(share),
                "tip": f"{line.name}\n{norm} {eps:.4g}: {100 * share:.1f} %\n"
                f"[{100 * low:.1f}, {100 * high:.1f}]",
            }
            for eps, share, (low, high) in zip(radii, line.accuracy, line.interval, strict=True)
        ]
        points = " ".join(f"{dot['x']},{dot['y']}" for dot in dots)
        lower = [(across(eps), up(low)) for eps, (low, _) in zip(radii, line.interval, strict=True)]
        upper = [
            (across(eps), up(high)) for eps, (_, high) in zip(radii, line.interval, strict=True)
        ]
        band = " ".join(f"{x},{y}" for x, y in [*lower, *reversed(upper)]) if line.bold else ""
        drawn.append(
            {"name": line.name, "color": color, "dash": dash, "points": points, "dots": dots,
             "band": band}
        )  # fmt: skip
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _RIGHT,
        "bottom": _BOTTOM,
        "rows": [(up(share / 4), f"{25 * share}") for share in range(5)],
        "columns": _apart([(across(eps), f"{eps:.3g}") for eps in radii]),
        "lines": drawn,
        "claims": [
            {"x": across(eps), "y": up(share), "tip": f"claim: {100 * share:g} %\n{outcome}"}
            for eps, share, outcome in claims
        ],
    }


def _apart(columns: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Labels that do not overlap: the last one and 0 first."""
    kept = [columns[-1]]
    for x, label in columns[:-1]:
        if all(abs(x - other) >= 34 for other, _ in kept):
            kept.append((x, label))
    return kept
