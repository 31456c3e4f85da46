"""Convolutional autoencoders that purify images: plain, and with skip connections (U-shaped).

Architecture of Jung, Ham, Song and Moon, "U-Autoencoder" (2022): 3x3 convolutions of stride 2 with
ReLU, mirrored by transposed convolutions. The paper leaves open how skips are joined, so
`UAutoencoder` has the three readings as variants.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdefense.errors import UnknownNameError
from jaxdefense.typing import PyTree

SKIPS = ("add", "add_input", "concat")


class Autoencoder(nn.Module, kw_only=True):
    """Encoder of strided convolutions, mirrored decoder, sigmoid output; no skips.

    Attributes:
        widths: channels after each encoder layer; its length is the depth. ``(32, 64)`` takes
            32x32 images to an 8x8 bottleneck.
        dtype: dtype of the computation; parameters and output stay float32.

    Example:
        >>> import jax
        >>> model = Autoencoder(widths=(8, 16))
        >>> variables = model.init(jax.random.key(0), jax.numpy.zeros((1, 28, 28, 1)))
        >>> model.apply(variables, jax.numpy.zeros((2, 28, 28, 1))).shape
        (2, 28, 28, 1)
    """

    widths: Sequence[int] = (32, 64)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images float32 of the shape of ``x`` in ``[0, 1]``; ``train`` changes nothing."""
        *levels, code = _encode(x, self.widths, self.dtype)
        for level in reversed(levels[1:]):
            code = nn.relu(_upsample(code, level, self.dtype))
        return nn.sigmoid(_upsample(code, x, self.dtype).astype(jnp.float32))


class UAutoencoder(nn.Module, kw_only=True):
    """The autoencoder with skip connections from each encoder layer to its mirror image.

    Attributes:
        widths: channels after each encoder layer; its length is the depth.
        skips: how encoder features join the decoder.
            ``"add"`` (default): identity skips, ``relu(decoder + encoder)``, as in residual
            networks; sigmoid output.
            ``"add_input"``: as ``"add"``, and the input image is added to a linear output, then
            clamped to ``[0, 1]``. Reconstruction of clean images then has the trivial solution
            "decoder = 0", which defends against nothing.
            ``"concat"``: encoder features are concatenated (U-Net, arXiv 1505.04597); sigmoid
            output.
        dtype: dtype of the computation; parameters and output stay float32.

    Example:
        >>> import jax
        >>> model = UAutoencoder(widths=(8, 16), skips="concat")
        >>> variables = model.init(jax.random.key(0), jax.numpy.zeros((1, 32, 32, 3)))
        >>> model.apply(variables, jax.numpy.zeros((2, 32, 32, 3))).shape
        (2, 32, 32, 3)
    """

    widths: Sequence[int] = (32, 64)
    skips: str = "add"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images float32 of the shape of ``x`` in ``[0, 1]``; ``train`` changes nothing.

        Raises:
            UnknownNameError: ``skips`` is not one of ``SKIPS``.
        """
        if self.skips not in SKIPS:
            raise UnknownNameError("skip connection", self.skips, SKIPS)
        *levels, code = _encode(x, self.widths, self.dtype)
        for level in reversed(levels[1:]):
            decoded = _upsample(code, level, self.dtype)
            if self.skips == "concat":
                code = jnp.concatenate([nn.relu(decoded), level], axis=-1)
            else:
                code = nn.relu(decoded + level)
        output = _upsample(code, x, self.dtype).astype(jnp.float32)
        if self.skips == "add_input":
            return jnp.clip(x.astype(jnp.float32) + output, 0.0, 1.0)
        return nn.sigmoid(output)


def autoencoder(width: int = 32, depth: int = 2, **kwargs: Any) -> Autoencoder:
    """The plain autoencoder: ``depth`` layers of ``width``, ``2 width``, ... channels."""
    return Autoencoder(**{"widths": _doubling(width, depth), **kwargs})


def u_autoencoder(width: int = 32, depth: int = 2, **kwargs: Any) -> UAutoencoder:
    """The U-autoencoder: ``depth`` layers of ``width``, ``2 width``, ... channels, ``skips``."""
    return UAutoencoder(**{"widths": _doubling(width, depth), **kwargs})


def bottleneck(model: Autoencoder | UAutoencoder, variables: PyTree, x: jax.Array) -> jax.Array:
    """The code that an autoencoder's encoder hands to its decoder.

    Args:
        model: the autoencoder.
        variables: of it.
        x: images ``[b, h, w, c]``.

    Returns:
        ``[b, h / 2**depth, w / 2**depth, widths[-1]]``, odd sizes halved upwards.

    Example:
        >>> import jax
        >>> model, x = Autoencoder(widths=(2, 3)), jax.numpy.zeros((5, 16, 16, 1))
        >>> bottleneck(model, model.init(jax.random.key(0), x), x).shape
        (5, 4, 4, 3)
    """
    last = f"Conv_{len(model.widths) - 1}"
    _, state = model.apply(
        variables, x, mutable=["intermediates"],
        capture_intermediates=lambda layer, _: layer.name == last,
    )  # fmt: skip
    return nn.relu(state["intermediates"][last]["__call__"][0])


def _doubling(width: int, depth: int) -> tuple[int, ...]:
    return tuple(width * 2**layer for layer in range(depth))


def _encode(x: jax.Array, widths: Sequence[int], dtype: Any) -> list[jax.Array]:
    """The image and what each encoder layer makes of it, from finest to coarsest."""
    levels = [x]
    for features in widths:
        convolution = nn.Conv(
            features,
            (3, 3),
            strides=2,
            padding=1,
            kernel_init=nn.initializers.he_normal(),
            dtype=dtype,
        )
        levels.append(nn.relu(convolution(levels[-1])))
    return levels


def _upsample(code: jax.Array, like: jax.Array, dtype: Any) -> jax.Array:
    """Doubles the image and gives it the height, width and channels of ``like``."""
    doubled = nn.ConvTranspose(like.shape[-1], (3, 3), strides=(2, 2), dtype=dtype)(code)
    # An odd image is halved upwards, so its double is one pixel too large.
    return doubled[:, : like.shape[1], : like.shape[2]]
