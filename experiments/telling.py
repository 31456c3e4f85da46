"""What several papers' scripts tell alike: cells of tables, points of curves, predictions."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.answers import Cell, Query, find
from experiments.publish import Prediction
from jaxdefense.reporting import Record

HOW = (
    "Accuracy in percent: mean over seeds [95 % Clopper-Pearson interval over all images] (range "
    "over seeds)."
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """All cells that were measured.

    Attributes:
        records: the cells.
    """

    records: Sequence[Record]

    def cell(self, query: Query) -> Cell | None:
        """What answers a query."""
        return find(self.records, query)

    def cells(self, *queries: Query) -> list[Cell] | None:
        """What answers all queries, or None where one was not measured."""
        found = [self.cell(query) for query in queries]
        return [cell for cell in found if cell] if all(found) else None


def text(cell: Cell | None, named: bool = False) -> str:
    """A cell of a table; named after its attack where several may have answered."""
    if cell is None:
        return "-"
    return cell.text() + (f", {cell.what.partition(',')[0]}" if named else "")


def row(
    view: Measured, about: Sequence[str], queries: Sequence[Query], last: int = 0
) -> tuple[tuple[str, ...], ...]:
    """One row with seeds and images, or none where nothing was measured.

    Args:
        view: the records.
        about: what the row is about.
        queries: one for each cell.
        last: how many cells at the end are named after their attack.
    """
    cells = [view.cell(query) for query in queries]
    measured = [cell for cell in cells if cell]
    if not measured:
        return ()
    seeds, images = (sorted({getattr(c, name) for c in measured}) for name in ("seeds", "n"))
    size = ("/".join(map(str, each)) for each in (seeds, images))
    texts = (text(cell, i >= len(cells) - last) for i, cell in enumerate(cells))
    return ((*about, *size, *texts),)


def point(view: Measured, query: Query, eps: float) -> Record | None:
    """What answers a query, over all seeds, as a point of a curve."""
    cell = view.cell(query)
    if cell is None:
        return None
    like = next(r for r in view.records if r.metric == "accuracy")
    values: dict[str, Any] = {"value": cell.value, "low": cell.low, "high": cell.high, "n": cell.n}
    return dataclasses.replace(like, norm="linf", eps=eps, **values)


def prediction(text: str, held: list[bool], told: list[str]) -> Prediction:
    """Holds where every part of it does; was not measured where no part was."""
    return Prediction(text, all(held) if held else None, "; ".join(told) + "." if told else "")


def percent(*cells: Cell) -> str:
    """Accuracies in a sentence."""
    return " and ".join(f"{100 * cell.value:.1f}" for cell in cells) + " %"
