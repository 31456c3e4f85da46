"""What our records answer to each printed number: pooled over seeds, judged.

A script says for each number which records answer it; here they are found, pooled and compared.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.paper_numbers import Number
from jaxdefense.errors import InputError
from jaxdefense.evaluation import interval
from jaxdefense.reporting import Record

# A clean accuracy, or one without a defence, so close to the printed one counts as the same.
CLOSE = 0.05
# Noise that costs our undefended classifier so much more than the paper's is another noise to it.
ELSEWHERE = 0.1
# From this l-inf radius every image can be made the same grey.
GREY = 0.5
UNDEFENDED = ("none", "joint lambda=0", "alternating gamma=0")
"""What the papers call the networks that their defences are compared with."""
TUNED = ("finetuned", "run")
"""How phases begin in which the network itself is trained on attacked images: a defence, too."""
OUT_OF_REACH = "clean already below"
"""What a verdict adds where even our clean images are less often right than is printed."""
CLEAN = "clean"
"""The column of the same network and defence without an attack, which tables do not show."""
QUOTED = "quoted"
"""The verdict on numbers that a paper has from others, which it did not measure."""
MATCHED = "a control keeps as much"
"""What a verdict adds where the paper's attacker leaves no less of the best control."""
LOST = "not measured by this run"
"""The reason where a number was asked for and nothing that was measured answers it: a fault."""


