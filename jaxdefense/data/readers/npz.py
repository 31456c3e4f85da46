"""Prepared arrays in one ``.npz``: plain, or with JPEG bytes in place of pixels.

Plain: ``x_train y_train x_test y_test`` (and optionally ``class_names``). JPEG bytes: image ``i``
of split ``s`` is ``s_jpeg[s_offsets[i]:s_offsets[i + 1]]``, its label ``s_labels[i]``.
"""

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxdefense.data.readers.base import Reader, Splits, blame
from jaxdefense.errors import DataError

PLAIN = ("x_train", "y_train", "x_test", "y_test")
JPEG = tuple(f"{s}_{part}" for s in ("train", "test") for part in ("jpeg", "offsets", "labels"))


def find(path: Path) -> tuple[Path, ...]:
    """The file itself, or nothing."""
    return (path,) if path.is_file() else ()


def is_stored(path: Path) -> bool:
    """Whether every member lies there uncompressed, so that a cached copy would gain nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile):
        return False
    plain = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    return plain and {f"{key}.npy" for key in PLAIN} <= {member.filename for member in members}


def read(path: Path, size: int | None = None) -> Splits:
    """Both splits of a plain or JPEG-bytes ``.npz``, in the file's order.

    Grey images may come as ``[n, h, w]``, labels as any integers ``[n]`` or ``[n, 1]``, pixels as
    integers 0..255 or floats in [0, 1] (rounded to 8 bits, which the provenance then says).

    Raises:
        DataError: not an npz, keys missing, or arrays that are not images and labels.
    """
    # Opened here: NumPy leaves a file it opened itself open when the archive is damaged.
    with blame(path), path.open("rb") as stream:
        if stream.read(6) == b"\x93NUMPY":
            raise DataError(f"{path}: one bare array; expected an .npz with {', '.join(PLAIN)}")
        stream.seek(0)
        file = np.load(stream, allow_pickle=False)
        keys = set(file.files)
        if set(PLAIN) <= keys:
            return _plain(path, file)
        if set(JPEG) <= keys:
            return _jpeg(path, file)
    raise DataError(
        f"{path}: needs the keys {', '.join(PLAIN)} (or {', '.join(JPEG)}); it has "
        f"{', '.join(sorted(keys)) or 'none'}"
    )


def _plain(path: Path, file: Any) -> Splits:
    x_train, rounded = _pixels(path, "x_train", file["x_train"])
    x_test, _ = _pixels(path, "x_test", file["x_test"])
    y_train, y_test = (_labels(path, key, file[key]) for key in ("y_train", "y_test"))
    names = tuple(map(str, file["class_names"])) if "class_names" in file.files else None
    altered = "floats rounded to 8 bits" if rounded else ""
    return Splits(x_train, y_train, x_test, y_test, names, form="prepared arrays", altered=altered)


def _pixels(path: Path, key: str, x: np.ndarray) -> tuple[np.ndarray, bool]:
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or not x.size:
        raise DataError(
            f"{path}: {key} has the shape {x.shape}; images are [n, h, w, c] or [n, h, w]"
        )
    if x.shape[-1] > 4 and x.shape[1] in (1, 3):
        raise DataError(f"{path}: {key} {x.shape} has its channels first; store [n, h, w, c]")
    if x.dtype == np.uint8:
        return x, False
    if x.dtype.kind not in "iuf" or not np.isfinite(x).all():
        raise DataError(f"{path}: {key} is {x.dtype} or not finite; pixels are uint8")
    low, high = x.min(), x.max()
    if x.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.rint(x * 255).astype(np.uint8), True
    if x.dtype.kind != "f" and low >= 0 and high <= 255:
        return x.astype(np.uint8), False
    raise DataError(
        f"{path}: {key} is {x.dtype} from {low} to {high}; store uint8, or floats in [0, 1]"
    )


def _labels(path: Path, key: str, y: np.ndarray) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    whole = y.dtype.kind in "iu" or (y.dtype.kind == "f" and bool((y == np.rint(y)).all()))
    if y.ndim != 1 or not whole:
        raise DataError(f"{path}: {key} is {y.dtype} {y.shape}; labels are whole numbers [n]")
    if y.size and (y.min() < 0 or y.max() > 1_000_000):
        raise DataError(f"{path}: {key} holds labels from {y.min()} to {y.max()}, out of range")
    return y.astype(np.int32)


def _jpeg(path: Path, file: Any) -> Splits:
    quality = None
    images, targets = [], []
    for split in ("train", "test"):
        data, offsets = file[f"{split}_jpeg"].tobytes(), file[f"{split}_offsets"]
        labels = _labels(path, f"{split}_labels", file[f"{split}_labels"])
        steps_back = len(offsets) < 2 or (np.diff(offsets) <= 0).any()
        if steps_back or offsets[0] < 0 or offsets[-1] > len(data):
            raise DataError(f"{path}: {split}_offsets do not cut {split}_jpeg into images")
        if len(labels) != len(offsets) - 1:
            raise DataError(f"{path}: {len(labels)} {split}_labels for {len(offsets) - 1} images")
        quality = quality or jpeg_quality(data[offsets[0] : offsets[1]])
        images.append(_decode(data, offsets))
        targets.append(labels)
    altered = "JPEG" if quality is None else f"JPEG quality {quality}"
    return Splits(images[0], targets[0], images[1], targets[1], form="JPEG bytes", altered=altered)


def _decode(data: bytes, offsets: np.ndarray) -> np.ndarray:
    first = Image.open(io.BytesIO(data[offsets[0] : offsets[1]]))
    mode = "L" if first.mode == "L" else "RGB"
    shape = (first.height, first.width, 1 if mode == "L" else 3)
    out = np.empty((len(offsets) - 1, *shape), np.uint8)

    def one(index: int) -> None:
        with Image.open(io.BytesIO(data[offsets[index] : offsets[index + 1]])) as image:
            out[index] = np.asarray(image.convert(mode)).reshape(shape)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(one, range(len(out)), chunksize=256):
            pass
    return out


def jpeg_quality(data: bytes) -> int | None:
    """The libjpeg quality whose quantisation tables a JPEG carries, or None for other tables."""
    tables = getattr(Image.open(io.BytesIO(data)), "quantization", None)
    if not tables:
        return None
    probe = Image.new("L", (8, 8))
    for quality in range(1, 101):
        buffer = io.BytesIO()
        probe.save(buffer, "JPEG", quality=quality)
        if getattr(Image.open(io.BytesIO(buffer.getvalue())), "quantization", {})[0] == tables[0]:
            return quality
    return None


READER = Reader("<name>.npz or <name>_*.npz", find, read)
