"""Autoencoder with max-pooling, and a classifier that shares its encoder.

Kim, Kim, Lee and Ro 2020, "Revisiting role of autoencoders in adversarial settings" (arXiv
2005.10750): encoder of three convolutions and two poolings, decoder of three convolutions and two
transposed ones (figure 1), and a net whose head classifies the code while the decoder serves the
training only (figure 3). The paper gives neither widths nor sizes of the head.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class PoolingEncoder(nn.Module, kw_only=True):
    """3x3 convolutions with ReLU, and 2x2 max-pooling between them.

    Attributes:
        widths: channels of each convolution.
        dtype: dtype of the computation.
    """

    widths: Sequence[int] = (16, 32, 32)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Code ``[b, ceil(h / 4), ceil(w / 4), widths[-1]]`` of images, with three widths."""
        for depth, features in enumerate(self.widths):
            if depth:
                x = nn.max_pool(x, (2, 2), (2, 2), padding="SAME")
            x = nn.relu(_convolution(features, self.dtype)(x))
        return x


class PoolingDecoder(nn.Module, kw_only=True):
    """The encoder's mirror image: transposed convolutions of stride 2 between the convolutions.

    Attributes:
        widths: those of the encoder.
        brightness: of the grey images that an untrained one makes. Of dark images (MNIST: 0.13) it
            should be their mean: from 0.5 the first steps push every pixel down, ReLUs die, and
            five trainings of six end in black images.
        dtype: dtype of the computation; the output stays float32.
    """

    widths: Sequence[int] = (16, 32, 32)
    brightness: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, code: jax.Array, like: jax.Array) -> jax.Array:
        """Images float32 of the shape of ``like`` in ``[0, 1]``."""
        for depth in reversed(range(1, len(self.widths))):
            code = nn.relu(_convolution(self.widths[depth], self.dtype)(code))
            doubled = nn.ConvTranspose(
                self.widths[depth - 1], (3, 3), strides=(2, 2), dtype=self.dtype
            )(code)
            # An odd image is halved upwards, so its double is one pixel too large.
            height, width = (-(-size // 2 ** (depth - 1)) for size in like.shape[1:3])
            code = nn.relu(doubled[:, :height, :width])
        start = nn.initializers.constant(math.log(self.brightness / (1 - self.brightness)))
        output = _convolution(like.shape[-1], self.dtype, bias_init=start)(code)
        return nn.sigmoid(output.astype(jnp.float32))


class PoolingAutoencoder(nn.Module, kw_only=True):
    """Encoder with max-pooling, mirrored decoder, sigmoid output; no skips.

    Attributes:
        widths: channels of the encoder's convolutions; one pooling less than there are of them.
            ``(16, 32, 32)`` takes 28x28 images to a 7x7 code; ``(32, 64, 128)`` is for CIFAR-10.
        brightness: of untrained images, see `PoolingDecoder`.
        dtype: dtype of the computation; parameters and output stay float32.

    Example:
        >>> import jax
        >>> model = PoolingAutoencoder(widths=(2, 4, 4))
        >>> variables = model.init(jax.random.key(0), jax.numpy.zeros((1, 28, 28, 1)))
        >>> model.apply(variables, jax.numpy.zeros((2, 28, 28, 1))).shape
        (2, 28, 28, 1)
    """

    widths: Sequence[int] = (16, 32, 32)
    brightness: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images float32 of the shape of ``x`` in ``[0, 1]``; ``train`` changes nothing."""
        code = PoolingEncoder(widths=self.widths, dtype=self.dtype, name="encoder")(x)
        decoder = PoolingDecoder(
            widths=self.widths, brightness=self.brightness, dtype=self.dtype, name="decoder"
        )
        return decoder(code, x)


class EncoderClassifier(nn.Module, kw_only=True):
    """The autoencoder's encoder with dense layers on its code; the decoder is for training only.

    Attributes:
        widths: channels of the encoder's convolutions, see `PoolingAutoencoder`.
        hidden: sizes of the dense hidden layers, each followed by ReLU.
        num_classes: size of the logits.
        brightness: of untrained images, see `PoolingDecoder`.
        dtype: dtype of the computation; parameters, logits and images stay float32.

    Example:
        >>> import jax
        >>> model, x = EncoderClassifier(widths=(2, 4, 4)), jax.numpy.zeros((2, 28, 28, 1))
        >>> variables = model.init(jax.random.key(0), x)
        >>> sorted(variables["params"])
        ['decoder', 'encoder', 'head_0', 'head_1']
        >>> model.apply(variables, x).shape, model.apply(variables, x, method="reconstruct").shape
        ((2, 10), (2, 28, 28, 1))
    """

    widths: Sequence[int] = (16, 32, 32)
    hidden: Sequence[int] = (128,)
    num_classes: int = 10
    brightness: float = 0.5
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """The three parts; all of them get variables from ``init``."""
        self.encoder = PoolingEncoder(widths=self.widths, dtype=self.dtype)
        self.decoder = PoolingDecoder(
            widths=self.widths, brightness=self.brightness, dtype=self.dtype
        )
        self.head = [nn.Dense(n, dtype=self.dtype) for n in (*self.hidden, self.num_classes)]

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits float32 ``[b, num_classes]`` of images ``[b, h, w, c]`` in ``[0, 1]``.

        ``train`` is accepted because every model is called alike; nothing here depends on it.
        """
        code = self.encoder(x)
        if self.is_initializing():  # no logit needs the decoder, which must have variables too
            self.decoder(code, x)
        return self._classify(code)

    def reconstruct(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images float32 of the shape of ``x`` in ``[0, 1]``."""
        return self.decoder(self.encoder(x), x)

    def both(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Logits and reconstructed images, from one pass through the encoder."""
        code = self.encoder(x)
        return self._classify(code), self.decoder(code, x)

    def _classify(self, code: jax.Array) -> jax.Array:
        *hidden, last = self.head
        code = code.reshape(code.shape[0], -1)
        for layer in hidden:
            code = nn.relu(layer(code))
        return last(code).astype(jnp.float32)


def _convolution(features: int, dtype: Any, **given: Any) -> nn.Conv:
    he_normal = nn.initializers.he_normal()
    return nn.Conv(features, (3, 3), padding=1, kernel_init=he_normal, dtype=dtype, **given)
