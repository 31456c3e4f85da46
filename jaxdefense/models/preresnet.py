"""Residual networks that normalise before they convolve, for small images: plain, SE, pyramidal."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdefense.models.resnet import batch_norm, convolution
from jaxdefense.models.squeeze import SqueezeExcite


class PreActivationBlock(nn.Module, kw_only=True):
    """Batch norm, ReLU and 3x3 convolution, twice, beside a shortcut that nothing follows.

    He et al. 2016 (arXiv 1603.05027), figure 4 (e). Where the shape changes, the shortcut is a 1x1
    convolution of the activated input.

    Attributes:
        features: channels of the output.
        stride: stride of the first convolution and of the shortcut.
        reduction: channels over the hidden size of squeeze-and-excitation before the sum; 0 for
            none.
        dtype: dtype of the computation.
    """

    features: int
    stride: int = 1
    reduction: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features ``[b, h / stride, w / stride, features]`` of ``[b, h, w, c]``."""
        active, shortcut = nn.relu(batch_norm(train, self.dtype)(x)), x
        if self.stride != 1 or x.shape[-1] != self.features:
            shortcut = convolution(self.features, 1, self.stride, self.dtype)(active)
        y = convolution(self.features, 3, self.stride, self.dtype)(active)
        y = nn.relu(batch_norm(train, self.dtype)(y))
        y = convolution(self.features, 3, 1, self.dtype)(y)
        if self.reduction:
            hidden = max(1, self.features // self.reduction)
            y = SqueezeExcite(hidden=hidden, dtype=self.dtype)(y)
        return y + shortcut


class PreResNet(nn.Module, kw_only=True):
    """A 3x3 stem, stages of pre-activation blocks, global average pooling, one dense layer.

    Each stage after the first halves the image and doubles the channels.

    Attributes:
        blocks: number of blocks in each stage.
        width: channels of the first stage.
        reduction: of squeeze-and-excitation in every block; 0 for none.
        normalized_stem: batch norm and ReLU after the stem and none before the pooling, as in the
            public SE networks; else the other way round, as He et al. have it.
        num_classes: size of the logits.
        dtype: dtype of the computation; parameters, batch statistics and logits stay float32.

    Example:
        >>> import jax
        >>> model, x = PreResNet(), jax.numpy.zeros((2, 32, 32, 3))
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), x)[0].shape
        (2, 10)
    """

    blocks: Sequence[int] = (9, 9, 9)
    width: int = 16
    reduction: int = 0
    normalized_stem: bool = False
    num_classes: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits float32 ``[b, num_classes]`` of images ``[b, h, w, c]`` in ``[0, 1]``.

        With ``train=True`` batch statistics are used and updated (``mutable=["batch_stats"]``).
        """
        x = convolution(self.width, 3, 1, self.dtype)(x)
        if self.normalized_stem:
            x = nn.relu(batch_norm(train, self.dtype)(x))
        for stage, count in enumerate(self.blocks):
            for index in range(count):
                x = PreActivationBlock(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    reduction=self.reduction,
                    dtype=self.dtype,
                )(x, train)
        if not self.normalized_stem:
            x = nn.relu(batch_norm(train, self.dtype)(x))
        x = x.mean(axis=(1, 2))
        return nn.Dense(self.num_classes, dtype=self.dtype)(x).astype(jnp.float32)


def preresnet(depth: int, **kwargs: Any) -> PreResNet:
    """The pre-activation ResNet of so many layers: 20, 56, 110, ... for small images."""
    return PreResNet(**{"blocks": ((depth - 2) // 6,) * 3, **kwargs})


def sepreresnet(depth: int, **kwargs: Any) -> PreResNet:
    """The same with squeeze-and-excitation; of 56 layers 862,601 parameters for 10 classes."""
    return preresnet(depth, **{"reduction": 16, "normalized_stem": True, **kwargs})


class PyramidBlock(nn.Module, kw_only=True):
    """Batch norm, convolution, batch norm, ReLU, convolution, batch norm; a shortcut with zeros.

    Han, Kim and Kim 2017 (arXiv 1610.02915), figure 6 (d): the shortcut has no weights; it is
    averaged where the stride is 2, and channels that it lacks are zeros.

    Attributes:
        features: channels of the output, at least those of the input.
        stride: stride of the first convolution.
        dtype: dtype of the computation.
    """

    features: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features ``[b, h / stride, w / stride, features]`` of ``[b, h, w, c]``."""
        shortcut = nn.avg_pool(x, (2, 2), (2, 2)) if self.stride == 2 else x
        missing = self.features - x.shape[-1]
        shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (0, missing)))
        y = batch_norm(train, self.dtype)(x)
        y = convolution(self.features, 3, self.stride, self.dtype)(y)
        y = nn.relu(batch_norm(train, self.dtype)(y))
        y = convolution(self.features, 3, 1, self.dtype)(y)
        return batch_norm(train, self.dtype)(y) + shortcut


class PyramidNet(nn.Module, kw_only=True):
    """A residual network whose channels grow by the same number in every block.

    Attributes:
        depth: layers: 6 for each block of the three stages, and 2.
        alpha: channels that all blocks together add.
        width: channels of the stem.
        num_classes: size of the logits.
        dtype: dtype of the computation; parameters, batch statistics and logits stay float32.

    Example:
        >>> import jax
        >>> model, x = PyramidNet(), jax.numpy.zeros((2, 32, 32, 3))
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), x)[0].shape
        (2, 10)
    """

    depth: int = 110
    alpha: int = 48
    width: int = 16
    num_classes: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits float32 ``[b, num_classes]`` of images ``[b, h, w, c]`` in ``[0, 1]``."""
        count = (self.depth - 2) // 6
        x = batch_norm(train, self.dtype)(convolution(self.width, 3, 1, self.dtype)(x))
        for index in range(3 * count):
            features = self.width + round(self.alpha * (index + 1) / (3 * count))
            stride = 2 if index in (count, 2 * count) else 1
            x = PyramidBlock(features=features, stride=stride, dtype=self.dtype)(x, train)
        x = nn.relu(batch_norm(train, self.dtype)(x)).mean(axis=(1, 2))
        return nn.Dense(self.num_classes, dtype=self.dtype)(x).astype(jnp.float32)
