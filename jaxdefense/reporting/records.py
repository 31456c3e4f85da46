"""Tidy records: one row per measured cell, written as JSON and CSV so that nothing is half-written.

A record carries everything a reader needs to judge one number: how many examples, the interval, the
seed, what the attacker knew, what it cost and where the data came from.
"""

import contextlib
import csv
import dataclasses
import importlib.metadata
import io
import json
import math
import os
import platform
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdefense.errors import DataError, InputError

SCHEMA = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One measured cell: this model and defence under this attack at this radius.

    Numpy scalars become plain Python numbers, so that records compare, hash and serialise.

    Attributes:
        experiment: what was run, for example ``"quickstart"``.
        dataset: name of the data set.
        model: name of the classifier, for example ``"ResNet"``.
        defence: ``"none"``, ``"AE"``, ``"U-AE"``, ...
        attack: ``"none"`` for clean images, ``"gaussian"``, ``"fgsm"``, ``"pgd-40"``, ...
        knowledge: what the attacker knew. ``"none"`` for clean images and noise, ``"oblivious"``
            for gradients of the classifier alone, ``"white-box"`` for gradients through the
            deployed function.
        norm: the unit of ``eps``: ``"linf"``, ``"l2"``, ``"l1"`` or ``"sigma"`` (noise). Any
            for clean images.
        eps: the radius, for pixels in [0, 1]; 0 for clean images.
        metric: what ``value`` is.
        value: of an accuracy a fraction in [0, 1]; NaN when it could not be measured.
        low: lower end of the 95 % interval, NaN when there is none.
        high: upper end of the 95 % interval, NaN when there is none.
        n: how many examples.
        seed: the seed of the measurement.
        gradients: gradient evaluations spent, over all examples.
        forwards: forward evaluations spent, over all examples.
        provenance: where the data came from.
        synthetic: whether the data are synthetic or stand in for other data.
        note: anything a reader must know about this cell.

    Raises:
        InputError: an accuracy outside [0, 1], an interval that does not hold the value, a radius
            that is negative or not finite, a count that is negative.
    """

    experiment: str
    dataset: str
    model: str
    defence: str
    attack: str
    knowledge: str
    norm: str
    eps: float
    metric: str = "accuracy"
    value: float
    low: float
    high: float
    n: int
    seed: int
    gradients: int
    forwards: int
    provenance: str
    synthetic: bool
    note: str = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            given = getattr(self, field.name)
            object.__setattr__(self, field.name, _plain(field.name, given, field.type))
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise InputError(f"record eps = {self.eps}: a radius is finite and at least 0")
        for name in ("value", "low", "high"):
            fraction = getattr(self, name)
            if self.metric == "accuracy" and not (math.isnan(fraction) or 0 <= fraction <= 1):
                raise InputError(
                    f"record {name} = {fraction}: it is a fraction, so give a number in [0, 1] "
                    "(not percent), or NaN when it was not measured"
                )
        if self.low > self.value + 1e-6 or self.high < self.value - 1e-6:
            raise InputError(
                f"record value = {self.value} lies outside its interval [{self.low}, {self.high}]: "
                "give low and high as ends of the interval, not as distances from the value"
            )
        for name in ("n", "gradients", "forwards"):
            if getattr(self, name) < 0:
                raise InputError(f"record {name} = {getattr(self, name)}: a count is at least 0")


def _plain(name: str, given: Any, kind: Any) -> Any:
    if kind is str and isinstance(given, str):
        return str(given)
    if kind is bool and isinstance(given, bool | np.bool_):
        return bool(given)
    if kind in (int, float) and not isinstance(given, bool | np.bool_):
        # Arrays of shape [] arrive here as well, numpy's and jax's: float() takes them all.
        try:
            number = kind(given)
            if number == given or math.isnan(number):
                return number
        except (TypeError, ValueError, OverflowError):
            pass
    raise InputError(f"record {name} = {given!r}: give one {kind.__name__}")


def write_json(path: str | Path, records: Iterable[Record], meta: Mapping[str, Any]) -> None:
    """Write records and how they came about; the old file stays until the new one is complete.

    NaN becomes ``null``. In `meta`, infinities become ``null`` as well, arrays become lists,
    dataclasses become objects and paths become text.

    Args:
        path: the file to write.
        records: the rows.
        meta: command, device, versions, wall seconds, config: whatever a reader needs.

    Raises:
        InputError: the file cannot be written, or `meta` holds something JSON cannot.

    Example:
        >>> write_json("results.json", records, {"command": "make quickstart"})  # doctest: +SKIP
    """
    rows = ",\n".join(_dumps(dataclasses.asdict(record)) for record in records)
    head = f'"schema": {SCHEMA},\n"meta": {_dumps(meta, indent=2)}'
    # One line per record: a change of one cell is one line in a diff.
    write_atomically(path, f'{{\n{head},\n"records": [\n{rows}\n]\n}}\n')


def read_json(path: str | Path) -> tuple[list[Record], dict[str, Any]]:
    """Read what `write_json` wrote.

    Args:
        path: the file.

    Returns:
        The records, with ``null`` read as NaN, and the meta dictionary.

    Raises:
        DataError: the file is missing, truncated, of another schema, or not a file of records.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON, perhaps cut short ({error}): run again") from error
    if not isinstance(found, dict) or not {"schema", "meta", "records"} <= found.keys():
        raise DataError(f"{path} holds no records: expected the keys schema, meta and records")
    if found["schema"] != SCHEMA:
        raise DataError(
            f"{path} has schema {found['schema']!r} and this version reads {SCHEMA}: "
            "run again, or read it with the version that wrote it"
        )
    records = []
    for index, row in enumerate(found["records"]):
        try:
            floats = {k: math.nan for k in ("value", "low", "high") if row[k] is None}
            records.append(Record(**{**row, **floats}))
        except (TypeError, KeyError, InputError) as error:
            raise DataError(f"{path}: record {index} is not a record ({error})") from error
    return records, found["meta"]


