"""The autoencoder with noise on its code of Mandal 2023, "Convolutional Auto-Encoders"."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdefense.errors import InputError


def gelu(x: jax.Array) -> jax.Array:
    """GELU without approximation, as in PyTorch."""
    return nn.gelu(x, approximate=False)


class LatentNoiseAutoencoder(nn.Module, kw_only=True):
    """Strided convolutions to a short code, Gaussian noise on it, and the way back; GELU.

    Mandal 2023 (arXiv 2312.03520), as its published code has it: no skips although the paper calls
    it U-shaped, and nothing that keeps the code from growing out of the noise's reach. The paper
    keeps the noise in use: `jaxdefense.defenses.latent_noise` deploys it so.

    Attributes:
        features: channels of the three convolutions.
        hidden: size of the dense layers around the code.
        code: numbers in the code.
        sigma: standard deviation of the noise, in the unit of the code.
        activation: between layers; the paper argues for GELU against ReLU.
        dtype: dtype of the computation; parameters, batch statistics and output stay float32.

    Example:
        >>> import jax
        >>> model, x = LatentNoiseAutoencoder(), jax.numpy.zeros((2, 32, 32, 1))
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), x)[0].shape
        (2, 32, 32, 1)
    """

    features: Sequence[int] = (8, 16, 32)
    hidden: int = 128
    code: int = 10
    sigma: float = 1.0
    activation: Any = gelu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, noise: jax.Array | None = None
    ) -> jax.Array:
        """Images float32 of the shape of ``x`` in ``[0, 1]``.

        Args:
            x: images ``[b, h, w, c]`` in ``[0, 1]``; height and width divisible by 4 and at least
                12.
            train: draws the noise, which needs ``rngs={"dropout": key}``, and uses and updates
                batch statistics (``mutable=["batch_stats"]``).
            noise: standard normal numbers ``[b, code]``; none in evaluation unless given.

        Raises:
            InputError: images of another size.
        """
        height, width, channels = x.shape[1:]
        if min(height, width) < 12 or height % 4 or width % 4:
            raise InputError(
                f"this autoencoder takes images of at least 12 x 12 with sides divisible by 4, but "
                f"these are {height} x {width}: resize or pad them to 32 x 32"
            )
        first, second, third = self.features
        act = self.activation
        norm = lambda y: nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype)(y)
        y = act(self._down(first, 1)(x))
        y = act(norm(self._down(second, 1)(y)))
        y = act(self._down(third, 0)(y))
        low = y.shape[1:]
        y = act(nn.Dense(self.hidden, dtype=self.dtype)(y.reshape(len(y), -1)))
        code = nn.Dense(self.code, dtype=self.dtype)(y)
        if train and noise is None:
            noise = jax.random.normal(self.make_rng("dropout"), code.shape, code.dtype)
        if noise is not None:
            code = code + self.sigma * noise
        y = act(nn.Dense(self.hidden, dtype=self.dtype)(code))
        y = act(nn.Dense(low[0] * low[1] * third, dtype=self.dtype)(y))
        y = act(norm(self._up(second, 0, (height // 4, width // 4))(y.reshape(-1, *low))))
        y = act(norm(self._up(first, 1, (height // 2, width // 2))(y)))
        y = self._up(channels, 1, (height, width))(y)
        return nn.sigmoid(y.astype(jnp.float32))

    def _down(self, features: int, padding: int) -> nn.Conv:
        return nn.Conv(features, (3, 3), strides=2, padding=padding, dtype=self.dtype)

    def _up(self, features: int, padding: int, size: tuple[int, int]) -> Any:
        # As PyTorch counts it: a padding of p and whatever is missing on the right.
        def layer(y: jax.Array) -> jax.Array:
            missing = (out - (2 * (now - 1) + 3 - 2 * padding)
                       for out, now in zip(size, y.shape[1:3], strict=True))  # fmt: skip
            pads = [(2 - padding, 2 - padding + more) for more in missing]
            return nn.ConvTranspose(features, (3, 3), (2, 2), pads, dtype=self.dtype)(y)

        return layer
