"""What every reader of a file layout shares: its result, its errors, image files and splits."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxdefense.errors import DataError

SPLIT_SALT = "v1"
TEST_SHARE = 0.2


class Splits(NamedTuple):
    """What a reader returns: uint8 ``[n, h, w, c]`` images and int32 labels of both splits."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...] | None = None  # None: the catalogue's names hold
    groups_train: np.ndarray | None = None
    groups_test: np.ndarray | None = None
    form: str = ""  # what kind of file it was, for the provenance line
    altered: str = ""  # how the images differ from the original, for the title, "" when they do not


class Reader(NamedTuple):
    """One layout: how it looks, whether a folder (or file) holds it, and how to read it.

    ``find`` returns the source files, or nothing; it only lists and stats, so it is fast.
    ``read`` takes the same path and, for layouts of image files, the side length to decode at;
    the others ignore it.
    """

    looks: str
    find: Callable[[Path], tuple[Path, ...]]
    read: Callable[[Path, int | None], Splits]


@contextlib.contextmanager
def blame(path: os.PathLike | str) -> Iterator[None]:
    """Turn whatever a damaged file makes a parser raise into one DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path}: too large for this machine's memory ({error})") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read ({reason}). The file is damaged, cut short or of another "
            "kind than its name says; fetch it again"
        ) from error


def hashed_to_test(key: str, share: float = TEST_SHARE) -> bool:
    """Whether ``key`` falls into the test split: stable under reordering and in subsets.

    Example:
        >>> 0.15 < sum(hashed_to_test(str(i)) for i in range(2000)) / 2000 < 0.25
        True
    """
    return hash_fraction(key) < share


def hash_fraction(key: str) -> float:
    """A number in [0, 1) that depends on ``key`` alone."""
    digest = hashlib.sha256(f"{SPLIT_SALT}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_grey(path: Path) -> bool:
    """Whether an image file holds grey levels only; reads the header, not the pixels."""
    with _opened(path) as image:
        return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16")


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels; reads the header only."""
    with _opened(path) as image:
        return image.size


def read_images(paths: Sequence[Path], mode: str, size: int | None) -> np.ndarray:
    """Decode image files into one uint8 array ``[n, h, w, c]``.

    Args:
        paths: image files of any kind Pillow reads.
        mode: ``L`` or ``RGB``; every file is converted to it.
        size: side length to resize to (bilinear); None keeps the size, which all must share.

    Raises:
        DataError: a file is not an image, is cut short, or differs in size from the others.
    """
    width, height = (size, size) if size else image_size(paths[0])
    channels = len(mode) if mode == "RGB" else 1
    out = np.empty((len(paths), height, width, channels), np.uint8)

    def decode(index: int) -> None:
        with _opened(paths[index]) as image, blame(paths[index]):
            pixels = _convert(image, mode)
        if size:
            pixels = pixels.resize((size, size), Image.Resampling.BILINEAR)
        elif pixels.size != (width, height):
            raise DataError(
                f"{paths[index]} is {pixels.width}x{pixels.height} pixels while {paths[0]} is "
                f"{width}x{height}: name one size to resize all of them to (size=, --size)"
            )
        out[index] = np.asarray(pixels).reshape(height, width, channels)

    with ThreadPoolExecutor() as pool:  # Pillow releases the lock while it decodes
        for _ in pool.map(decode, range(len(paths))):
            pass
    return out


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        image = Image.open(path)
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path}: not an image, or cut short. Fetch the file again, or remove it"
        ) from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be opened as an image ({error})") from error
    with image:
        yield image


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 instead of scaling it.
        wide = np.asarray(image).astype(np.float64).clip(0, 65535)
        image = Image.fromarray(np.rint(wide / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floats of unknown range; store 8-bit grey or RGB")
    return image.convert(mode)
