"""Blocks of examples: finished ones are on disk, for runs that resume and processes that share.

Rows do not depend on each other, so a sweep over some examples is that part of the whole sweep, to
the bit. A process takes every so-many-th block, writes what it found, and waits for the blocks of
the others; a later run, on any number of devices or processes, takes up what is missing.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdefense.errors import InputError
from jaxdefense.evaluation.grid import Measured
from jaxdefense.evaluation.processes import working_on

# Seconds between two looks at what the others have finished.
_PAUSE = 0.2
# Seconds that a process may seem to be at something else; what it shows lags behind what it does.
_STRANGE = 3.0


def in_blocks(
    run: Callable[[np.ndarray], Measured],
    count: int,
    size: int,
    folder: str | os.PathLike[str],
    identity: str,
    process: int = 0,
    processes: int = 1,
) -> Measured:
    """What `run` finds of all examples, block by block.

    Args:
        run: mask ``[n]`` of examples -> what was found of them (rows of others are not looked at).
        count: number of examples.
        size: of a block.
        folder: for finished blocks; shared by all processes.
        identity: of all that decides the numbers; blocks of another are not touched.
        process, processes: which of how many this is.

    Returns:
        The whole, the same in every process.

    Raises:
        InputError: a folder that cannot be written.
    """
    base = Path(folder) / identity[:16]
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"finished blocks cannot be kept in {folder} ({error.strerror or error}): name a "
            "folder that can be written"
        ) from None
    starts = range(0, count, size)
    path = lambda start: base / f"{start:08d}-{size}.npz"
    parts: dict[int, Measured] = {}
    for index, start in enumerate(starts):
        if index % processes != process:
            continue
        found = _read(path(start))
        if found is None:
            found = run((np.arange(count) >= start) & (np.arange(count) < start + size))
            rows = slice(start, start + size)
            found = found._replace(
                broken=found.broken[rows], norms=found.norms[rows], by=found.by[rows]
            )
            _write(path(start), found)
        parts[start] = found
    with working_on(f"{identity}-{size}") as elsewhere:
        _gather(parts, {start: path(start) for start in starts}, processes, elsewhere)
    return _join([parts[start] for start in starts])


def _gather(
    parts: dict[int, Measured],
    paths: Mapping[int, Path],
    processes: int,
    elsewhere: Callable[[int], bool],
) -> None:
    """Waits for the blocks of others."""
    late: dict[int, float] = {}
    while missing := [start for start in paths if start not in parts]:
        for start in missing:
            owner = list(paths).index(start) % processes
            strange = elsewhere(owner)
            if (found := _read(paths[start])) is not None:
                parts[start] = found
            elif not strange:
                late.pop(owner, None)
            elif time.monotonic() - late.setdefault(owner, time.monotonic()) > _STRANGE:
                raise InputError(
                    f"process {owner} of {processes} is done with its work or sweeps something "
                    "else, and will not write what this one waits for: give all processes the same "
                    "networks, images, labels, radii, seed and attack, the same version of JAX and "
                    "the same kind of device"
                )
        time.sleep(_PAUSE)


def _join(parts: list[Measured]) -> Measured:
    fields: dict[str, Any] = {}
    for name in Measured._fields:
        values = [getattr(part, name) for part in parts]
        fields[name] = sum(values) if np.ndim(values[0]) == 0 else np.concatenate(values)
    return Measured(**fields)


def _write(path: Path, found: Measured) -> None:
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            try:
                np.savez(file, allow_pickle=False, **found._asdict())
            except BaseException:
                os.unlink(file.name)
                raise
        os.replace(file.name, path)
    except OSError as error:
        raise InputError(
            f"a finished block cannot be kept in {path.parent} ({error.strerror or error}): make "
            "room there, or name another folder; blocks that are there are not lost"
        ) from None


def _read(path: Path) -> Measured | None:
    """A finished block; None where it is not there or damaged."""
    with contextlib.suppress(Exception):  # zipfile alone has a dozen ways to say it
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if file.zip.testzip() is not None:
                return None
            values = [file[name] for name in Measured._fields]
        numbers: list[Any] = [int(value) if value.ndim == 0 else value for value in values]
        return Measured(*numbers)
    return None
