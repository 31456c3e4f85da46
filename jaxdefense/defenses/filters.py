"""Filters without parameters: nothing, blur, down- and upsampling, fewer grey levels.

What a learned purifier does that one of these does as well is no merit of learning.
"""

import math
import operator

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.errors import InputError
from jaxdefense.typing import Images


class Identity(flax.struct.PyTreeNode):
    """Images as they are; made by `identity`."""

    def __call__(self, x: Images) -> Images:
        return x


def identity() -> Identity:
    """The purifier that does nothing: ``Purified(identity(), classifier)`` is the classifier.

    A gain that it shows as well comes from what is around the purifier, for example from a second
    classifier trained with another seed.

    Example:
        >>> import jax.numpy as jnp
        >>> identity()(jnp.ones((1, 2, 2, 1))).shape
        (1, 2, 2, 1)
    """
    return Identity()


class Blur(flax.struct.PyTreeNode):
    """Gaussian blur; made by `blur`."""

    sigma: float = flax.struct.field(pytree_node=False)

    def __call__(self, x: Images) -> Images:
        return _mix(x, *(_gaussian(size, self.sigma) for size in x.shape[1:3]))


def blur(sigma: float) -> Blur:
    """Gaussian blur: every pixel becomes a weighted mean of the pixels around it.

    Weights are those of the whole Gaussian, cut off at the border of the image and normalised
    there, so that a constant image stays what it is. Linear, so attack it as it is.

    Args:
        sigma: standard deviation in pixels.

    Returns:
        A purifier ``[b, h, w, c] -> [b, h, w, c]``; equal settings share compiled programs.

    Raises:
        InputError: sigma is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> point = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4].set(1.0)
        >>> round(float(blur(1.0)(point)[0, 4, 4, 0]), 3)  # 1 / (2 pi)
        0.159
    """
    if not (sigma > 0 and math.isfinite(sigma)):
        raise InputError(f"sigma is {sigma}, but a blur needs a positive number of pixels")
    return Blur(float(sigma))


class Resample(flax.struct.PyTreeNode):
    """Down- and upsampling; made by `resample`."""

    factor: int = flax.struct.field(pytree_node=False)

    def __call__(self, x: Images) -> Images:
        return _mix(x, *(_down_and_up(size, self.factor) for size in x.shape[1:3]))


def resample(factor: int = 2) -> Resample:
    """Averages squares of pixels, then interpolates between their centres (bilinear).

    What an autoencoder of strided convolutions cannot help doing to fine detail. Images may have
    any size: the last squares are smaller where it is not a multiple of the factor, and beyond the
    outermost centres the image goes on constant. Linear, so attack it as it is.

    Args:
        factor: side of a square in pixels; 1 changes nothing.

    Returns:
        A purifier ``[b, h, w, c] -> [b, h, w, c]``; equal settings share compiled programs.

    Raises:
        InputError: the factor is not a whole number, or below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> stripes = jnp.zeros((1, 4, 4, 1)).at[:, ::2].set(1.0)
        >>> resample(2)(stripes)[0, :, 0, 0].tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    return Resample(whole("factor", factor, 1))


class BitDepth(flax.struct.PyTreeNode):
    """Fewer grey levels; made by `bit_depth`."""

    bits: int = flax.struct.field(pytree_node=False)

    def __call__(self, x: Images) -> Images:
        levels = 2**self.bits - 1
        return jnp.round(levels * x) / levels


def bit_depth(bits: int) -> BitDepth:
    """Rounds every value to one of ``2 ** bits`` levels from 0 to 1.

    Feature squeezing (Xu et al. 2018, arXiv 1704.01155).

    Not differentiable: rounding has no gradient, so every attack that follows gradients stands
    still. Attack it through `jaxdefense.bpda`: ``Purified(bpda(bit_depth(3)), classifier)``.

    Args:
        bits: 1 (black and white) to 8 (as images are stored).

    Returns:
        A purifier ``[b, h, w, c] -> [b, h, w, c]``; equal settings share compiled programs.

    Raises:
        InputError: bits that are not a whole number from 1 to 8.

    Example:
        >>> import jax.numpy as jnp
        >>> bit_depth(1)(jnp.array([0.4, 0.6]).reshape(1, 1, 2, 1)).ravel().tolist()
        [0.0, 1.0]
    """
    return BitDepth(whole("bits", bits, 1, 8))


@jax.custom_jvp
def inside(x: Images) -> Images:
    """Cuts off what rounding put outside [0, 1], and leaves the gradient alone.

    ``jnp.clip`` would halve the gradient of every pixel that is exactly black or white.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> float(jax.grad(lambda x: inside(x).sum())(jnp.ones((1, 1, 1, 1))).sum())
        1.0
    """
    return jnp.clip(x, 0.0, 1.0)


inside.defjvps(lambda dx, answer, x: dx)


def whole(name: str, value: int, least: int, most: int | None = None) -> int:
    """A setting that must be a whole number from `least` to `most`.

    Raises:
        InputError: it is not.

    Example:
        >>> whole("bits", 3, 1, 8)
        3
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or (most is not None and number > most):
        to = "or more" if most is None else f"to {most}"
        raise InputError(f"{name} is {value!r}, but must be a whole number, {least} {to}")
    return number


def _mix(x: Images, rows: np.ndarray, columns: np.ndarray) -> Images:
    """Weighted means along both sides; the weights ``[size, size]`` of each output sum to 1."""
    weights = (jnp.asarray(rows, x.dtype), jnp.asarray(columns, x.dtype))
    highest = jax.lax.Precision.HIGHEST
    return inside(jnp.einsum("ih,bhwc,jw->bijc", weights[0], x, weights[1], precision=highest))


def _gaussian(size: int, sigma: float) -> np.ndarray:
    place = np.arange(size)
    weights = np.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return weights / weights.sum(1, keepdims=True)


def _down_and_up(size: int, factor: int) -> np.ndarray:
    place, count = np.arange(size), -(-size // factor)
    member = place // factor == np.arange(count)[:, None]
    down = member / member.sum(1, keepdims=True)
    # Centres of what was averaged, so that a smaller last square is where it is.
    up = np.stack([np.interp(place, down @ place, one) for one in np.eye(count)], axis=1)
    return up @ down
