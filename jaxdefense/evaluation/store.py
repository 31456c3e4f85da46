"""Measured curves on disk, so that what was computed once is never lost or computed again."""

import contextlib
import dataclasses
import hashlib
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
from jaxdefense.classifiers import split
from jaxdefense.errors import InputError
from jaxdefense.evaluation.robustness import Evaluations, Robustness
from jaxdefense.evaluation.sweep import sweep
from jaxdefense.typing import Classifier

# Raised whenever the same settings may give other numbers than before.
VERSION = 2


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

    The file is named by a hash of the attack's settings, every parameter of both functions, the
    images, labels, radii and key: whatever changes, it is measured anew. A file that cannot be read
    is measured anew as well. A result that cannot be written is returned all the same, with a
    warning.

    Args:
        folder: where results are kept, one file a sweep, written atomically.
        attack, deployed, x, y, radii, key, surrogate, **options: as in `sweep`. Functions must be
            pytrees of arrays (`Frozen`, `Purified`): two closures cannot be told apart.

    Returns:
        The result.

    Raises:
        InputError: a function that cannot be told from another; and as `sweep`.
    """
    surrogate = None if surrogate is deployed else surrogate
    identity = _identity(attack, deployed, x, y, radii, key, surrogate)
    path = Path(folder) / f"{attack.name}-{identity[:16]}.npz"
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


def _identity(attack, deployed, x, y, radii, key, surrogate) -> str:
    if " at 0x" in attack.settings or not all(s.search.settings for s in attack.stages):
        raise InputError(
            f"results of {attack.name} cannot be kept, because another attack cannot be told from "
            "it: give its Search a settings text that says all it does, use named functions as "
            "losses, or call sweep()"
        )
    device, precision = jax.default_backend(), jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    digest = hashlib.sha256(
        f"{VERSION} {attack.settings} {jax.__version__} {device} {precision}".encode()
    )
    for function in (deployed, surrogate):
        arrays, static = split(function)
        text = repr(static.treedef)
        if any(callable(leaf) for leaf in static.leaves) or " at 0x" in text:
            raise InputError(
                "results of a plain function cannot be kept, because another one cannot be told "
                "from it: use Frozen(module, variables), or sweep()"
            )
        digest.update(f"{text} {static.leaves}".encode())
        for array in arrays:
            _update(digest, np.asarray(array))
    if hasattr(key, "dtype") and jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    for array in (x, y, np.asarray(radii, np.float32), key):
        _update(digest, np.asarray(array))
    return digest.hexdigest()


def _update(digest, array: np.ndarray) -> None:
    digest.update(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())


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
