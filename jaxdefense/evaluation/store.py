"""Measured curves on disk, so that what was computed once is never lost or computed again."""

import contextlib
import dataclasses
import json
import os
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdefense.attacks.attack import Attack
from jaxdefense.evaluation.identity import identity
from jaxdefense.evaluation.robustness import Evaluations, Robustness
from jaxdefense.evaluation.sweep import sweep
from jaxdefense.typing import Classifier


def recall(
    folder: str | os.PathLike[str],
    attack: Attack,
    deployed: Classifier,
    x: np.ndarray,
    y: np.ndarray,
    radii: Sequence[float] | np.ndarray,
    key: jax.Array,
    surrogate: Classifier | None = None,
    **options: Any,
) -> Robustness:
    """`sweep`, or its result from an earlier run with exactly the same inputs.

    The file is named by a hash of the attack's settings, every parameter of both functions and what
    they compute, the images, labels, radii and key: whatever changes, it is measured anew. A file
    that cannot be read is measured anew as well. A result that cannot be written is returned all
    the same, with a warning.

    Args:
        folder: where results are kept, one file a sweep, written atomically.
        attack, deployed, x, y, radii, key, surrogate, **options: as in `sweep`. A plain function
            that calls the host (``jax.pure_callback``) cannot be told from another one.

    Returns:
        The result.

    Raises:
        InputError: a function that cannot be told from another; and as `sweep`.
    """
    method, after = options.get("method", "nested"), options.get("after")
    name = identity(attack, deployed, x, y, radii, key, surrogate, method, after)
    path = Path(folder) / f"{attack.name}-{name[:16]}.npz"
    with contextlib.suppress(Exception):  # whatever numpy and zipfile make of a damaged file
        return _read(path)
    result = sweep(attack, deployed, x, y, radii, key, surrogate, **options)
    try:
        _write(path, result)
    except OSError as error:
        warnings.warn(
            f"cannot keep the result of {attack.name} in {folder} ({error.strerror or error}): it "
            "is returned, but the next run measures it again; free the folder or name another",
            stacklevel=2,
        )
    return result


def _write(path: Path, result: Robustness) -> None:
    fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in fields.items() if name not in arrays}
    rest["evaluations"] = dataclasses.asdict(result.evaluations)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays["json"] = np.array(json.dumps(rest))
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            np.savez(file, allow_pickle=False, **arrays)
        except BaseException:
            os.unlink(file.name)
            raise
    os.replace(file.name, path)


def _read(path: Path) -> Robustness:
    # Opened here, because numpy leaves a damaged file open.
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        # An array cut short by a damaged header is read without a look at its checksum.
        if file.zip.testzip() is not None:
            raise zipfile.BadZipFile(f"{path} is damaged")
        arrays = {name: file[name] for name in file.files}
    rest = json.loads(str(arrays.pop("json")))
    rest["evaluations"] = Evaluations(**rest["evaluations"])
    rest["seed"], rest["warnings"] = tuple(rest["seed"]), tuple(rest["warnings"])
    return Robustness(**arrays, **rest)
