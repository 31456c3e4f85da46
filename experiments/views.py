"""The records of a run, as the tables and predictions of a paper's script ask for them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pooling import Cell, Query, find
from jaxdefense.reporting import Record

HOW = (
    "Accuracy in percent: mean over seeds [95 % Clopper-Pearson interval over the images of all "
    "seeds, as if they were different images] (range over seeds)."
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        records: all cells.
    """

    records: Sequence[Record]

    def cell(self, query: Query) -> Cell | None:
        """What answers a query."""
        return find(self.records, query)

    def cells(self, *queries: Query) -> list[Cell] | None:
        """What answers all queries, or None where one was not measured."""
        found = [self.cell(query) for query in queries]
        return [cell for cell in found if cell] if all(found) else None

    def by_seed(self, query: Query) -> dict[int, float]:
        """What answers a query, of each seed that was measured."""
        found = {}
        for seed in dict.fromkeys(record.seed for record in self.records):
            cell = self.cell(Query({**query.fields, "seed": seed}, query.weakest, query.best))
            if cell:
                found[seed] = cell.value
        return found

    def point(self, query: Query, eps: float) -> Record | None:
        """What answers a query as a point of a curve, over all seeds."""
        cell = self.cell(query)
        if cell is None:
            return None
        like = next(record for record in self.records if record.metric == "accuracy")
        return dataclasses.replace(
            like, norm="linf", eps=eps, value=cell.value, low=cell.low, high=cell.high, n=cell.n
        )


@dataclasses.dataclass(frozen=True)
class View(Measured):
    """What was measured, of scripts with several data sets and one classifier.

    Attributes:
        titles: the paper's name of a data set -> ours.
        teams: the paper's name of a data set -> its attackers.
        model: name of the classifier.
        config: of the script.
    """

    titles: Mapping[str, str]
    teams: Mapping[str, Any]
    model: str
    config: Any

    def called(self, dataset: str) -> str:
        """A data set in tables: what the paper calls it, and ours where it is another."""
        title = self.titles[dataset]
        return dataset if title == dataset else f"{dataset}: ours {title}"

    def query(self, dataset: str, defence: str, weakest: bool = False, **fields: Any) -> Query:
        """An accuracy of the classifier in evaluation mode, unless the fields say otherwise."""
        same = {"dataset": self.titles[dataset], "defence": defence, "model": self.model}
        return Query({**same, "metric": "accuracy", **fields}, weakest)

    def clean(self, dataset: str, defence: str, **fields: Any) -> Query:
        """On all test images, without an attack."""
        return self.query(dataset, defence, attack="none", knowledge="none", **fields)

    def strongest(self, dataset: str, defence: str, eps: float, **fields: Any) -> Query:
        """The l-inf attacker that leaves least at a radius, whatever it knows."""
        return self.query(dataset, defence, weakest=True, norm="linf", eps=eps, **fields)

    def first(self, query: Query) -> Query:
        """The same of the first seed, to be compared with what was trained for that only."""
        return dataclasses.replace(query, fields={**query.fields, "seed": self.config.seeds[0]})


def in_255(eps: float) -> str:
    """A radius in steps of an 8-bit image, such as ``8/255``."""
    return f"{255 * eps:.4g}/255"


def text(cell: Cell | None, named: bool = False) -> str:
    """A cell of a table; named after its attack where several may have answered."""
    if cell is None:
        return "-"
    return cell.text() + (f", {cell.what.partition(',')[0]}" if named else "")


def size_of(norm: Cell) -> str:
    """A median norm in a table, which is NaN where one of its seeds has none."""
    return norm.text("norm") if norm.value == norm.value else "none: half do not fall, of a seed"


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
