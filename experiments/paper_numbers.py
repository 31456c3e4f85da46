"""The numbers that the five papers and their public code print, one row each, as data."""

import csv
import dataclasses
from pathlib import Path

from jaxdefense.errors import DataError

FILE = Path(__file__).with_suffix(".csv")
PAPERS = {
    "0": "jung2022_u_autoencoder",
    "1": "gilbert2020_denoising",
    "2": "mandal2023_convolutional_autoencoder",
    "3": "ghosh2024_ct_denoising",
    "4": "kim2020_revisiting_autoencoders",
}


@dataclasses.dataclass(frozen=True)
class Number:
    """One printed number, as the columns of `paper_numbers.csv` have it.

    Attributes:
        paper: a key of `PAPERS`.
        table: where it is printed.
        dataset, model, defence, phase, attack: what was measured, in the paper's words.
        eps: radius, in `eps_unit`; empty where there is none.
        metric, value, unit: what is printed.
        source: ``"paper"``, or where in the public code.
        note: anything to know about it.
    """

    paper: str
    table: str
    dataset: str
    model: str
    defence: str
    phase: str
    attack: str
    eps: str
    eps_unit: str
    metric: str
    value: str
    unit: str
    source: str
    note: str

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells it from all other numbers; its note does not."""
        return tuple(getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "note")

    @property
    def fraction(self) -> float:
        """The value, of percentages as a fraction."""
        return float(self.value) / (100 if self.unit == "%" else 1)

    @property
    def printed(self) -> str:
        """The value as tables show it: shares in percent, others with their unit."""
        if self.unit == "frac":
            return f"{100 * float(self.value):.4g}"
        return self.value if self.unit in ("", "%", "pp", "count") else f"{self.value} {self.unit}"

    @property
    def radius(self) -> float:
        """The radius for pixels in [0, 1]; 0 where there is none."""
        return float(self.eps or 0) / (255 if self.eps_unit == "/255" else 1)

    def __str__(self) -> str:
        about = (self.table, self.dataset, self.model, self.defence, self.phase, self.attack)
        return f"paper {self.paper}, " + ", ".join([part for part in (*about, self.eps) if part])


def read(path: str | Path = FILE) -> list[Number]:
    """The numbers of a file with the columns of `Number`.

    Raises:
        DataError: it cannot be read, or a column is missing.
    """
    names = [field.name for field in dataclasses.fields(Number)]
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            missing = [name for name in names if name not in (rows.fieldnames or [])]
            if missing:
                raise DataError(
                    f"{path} lacks the columns {', '.join(missing)}: give a file with the columns "
                    f"of {FILE.name}, which are {', '.join(names)}"
                )
            return [Number(**{name: (row[name] or "").strip() for name in names}) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the printed numbers in {path} cannot be read: {error}") from None


def of_paper(paper: str) -> list[Number]:
    """The numbers of one paper, by its key in `PAPERS`."""
    return [number for number in read() if number.paper == paper]


def radii(paper: str, dataset: str, attack: str) -> tuple[float, ...]:
    """The radii at which a paper attacks a data set, ascending, for pixels in [0, 1].

    Example:
        >>> radii("0", "Fingers", "fgsm")
        (0.1,)
    """
    found = (n.radius for n in of_paper(paper) if (n.dataset, n.attack) == (dataset, attack))
    return tuple(sorted(set(found)))
