"""SARS-CoV-2 CT: axial slices of patients with and without COVID-19, one folder per class.

Source: Soares et al., medRxiv 2020.04.24.20078584; Kaggle plameneduardo/sarscov2-ctscan-dataset
(1,252 + 1,230 slices of many sizes). There is no official split and the files carry no patient
ids: the split by a hash of the file name puts slices of one patient on both sides.
"""

from pathlib import Path

import numpy as np

from jaxdefense.data.readers.base import (
    Reader,
    Splits,
    hash_fraction,
    hashed_to_test,
    read_images,
)
from jaxdefense.errors import DataError

CLASSES = ("non-COVID", "COVID")
SIZE = 224


def find(folder: Path) -> tuple[Path, ...]:
    """All slices of both folders, or nothing unless both hold some."""
    slices = [sorted((folder / name).glob("*.png")) for name in CLASSES]
    return tuple(path for part in slices for path in part) if all(slices) else ()


def read(folder: Path, size: int | None = None) -> Splits:
    """Both splits as RGB, in the order of the hash of their names so that classes are mixed."""
    paths = sorted(find(folder), key=lambda path: hash_fraction(_key(path)))
    test = np.array([hashed_to_test(_key(path)) for path in paths])
    if test.all() or not test.any():
        raise DataError(f"{folder}: {len(paths)} slices are too few to split into train and test")
    images = read_images(paths, "RGB", size or SIZE)
    labels = np.array([CLASSES.index(path.parent.name) for path in paths], np.int32)
    return Splits(
        images[~test], labels[~test], images[test], labels[test], form="the published PNG files"
    )


def _key(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


READER = Reader("COVID/*.png and non-COVID/*.png", find, read)
