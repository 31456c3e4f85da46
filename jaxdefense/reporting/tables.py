"""Tables of accuracies, for the console, for Markdown and for the HTML report.

Rows and columns come in the order in which the records first mention them, so a table depends on
its records alone.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import tabulate

from jaxdefense.errors import InputError, UnknownNameError

from .cells import KNOWLEDGE, NORMS, attack_name, distinct, radius_name, undefended_in_both, varying
from .records import Record

MISSING = "-"


@dataclasses.dataclass(frozen=True)
class Table:
    """A caption, a header and rows of text.

    Attributes:
        caption: one line that says what the cells are, with n, interval and unit.
        header: names of the columns.
        rows: the cells.
        left: how many leading columns hold text; they align left, numbers align right.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int

    def text(self, fmt: str = "pipe") -> str:
        """The caption and the table as text, in any format that tabulate knows.

        Args:
            fmt: ``"pipe"`` for Markdown, ``"simple"`` for a console.

        Raises:
            UnknownNameError: tabulate has no such format.
        """
        if fmt not in tabulate.tabulate_formats:
            raise UnknownNameError("table format", fmt, tabulate.tabulate_formats)
        lines: list[Sequence[str]] = [self.header, *self.rows]
        if fmt in ("pipe", "github"):  # there a bar in a name would open a new cell
            lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        align = ["left" if i < self.left else "right" for i in range(len(self.header))]
        body = tabulate.tabulate(
            lines[1:], lines[0], tablefmt=fmt, colalign=align, disable_numparse=True
        )
        return f"{self.caption}\n\n{body}\n"


def accuracy_table(records: Sequence[Record], fmt: str = "pipe") -> str:
    """Accuracy over the grid of radii, one row per defence, attack and knowledge.

    Args:
        records: the measured cells; the attacks may have different grids.
        fmt: ``"pipe"`` for Markdown, ``"simple"`` for a console.

    Returns:
        A caption with n, the width of the intervals and the unit, then the table.

    Raises:
        InputError: no records, or two of them measure the same cell.
        UnknownNameError: no such format.

    Example:
        >>> print(accuracy_table(records, "simple"))  # doctest: +SKIP
        defence    attack    knowledge      0.1    0.3
        ---------  --------  -----------  -----  -----
        AE         PGD-40    oblivious     95.1   80.3
        AE         PGD-40    white-box     12.0    0.0
    """
    return accuracies(records).text(fmt)


def comparison_table(
    records: Sequence[Record], eps: float | Mapping[str, float], fmt: str = "pipe"
) -> str:
    """Every attack at one radius, oblivious and white-box side by side, one row per defence.

    Args:
        records: the measured cells.
        eps: the radius for every attack, or one per norm: ``{"linf": 0.3, "sigma": 0.5}``.
        fmt: ``"pipe"`` for Markdown, ``"simple"`` for a console.

    Returns:
        A caption, then the table with cells like ``3.1 [2.2, 4.3]``: percent, 95 % interval.

    Raises:
        InputError: no records, no attack has this radius, or two records measure the same cell.
        UnknownNameError: no such format.

    Example:
        >>> print(comparison_table(records, 0.3, "simple"))  # doctest: +SKIP
        defence    clean              PGD-40 oblivious    PGD-40 white-box
        ---------  -----------------  ------------------  ------------------
        AE         98.5 [97.2, 99.2]   80.1 [76.4, 83.4]      0.0 [0.0, 0.7]
    """
    return comparison(records, eps).text(fmt)


def accuracies(records: Sequence[Record]) -> Table:
    """The table behind `accuracy_table`, for `write_report`."""
    context = varying(_some(records))
    mixed = len(_norms(records)) > 1
    grid = {radius_name(r.eps): r.eps for r in records}
    columns = sorted(grid, key=lambda name: grid[name])
    cells = _unique(
        ((_context(r, context), r.defence, _attack(r, mixed), r.knowledge, radius_name(r.eps)), r)
        for r in records
    )
    keys = dict.fromkeys(key[:-1] for key in cells)
    # By context and defence first, so that one defence's rows stand together.
    order = {key[:2]: i for i, key in reversed(list(enumerate(keys)))}
    rows = [
        (*key[0], *key[1:], *(_percent(cells.get((*key, column))) for column in columns))
        for key in sorted(keys, key=lambda key: order[key[:2]])
    ]
    caption = (
        f"{_what(records)} in percent by {_by(records)}; {_count(records)}; {_width(records)}."
    )
    header = (*context, "defence", "attack", "knowledge", *columns)
    return Table(caption, header, tuple(rows), len(context) + 3)


