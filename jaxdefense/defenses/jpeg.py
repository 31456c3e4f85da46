"""JPEG compression as a function of arrays."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.defenses.filters import whole
from jaxdefense.errors import InputError
from jaxdefense.typing import Images

# ITU-T T.81, annex K, tables K.1 and K.2.
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMINANCE = np.full((8, 8), 99)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# JFIF: red, green, blue to luminance and two colour differences.
_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]]
)
_MIDDLE = np.array([0.0, 128.0, 128.0]).reshape(1, 1, 1, 3)

_FREQUENCY = np.arange(8)[:, None]
_DCT = np.cos(np.pi * _FREQUENCY * (2 * np.arange(8) + 1) / 16) * np.where(_FREQUENCY, 0.5, 8**-0.5)


class Jpeg(flax.struct.PyTreeNode):
    """JPEG compression; made by `jpeg`."""

    quality: int = flax.struct.field(pytree_node=False)

    def __call__(self, x: Images) -> Images:
        if x.shape[-1] not in (1, 3):
            raise InputError(
                f"JPEG takes grey images or red, green and blue, but these have {x.shape[-1]} "
                "channels"
            )
        planes = jnp.round(255 * x)
        if x.shape[-1] == 3:
            planes = jnp.round(_product("kc,bhwc->bhwk", _YCC, planes) + _MIDDLE)
        planes = _restored(planes, tables(self.quality)[..., : x.shape[-1]])
        if x.shape[-1] == 3:
            planes = jnp.round(_product("kc,bhwc->bhwk", np.linalg.inv(_YCC), planes - _MIDDLE))
        return jnp.clip(planes, 0, 255) / 255


def jpeg(quality: int = 75) -> Jpeg:
    """What is left of images after JPEG compression, without subsampling of the colours.

    Blocks of 8 x 8 pixels are transformed (DCT) and the coefficients rounded to multiples of the
    standard tables (ITU-T T.81, annex K), scaled by the rule of libjpeg. Colours are treated as
    luminance and two differences; images whose sides are no multiples of 8 are continued by their
    last pixels. As a defence: Das et al. 2017 (arXiv 1705.02900), Guo et al. 2018 (arXiv
    1711.00117).

    Not differentiable: rounding has no gradient, so every attack that follows gradients stands
    still. Attack it through `jaxdefense.bpda`: ``Purified(bpda(jpeg(75)), classifier)``.

    Args:
        quality: 1 to 100, as libjpeg and Pillow count it.

    Returns:
        A purifier of images with 1 or 3 channels, ``[b, h, w, c] -> [b, h, w, c]``, with values
        that are multiples of 1/255; equal settings share compiled programs. It raises
        `InputError` when called on images of other channels.

    Raises:
        InputError: a quality that is not a whole number from 1 to 100.

    Example:
        >>> import jax.numpy as jnp
        >>> stripes = jnp.zeros((1, 8, 8, 1)).at[:, ::2].set(0.1)
        >>> fine, coarse = jpeg(100)(stripes), jpeg(1)(stripes)
        >>> round(float(fine[0, 0, 0, 0]), 2), round(float(coarse[0, 0, 0, 0]), 2)
        (0.1, 0.0)
    """
    return Jpeg(whole("quality", quality, 1, 100))


def tables(quality: int) -> np.ndarray:
    """Step sizes of the coefficients ``[8, 8, 3]``: luminance and twice chrominance.

    Example:
        >>> tables(50)[0, 0].tolist(), int(tables(100).max())
        ([16, 17, 17], 1)
    """
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = np.stack([_LUMINANCE, _CHROMINANCE, _CHROMINANCE], axis=-1)
    return np.clip((base * percent + 50) // 100, 1, 255)


def _restored(planes: jax.Array, steps: np.ndarray) -> jax.Array:
    """Planes ``[b, h, w, c]`` of 0 to 255 after their blocks' coefficients are rounded."""
    count, height, width, channels = planes.shape
    padding = ((0, 0), (0, -height % 8), (0, -width % 8), (0, 0))
    padded = jnp.pad(planes, padding, mode="edge") - 128
    blocks = padded.reshape(count, padded.shape[1] // 8, 8, padded.shape[2] // 8, 8, channels)
    coefficients = _product("ui,bhiwjc,vj->bhuwvc", _DCT, blocks, _DCT)
    step = steps.reshape(1, 1, 8, 1, 8, channels)
    coefficients = _half_away(_half_away(8 * coefficients) / (8 * step)) * step
    blocks = _product("ui,bhuwvc,vj->bhiwjc", _DCT, coefficients, _DCT)
    restored = jnp.clip(jnp.round(blocks + 128), 0, 255).reshape(padded.shape)
    return restored[:, :height, :width]


def _half_away(x: jax.Array) -> jax.Array:
    """The nearest whole number, as libjpeg rounds: its coefficients come in eighths, and ties are
    frequent.
    """
    return jnp.sign(x) * jnp.floor(jnp.abs(x) + 0.5)


def _product(formula: str, *factors: jax.Array | np.ndarray) -> jax.Array:
    # In reduced precision coefficients would be rounded to the wrong step.
    exact = [jnp.asarray(factor, jnp.float32) for factor in factors]
    return jnp.einsum(formula, *exact, precision=jax.lax.Precision.HIGHEST)
