"""What a measured curve is filed under: a hash of all that decides its numbers."""

import contextlib
import dataclasses
import functools
import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdefense.attacks.attack import Attack
from jaxdefense.classifiers import Static, apply, join, split
from jaxdefense.errors import InputError
from jaxdefense.evaluation.robustness import Robustness
from jaxdefense.jaxprs import constants, equations
from jaxdefense.precision import float32_products
from jaxdefense.typing import Classifier, example_keys

# Raised whenever the same settings may give other numbers than before.
VERSION = 5
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# Whose functions hold no parameters and are the same wherever they have the same name.
_LIBRARIES = {"jax", "flax", "equinox", "optax", "numpy", "jaxdefense"}


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

    Of the functions also what they compute, as JAX traces it with the numbers they hold, so that
    changed code or other parameters are another one.

    Raises:
        InputError: an attack that cannot be told from another, or a plain function that calls the
            host or cannot be traced.
    """
    surrogate = None if surrogate is deployed else surrogate
    if " at 0x" in attack.settings or not all(s.search.settings for s in attack.stages):
        raise InputError(
            f"results of {attack.name} cannot be kept, because another attack cannot be told from "
            "it: give its Search a settings text that says all it does, use named functions as "
            "losses, or call sweep()"
        )
    with float32_products():
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    whole = f"{attack.settings} {attack.ball} {attack.minimal} {attack.on_grid}"
    device = jax.default_backend()
    digest = hashlib.sha256(
        f"{VERSION} {method} {whole} {jax.__version__} {device} {precision}".encode()
    )
    for function in (deployed, surrogate):
        arrays, static = split(function)
        program, complete = _program(static, arrays, x, precision)
        try:
            program += _parts(static)
        except InputError:
            if not complete:  # what is traced tells it from every other one
                raise
        digest.update(program.encode())
        for array in arrays:
            _update(digest, array)
    if hasattr(key, "dtype") and jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    known: tuple[Any, ...] = ()
    if after is not None:  # all that the result repeats of it
        spent = after.evaluations
        said = f"{after.attack} {after.warnings} {spent.gradients} {spent.forwards}"
        digest.update(said.encode())
        known = (after.smallest_radius, after.distance, after.broken_by)
    for array in (x, y, np.asarray(radii, np.float32), key, *known):
        _update(digest, np.asarray(array))
    return digest.hexdigest()


def _parts(static: Static) -> str:
    """What a function is made of, by name.

    Raises:
        InputError: a plain function is a part of it.
    """
    # A linen module shows its functions by their bare names, so that all must be looked at.
    named, text = _structure(static.treedef), repr(static.treedef)
    text = named if " at 0x" in text else text
    leaves = [_named(leaf) if callable(leaf) else leaf for leaf in static.leaves]
    return f"{text} {tuple(leaves)}"


def _program(
    static: Static, arrays: Sequence[jax.Array], x: np.ndarray, precision: str | None
) -> tuple[str, bool]:
    """What a function computes, and its gradient, and whether that is all of it.

    Names do not tell when code was changed.
    """
    like = tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays)
    return _traced(static, like, tuple(x.shape[1:]), str(precision))


@functools.lru_cache(64)
def _traced(
    static: Static, like: tuple[Any, ...], shape: tuple[int, ...], precision: str | None
) -> tuple[str, bool]:
    def forward(arrays, keys, x):
        return apply(join(list(arrays), static), keys, x)

    def backward(arrays, keys, x):
        logits, pull = jax.vjp(lambda x: forward(arrays, keys, x), x)
        return logits, pull(jax.numpy.ones_like(logits))

    keys = jax.eval_shape(lambda: example_keys(jax.random.key(0), 2))
    images = jax.ShapeDtypeStruct((2, *shape), jax.numpy.float32)
    for function in (backward, forward):
        # Where it cannot be differentiated, or not traced, what comes of that is told elsewhere.
        with contextlib.suppress(Exception):
            with float32_products():
                traced = jax.make_jaxpr(function)(like, keys, images)
            written = hashlib.sha256()
            for number in constants(traced):
                _update(written, number)
            on_host = any("callback" in e.primitive.name for e in equations(traced.jaxpr))
            return _ADDRESS.sub("", str(traced)) + written.hexdigest(), not on_host
    return "", False


def _structure(tree: Any) -> str:
    """A tree's structure in words that are the same in every process."""
    node = tree.node_data()
    inside = ", ".join(map(_structure, tree.children()))
    return "*" if node is None else f"{node[0]} {_settings(node[1])} [{inside}]"


def _settings(value: Any) -> str:
    """What a module keeps besides its arrays, in words that are the same in every process.

    Raises:
        InputError: a function that cannot be told from others.
    """
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_settings, value))})"
    if isinstance(value, Mapping):
        return str({str(name): _settings(part) for name, part in value.items()})
    if isinstance(value, functools.partial):
        return f"partial{_settings((value.func, value.args, value.keywords))}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # as linen modules are
        names = [f.name for f in dataclasses.fields(value) if f.name not in ("parent", "name")]
        return f"{type(value)} {[(n, _settings(getattr(value, n, None))) for n in names]}"
    known = isinstance(value, type) or not callable(value)
    return repr(value) if known and " at 0x" not in repr(value) else _named(value)


def _named(function: Any) -> str:
    """Where a library has a function, and what it was made with."""
    place, name = (str(getattr(function, n, "")) for n in ("__module__", "__qualname__"))
    if place.partition(".")[0] in _LIBRARIES:
        found: Any = sys.modules.get(place)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is function:
            return f"{place}.{name}"
        cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
        if cells and not any(hasattr(content, "shape") for content in cells):
            return f"{place}.{name} {_settings(cells)}"
    raise InputError(
        "results of a plain function that calls the host (jax.pure_callback), or that JAX cannot "
        f"trace, cannot be kept, because another one cannot be told from it: {function!r} may hold "
        "parameters. Use Frozen(module, variables), an nnx or equinox module with functions of "
        f"{', '.join(sorted(_LIBRARIES))} only, or sweep() without resume"
    )


def _update(digest, array: Any) -> None:
    if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    array = np.asarray(array)
    digest.update(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
