"""Residual networks of basic blocks for small images (He et al., arXiv 1512.03385)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdefense.models.squeeze import SqueezeExcite

# Initialisation and padding follow the original: He-normal weights, no bias before batch norm, and
# one pixel on every side ("SAME" would pad a strided convolution on the right and bottom only).
_KERNEL_INIT = nn.initializers.he_normal()


class BasicBlock(nn.Module, kw_only=True):
    """Two 3x3 convolutions with batch norm around a shortcut.

    The shortcut is the identity, or a 1x1 convolution with batch norm where the shape changes.

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
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.features:
            shortcut = convolution(self.features, 1, self.stride, self.dtype)(x)
            shortcut = batch_norm(train, self.dtype)(shortcut)
        y = convolution(self.features, 3, self.stride, self.dtype)(x)
        y = nn.relu(batch_norm(train, self.dtype)(y))
        y = convolution(self.features, 3, 1, self.dtype)(y)
        y = batch_norm(train, self.dtype)(y)
        if self.reduction:
            hidden = max(1, self.features // self.reduction)
            y = SqueezeExcite(hidden=hidden, dtype=self.dtype)(y)
        return nn.relu(y + shortcut)


class ResNet(nn.Module, kw_only=True):
    """A 3x3 stem without pooling, stages of basic blocks, global average pooling, one dense layer.

    Each stage after the first halves the image and doubles the channels.

    Attributes:
        blocks: number of basic blocks in each stage; ``(2, 2, 2, 2)`` is ResNet-18.
        width: channels of the first stage.
        reduction: of squeeze-and-excitation in every block (16 in SE-ResNets); 0 for none.
        num_classes: size of the logits.
        dtype: dtype of the computation; parameters, batch statistics and logits stay float32.

    Example:
        >>> import jax
        >>> model = ResNet(blocks=(1, 1), width=8)
        >>> variables = model.init(jax.random.key(0), jax.numpy.zeros((1, 32, 32, 3)))
        >>> model.apply(variables, jax.numpy.zeros((2, 32, 32, 3))).shape
        (2, 10)
    """

    blocks: Sequence[int] = (2, 2, 2, 2)
    width: int = 64
    reduction: int = 0
    num_classes: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits float32 ``[b, num_classes]`` of images ``[b, h, w, c]`` in ``[0, 1]``.

        With ``train=True`` batch statistics are used and updated (``mutable=["batch_stats"]``).
        """
        x = convolution(self.width, 3, 1, self.dtype)(x)
        x = nn.relu(batch_norm(train, self.dtype)(x))
        for stage, count in enumerate(self.blocks):
            for index in range(count):
                x = BasicBlock(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    reduction=self.reduction,
                    dtype=self.dtype,
                )(x, train)
        x = x.mean(axis=(1, 2))
        return nn.Dense(self.num_classes, dtype=self.dtype)(x).astype(jnp.float32)


def resnet18(width: int = 64, **kwargs: Any) -> ResNet:
    """ResNet-18 with the stem for 32x32 images: 11,173,962 parameters for 10 classes."""
    return ResNet(**{"blocks": (2, 2, 2, 2), "width": width, **kwargs})


def resnet8(width: int = 8, **kwargs: Any) -> ResNet:
    """The smallest CIFAR ResNet: three stages of one basic block, and half the width, for CPUs."""
    return ResNet(**{"blocks": (1, 1, 1), "width": width, **kwargs})


def resnet20(width: int = 16, **kwargs: Any) -> ResNet:
    """The CIFAR ResNet-20 with projection shortcuts: 272,474 parameters for 10 classes."""
    return ResNet(**{"blocks": (3, 3, 3), "width": width, **kwargs})


def resnet56(width: int = 16, **kwargs: Any) -> ResNet:
    """The CIFAR ResNet-56: three stages of nine basic blocks."""
    return ResNet(**{"blocks": (9, 9, 9), "width": width, **kwargs})


def resnet110(width: int = 16, **kwargs: Any) -> ResNet:
    """The CIFAR ResNet-110: three stages of eighteen basic blocks."""
    return ResNet(**{"blocks": (18, 18, 18), "width": width, **kwargs})


def seresnet20(**kwargs: Any) -> ResNet:
    """ResNet-20 with squeeze-and-excitation: 274,847 parameters for 10 classes."""
    return resnet20(**{"reduction": 16, **kwargs})


def seresnet56(**kwargs: Any) -> ResNet:
    """ResNet-56 with squeeze-and-excitation: 862,889 parameters for 10 classes."""
    return resnet56(**{"reduction": 16, **kwargs})


def seresnet110(**kwargs: Any) -> ResNet:
    """ResNet-110 with squeeze-and-excitation: 1,744,952 parameters for 10 classes."""
    return resnet110(**{"reduction": 16, **kwargs})


def convolution(features: int, size: int, stride: int, dtype: Any) -> nn.Conv:
    """A convolution without bias, padded alike on all sides."""
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=size // 2,
        use_bias=False,
        kernel_init=_KERNEL_INIT,
        dtype=dtype,
    )


def batch_norm(train: bool, dtype: Any) -> nn.BatchNorm:
    """Batch norm as in the original: momentum 0.9."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype)
