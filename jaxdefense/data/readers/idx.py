"""The idx files of MNIST and Fashion-MNIST, packed or unpacked.

Format: LeCun, Cortes and Burges, "The MNIST database of handwritten digits": two zero bytes, a type
byte (8 = unsigned byte), the number of axes, each axis as a big-endian 32-bit number, the values.
"""

import gzip
import hashlib
from pathlib import Path

import numpy as np

from jaxdefense.data.readers.base import Reader, Splits, blame
from jaxdefense.errors import DataError

STEMS = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
# MNIST and Fashion-MNIST use the same file names: the test labels tell them apart.
TEST_LABELS = {
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2": "mnist",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34": "fashion_mnist",
}


def find_one(folder: Path, stem: str) -> Path | None:
    """The file of this stem under any of its names: ``-idx`` or ``.idx``, with or without .gz."""
    spellings = (stem, stem.replace("-idx", ".idx"))
    names = [name + ending for ending in ("", ".gz") for name in spellings]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def find(folder: Path) -> tuple[Path, ...]:
    """The four files in ``folder``, or nothing unless all four are there."""
    files = [find_one(folder, stem) for stem in STEMS.values()]
    return tuple(path for path in files if path) if all(files) else ()


def read_idx(path: Path) -> np.ndarray:
    """One idx file of unsigned bytes as an array.

    Raises:
        DataError: damaged gzip stream, another type of idx file, or a size that does not fit.
    """
    with blame(path):
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":  # by content: people unpack without renaming, and rename
            data = gzip.decompress(data)
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise DataError(f"{path}: not an idx file of unsigned bytes (it starts {data[:4].hex()})")
    axes = data[3]
    start = 4 + 4 * axes
    if len(data) < start:
        raise DataError(f"{path}: cut short inside its header ({len(data)} bytes)")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", axes, 4))
    wanted = int(np.prod(shape, dtype=object))
    if len(data) - start != wanted:
        raise DataError(
            f"{path}: its header announces {shape}, that is {wanted} bytes, but "
            f"{len(data) - start} follow. The file is cut short or damaged; fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def identify(folder: Path) -> str | None:
    """``mnist`` or ``fashion_mnist`` when the test labels are those of the original, else None."""
    path = find_one(folder, STEMS["y_test"])
    if path is None:
        return None
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, ValueError):
        return None  # reading it properly will say what is wrong with it
    return TEST_LABELS.get(hashlib.sha256(data).hexdigest())


def read(folder: Path, size: int | None = None) -> Splits:
    """Both splits from the four files in ``folder``, in their original order."""
    files = dict(zip(STEMS, find(folder), strict=True))
    arrays = {key: read_idx(path) for key, path in files.items()}
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if images.ndim != 3:
            raise DataError(f"{files[f'x_{split}']}: holds {images.ndim} axes, images need 3")
        if labels.shape != images.shape[:1]:
            raise DataError(
                f"{files[f'y_{split}']}: holds {labels.size} labels for {len(images)} images in "
                f"{files[f'x_{split}'].name}; the two files do not belong together"
            )
    return Splits(
        arrays["x_train"][..., None],
        arrays["y_train"].astype(np.int32),
        arrays["x_test"][..., None],
        arrays["y_test"].astype(np.int32),
        form="idx files",
    )


READER = Reader(
    f"{', '.join(STEMS.values())} (each with or without .gz)",
    find,
    read,
)
