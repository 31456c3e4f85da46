"""Classifiers as callables: wrappers that are pytrees, and how a callable travels through jit.

Attacks and sweeps accept any callable ``x -> logits``. Wrapping parameters in a pytree, as `Frozen`
does and as flax nnx and equinox modules are by themselves, lets new parameters reuse a compiled
program; a plain function that closes over its parameters works too, and is compiled anew for each.
"""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.errors import InputError
from jaxdefense.typing import Images, Keys, Logits, PyTree


class Frozen(flax.struct.PyTreeNode):
    """A flax linen module with its variables, as one callable in evaluation mode.

    Args:
        module: a linen module; compared by its fields, so equal modules share compiled programs.
        variables: what ``module.init`` returned, or training made of it.
        settings: keyword arguments of the call as pairs, for example ``(("train", False),)``.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> module = nn.Dense(3)
        >>> variables = module.init(jax.random.key(0), jnp.zeros((1, 4)))
        >>> Frozen(module, variables)(jnp.ones((2, 4))).shape
        (2, 3)
    """

    module: Any = flax.struct.field(pytree_node=False)
    variables: PyTree = None
    settings: tuple[tuple[str, Hashable], ...] = flax.struct.field(pytree_node=False, default=())

    def __call__(self, x):
        return self.module.apply(self.variables, x, **dict(self.settings))


class Randomized(flax.struct.PyTreeNode):
    """Marks a classifier or purifier as random: its function is called with keys ``[b]`` as well.

    Args:
        function: ``(keys, x) -> logits`` (or images); row i may use ``keys[i]`` only.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> noise = lambda key, x: x + 0.1 * jax.random.normal(key, x.shape)
        >>> noisy = Randomized(lambda keys, x: jax.vmap(noise)(keys, x).sum((1, 2)))
        >>> noisy(jax.random.split(jax.random.key(0), 2), jnp.zeros((2, 4, 4, 3))).shape
        (2, 3)
    """

    function: Callable[[Keys, Images], jax.Array]

    def __call__(self, keys: Keys, x: Images) -> jax.Array:
        return self.function(keys, x)


class Composite(flax.struct.PyTreeNode):
    """A function made of others: random exactly where one of its fields is."""


class Normalized(Composite):
    """A classifier of ``(x - mean) / std``: images outside stay in [0, 1], so eps keeps its unit.

    Args:
        classifier: takes normalised images.
        mean: per channel ``[c]``, in [0, 1].
        std: per channel ``[c]``.

    Example:
        >>> import jax.numpy as jnp
        >>> Normalized(lambda x: x.sum((1, 2)), 0.5, 0.25)(jnp.ones((1, 1, 1, 3))).tolist()
        [[2.0, 2.0, 2.0]]
    """

    classifier: Callable[..., Logits]
    mean: jax.Array | float
    std: jax.Array | float

    def __call__(self, *keys_and_x) -> Logits:
        *keys, x = keys_and_x
        by_channel = lambda value: jnp.asarray(value).reshape(1, 1, 1, -1)
        return self.classifier(*keys, (x - by_channel(self.mean)) / by_channel(self.std))


class Purified(Composite):
    """A deployed defence: a purifier in front of a classifier.

    Args:
        purifier: images -> images, for example an autoencoder.
        classifier: images -> logits.

    Where one of them is `Randomized` the whole is random too and is called with keys ``[b]``.

    Example:
        >>> import jax.numpy as jnp
        >>> Purified(jnp.round, lambda x: x.sum((1, 2)))(jnp.full((1, 1, 1, 2), 0.7)).tolist()
        [[1.0, 1.0]]
    """

    purifier: Callable[..., Images]
    classifier: Callable[..., Logits]

    def __call__(self, *keys_and_x) -> Logits:
        *keys, x = keys_and_x
        first, second = (fold(keys[0], 0), fold(keys[0], 1)) if keys else (None, None)
        return apply(self.classifier, second, apply(self.purifier, first, x))


class Tempered(Composite):
    """A classifier whose logits are divided by a temperature; its predictions stay what they are.

    Hinton et al. 2015 (arXiv 1503.02531, eq. 1). Defensive distillation (Papernot et al. 2016,
    arXiv 1511.04508) trains at a high temperature T and deploys at 1, which saturates the softmax
    and hides its gradient; attacking ``Tempered(deployed, T)`` in place of ``deployed`` undoes
    that.

    Args:
        classifier: images -> logits.
        temperature: above 1 for a softer softmax, in the unit of the logits.

    Example:
        >>> import jax.numpy as jnp
        >>> Tempered(lambda x: x.sum((1, 2)), 4.0)(jnp.ones((1, 1, 1, 2))).tolist()
        [[0.25, 0.25]]
    """

    classifier: Callable[..., Logits]
    temperature: jax.Array | float

    def __call__(self, *keys_and_x) -> Logits:
        return self.classifier(*keys_and_x) / self.temperature


def is_random(function: Callable[..., Any]) -> bool:
    """Whether a classifier or purifier says by its type that it is random."""
    if isinstance(function, Composite):
        fields = (getattr(function, field.name) for field in dataclasses.fields(function))
        return any(map(is_random, fields))
    return isinstance(function, Randomized)


def fold(keys: Keys, data: int | jax.Array) -> Keys:
    """``fold_in`` for every example's key."""
    return jax.vmap(lambda key: jax.random.fold_in(key, data))(keys)


def apply(function: Callable[..., Any], keys: Keys | None, x: Images) -> jax.Array:
    """Calls a classifier or purifier, with keys exactly where it is random.

    Raises:
        InputError: a random function without keys.
    """
    if not is_random(function):
        return function(x)
    if keys is None:
        raise InputError(
            "this classifier is random (Randomized) and needs one key per example: call it as "
            "classifier(keys, x) with keys = jaxdefense.example_keys(key, len(x))"
        )
    return function(keys, x)


class Static:
    """What of a callable is not an array: hashable, so that jit can compare it."""

    def __init__(self, treedef: Any, leaves: tuple[Any, ...]):
        self.treedef, self.leaves = treedef, leaves

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Static)
            and self.treedef == other.treedef
            and self.leaves == other.leaves
        )

    def __hash__(self) -> int:
        try:
            return hash((self.treedef, self.leaves))
        except TypeError as error:
            raise InputError(
                f"this classifier cannot be compiled: a part of it is neither an array nor "
                f"hashable ({error}). Wrap it in a plain function: lambda x: model(x)"
            ) from None


def split(function: PyTree) -> tuple[list[Any], Static]:
    """Arrays and everything else of a callable, so that it can be an argument of jit.

    Plain functions have no arrays; equinox modules hold functions among their leaves.
    """
    leaves, treedef = jax.tree.flatten(function)
    is_array = [isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in leaves]
    arrays = [leaf for leaf, array in zip(leaves, is_array, strict=True) if array]
    rest = tuple(None if array else leaf for leaf, array in zip(leaves, is_array, strict=True))
    return arrays, Static(treedef, rest)


def join(arrays: list[Any], static: Static) -> Any:
    """The inverse of `split`."""
    remaining = iter(arrays)
    leaves = [next(remaining) if leaf is None else leaf for leaf in static.leaves]
    return jax.tree.unflatten(static.treedef, leaves)
