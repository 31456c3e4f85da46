"""The denoising autoencoder of Gilbert 2020, "Denoising with Networks"."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class DenoisingAutoencoder(nn.Module, kw_only=True):
    """Strided convolutions, transposed ones back, and one more that makes the image.

    Table 1 of the paper; its published code adds the activations: ReLU, at the end sigmoid. There
    are no skips, no batch norm and no noise.

    Attributes:
        widths: channels of the strided convolutions; the transposed ones mirror them. ``(16, 8)``
            takes a 32x32x3 image to 512 numbers: 3,795 parameters.
        dtype: dtype of the computation; parameters and output stay float32.

    Example:
        >>> import jax
        >>> model = DenoisingAutoencoder()
        >>> variables = model.init(jax.random.key(0), jax.numpy.zeros((1, 32, 32, 3)))
        >>> model.apply(variables, jax.numpy.zeros((2, 32, 32, 3))).shape
        (2, 32, 32, 3)
    """

    widths: Sequence[int] = (16, 8)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images float32 of the shape of ``x`` in ``[0, 1]``; ``train`` changes nothing."""
        code = x
        for width in self.widths:
            code = nn.relu(_strided(nn.Conv, width, self.dtype)(code))
        for width in reversed(self.widths):
            code = nn.relu(_strided(nn.ConvTranspose, width, self.dtype)(code))
        # An odd image is halved upwards, so what comes back may be larger.
        code = code[:, : x.shape[1], : x.shape[2]]
        output = nn.Conv(x.shape[-1], (3, 3), dtype=self.dtype)(code)
        return nn.sigmoid(output.astype(jnp.float32))


def _strided(kind: Any, width: int, dtype: Any) -> nn.Module:
    layer: nn.Module = kind(width, (3, 3), strides=(2, 2), dtype=dtype)
    return layer