def write_csv(path: str | Path, records: Iterable[Record]) -> None:
    """Write records as CSV, one row each under a header; NaN becomes an empty cell.

    Raises:
        InputError: the file cannot be written.
    """
    write_atomically(path, csv_text(records))


def csv_text(records: Iterable[Record]) -> str:
    """The text that `write_csv` writes."""
    text = io.StringIO()
    names = [field.name for field in dataclasses.fields(Record)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for record in records:
        row = dataclasses.asdict(record)
        # nan is the only value that differs from itself
        writer.writerow({name: "" if cell != cell else cell for name, cell in row.items()})
    return text.getvalue()


def versions() -> dict[str, str]:
    """The versions that decide a result: Python, jaxdefense, jax, flax and numpy."""
    found = {"python": platform.python_version()}
    for package in ("jaxdefense", "jax", "flax", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def ensure_folder(path: str | Path) -> Path:
    """Make a folder and check that files can be written there; call it before any long work.

    Returns:
        The folder.

    Raises:
        InputError: it cannot be made or written to.

    Example:
        >>> import tempfile
        >>> ensure_folder(tempfile.mkdtemp() + "/runs/today").name
        'today'
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0")
    except OSError as error:
        raise InputError(
            f"cannot write to the output folder {folder}: {error.strerror}. "
            "Name another folder, or free it or change its permissions"
        ) from error
    return folder


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a file so that readers, and a crash, see the old content or the new, never a part.

    Raises:
        InputError: it cannot be written; the old file, if any, is untouched.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    # Not tempfile: its files are private to the user, and results are for others to read.
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror}. Choose another output folder or make room"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the part may be gone, or the folder no folder
            part.unlink()


def _dumps(value: Any, indent: int | None = None) -> str:
    return json.dumps(jsonable(value, "meta"), indent=indent, ensure_ascii=False, allow_nan=False)


def jsonable(value: Any, where: str) -> Any:
    """Plain values that JSON can hold; `where` names the value in the error."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [jsonable(item, f"{where}[{i}]") for i, item in enumerate(items)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return jsonable({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, where)
    if hasattr(value, "tolist"):  # arrays and scalars of numpy and jax
        return jsonable(value.tolist(), where)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise InputError(
        f"{where} is a {type(value).__name__}, which JSON cannot hold: give numbers, text, lists, "
        "dictionaries, arrays or dataclasses"
    )
