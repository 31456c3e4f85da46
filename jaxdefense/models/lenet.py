"""LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling, as in Kim et al., arXiv 2005.10750."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class LeNet5(nn.Module, kw_only=True):
    """Two 5x5 convolutions and three dense layers; 61,706 parameters on 28x28x1 with 10 classes.

    Attributes:
        num_classes: size of the logits.
        dtype: dtype of the computation; parameters and logits stay float32.

    Example:
        >>> import jax
        >>> model = LeNet5(num_classes=10)
        >>> variables = model.init(jax.random.key(0), jax.numpy.zeros((1, 28, 28, 1)))
        >>> model.apply(variables, jax.numpy.zeros((2, 28, 28, 1))).shape
        (2, 10)
    """

    num_classes: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits float32 ``[b, num_classes]`` of images ``[b, h, w, c]`` in ``[0, 1]``.

        ``train`` is accepted because every model is called alike; nothing here depends on it.
        """
        x = nn.relu(nn.Conv(6, (5, 5), padding=2, dtype=self.dtype)(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(16, (5, 5), padding="VALID", dtype=self.dtype)(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(120, dtype=self.dtype)(x))
        x = nn.relu(nn.Dense(84, dtype=self.dtype)(x))
        return nn.Dense(self.num_classes, dtype=self.dtype)(x).astype(jnp.float32)
