"""What our records answer to each printed number.

A script says for each number which records answer it; here they are found, pooled over seeds (see
`pooling`) and judged (see `verdicts`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.paper_numbers import Number
from experiments.pooling import Cell, Query, find
from experiments.verdicts import is_undefended, judge
from jaxdefense.reporting import Record

CLEAN = "clean"
"""The column of the same network and defence without an attack, which tables do not show."""
LOST = "not measured by this run"
"""The reason where a number was asked for and nothing that was measured answers it: a fault."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """A printed number and what was measured.

    Attributes:
        number: the printed one.
        cells: by column, `side_by_side.COLUMNS`, `CLEAN` and others of a paper; one that does not
            apply is not there.
        verdict: see `verdicts.judge`.
        reason: why there is no answer, where there is none.
    """

    number: Number
    cells: Mapping[str, Cell]
    verdict: str = ""
    reason: str = ""


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
        bare = without(number, found)
        cells = None if bare is None else found[bare]
        return judge(number, found[number], cells, _clean(number, found), bare)

    return [Answer(n, cells, told(n), reasons.get(n, "")) for n, cells in found.items()]


def _clean(number: Number, found: Mapping[Number, Mapping[str, Cell]]) -> Mapping[str, Cell] | None:
    """The cells of the same network and defence without an attack."""
    if CLEAN in found[number]:
        return {"as attacked": found[number][CLEAN]}
    same = lambda n: (n.table, n.dataset, n.model, n.defence, n.phase, n.metric)
    clean = (found[n] for n in found if n.attack == "none" and same(n) == same(number))
    return next(clean, None)


def without(number: Number, found: Mapping[Number, Mapping[str, Any]]) -> Number | None:
    """The same number without a defence.

    Args:
        number: the one with it; itself without a defence, there is none.
        found: cells of every number.
    """
    if is_undefended(number):
        return None
    same = lambda n: (n.dataset, n.attack, n.eps, n.metric)
    others = [n for n in found if is_undefended(n) and same(n) == same(number)]
    # In another table, or before the fine-tuning, it is the same measurement.
    names = ("model", "table", "phase")
    others.sort(key=lambda n: [getattr(n, name) != getattr(number, name) for name in names])
    return others[0] if others else None
