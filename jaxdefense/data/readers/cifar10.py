"""CIFAR-10 as published: the python or the binary version, packed or unpacked.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html describes both layouts.
"""

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdefense.data.readers.base import Reader, Splits, blame
from jaxdefense.errors import DataError

TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
ROW = 3 * 32 * 32
PYTHON, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
ARCHIVES = {"cifar-10-binary.tar.gz": BINARY, "cifar-10-python.tar.gz": PYTHON}


def find(folder: Path) -> tuple[Path, ...]:
    """The six batches (in ``folder`` or its ``cifar-10-batches-*``), or one archive, or nothing."""
    for place, ending in (
        (folder / BINARY, ".bin"),
        (folder / PYTHON, ""),
        (folder, ".bin"),
        (folder, ""),
    ):
        batches = [place / (name + ending) for name in (*TRAIN, "test_batch")]
        if all(path.is_file() for path in batches):
            return tuple(batches)
    for stem in ARCHIVES:
        for name in (stem, stem.removesuffix(".gz")):
            if (folder / name).is_file():
                return (folder / name,)
    return ()


def read(folder: Path, size: int | None = None) -> Splits:
    """Both splits in their original order."""
    files = find(folder)
    if len(files) > 1:
        binary = files[0].suffix == ".bin"
        parts = {}
        for path in files:
            with blame(path):
                parts[path.stem] = _parse(path.read_bytes(), path, binary)
    else:
        archive = files[0]
        inner = ARCHIVES[archive.name.removesuffix(".gz") + ".gz"]
        binary = inner == BINARY
        with blame(archive), tarfile.open(archive) as tar:
            parts = {
                name: _parse(
                    _member(tar, archive, f"{inner}/{name}", binary), archive / name, binary
                )
                for name in (*TRAIN, "test_batch")
            }
    train = [parts[name] for name in TRAIN]
    return Splits(
        np.concatenate([images for images, _ in train]),
        np.concatenate([labels for _, labels in train]),
        *parts["test_batch"],
        form=f"the {'binary' if binary else 'python'} version",
    )


def _member(tar: tarfile.TarFile, archive: Path, name: str, binary: bool) -> bytes:
    name += ".bin" if binary else ""
    try:
        member = tar.extractfile(name)  # read in place: nothing is unpacked to disk
    except KeyError:
        member = None
    if member is None:
        raise DataError(f"{archive}: does not hold {name}; it is not the published archive")
    return member.read()


def _parse(data: bytes, path: Path, binary: bool) -> tuple[np.ndarray, np.ndarray]:
    rows, labels = (_parse_binary if binary else _parse_python)(data, path)
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


def _parse_binary(data: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not data or len(data) % (ROW + 1):
        raise DataError(
            f"{path}: {len(data)} bytes is not a whole number of records of {ROW + 1} bytes; "
            "the file is cut short or damaged; fetch it again"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, ROW + 1)
    return records[:, 1:], records[:, 0].astype(np.int32)


def _parse_python(data: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    with blame(path):
        batch = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
        rows, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], np.int32)
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != ROW or len(rows) == 0:
        raise DataError(f"{path}: b'data' is {rows.dtype} {rows.shape}, not uint8 (n, {ROW})")
    if labels.shape != rows.shape[:1]:
        raise DataError(f"{path}: {labels.size} labels for {len(rows)} images")
    return rows, labels


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and plain containers; a pickle can otherwise run any code."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        found = _HARMLESS.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which is not allowed")
        return found


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in protocol 2; only this one codec."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unexpected codec {encoding!r}")
    return text.encode("latin1")


def _rebuild(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """What ``numpy.core.multiarray._reconstruct`` does, for plain arrays; state follows."""
    return np.ndarray.__new__(np.ndarray, shape, code.decode("latin1"))


_HARMLESS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _rebuild,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}

READER = Reader(
    "cifar-10-binary.tar.gz or cifar-10-python.tar.gz, or the folder cifar-10-batches-bin or "
    "cifar-10-batches-py",
    find,
    read,
)
