"""Loss surfaces as heat maps beside each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxdefense.errors import InputError

from .figures import styled


@styled
def surface_panels(
    panels: Mapping[str, tuple[Sequence[float], np.ndarray]],
    columns: int = 3,
    label: str = "Cross-entropy, mean over images",
) -> Figure:
    """Loss along the gradient's signs and across them, one panel for each title, one scale a row.

    Args:
        panels: title -> offsets ``[p]`` and loss ``[p, p]``, as in
            `jaxdefense.evaluation.loss_surface`.
        columns: panels beside each other.
        label: of the colours.

    Returns:
        The figure.

    Raises:
        InputError: there is no panel.

    Example:
        >>> found = loss_surface(classifier, x, y, 0.1)  # doctest: +SKIP
        >>> surface_panels({"C": (found.offsets, found.loss.mean(0))})  # doctest: +SKIP
    """
    if not panels:
        raise InputError("no loss surface to draw: there are no panels")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    lines = 1 + max(title.count("\n") for title in panels)
    height = (2.4 + 0.2 * lines) * rows + 0.3
    fig = Figure(figsize=(2.3 * columns + 1.0, height), layout="constrained")
    items = list(panels.items())
    for row in range(rows):
        shown = items[row * columns : (row + 1) * columns]
        low = min(float(np.min(loss)) for _, (_, loss) in shown)
        high = max(float(np.max(loss)) for _, (_, loss) in shown)
        drawn: list[Any] = []
        image: Any = None
        for column, (title, (offsets, loss)) in enumerate(shown):
            axes = fig.add_subplot(rows, columns, row * columns + column + 1)
            ends = (offsets[0], offsets[-1])
            image = axes.imshow(
                np.asarray(loss).T, origin="lower", extent=(*ends, *ends), vmin=low, vmax=high,
                cmap="cividis", interpolation="nearest",
            )  # fmt: skip
            axes.contour(offsets, offsets, np.asarray(loss).T, 6, colors="white", linewidths=0.6)
            axes.set_title(title)
            axes.grid(visible=False)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(4))
            axes.set_xlabel("along the gradient's signs")
            if column == 0:
                axes.set_ylabel("along random signs")
            else:
                axes.tick_params(labelleft=False)
            drawn.append(axes)
        fig.colorbar(image, ax=drawn, label=label, shrink=0.9)
    return fig
