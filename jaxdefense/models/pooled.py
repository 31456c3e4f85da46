"""A plain convolutional network with global average pooling, in parts that can be looked at."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class PooledCNN(nn.Module, kw_only=True):
    """Stages of 3x3 convolution, batch norm, ReLU and max-pooling; average; two dense layers.

    Its default widths are our reading of Ghosh and Chatterjee 2024, who print no architecture:
    257,378 parameters on grey images with two classes, whatever the size of the images.

    Attributes:
        widths: channels of the stages, each of which halves the image.
        hidden: size of the dense hidden layer.
        dropout: probability of dropping a hidden unit.
        num_classes: size of the logits.
        dtype: dtype of the computation; parameters, batch statistics and logits stay float32.

    Example:
        >>> import jax
        >>> model = PooledCNN(widths=(2, 4), hidden=3, num_classes=2)
        >>> variables = model.init(jax.random.key(0), jax.numpy.zeros((1, 16, 16, 1)))
        >>> x = jax.numpy.zeros((5, 16, 16, 1))
        >>> [model.apply(variables, x, method=name).shape for name in ("maps", "features")]
        [(5, 8, 8, 4), (5, 3)]
    """

    widths: Sequence[int] = (32, 64, 128, 128)
    hidden: int = 128
    dropout: float = 0.5
    num_classes: int = 10
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """The layers."""
        he_normal = nn.initializers.he_normal()
        self.convolutions = [
            nn.Conv(
                width, (3, 3), padding=1, use_bias=False, kernel_init=he_normal, dtype=self.dtype
            )
            for width in self.widths
        ]
        self.norms = [
            nn.BatchNorm(momentum=0.9, epsilon=1e-5, dtype=self.dtype) for _ in self.widths
        ]
        self.dense = nn.Dense(self.hidden, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout)
        self.output = nn.Dense(self.num_classes, dtype=self.dtype)

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits float32 ``[b, num_classes]`` of images ``[b, h, w, c]`` in ``[0, 1]``.

        With ``train=True`` batch statistics are used and updated (``mutable=["batch_stats"]``), and
        dropout needs ``rngs={"dropout": key}``.
        """
        return self.head(self.maps(x, train), train)

    def maps(self, x: jax.Array, train: bool = False) -> jax.Array:
        """What the last convolution sees, ``[b, h', w', widths[-1]]``, before its pooling."""
        for stage, (convolution, norm) in enumerate(
            zip(self.convolutions, self.norms, strict=True)
        ):
            if stage:
                x = nn.max_pool(x, (2, 2), (2, 2))
            x = nn.relu(norm(convolution(x), use_running_average=not train))
        return x

    def head(self, maps: jax.Array, train: bool = False) -> jax.Array:
        """Logits of what `maps` returned."""
        code = self.drop(self._embed(maps), deterministic=not train)
        return self.output(code).astype(jnp.float32)

    def features(self, x: jax.Array) -> jax.Array:
        """The penultimate layer, ``[b, hidden]``, float32."""
        return self._embed(self.maps(x)).astype(jnp.float32)

    def _embed(self, maps: jax.Array) -> jax.Array:
        pooled = nn.max_pool(maps, (2, 2), (2, 2))
        return nn.relu(self.dense(pooled.mean((1, 2))))
