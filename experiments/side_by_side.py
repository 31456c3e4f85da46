"""The table of a paper's page: what is printed, and what was measured of it, side by side."""

from collections.abc import Sequence

from experiments.answers import CLEAN, Answer
from experiments.pooling import is_accuracy
from experiments.verdicts import is_undefended
from jaxdefense.reporting import Table

COLUMNS = ("as attacked", "corrected", "white-box", "strongest", "control")
"""Of these `side_by_side` leaves out what no answer has."""


def side_by_side(found: Sequence[Answer]) -> Table:
    """Paper | ours as the paper attacked | white-box | strongest | control | verdict."""
    cells = [cell for answer in found for cell in answer.cells.values()]
    shares = (cell for answer in found for column, cell in answer.cells.items()
              if is_accuracy(answer.number.metric) and column != CLEAN)  # fmt: skip
    counts = sorted({(cell.n, cell.seeds) for cell in shares})
    sizes = ", ".join(f"{n} images ({seeds} seed{'s' * (seeds > 1)})" for n, seeds in counts)
    drawn = ", ".join(dict.fromkeys(cell.data for cell in cells if cell.synthetic))
    synthetic = f" ON STAND-IN DATA: {drawn}." if drawn else ""
    caption = (
        "Paper against ours, accuracy in percent: mean over seeds [95 % Clopper-Pearson interval "
        f"over the images of all seeds, as if they were different images] (range over seeds). A "
        f"cell is over {sizes}. Networks by the paper's names; ours are told above.{synthetic}"
    )
    about = ("table", "dataset", "model", "defence", "attack", "paper", "images")
    columns = tuple(c for c in COLUMNS if any(c in answer.cells for answer in found))
    rows = tuple(_row(answer, columns or COLUMNS[:1]) for answer in found)
    return Table(caption, (*about, *(columns or COLUMNS[:1]), "verdict"), rows, left=5)


def undefended(found: Sequence[Answer]) -> Table | None:
    """Every classifier with nothing in front and no attack, seed by seed, beside the printed."""
    rows: dict[tuple[str, ...], tuple[str, ...]] = {}
    for answer in found:
        number = answer.number
        cell = answer.cells.get("corrected", answer.cells.get("as attacked"))
        bare = is_undefended(number) or number.defence == "no attack"
        untouched = number.attack == "none" or number.eps == "0"
        if cell and bare and untouched and is_accuracy(number.metric):
            seeds = ", ".join(f"{100 * value:.2f}" for value in cell.by_seed.values())
            measured = (seeds, f"{100 * cell.value:.2f}", str(cell.n))
            about = (data_set(answer), number.model, number.printed)
            # The same measurement may answer numbers of several tables.
            rows.setdefault((about[0], *measured), (*about, *measured))
    caption = (
        "Classifiers without a defence and without an attack: accuracy in percent, seed by seed. "
        "What our networks and data are beside the paper's is said above and under *Data*."
    )
    header = ("dataset", "model", "paper", "by seed", "mean", "images")
    return Table(caption, header, tuple(rows.values()), left=2) if rows else None


def data_set(answer: Answer) -> str:
    """The paper's data set, and ours where it is another."""
    ours = next((cell.data for cell in answer.cells.values()), "")
    theirs = answer.number.dataset
    if not theirs:  # of a number that the text prints
        return ours
    return theirs if ours in ("", theirs) else f"{theirs}: ours {ours}"


def _row(answer: Answer, columns: Sequence[str]) -> tuple[str, ...]:
    number = answer.number
    unit = {"/255": "/255", "sigma [0,1]?": " (sigma)"}.get(number.eps_unit, "")
    attack = f"{number.attack} {number.eps}{unit if number.eps else ''}".strip()
    if number.metric != "accuracy":
        attack = f"{attack}, {number.metric}".removeprefix("none").removeprefix(", ")
    defence = ", ".join(part for part in (number.defence, number.phase) if part)
    place = (number.table, data_set(answer), number.model, defence)
    cells = []
    for column in columns:
        cell = answer.cells.get(column)
        named = " s" * (number.unit == "s") if cell else ""
        if cell and column in ("strongest", "control") and is_accuracy(number.metric):
            named += f", {cell.what}"
        cells.append(cell.text(number.metric) + named if cell else "-")
    counted = (cell.n for column, cell in answer.cells.items() if column != CLEAN)
    images = "/".join(map(str, dict.fromkeys(counted)))
    quoted = " (quoted, not measured)" * number.note.startswith("literature")
    about = (*place, attack, number.printed + quoted, images)
    if answer.reason:
        return (*about, answer.reason, *cells[1:], "")
    return (*about, *cells, answer.verdict)