def comparison(records: Sequence[Record], eps: float | Mapping[str, float]) -> Table:
    """The table behind `comparison_table`, for `write_report`."""
    context = varying(_some(records))
    chosen = [r for r in undefended_in_both(records) if r.attack == "none" or _at(r, eps)]
    attacked = [r for r in chosen if r.attack != "none"]
    if not attacked:
        found = ", ".join(
            f"{radius_name(e)} ({n})"
            for n, e in sorted({(r.norm, r.eps) for r in records if r.attack != "none"})
        )
        raise InputError(
            f"no attack was measured at eps = {eps}: choose one of {found or 'no radius at all'}"
        )
    mixed = len(_norms(attacked)) > 1
    cells = _unique(
        (((_context(r, context), r.defence), _attack(r, mixed), r.knowledge), r) for r in chosen
    )
    # Knowledge grows from left to right within each attack, clean images first.
    rank = {"none": 0, "oblivious": 1, "white-box": 3}
    attacks = list(dict.fromkeys(_attack(r, mixed) for r in chosen))
    columns = sorted(
        dict.fromkeys(key[1:] for key in cells),
        key=lambda c: (c[0] != "clean", attacks.index(c[0]), rank.get(c[1], 2)),
    )
    rows = [
        (*row[0], row[1], *(_with_interval(cells.get((row, *column))) for column in columns))
        for row in dict.fromkeys(key[0] for key in cells)
    ]
    at = _by(
        attacked,
        lambda norm: (
            " = "
            + " or ".join(map(radius_name, sorted({r.eps for r in attacked if r.norm == norm})))
        ),
    )
    known = [f"{k}: {KNOWLEDGE[k]}" for k in KNOWLEDGE if any(k == c[1] for c in columns)]
    caption = "; ".join(
        [f"{_what(records)} in percent [95 % interval] at {at}", _count(chosen), *known]
    )
    names = [attack if knows == "none" else f"{attack} {knows}" for attack, knows in columns]
    return Table(caption + ".", (*context, "defence", *names), tuple(rows), len(context) + 1)


def _some(records: Sequence[Record]) -> Sequence[Record]:
    if not records:
        raise InputError("a table of no records: measure something first")
    return records


def _unique(cells: Iterable[tuple[tuple[Hashable, ...], Record]]) -> dict:
    found: dict = {}
    for key, record in cells:
        if key in found:
            raise InputError(
                f"two records measure the same cell ({record.defence}, {record.attack}, "
                f"{record.knowledge}, eps = {radius_name(record.eps)}): keep one, "
                "or tell them apart by seed or experiment"
            )
        found[key] = record
    return found


def _context(record: Record, fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(getattr(record, field)) for field in fields)


def _norms(records: Sequence[Record]) -> list[str]:
    return distinct((r for r in records if r.attack != "none" and r.norm != "sigma"), "norm")


def _attack(record: Record, mixed: bool) -> str:
    name = attack_name(record.attack)
    if not mixed or record.attack == "none" or record.norm == "sigma":
        return name
    return f"{name} {NORMS.get(record.norm, record.norm)}"


def _at(record: Record, eps: float | Mapping[str, float]) -> bool:
    wanted = eps.get(record.norm) if isinstance(eps, Mapping) else eps
    return wanted is not None and math.isclose(record.eps, wanted, rel_tol=1e-6, abs_tol=1e-9)


def _percent(record: Record | None) -> str:
    return MISSING if record is None or math.isnan(record.value) else f"{100 * record.value:.1f}"


def _with_interval(record: Record | None) -> str:
    cell = _percent(record)
    if record is None or cell == MISSING or math.isnan(record.low + record.high):
        return cell
    return f"{cell} [{100 * record.low:.1f}, {100 * record.high:.1f}]"


def _what(records: Sequence[Record]) -> str:
    metrics = distinct(records, "metric")
    return metrics[0].capitalize() if len(metrics) == 1 else "Values"


def _by(records: Sequence[Record], then: Callable[[str], str] = lambda norm: "") -> str:
    """The units of the radii: ``"eps (l-inf), for gaussian sigma, pixels in [0, 1]"``."""
    noise = [r for r in records if r.norm == "sigma" and r.attack != "none"]
    parts = [f"eps{then(norm)} ({NORMS.get(norm, norm)})" for norm in _norms(records)]
    if noise:
        names = ", ".join(map(attack_name, distinct(noise, "attack")))
        parts.append((f"for {names} " if parts else "") + f"sigma{then('sigma')}")
    return ", ".join([*parts, "pixels in [0, 1]"])


def _count(records: Sequence[Record]) -> str:
    counts = sorted(distinct(records, "n"))
    return f"n = {counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "") + " examples"


def _width(records: Sequence[Record]) -> str:
    widths = [100 * (r.high - r.low) for r in records]
    widths = sorted(itertools.filterfalse(math.isnan, widths))
    if not widths:
        return "no intervals"
    return f"95 % intervals are {widths[0]:.1f} to {widths[-1]:.1f} points wide"
