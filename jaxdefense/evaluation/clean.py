"""The clean pass: what is classified correctly, and what cannot be evaluated at all."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense import checks, jaxprs, typing
from jaxdefense.attacks.attack import Attack
from jaxdefense.classifiers import Static, apply, fold, is_random, join, split
from jaxdefense.convolutions import canonicalize
from jaxdefense.errors import InputError, JaxdefenseError
from jaxdefense.evaluation.devices import everywhere
from jaxdefense.precision import float32_products
from jaxdefense.typing import Images, Keys

# Keeps the randomness of a random defence's clean answers apart from all an attack has seen.
_CLEAN = 2**30 + 1


keys_at = jax.jit(typing.keys_at)


@jax.jit
def _apart(keys: Keys) -> Keys:
    return fold(keys, _CLEAN)


@functools.partial(jax.jit, static_argnums=0)
def _predict(static: Static, arrays: list[jax.Array], keys: Keys, x: Images) -> jax.Array:
    function = lambda x: apply(join(arrays, static), keys, x)
    on_cpu = jax.default_backend() == "cpu"
    return (canonicalize(function, often=False) if on_cpu else function)(x)


@functools.lru_cache(maxsize=256)
def _inspect(static: Static, arrays: tuple, keys: Any, x: Any, name: str) -> bool:
    """Traces a function without computing: does it take such images, and is it one function?

    Once for functions that share their programs; arguments are shapes. A draw from a hidden random
    generator becomes a constant of a compiled program, so two traces tell it and two runs do not.

    Returns:
        Whether it leaves JAX when it runs, so that only two runs tell.
    """

    def traced() -> tuple[list[np.ndarray], bool]:
        call = lambda arrays, keys, x: apply(join(list(arrays), static), keys, x)
        closed, output = jax.make_jaxpr(call, return_shape=True)(arrays, keys, x)
        checks.check_output(output, name)
        names = {equation.primitive.name for equation in jaxprs.equations(closed.jaxpr)}
        leaves = any(map(_leaves, names))
        return list(jaxprs.constants(closed)), leaves

    try:
        (constants, leaves), (again, _) = traced(), traced()
    except JaxdefenseError:
        raise
    except Exception as error:  # whatever a user's function raises on the wrong shape
        first = (str(error).strip() or "no message").splitlines()[0]
        if isinstance(error, NotImplementedError) and "vmap" in str(error):
            raise InputError(
                f"draws of the {name} are made together, by jax.vmap, which a call of the host in "
                f"it does not allow ({first}): give jax.pure_callback "
                "vmap_method='sequential'"
            ) from error
        raise InputError(
            f"the {name} cannot be called on images of shape {list(x.shape)}: "
            f"{type(error).__name__}: {first}. Give it images of the size and channels it was "
            "built for; it must be a function of JAX arrays, in evaluation mode"
        ) from error
    if len(constants) != len(again) or not all(map(_equal, constants, again)):
        checks.refuse_hidden_randomness(name)
    return leaves


def _leaves(primitive: str) -> bool:
    """Whether the name is that of a call into other code, or of a generator with a state."""
    return any(part in primitive for part in ("callback", "ffi", "custom_call", "rng_uniform"))


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool((one == other).all() or np.isnan(one).any())


@contextlib.contextmanager
def explained(attack: Attack, attacked, images: np.ndarray, key: jax.Array) -> Iterator[None]:
    """Says so where what went wrong inside is that the attacked function has no gradient.

    Raises:
        InputError: as that says; else whatever is raised inside.
    """
    try:
        yield
    except JaxdefenseError:
        raise
    except Exception as error:
        if attack.cost.gradients and not _differentiable(attacked, images[:1], key):
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{attack.name} needs gradients, and the function cannot be differentiated "
                f"({first}): attack jaxdefense.bpda(purifier) in its place, or take an attack "
                "without gradients (square, hopskipjump)"
            ) from error
        raise


def _differentiable(function, images: np.ndarray, key: jax.Array) -> bool:
    arrays, static = split(function)
    keys = keys_at(key, jnp.arange(len(images)))
    total = lambda x: apply(join(arrays, static), keys, x).sum()
    try:
        jax.eval_shape(jax.grad(total), jnp.asarray(images))
    except Exception:  # whatever a rule that is missing raises
        return False
    return True


# Programs whose rows were found not to depend on each other.
_by_row: set[Any] = set()
# Functions that leave JAX when they run; they are few.
_outside: set[Static] = set()


def leaves_jax(function) -> bool:
    """Whether a function that has been through the clean pass calls the host, or other code.

    Two calls of the host at a time end JAX on a CPU of two cores in a deadlock: each waits for its
    arguments to be copied, by a thread that the other one holds.
    """
    return split(function)[1] in _outside


def _shape(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(array), array.dtype)


def clean_correct(deployed, images, labels, key, rows, name="classifier") -> np.ndarray:
    """Which images are classified correctly without an attack, ``[n]``; as `clean_logits`."""
    return clean_logits(deployed, images, labels, key, rows, name).argmax(-1) == labels


def clean_logits(deployed, images, labels, key, rows, name="classifier") -> np.ndarray:
    """Logits ``[n, k]`` of the images without an attack.

    Args:
        deployed: the function; images, labels: on the host; key: of the sweep.
        rows: images per program call.
        name: what messages call the function.

    Raises:
        InputError: it cannot be called on such images, is random without saying so, or returns
            what cannot be logits of these labels.
    """
    with float32_products():
        logits = all_logits(deployed, images, key, rows, name)
    checks.check_logits(logits, labels, name)
    return logits


def count_classes(function, x: np.ndarray, key: jax.Array) -> int:
    """Number of logits that a function returns, without running it."""
    arrays, static = split(function)
    keys = jax.eval_shape(keys_at, key, jnp.arange(1))
    return _count(static, tuple(map(_shape, arrays)), keys, _shape(x[:1]))


@functools.lru_cache(maxsize=256)
def _count(static: Static, arrays: tuple, keys: Any, x: Any) -> int:
    call = lambda arrays, keys, x: apply(join(list(arrays), static), keys, x)
    return jax.eval_shape(call, arrays, keys, x).shape[-1]


def all_logits(deployed, images, key, rows, name) -> np.ndarray:
    """Whatever a function returns of images without an attack ``[n, k]``; see `clean_logits`."""
    arrays, static = split(deployed)
    arrays = everywhere(None, arrays)
    rows = min(rows, len(images))
    keys = keys_at(key, jnp.arange(rows))
    shapes = tuple(map(_shape, arrays)), _shape(keys), _shape(images[:rows])
    leaves = _inspect(static, *shapes, name)
    if leaves:
        if len(_outside) >= 256:  # they may hold what a user's function closes over
            _outside.clear()
        _outside.add(static)
    outputs = []
    for start in range(0, len(images), rows):
        index = np.minimum(np.arange(start, start + rows), len(images) - 1)
        keys, batch = keys_at(key, jnp.asarray(index)), jnp.asarray(images[index])
        logits = _predict(static, arrays, _apart(keys), batch)
        outputs.append(np.asarray(logits)[: len(images) - start])
        if start == 0 and leaves and not is_random(deployed):
            again = _predict(static, arrays, keys, batch)
            checks.check_deterministic(logits, again, name)
        one_each = np.shape(logits)[:1] == (rows,) and rows > 1 and not is_random(deployed)
        if start == 0 and one_each and (static, *shapes) not in _by_row:
            # The same program on some of the images, at other places beside others.
            moved = np.arange(rows)[: rows // 2][::-1]
            moved = np.concatenate([moved, np.zeros(rows - len(moved), int)])
            keys, batch = keys_at(key, jnp.asarray(moved)), jnp.asarray(images[moved])
            again = _predict(static, arrays, _apart(keys), batch)
            checks.check_rows(np.asarray(logits)[moved], np.asarray(again), name)
            if len(_by_row) >= 256:  # they may hold what a user's function closes over
                _by_row.clear()
            _by_row.add((static, *shapes))
    return np.concatenate(outputs)
