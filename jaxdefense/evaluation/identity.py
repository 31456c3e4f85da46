"""What a measured curve is filed under: a hash of all that decides its numbers."""

import hashlib
from collections.abc import Sequence

import jax
import numpy as np

from jaxdefense.attacks.attack import Attack
from jaxdefense.classifiers import split
from jaxdefense.errors import InputError
from jaxdefense.evaluation.robustness import Robustness
from jaxdefense.typing import Classifier

# Raised whenever the same settings may give other numbers than before.
VERSION = 4


def identity(
    attack: Attack,
    deployed: Classifier,
    x: np.ndarray,
    y: np.ndarray,
    radii: Sequence[float] | np.ndarray,
    key: jax.Array,
    surrogate: Classifier | None,
    method: str,
    after: Robustness | None = None,
) -> str:
    """A hash of the attack's settings, every parameter, image, label and radius, and the key.

    Raises:
        InputError: a function or an attack that cannot be told from another.
    """
    surrogate = None if surrogate is deployed else surrogate
    if " at 0x" in attack.settings or not all(s.search.settings for s in attack.stages):
        raise InputError(
            f"results of {attack.name} cannot be kept, because another attack cannot be told from "
            "it: give its Search a settings text that says all it does, use named functions as "
            "losses, or call sweep()"
        )
    device, precision = jax.default_backend(), jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    digest = hashlib.sha256(
        f"{VERSION} {method} {attack.settings} {jax.__version__} {device} {precision}".encode()
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
    known = () if after is None else (after.smallest_radius,)
    for array in (x, y, np.asarray(radii, np.float32), key, *known):
        _update(digest, np.asarray(array))
    return digest.hexdigest()


def _update(digest, array: np.ndarray) -> None:
    digest.update(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
