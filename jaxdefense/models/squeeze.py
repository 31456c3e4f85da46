"""Squeeze-and-excitation: channels weighted by a look at the whole image."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class SqueezeExcite(nn.Module, kw_only=True):
    """Scales every channel by a number in (0, 1) that depends on the means of all channels.

    Hu, Shen and Sun 2018 (arXiv 1709.01507, eqs. 2 to 4).

    Attributes:
        hidden: size of the layer between.
        activation: after that layer.
        dtype: dtype of the computation.

    Example:
        >>> import jax
        >>> model, x = SqueezeExcite(hidden=1), jax.numpy.ones((2, 4, 4, 16))
        >>> model.apply(model.init(jax.random.key(0), x), x).shape
        (2, 4, 4, 16)
    """

    hidden: int
    activation: Any = nn.relu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features ``[b, h, w, c]`` of the shape of ``x``."""
        channels = x.shape[-1]
        gate = x.mean(axis=(1, 2), keepdims=True)
        gate = self.activation(nn.Dense(self.hidden, dtype=self.dtype)(gate))
        return x * nn.sigmoid(nn.Dense(channels, dtype=self.dtype)(gate))
