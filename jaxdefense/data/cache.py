"""The array cache: one uncompressed ``.npz`` per set, kept while its source files are unchanged.

MNIST loads from it in 0.2 s, against 16 s from a TFDS folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from jaxdefense.data.dataset import Dataset

FORMAT = 1  # raise it when a reader's result changes: older cache files are then rebuilt


@dataclass(frozen=True)
class Source:
    """Where a data set would be read from, found without reading it.

    Attributes:
        name: stem of the cache file.
        settings: what else decides the arrays (size, seed, ...).
        files: the source files; the cache holds while their names, sizes and mtimes do.
        read: reads the set; slow.
        keep: False where reading is as fast as the cache would be.
    """

    name: str
    settings: str
    files: tuple[Path, ...]
    read: Callable[[], Dataset]
    keep: bool = True


def folder() -> Path:
    """``JAXDEFENSE_CACHE``, or ``~/.cache/jaxdefense``."""
    named = os.environ.get("JAXDEFENSE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "jaxdefense"


def fetch(source: Source) -> Dataset:
    """The set from the cache if its source is unchanged, else read and kept for next time.

    A damaged cache file is rebuilt, and a cache that cannot be written is done without, both with
    a warning: neither costs the caller the data.
    """
    if not source.keep:
        return source.read()
    path = folder() / f"{_slug(source.name)}-{_digest(source)}.npz"
    stamp = fingerprint(source.files)
    cached = _load(path, stamp)
    if cached is not None:
        return cached
    dataset = source.read()
    try:
        _save(path, dataset, stamp)
    except OSError as error:
        warnings.warn(
            f"cannot keep {source.name} in the array cache {path.parent} ({error}); it will be "
            "read anew next time. Set JAXDEFENSE_CACHE to a folder that can be written",
            stacklevel=3,
        )
    return dataset


def fingerprint(files: tuple[Path, ...]) -> str:
    """A digest of the names, sizes and modification times of ``files``."""
    digest = hashlib.sha256()
    for path in files:
        state = path.stat()
        digest.update(f"{path.absolute()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _digest(source: Source) -> str:
    place = os.path.commonpath([path.absolute() for path in source.files]) if source.files else ""
    return hashlib.sha256(f"{source.settings}\0{place}".encode()).hexdigest()[:16]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:80] or "data"


def _load(path: Path, stamp: str) -> Dataset | None:
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            if about["format"] != FORMAT or about["stamp"] != stamp:
                return None
            arrays = {key: file[key] for key in file.files if key != "about"}
        values = {key: about[key] for key in ("name", "provenance", "synthetic")}
        return Dataset(class_names=tuple(about["class_names"]), **values, **arrays)
    except Exception as error:  # whatever a damaged zip raises
        warnings.warn(
            f"the cache file {path} is damaged ({error or type(error).__name__}); rebuilding it",
            stacklevel=4,
        )
        return None


def _save(path: Path, dataset: Dataset, stamp: str) -> None:
    values = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
    arrays: dict[str, Any] = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
    about = {k: v for k, v in values.items() if k not in arrays and v is not None}
    arrays["about"] = np.array(json.dumps(about | {"format": FORMAT, "stamp": stamp}))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed: a reader sees the whole file or none, even after a crash.
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
