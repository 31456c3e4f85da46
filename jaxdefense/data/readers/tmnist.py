"""TMNIST digits: one csv row per glyph, columns ``names, labels, 1 ... 784``.

Source: Kaggle nimishmagre/tmnist-typeface-mnist (29,900 rows, 2,990 Google fonts). There is no
official split: fonts are sent to train or test by a hash of their name, so no font is in both.
"""

import csv
from pathlib import Path

import numpy as np

from jaxdefense.data.readers.base import Reader, Splits, blame, hashed_to_test
from jaxdefense.errors import DataError

FILE = "TMNIST_Data.csv"
PIXELS = 28 * 28


def find(folder: Path) -> tuple[Path, ...]:
    """The csv file in ``folder``, or nothing."""
    return (folder / FILE,) if (folder / FILE).is_file() else ()


def read(folder: Path, size: int | None = None) -> Splits:
    """Both splits; groups are the font names."""
    path = folder / FILE
    images, labels, fonts = [], [], []
    with blame(path), path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if header[:2] != ["names", "labels"] or len(header) != PIXELS + 2:
            raise DataError(
                f"{path}: its header starts {header[:3]} and has {len(header)} columns; TMNIST's "
                f"has {PIXELS + 2}: names, labels, 1 ... {PIXELS}"
            )
        for row in rows:
            if len(row) != PIXELS + 2:
                raise DataError(
                    f"{path}, line {rows.line_num}: {len(row)} columns instead of {PIXELS + 2}; "
                    "the file is cut short or damaged; fetch it again"
                )
            fonts.append(row[0])
            try:
                labels.append(int(row[1]))
                images.append(np.array([int(v) for v in row[2:]], np.uint8))
            except (ValueError, OverflowError) as error:
                raise DataError(
                    f"{path}, line {rows.line_num}: a label or grey level is not a whole number "
                    f"from 0 to 255 ({error})"
                ) from error
    if not images:
        raise DataError(f"{path}: has a header but no rows")
    test = np.array([hashed_to_test(font) for font in fonts])
    if test.all() or not test.any():
        raise DataError(f"{path}: {len(set(fonts))} fonts are too few to split into train and test")
    x = np.stack(images).reshape(-1, 28, 28, 1)
    y, groups = np.array(labels, np.int32), np.array(fonts)
    return Splits(
        x[~test],
        y[~test],
        x[test],
        y[test],
        groups_train=groups[~test],
        groups_test=groups[test],
        form=FILE,
    )


READER = Reader(FILE, find, read)
