"""Random changes of training images: pure functions of a key, the same shape out as in.

They run inside a jitted training step. Each image of the batch is changed on its own.
"""

import jax
import jax.numpy as jnp

from jaxdefense.errors import InputError
from jaxdefense.typing import Images


def random_shift(key: jax.Array, x: Images, pixels: int) -> Images:
    """Shift each image by up to ``pixels`` in both directions; the edge is repeated.

    Args:
        key: one PRNG key.
        x: float32 ``[b, h, w, c]`` in [0, 1].
        pixels: largest shift along each axis, a Python int; 0 changes nothing.

    Returns:
        float32 ``[b, h, w, c]``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> random_shift(jax.random.key(0), jnp.ones((2, 8, 8, 1)), 2).shape
        (2, 8, 8, 1)
    """
    return _padded_window(key, x, pixels, "pixels", "edge")


def random_crop(key: jax.Array, x: Images, padding: int) -> Images:
    """Pad with black by ``padding`` on every side and cut a window of the old size at random.

    The usual augmentation of CIFAR (He et al. 2016, arXiv:1512.03385, padding 4).

    Args:
        key: one PRNG key.
        x: float32 ``[b, h, w, c]`` in [0, 1].
        padding: pixels added on each side, a Python int; 0 changes nothing.

    Returns:
        float32 ``[b, h, w, c]``.
    """
    return _padded_window(key, x, padding, "padding", "constant")


def random_flip(key: jax.Array, x: Images) -> Images:
    """Mirror each image left to right with probability one half (not for digits or signs).

    Args:
        key: one PRNG key.
        x: float32 ``[b, h, w, c]`` in [0, 1].

    Returns:
        float32 ``[b, h, w, c]``.
    """
    _check(x)
    flip = jax.random.bernoulli(key, shape=(x.shape[0], 1, 1, 1))
    return jnp.where(flip, x[:, :, ::-1, :], x)


def _padded_window(key: jax.Array, x: Images, pad: int, what: str, mode: str) -> Images:
    _check(x)
    if isinstance(pad, bool) or not isinstance(pad, int) or pad < 0:
        raise InputError(f"{what} must be a whole number of pixels, 0 or more, not {pad!r}")
    wide = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=mode)
    corners = jax.random.randint(key, (x.shape[0], 2), 0, 2 * pad + 1)

    def window(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), x.shape[1:])

    return jax.vmap(window)(wide, corners)


def _check(x: Images) -> None:
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(
            f"augmentation takes float images [b, h, w, c], not {x.dtype} {list(x.shape)}; "
            "turn uint8 into floats with jaxdefense.data.as_images"
        )
