"""Fingers: grey hands showing 0 to 5 fingers, the label in the file name.

Source: Kaggle koryakinp/fingers (18,000 + 3,600 files ``train|test/<uuid>_<count><L|R>.png``,
128 x 128). Left hands are mirrored right hands, so both splits hold mirrored near-duplicates.
"""

import re
from pathlib import Path

import numpy as np

from jaxdefense.data.readers.base import Reader, Splits, read_images
from jaxdefense.errors import DataError

NAME = re.compile(r"_([0-5])([LR])\.png$")
SIZE = 128


def find(folder: Path) -> tuple[Path, ...]:
    """All files of train/ and test/, or nothing unless both hold a file named like Fingers."""
    splits = [sorted((folder / split).glob("*.png")) for split in ("train", "test")]
    if not all(any(NAME.search(path.name) for path in split) for split in splits):
        return ()
    return tuple(path for split in splits for path in split)


def read(folder: Path, size: int | None = None) -> Splits:
    """Both official splits in the order of their file names; groups are the hands L and R."""
    parts = [_split(folder / split, size) for split in ("train", "test")]
    (x_train, y_train, hands_train), (x_test, y_test, hands_test) = parts
    return Splits(
        x_train,
        y_train,
        x_test,
        y_test,
        groups_train=hands_train,
        groups_test=hands_test,
        form="the published PNG files",
    )


def _split(folder: Path, size: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    paths = sorted(folder.glob("*.png"))
    matches = [NAME.search(path.name) for path in paths]
    for path, match in zip(paths, matches, strict=True):
        if match is None:
            raise DataError(
                f"{path}: its name should end in the count and the hand, for example _3L.png"
            )
    labels = np.array([int(m[1]) for m in matches if m], np.int32)
    hands = np.array([m[2] for m in matches if m])
    return read_images(paths, "L", size or SIZE), labels, hands


READER = Reader("train/*_<0-5><L or R>.png and test/*_<0-5><L or R>.png", find, read)
