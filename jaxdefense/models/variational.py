"""A variational autoencoder that is told the class."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdefense.errors import InputError


class ConditionalVAE(nn.Module, kw_only=True):
    """Images and a class to a normal distribution of codes, and a code and a class to images.

    PuVAE (Hwang et al. 2019, arXiv 1903.00585): dilated convolutions, two dense layers, and
    transposed convolutions without padding back. Kingma and Welling 2014 (arXiv 1312.6114) for the
    rest. `jaxdefense.defenses.puvae` purifies with it.

    Attributes:
        image_shape: ``(h, w, c)``; sides of more than ``(kernel - 1) * (layers + 1)`` pixels.
        num_classes: how many classes there are.
        latent: numbers in the code.
        features: channels of every convolution.
        layers: convolutions of the encoder.
        kernel, dilation: of the convolutions.
        hidden: size of the dense layers of the encoder.
        brightness: of the images that an untrained one decodes; the mean of the data where they are
            dark.
        dtype: dtype of the computation; parameters and output stay float32.

    Example:
        >>> import jax
        >>> model, x, y = ConditionalVAE(), jax.numpy.zeros((2, 28, 28, 1)), jax.numpy.arange(2)
        >>> outputs, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), x, y)
        >>> image, mean, std = outputs
        >>> image.shape, mean.shape
        ((2, 28, 28, 1), (2, 32))
    """

    image_shape: tuple[int, int, int] = (28, 28, 1)
    num_classes: int = 10
    latent: int = 32
    features: int = 32
    layers: int = 3
    kernel: int = 7
    dilation: int = 2
    hidden: int = 1024
    brightness: float = 0.5
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Both halves."""
        lost = (self.kernel - 1) * (self.layers + 1)
        height, width, channels = self.image_shape
        if min(height, width) <= lost:
            raise InputError(
                f"images of {height} x {width} are too small: {self.layers + 1} transposed "
                f"convolutions of {self.kernel} x {self.kernel} make {lost} pixels by themselves; "
                "take a smaller kernel"
            )
        self.low = (height - lost, width - lost, self.features)
        window = (self.kernel, self.kernel)
        self.convolutions = [
            nn.Conv(self.features, window, kernel_dilation=self.dilation, dtype=self.dtype)
            for _ in range(self.layers)
        ]
        self.dense = [nn.Dense(self.hidden, dtype=self.dtype) for _ in range(2)]
        self.mean = nn.Dense(self.latent, dtype=self.dtype)
        self.spread = nn.Dense(self.latent, dtype=self.dtype)
        self.start = nn.Dense(self.low[0] * self.low[1] * self.features, dtype=self.dtype)
        inner = [
            nn.ConvTranspose(self.features, window, padding="VALID", dtype=self.dtype)
            for _ in range(self.layers)
        ]
        start = nn.initializers.constant(math.log(self.brightness / (1 - self.brightness)))
        last = nn.ConvTranspose(
            channels, window, padding="VALID", bias_init=start, dtype=self.dtype
        )
        self.transposed = [*inner, last]

    def encode(self, x: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Means and standard deviations float32 ``[b, latent]`` of the codes of images ``[b]``."""
        for layer in self.convolutions:
            x = nn.relu(layer(x))
        about = jax.nn.one_hot(labels, self.num_classes, dtype=x.dtype)
        y = jnp.concatenate([x.reshape(len(x), -1), about], axis=-1)
        for dense in self.dense:
            y = nn.relu(dense(y))
        mean, variance = self.mean(y), nn.softplus(self.spread(y).astype(jnp.float32))
        return mean.astype(jnp.float32), jnp.sqrt(variance + 1e-12)

    def decode(self, code: jax.Array, labels: jax.Array) -> jax.Array:
        """Images float32 ``[b, h, w, c]`` in ``[0, 1]`` of codes ``[b, latent]`` and classes."""
        about = jax.nn.one_hot(labels, self.num_classes, dtype=code.dtype)
        y = nn.relu(self.start(jnp.concatenate([code, about], axis=-1)))
        y = y.reshape(len(y), *self.low)
        *inner, last = self.transposed
        for layer in inner:
            y = nn.relu(layer(y))
        return nn.sigmoid(last(y).astype(jnp.float32))

    def __call__(
        self, x: jax.Array, labels: jax.Array, train: bool = False
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Reconstructions of images of known classes, and means and deviations of their codes.

        With ``train=True`` codes are drawn, which needs ``rngs={"dropout": key}``; otherwise they
        are the means.
        """
        mean, std = self.encode(x, labels)
        code = mean
        if train:
            code = mean + std * jax.random.normal(self.make_rng("dropout"), mean.shape)
        return self.decode(code, labels), mean, std
