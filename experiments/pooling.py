"""Several seeds' records of one measurement as one cell, and which records a question asks for."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdefense.errors import InputError
from jaxdefense.evaluation import interval
from jaxdefense.reporting import Record


@dataclasses.dataclass(frozen=True)
class Query:
    """Which records answer: those whose fields are equal to these, one per seed.

    Attributes:
        fields: of a `Record`, for example ``{"defence": "AE", "attack": "pgd-40"}``.
        weakest: several attacks may match; the one that leaves the lowest accuracy answers.
        best: several defences may match; the one that keeps most answers, by its name.

    Of several that match, those of fewer seeds do not answer: a seed is no match for a mean.
    """

    fields: Mapping[str, Any]
    weakest: bool = False
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measured number over all seeds.

    Attributes:
        value: mean over the seeds.
        low, high: 95 % Clopper-Pearson interval of the images of all seeds together; NaN where
            the value is no share of images.
        least, most: over the seeds.
        n: images, of all seeds together.
        seeds: how many.
        what: the attack and what its attacker knew.
        synthetic: whether the data stand in for the paper's.
        data: title of the data set.
        by_seed: value of each seed.
    """

    value: float
    low: float
    high: float
    least: float
    most: float
    n: int
    seeds: int
    what: str
    synthetic: bool
    data: str = ""
    by_seed: Mapping[int, float] = dataclasses.field(default_factory=dict)

    def text(self, metric: str = "accuracy") -> str:
        """As it stands in a table: accuracies in percent with interval and range over seeds."""
        if not is_accuracy(metric):
            value, least, most = map(plain, (self.value, self.least, self.most))
            return value if least == most else f"{value} ({least} to {most})"
        value, low, high, least, most = (
            f"{100 * v:.1f}" for v in (self.value, self.low, self.high, self.least, self.most)
        )
        spread = f" ({least} to {most})" if self.seeds > 1 else ""
        return f"{value} [{low}, {high}]{spread}"


def is_accuracy(metric: str) -> bool:
    """Whether it is a share of images, for example ``"accuracy"`` or ``"test accuracy"``."""
    return metric.endswith("accuracy")


def plain(value: float) -> str:
    """A number that is no share of images: counts whole, anything else to two digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def pool(records: Sequence[Record]) -> Cell:
    """Several seeds' records of one measurement as one cell."""
    first, values = records[0], [r.value for r in records]
    count = sum(r.n for r in records)
    low, high = math.nan, math.nan
    if is_accuracy(first.metric):
        low, high = interval(sum(round(r.value * r.n) for r in records), count)
    knowledge = f", {first.knowledge}" if first.knowledge != "none" else ""
    return Cell(
        value=float(np.mean(values)), low=float(low), high=float(high), least=min(values),
        most=max(values), n=count, seeds=len(records),
        what="clean" if first.attack == "none" else first.attack + knowledge,
        synthetic=any(r.synthetic for r in records), data=first.dataset,
        by_seed={r.seed: r.value for r in records},
    )  # fmt: skip


def over_seeds(records: Sequence[Record]) -> list[Record]:
    """One record for each measurement, pooled over seeds; cost is summed, the seed the first."""
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        about = (record.dataset, record.model, record.defence, record.attack, record.knowledge)
        groups.setdefault((*about, record.norm, record.eps, record.metric), []).append(record)
    pooled = []
    for group in groups.values():
        cell, first = pool(group), min(group, key=lambda record: record.seed)
        pooled.append(
            dataclasses.replace(
                first, value=cell.value, low=cell.low, high=cell.high, n=cell.n,
                gradients=sum(r.gradients for r in group), forwards=sum(r.forwards for r in group),
                note=f"{cell.seeds} seeds",
            )
        )  # fmt: skip
    # Seeds of one table are one context: the first of all.
    seed = min((record.seed for record in pooled), default=0)
    return [dataclasses.replace(record, seed=seed) for record in pooled]


def find(records: Sequence[Record], query: Query) -> Cell | None:
    """The cell that a query describes; None where nothing was measured.

    Raises:
        InputError: several measurements of one seed match.
    """
    same = lambda record: all(
        _same(getattr(record, name), value) for name, value in query.fields.items()
    )
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in filter(same, records):
        about = (record.attack, record.knowledge, record.model)
        groups.setdefault((*about, record.defence) if query.best else about, []).append(record)
    for group in groups.values():
        seeds = [record.seed for record in group]
        if len(set(seeds)) < len(seeds):
            raise InputError(f"several records of one seed answer {dict(query.fields)}")
    if len(groups) > 1 and not (query.weakest or query.best):
        raise InputError(f"{list(groups)} all answer {dict(query.fields)}: say which")
    cells = [(_named if query.best else pool)(group) for group in groups.values()]
    most = max((cell.seeds for cell in cells), default=0)
    choose = max if query.best else min
    return choose((c for c in cells if c.seeds == most), key=lambda c: c.value, default=None)


def _named(records: Sequence[Record]) -> Cell:
    """A cell whose words begin with its defence."""
    cell = pool(records)
    few = " (1 seed)" if cell.seeds == 1 else ""
    return dataclasses.replace(cell, what=f"{records[0].defence}{few}: {cell.what}")


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return math.isclose(given, wanted, rel_tol=1e-5, abs_tol=1e-9)
    return given in wanted if isinstance(wanted, tuple) else given == wanted
