"""Generator and critic of a generative adversarial network for small images."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class Generator(nn.Module, kw_only=True):
    """Codes to images: a dense layer and three transposed 5x5 convolutions of stride 2.

    As in the public code of Defense-GAN (Samangouei, Kabkab and Chellappa 2018, arXiv 1805.06605).

    Attributes:
        image_shape: ``(h, w, c)``.
        latent: numbers in a code; they are drawn from a standard normal.
        features: channels of the image before the last layer; 2 and 4 times as many before that.
        dtype: dtype of the computation; parameters and output stay float32.

    Example:
        >>> import jax
        >>> model, code = Generator(), jax.numpy.zeros((2, 128))
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), code)[0].shape
        (2, 28, 28, 1)
    """

    image_shape: tuple[int, int, int] = (28, 28, 1)
    latent: int = 128
    features: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, code: jax.Array) -> jax.Array:
        """Images float32 ``[b, h, w, c]`` in ``[0, 1]`` of codes ``[b, latent]``."""
        height, width, channels = self.image_shape
        halved = lambda times: (-(-height // 2**times), -(-width // 2**times))
        low, n = halved(3), self.features
        y = nn.relu(nn.Dense(low[0] * low[1] * 4 * n, dtype=self.dtype)(code))
        y = y.reshape(len(y), *low, 4 * n)
        for times, features in ((2, 2 * n), (1, n), (0, channels)):
            y = nn.ConvTranspose(features, (5, 5), strides=(2, 2), dtype=self.dtype)(y)
            # An odd image is halved upwards, so its double is one pixel too large.
            rows, columns = halved(times)
            y = y[:, :rows, :columns]
            y = nn.relu(y) if times else y
        return nn.sigmoid(y.astype(jnp.float32))


class Critic(nn.Module, kw_only=True):
    """Images to one number each, larger for those that look real; no batch norm.

    Attributes:
        features: channels of the first of three 5x5 convolutions of stride 2; then 2 and 4 times
            as many.
        dtype: dtype of the computation; parameters and output stay float32.

    Example:
        >>> import jax
        >>> model, x = Critic(), jax.numpy.zeros((2, 28, 28, 1))
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), x)[0].shape
        (2,)
    """

    features: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Scores float32 ``[b]`` of images ``[b, h, w, c]``."""
        for times in range(3):
            layer = nn.Conv(self.features * 2**times, (5, 5), strides=2, dtype=self.dtype)
            x = nn.leaky_relu(layer(x), 0.2)
        return nn.Dense(1, dtype=self.dtype)(x.reshape(len(x), -1))[:, 0].astype(jnp.float32)


class GAN(nn.Module, kw_only=True):
    """Both, with one tree of variables: ``generator`` and ``critic``.

    Attributes:
        generator, critic: the two networks.

    Example:
        >>> import jax
        >>> model, x = GAN(), jax.numpy.zeros((2, 28, 28, 1))
        >>> sorted(jax.eval_shape(model.init, jax.random.key(0), x)["params"])
        ['critic', 'generator']
    """

    generator: Generator = Generator()
    critic: Critic = Critic()

    def __call__(self, x: jax.Array) -> jax.Array:
        """Scores of images ``[b, h, w, c]``; the generator gets its variables here, too."""
        if self.is_initializing():
            self.generator(jnp.zeros((1, self.generator.latent)))
        return self.critic(x)

    def generate(self, code: jax.Array) -> jax.Array:
        """Images of codes."""
        return self.generator(code)
