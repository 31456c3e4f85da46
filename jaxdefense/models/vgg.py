"""VGG networks with batch norm for 32x32 images (Simonyan and Zisserman, arXiv 1409.1556)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdefense.errors import InputError


class VGG(nn.Module, kw_only=True):
    """Stages of 3x3 convolution, batch norm and ReLU, each ended by max-pooling; then dense layers.

    Convolutions keep their bias although batch norm follows, as in the public implementations
    whose parameter counts are quoted.

    Attributes:
        convolutions: number of convolutions in each stage.
        widths: channels in each stage.
        hidden: sizes of the dense hidden layers, each followed by ReLU and dropout.
        dropout: probability of dropping a hidden unit.
        num_classes: size of the logits.
        dtype: dtype of the computation; parameters, batch statistics and logits stay float32.

    Example:
        >>> import jax
        >>> model = VGG(convolutions=(1, 1), widths=(8, 16))
        >>> variables = model.init(jax.random.key(0), jax.numpy.zeros((1, 32, 32, 3)))
        >>> model.apply(variables, jax.numpy.zeros((2, 32, 32, 3))).shape
        (2, 10)
    """

    convolutions: Sequence[int]
    widths: Sequence[int]
    hidden: Sequence[int] = ()
    dropout: float = 0.0
    num_classes: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits float32 ``[b, num_classes]`` of images ``[b, h, w, c]`` in ``[0, 1]``.

        With ``train=True`` batch statistics are used and updated (``mutable=["batch_stats"]``), and
        dropout needs ``rngs={"dropout": key}``.

        Raises:
            InputError: the images are too small to be halved once per stage.
        """
        stages = len(self.widths)
        if min(x.shape[1:3]) < 2**stages:
            raise InputError(
                f"this VGG halves its images {stages} times, so they must be at least "
                f"{2**stages} pixels wide and high, but they are {x.shape[1]} x {x.shape[2]}: "
                "resize or pad them to 32 x 32, or choose another model"
            )
        for count, features in zip(self.convolutions, self.widths, strict=True):
            for _ in range(count):
                x = nn.Conv(
                    features,
                    (3, 3),
                    padding=1,
                    kernel_init=nn.initializers.he_normal(),
                    dtype=self.dtype,
                )(x)
                x = nn.relu(
                    nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype)(x)
                )
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden:
            x = nn.relu(nn.Dense(size, dtype=self.dtype)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, dtype=self.dtype)(x).astype(jnp.float32)


def vgg16(width: int = 64, **kwargs: Any) -> VGG:
    """VGG-16 as commonly used for CIFAR: 13 convolutions, then one dense layer from 512 features.

    14,728,266 parameters for 32x32x3 images and 10 classes.
    """
    widths = (width, 2 * width, 4 * width, 8 * width, 8 * width)
    return VGG(**{"convolutions": (2, 2, 3, 3, 3), "widths": widths, **kwargs})


def vgg8(width: int = 64, hidden: Sequence[int] = (4096, 4096), **kwargs: Any) -> VGG:
    """The network that Mandal, arXiv 2312.03520, calls VGG-16: eight convolutions, three dense.

    Four stages of two convolutions (64, 128, 256, 512 channels), then 2048-4096-4096-classes on
    32x32 images with dropout 0.65.
    """
    widths = (width, 2 * width, 4 * width, 8 * width)
    settings = {"convolutions": (2, 2, 2, 2), "widths": widths, "hidden": hidden, "dropout": 0.65}
    return VGG(**{**settings, **kwargs})
