"""Reading sets that were prepared with TFDS, as array_record or TFRecord, without TensorFlow."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxdefense.data.readers.base import Splits, blame
from jaxdefense.errors import DataError

INFO = "dataset_info.json"


def below(data_dir: Path | None) -> list[Path]:
    """Where TFDS folders may lie in a data folder."""
    return [data_dir, data_dir / "tensorflow_datasets"] if data_dir else []


def default_root() -> Path:
    """TFDS's own folder: ``TFDS_DATA_DIR``, or ``~/tensorflow_datasets``."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(name: str, roots: list[Path]) -> Path | None:
    """The newest prepared version of ``name``; looks for the info file, as TFDS itself misleads."""
    for root in roots:
        versions = [path.parent for path in (root / name).glob(f"*/{INFO}")]
        if versions:
            return max(versions, key=_version)
    return None


def files(folder: Path) -> tuple[Path, ...]:
    """Everything in a prepared folder, for the cache's fingerprint."""
    return tuple(sorted(path for path in folder.iterdir() if path.is_file()))


def read(folder: Path) -> Splits:
    """Both splits of a prepared folder that has ``image`` and ``label`` and train and test.

    Raises:
        DataError: another format, a split or feature missing, or a damaged record.
    """
    import tensorflow_datasets as tfds

    with blame(folder):
        form = json.loads((folder / INFO).read_text()).get("fileFormat", "tfrecord")
        if form not in ("array_record", "tfrecord"):
            raise DataError(
                f"{folder}: is in the format {form}, which loses rows or cannot be read without "
                "TensorFlow; prepare it as array_record (jaxdefense.data.tfds_builders)"
            )
        builder = tfds.builder_from_directory(folder)
        info = builder.info
        for split in ("train", "test"):
            if split not in info.splits:
                raise DataError(f"{folder}: has no {split} split, only {sorted(info.splits)}")
        if not {"image", "label"} <= set(info.features):
            raise DataError(
                f"{folder}: needs the features image and label, has {sorted(info.features)}"
            )
        if form == "array_record":
            parts = [builder.as_data_source(split) for split in ("train", "test")]
        else:
            parts = [_tfrecords(info, split) for split in ("train", "test")]
        arrays = [
            _stack(part, int(info.splits[s].num_examples), folder)
            for part, s in zip(parts, ("train", "test"), strict=True)
        ]
    (x_train, y_train, groups_train), (x_test, y_test, groups_test) = arrays
    return Splits(
        x_train,
        y_train,
        x_test,
        y_test,
        groups_train=groups_train,
        groups_test=groups_test,
        form=f"a prepared TFDS folder ({form})",
    )


def read_tfrecord(path: Path) -> Iterator[bytes]:
    """The records of one TFRecord file; lengths are checked, the checksums are not.

    Format: length (8 bytes little-endian), its CRC (4), the record, its CRC (4).

    Raises:
        DataError: the file ends inside a record.
    """
    with path.open("rb") as file:
        while head := file.read(12):
            length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else -1
            left = os.fstat(file.fileno()).st_size - file.tell()
            if not 0 <= length <= left - 4:
                raise DataError(f"{path}: cut short inside a record; prepare the folder again")
            yield file.read(length)
            file.read(4)


def _tfrecords(info: Any, split: str) -> Iterator[dict[str, Any]]:
    for path in info.splits[split].filepaths:
        for record in read_tfrecord(Path(path)):
            yield info.features.deserialize_example_np(record)


def _stack(
    examples: Any, count: int, folder: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    images: np.ndarray | None = None
    labels, groups = np.zeros(count, np.int32), []
    seen = 0
    for example in examples:
        image = np.asarray(example["image"])
        if images is None:
            images = np.empty((count, *image.shape), np.uint8)
        if seen < count:
            images[seen], labels[seen] = image, int(example["label"])
        if "group" in example:
            groups.append(example["group"].decode())
        seen += 1
    if images is None or seen != count:
        raise DataError(
            f"{folder}: {seen} records where its info announces {count}; prepare it again"
        )
    return images, labels, np.array(groups) if any(groups) else None


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in path.name.split("."))
