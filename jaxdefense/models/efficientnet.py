"""EfficientNet-B0 for small images (Tan and Le, arXiv 1905.11946)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdefense.models.resnet import batch_norm, convolution
from jaxdefense.models.squeeze import SqueezeExcite


class Stage(NamedTuple):
    """Blocks of one kind.

    Attributes:
        expansion: channels inside a block over those of its input.
        features: channels of the output.
        blocks: how many.
        stride: of the first.
        size: of the depthwise convolutions.
    """

    expansion: int
    features: int
    blocks: int
    stride: int
    size: int


B0 = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)
"""Table 1 of the paper."""


class InvertedBlock(nn.Module, kw_only=True):
    """Widens, convolves each channel by itself, weighs channels, narrows; a shortcut if it fits.

    Attributes:
        expansion, features, size: see `Stage`.
        stride: of the depthwise convolution.
        dropped: probability of leaving an image's block out in training (arXiv 1603.09382).
        dtype: dtype of the computation.
    """

    expansion: int
    features: int
    size: int
    stride: int = 1
    dropped: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features ``[b, h / stride, w / stride, features]`` of ``[b, h, w, c]``."""
        inputs = x.shape[-1]
        inside = self.expansion * inputs
        y = x
        if self.expansion != 1:
            y = convolution(inside, 1, 1, self.dtype)(y)
            y = nn.swish(batch_norm(train, self.dtype)(y))
        y = nn.Conv(
            inside, (self.size, self.size), strides=self.stride, padding=self.size // 2,
            feature_group_count=inside, use_bias=False, dtype=self.dtype,
            kernel_init=nn.initializers.he_normal(),
        )(y)  # fmt: skip
        y = nn.swish(batch_norm(train, self.dtype)(y))
        hidden = max(1, inputs // 4)
        y = SqueezeExcite(hidden=hidden, activation=nn.swish, dtype=self.dtype)(y)
        y = batch_norm(train, self.dtype)(convolution(self.features, 1, 1, self.dtype)(y))
        if self.stride != 1 or inputs != self.features:
            return y
        rows = (1, 2, 3)  # whole images are dropped
        return x + nn.Dropout(self.dropped, broadcast_dims=rows, deterministic=not train)(y)


class EfficientNet(nn.Module, kw_only=True):
    """EfficientNet with a stem that keeps the size of the image.

    Attributes:
        stages: see `Stage`.
        stem, head: channels of the first convolution, and of the last before the pooling.
        dropout: probability of dropping a feature of the head in training.
        dropped: probability of leaving the last block out; it grows evenly from 0.
        num_classes: size of the logits.
        dtype: dtype of the computation; parameters, batch statistics and logits stay float32.

    Example:
        >>> import jax
        >>> model, x = EfficientNet(), jax.numpy.zeros((2, 32, 32, 3))
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), x)[0].shape
        (2, 10)
    """

    stages: Sequence[Stage] = B0
    stem: int = 32
    head: int = 1280
    dropout: float = 0.2
    dropped: float = 0.2
    num_classes: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits float32 ``[b, num_classes]`` of images ``[b, h, w, c]`` in ``[0, 1]``.

        With ``train=True`` batch statistics are used and updated (``mutable=["batch_stats"]``), and
        dropout needs ``rngs={"dropout": key}``.
        """
        x = convolution(self.stem, 3, 1, self.dtype)(x)
        x = nn.swish(batch_norm(train, self.dtype)(x))
        total, done = sum(stage.blocks for stage in self.stages), 0
        for stage in self.stages:
            for index in range(stage.blocks):
                x = InvertedBlock(
                    expansion=stage.expansion,
                    features=stage.features,
                    size=stage.size,
                    stride=stage.stride if index == 0 else 1,
                    dropped=self.dropped * done / total,
                    dtype=self.dtype,
                )(x, train)
                done += 1
        x = convolution(self.head, 1, 1, self.dtype)(x)
        x = nn.swish(batch_norm(train, self.dtype)(x)).mean(axis=(1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, dtype=self.dtype)(x).astype(jnp.float32)


def efficientnet_b0(**kwargs: Any) -> EfficientNet:
    """EfficientNet-B0: 4,020,358 parameters for 32x32x3 images and 10 classes."""
    return EfficientNet(**kwargs)
