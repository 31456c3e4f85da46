"""How trainings went: metrics against the step."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxdefense.errors import InputError

from .figures import LINES, look, styled, with_legend

FAR = 10
"""A loss that falls by this factor is drawn on a logarithmic axis."""


@styled
def training_curves(history: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Training metrics against the step: one panel per metric, one colour per run.

    Args:
        history: name of a run to its log, one mapping per logged step with ``"step"`` or
            ``"epoch"`` and any metrics. ``val_`` or ``validation_`` before a metric's name draws it
            dashed in the panel of that metric; a metric may be missing from some of the rows.
            Losses and errors that fall by more than a factor of `FAR` have a logarithmic axis.

    Returns:
        The figure.

    Raises:
        InputError: no metric was logged, or a row has neither step nor epoch.

    Example:
        >>> log = {"ResNet": [{"step": 1, "loss": 2.3, "val_loss": 2.4}, {"step": 2, "loss": 1.9}]}
        >>> [axes.get_ylabel() for axes in training_curves(log).axes]
        ['loss']
    """
    panels: dict[str, dict[tuple[str, bool], list[tuple[float, float]]]] = {}
    logged = {name for log in history.values() for row in log for name in row}
    x_name = "step" if "step" in logged else "epoch"
    for run, log in history.items():
        for row in log:
            if x_name not in row:
                raise InputError(f"a row of the log of {run!r} has no {x_name!r}: {dict(row)}")
            for name in row:
                if name in ("step", "epoch"):
                    continue
                head, _, metric = name.replace("/", "_").partition("_")
                held_out = head in ("val", "validation") and bool(metric)
                metric = metric if held_out or (head == "train" and metric) else name
                points = panels.setdefault(metric, {}).setdefault((run, held_out), [])
                points.append((row[x_name], row[name]))
    if not panels:
        raise InputError("no training curve to draw: the logs hold no metric")
    looks = {run: look(i) for i, run in enumerate(history)}
    fig = Figure(figsize=(max(2.7 * len(panels), 3.4), 2.9), layout="constrained")
    grid = fig.subplots(1, len(panels), squeeze=False)[0]
    for axes, (metric, lines) in zip(grid, panels.items(), strict=True):
        for (run, held_out), points in lines.items():
            style = {"linestyle": LINES[held_out], "markersize": 3.5, **looks[run]}
            axes.plot(*zip(*sorted(points), strict=True), markevery=0.15, **style)
        axes.set_xlabel(x_name)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_ylabel(metric.replace("_", " "))
        values = [value for points in lines.values() for _, value in points]
        # Losses that fall far would lie on each other where they end.
        if metric.endswith(("loss", "error")) and 0 < FAR * min(values) < max(values):
            axes.set_yscale("log")
    key = [Line2D([], [], label=run, **looks[run]) for run in history]
    if any(held_out for lines in panels.values() for _, held_out in lines):
        key += [
            Line2D([], [], linestyle=line, color="#555555", label=label)
            for line, label in zip(LINES, ("training", "validation"), strict=False)
        ]
    return with_legend(fig, key)
