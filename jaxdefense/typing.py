"""The vocabulary: what images, labels, classifiers, purifiers and losses are.

Images are float32 ``[b, h, w, c]`` in ``[0, 1]``; every ``eps`` is in the same unit; normalisation
happens inside the classifier. Arrays that are trained live in pytrees, settings live in closures,
numbers that differ per example are arguments: then new parameters or another eps never retrace.
"""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxdefense.errors import InputError

Images = Float[Array, "b h w c"]
Labels = Int[Array, " b"]  # int32 classes; losses that say so also take distributions [b, k]
Logits = Float[Array, "b k"]
PerExample = Float[Array, " b"]
Flags = Bool[Array, " b"]
Radii = Float[Array, " b"]  # one eps per example, always
Keys = Key[Array, " b"]  # one PRNG key per example: fold_in(key, example_index)

Classifier = Callable[[Images], Logits]
"""Any callable from images to logits: a function, a flax linen module bound in `Frozen`, a flax nnx
or equinox module. A pytree when its parameters should travel through jit as arguments."""

Purifier = Callable[[Images], Images]
"""Any callable from images to images in [0, 1], for example an autoencoder."""

Loss = Callable[[Logits, Labels], PerExample]
"""Larger is closer to fooling the classifier; losses are always ascended."""

PyTree = Any
_SEPARABLE = "threefry2x32"


def example_keys(key: jax.Array, count: int, start: int = 0) -> Keys:
    """One key per example, so that no example's randomness depends on the batch it sits in.

    Args:
        key: one PRNG key, ``jax.random.key(seed)``.
        count: how many examples.
        start: index of the first of them in the whole data set.

    Returns:
        Keys ``[count]``: ``fold_in(key, start + i)``.

    Example:
        >>> import jax
        >>> example_keys(jax.random.key(0), 3).shape
        (3,)
    """
    return keys_at(key, jax.numpy.arange(start, start + count))


def keys_at(key: jax.Array, index: jax.Array) -> Keys:
    """Keys of the examples at the given indices: ``fold_in(key, index)``."""
    key = separable(key)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def as_keys(key: jax.Array, count: int) -> Keys:
    """Keys ``[count]`` from one key or from as many; typed keys and ``PRNGKey`` arrays both do.

    Raises:
        InputError: no keys, or another number of them.
    """
    key = separable(key)
    if key.ndim and key.shape != (count,):
        raise InputError(
            f"{count} images but keys of shape {key.shape}: give one key, or one for each image "
            "(jaxdefense.example_keys(key, count))"
        )
    return key if key.ndim else example_keys(key, count)


def one_key(key: Any) -> jax.Array:
    """One typed key, of a key or of a ``PRNGKey`` array.

    Raises:
        InputError: anything else, for example a seed.
    """
    key = typed(key)
    if key.ndim:
        raise InputError(
            f"key holds {key.size} keys, but one is needed, from which each example's is made"
        )
    return key


def typed(key: Any) -> jax.Array:
    """Keys as JAX's own type, of such or of ``PRNGKey`` arrays.

    Raises:
        InputError: anything else, for example a seed.
    """
    if hasattr(key, "dtype") and jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    try:
        return jax.random.wrap_key_data(jax.numpy.asarray(key))
    except (TypeError, ValueError):
        raise InputError(f"key is {key!r}, but must be a PRNG key: jax.random.key(seed)") from None


def separable(key: jax.Array) -> jax.Array:
    """Keys whose draws under vmap do not depend on the batch: themselves, or made of others.

    With JAX's ``rbg`` and ``unsafe_rbg`` generators a row's numbers depend on the row before all
    others, so that an example's fate would depend on its neighbours.

    Example:
        >>> import jax
        >>> str(separable(jax.random.key(3, impl="rbg")).dtype)
        'key<fry>'
    """
    key = typed(key)
    if str(jax.random.key_impl(key)) == _SEPARABLE:
        return key
    words = jax.random.key_data(key)
    found = jax.random.wrap_key_data(words[..., :2], impl=_SEPARABLE)
    mix = jax.random.fold_in if not key.ndim else jax.vmap(jax.random.fold_in)
    for index in range(2, words.shape[-1]):
        found = mix(found, words[..., index])
    return found
