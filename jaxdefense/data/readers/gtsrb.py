"""GTSRB, the German traffic signs, in the layout of its Kaggle copy.

Source: Stallkamp et al., "Man vs. computer", Neural Networks 32 (2012); Kaggle
meowmeowmeowmeowmeow/gtsrb-german-traffic-sign: ``Train/<class>/<class>_<track>_<frame>.png`` and
``Test.csv`` with columns ``ClassId`` and ``Path``. Frames are resized, not cropped to the sign.
"""

import csv
from pathlib import Path

import numpy as np

from jaxdefense.data.readers.base import Reader, Splits, blame, read_images
from jaxdefense.errors import DataError

SIZE = 32
CLASSES = 43


def _train_folder(folder: Path) -> Path:
    # The Kaggle archive unpacks to Train on one system and train on another.
    return next((folder / n for n in ("Train", "train") if (folder / n).is_dir()), folder / "Train")


def find(folder: Path) -> tuple[Path, ...]:
    """Test.csv and all images, or nothing unless the csv and training images are there."""
    table = folder / "Test.csv"
    train = sorted(_train_folder(folder).glob("*/*.png"))
    if not table.is_file() or not train:
        return ()
    return (table, *train, *sorted(folder.glob("[Tt]est/*.png")))


def read(folder: Path, size: int | None = None) -> Splits:
    """Both official splits; training groups are the tracks (one physical sign filmed once)."""
    paths = sorted(_train_folder(folder).glob("*/*.png"))
    for path in paths:
        if not path.parent.name.isdigit():
            raise DataError(f"{path}: its folder should be a class number from 0 to {CLASSES - 1}")
    labels = np.array([int(path.parent.name) for path in paths], np.int32)
    tracks = np.array([f"{path.parent.name}/{path.stem.rpartition('_')[0]}" for path in paths])
    test_paths, test_labels = _test_table(folder)
    return Splits(
        read_images(paths, "RGB", size or SIZE),
        labels,
        read_images(test_paths, "RGB", size or SIZE),
        test_labels,
        groups_train=tracks,
        form="the published PNG files",
    )


def _test_table(folder: Path) -> tuple[list[Path], np.ndarray]:
    table = folder / "Test.csv"
    with blame(table), table.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        columns = rows.fieldnames or []
        if not {"ClassId", "Path"} <= set(columns):
            raise DataError(f"{table}: needs the columns ClassId and Path, it has {list(columns)}")
        found = [(folder / row["Path"], int(row["ClassId"])) for row in rows]
    if not found:
        raise DataError(f"{table}: lists no images")
    missing = [path for path, _ in found if not path.is_file()]
    if missing:
        raise DataError(
            f"{table}: {len(missing)} of its {len(found)} images are not there, first {missing[0]}"
        )
    return [path for path, _ in found], np.array([label for _, label in found], np.int32)


READER = Reader("Train/<class>/*.png, Test.csv and Test/*.png", find, read)