@dataclasses.dataclass(frozen=True)
class Query:
    """Which records answer: those whose fields are equal to these, one per seed.

    Attributes:
        fields: of a `Record`, for example ``{"defence": "AE", "attack": "pgd-40"}``.
        weakest: several attacks may match; the one that leaves the lowest accuracy answers.
        best: several defences may match; the one that keeps most answers, by its name, over
            however many seeds it was measured.
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


@dataclasses.dataclass(frozen=True)
class Answer:
    """A printed number and what was measured.

    Attributes:
        number: the printed one.
        cells: by column, `side_by_side.COLUMNS`, `CLEAN` and others of a paper; one that does not
            apply is not there.
        verdict: see `judge`.
        reason: why there is no answer, where there is none.
    """

    number: Number
    cells: Mapping[str, Cell]
    verdict: str = ""
    reason: str = ""


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
    if query.best:
        return max(map(_named, groups.values()), key=lambda cell: cell.value, default=None)
    if len(groups) > 1 and not query.weakest:
        raise InputError(f"{list(groups)} all answer {dict(query.fields)}: say which")
    cells = [pool(group) for group in groups.values()]
    # A measurement of fewer seeds does not compare with one of all.
    most = max((cell.seeds for cell in cells), default=0)
    return min((c for c in cells if c.seeds == most), key=lambda c: c.value, default=None)


def _named(records: Sequence[Record]) -> Cell:
    """A cell whose words begin with its defence."""
    cell = pool(records)
    few = " (1 seed)" if cell.seeds == 1 else ""
    return dataclasses.replace(cell, what=f"{records[0].defence}{few}: {cell.what}")


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return math.isclose(given, wanted, rel_tol=1e-5, abs_tol=1e-9)
    return given in wanted if isinstance(wanted, tuple) else given == wanted


def answers(
    numbers: Sequence[Number],
    records: Sequence[Record],
    ask: Callable[[Number], Mapping[str, Query] | str],
) -> list[Answer]:
    """Every number with the cells that answer it.

    Args:
        numbers: of one paper.
        records: all that was measured.
        ask: for a number, a query for each column that applies; or why there is no answer.
    """
    found: dict[Number, dict[str, Cell]] = {}
    reasons: dict[Number, str] = {}
    for number in numbers:
        asked = ask(number)
        if isinstance(asked, str):
            found[number], reasons[number] = {}, asked
            continue
        cells = {column: find(records, query) for column, query in asked.items()}
        found[number] = {column: cell for column, cell in cells.items() if cell is not None}
        if not found[number]:
            reasons[number] = LOST

    def told(number: Number) -> str:
        bare = _bare(number, found)
        without = None if bare is None else found[bare]
        return judge(number, found[number], without, _clean(number, found), bare)

    return [Answer(n, cells, told(n), reasons.get(n, "")) for n, cells in found.items()]


def _undefended(number: Number) -> bool:
    return number.defence in UNDEFENDED and not number.phase.startswith(TUNED)


def _clean(number: Number, found: Mapping[Number, Mapping[str, Cell]]) -> Mapping[str, Cell] | None:
    """The cells of the same network and defence without an attack."""
    if CLEAN in found[number]:
        return {"as attacked": found[number][CLEAN]}
    same = lambda n: (n.table, n.dataset, n.model, n.defence, n.phase, n.metric)
    clean = (found[n] for n in found if n.attack == "none" and same(n) == same(number))
    return next(clean, None)


def _bare(number: Number, found: Mapping[Number, Mapping[str, Cell]]) -> Number | None:
    """The same number without a defence."""
    if _undefended(number):
        return None
    same = lambda n: (n.dataset, n.attack, n.eps, n.metric)
    others = [n for n in found if _undefended(n) and same(n) == same(number)]
    # In another table, or before the fine-tuning, it is the same measurement.
    names = ("model", "table", "phase")
    others.sort(key=lambda n: [getattr(n, name) != getattr(number, name) for name in names])
    return others[0] if others else None


def judge(
    number: Number,
    cells: Mapping[str, Cell],
    bare: Mapping[str, Cell] | None,
    clean: Mapping[str, Cell] | None = None,
    undefended: Number | None = None,
) -> str:
    """What becomes of a printed accuracy.

    Without an attack or a defence: ``as printed`` where ours is within 5 points, else by how many
    it differs; so too where the paper prints less with the defence than without, which is no claim
    to be broken. With both, against the strongest attacker (of noise: the noise itself):
    ``holds`` where the interval reaches the printed number and is above that of the undefended
    classifier under its strongest attacker, ``weakened`` where it is above that but does not reach
    the number, ``no gain`` where it is not above that although more than 5 % is left, else
    ``broken``, as is all that does not reach it from `GREY` upwards. Where nothing is left,
    ``holds`` is not said: ``too few images`` to tell the printed number from it. Where noise costs
    our undefended classifier more than 10 points more than the paper's, that is told in place of
    ``weakened`` or ``broken``. `MATCHED` is added to ``holds`` and ``weakened`` where the paper's
    attacker leaves as much of a control; `OUT_OF_REACH` where our network and defence are less
    often right on clean images than is printed of attacked ones. Numbers from other papers are
    `QUOTED`.

    Args:
        number: the printed one.
        cells: our measurements of it, by column.
        bare: the same of the undefended classifier, where there are any.
        clean: the same of the defence without an attack, where there are any.
        undefended: what is printed without a defence.
    """
    if not is_accuracy(number.metric) or "as attacked" not in cells:
        return ""
    if number.note.startswith("literature"):
        return QUOTED
    claimed = undefended is None or number.fraction >= undefended.fraction
    if number.attack == "none" or _undefended(number) or not claimed:
        gap = cells["as attacked"].value - number.fraction
        return "as printed" if abs(gap) <= CLOSE else f"{100 * gap:+.0f} points"
    last = cells.get("strongest", cells["as attacked"])
    before = (bare or {}).get("strongest", (bare or {}).get("as attacked"))
    if last.high >= number.fraction:
        if last.value == 0:
            return "too few images"
        gained = before is None or last.low > before.high
        return "holds" + _matched(cells) if gained else "no gain"
    # From `GREY` upwards what is left are images of the largest class.
    noise = number.attack == "gaussian"
    near = noise or number.radius < GREY
    gained = before is not None and last.low > before.high
    gap = before.value - undefended.fraction if noise and before and undefended else 0.0
    if gap < -ELSEWHERE:
        return f"undefended already {100 * gap:+.0f} points"
    unharmed = (clean or {}).get("corrected", (clean or {}).get("as attacked"))
    short = unharmed is not None and unharmed.high < number.fraction
    verdict = "broken"
    if near and before is not None and (gained or last.low > CLOSE):
        verdict = "weakened" + _matched(cells) if gained else "no gain"
    return verdict + f"; {OUT_OF_REACH}" * short


def _matched(cells: Mapping[str, Cell]) -> str:
    """What is added where a control keeps as much of the same examples."""
    own, control = cells.get("corrected", cells["as attacked"]), cells.get("control")
    return f"; {MATCHED}" * (control is not None and control.value >= own.value)
