"""Which printed numbers have an answer: every row with the file and cell, and a count.

    python -m experiments.coverage                    # all numbers of the five papers
    python -m experiments.coverage FILE.csv --papers 0 4

Exit status 1 while a row has neither an answer nor a stated reason why there is none.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tabulate

from experiments import paper_numbers
from experiments.answers import LOST
from experiments.paper_numbers import PAPERS, Number
from experiments.pooling import is_accuracy, plain
from experiments.publish import ANSWERS
from experiments.side_by_side import COLUMNS
from jaxdefense.errors import DataError, JaxdefenseError

RESULTS = Path(__file__).parent / "results"
# The column that a number is answered in.
FIRST = COLUMNS[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", default=paper_numbers.FILE, type=Path)
    parser.add_argument("--results", default=RESULTS, type=Path, help="folder of the answers")
    parser.add_argument("--papers", nargs="+", choices=sorted(PAPERS), help="only of these")
    parser.add_argument("--missing", action="store_true", help="show only what is not answered")
    given = parser.parse_args(arguments)
    try:
        numbers = paper_numbers.read(given.file)
        known = answered(given.results)
    except JaxdefenseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.papers:
        numbers = [number for number in numbers if number.paper in given.papers]
    rows, open_ = [], 0
    for number in numbers:
        state, place, cell = known.get(number.identity, ("OPEN", "", "no answer"))
        open_ += state == "OPEN"
        if not given.missing or state != "answered":
            rows.append((str(number), f"{number.value}{number.unit}", cell, place))
    print(tabulate.tabulate(rows, ("number", "printed", "ours", "where"), disable_numparse=True))
    reasons = sum(known.get(n.identity, ("",))[0] == "reason" for n in numbers)
    print(
        f"\n{len(numbers)} numbers: {len(numbers) - open_ - reasons} answered, {reasons} with a "
        f"reason why not, {open_} open"
    )
    return int(open_ > 0)


def answered(results: Path) -> dict[tuple[str, ...], tuple[str, str, str]]:
    """For each number with an entry: "answered", "reason" or "OPEN", the place, the cell."""
    found = {}
    for path in sorted(results.glob(f"*/{ANSWERS}")):
        for index, answer in enumerate(_read(path)):
            number = answer["number"]
            place = f"{path.parent.name}/{path.name}, answer {index}"
            if cell := answer["cells"].get(FIRST):
                shown = ("answered", place, f"{FIRST} {_value(number, cell)}")
            elif answer["reason"] not in ("", LOST):
                shown = ("reason", place, answer["reason"])
            else:
                shown = ("OPEN", place, answer["reason"] or "no answer")
            found[number.identity] = shown
    return found


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        told = json.loads(path.read_text())["answers"]
        return [a | {"number": Number(**a["number"])} for a in told]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read ({error!r}): run the paper's script again"
        ) from None


def _value(number: Number, cell: dict[str, Any]) -> str:
    value = cell["value"]
    return f"{100 * value:.1f} %" if is_accuracy(number.metric) else plain(value)


if __name__ == "__main__":
    sys.exit(main())
