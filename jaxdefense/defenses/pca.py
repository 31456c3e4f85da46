"""Projection onto the leading principal components of training images."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.defenses.filters import whole
from jaxdefense.errors import InputError
from jaxdefense.typing import Images


class Projection(flax.struct.PyTreeNode):
    """Projection onto a plane through the mean; made by `pca`.

    Args:
        mean: ``[h, w, c]``.
        components: orthonormal, ``[k, h, w, c]``.
    """

    mean: jax.Array
    components: jax.Array

    def __call__(self, x: Images) -> Images:
        if x.shape[1:] != self.mean.shape:
            raise InputError(
                f"images are {list(x.shape[1:])}, but the components were taken from images of "
                f"{list(self.mean.shape)}: use images of that size"
            )
        highest = jax.lax.Precision.HIGHEST
        centred = x - self.mean[None]
        code = jnp.einsum("bhwc,khwc->bk", centred, self.components, precision=highest)
        restored = jnp.einsum("bk,khwc->bhwc", code, self.components, precision=highest)
        return jnp.clip(restored + self.mean[None], 0.0, 1.0)


def pca(x_train: np.ndarray, components: int) -> Projection:
    """The best linear autoencoder whose code is so many numbers.

    Images are projected onto the plane through their mean in which training images vary most, then
    clipped to [0, 1]. Differentiable (a clipped pixel passes no gradient), so attack it as it is.
    As a defence: Bhagoji et al. 2018 (arXiv 1704.02654), who train the classifier behind it.

    Args:
        x_train: images ``[n, h, w, c]``, uint8 or floats in [0, 1]; the components are computed on
            the host by scikit-learn.
        components: how many, up to ``min(n, h * w * c)``.

    Returns:
        A purifier ``[b, h, w, c] -> [b, h, w, c]`` for images of that size; a pytree that holds the
        mean and the components, so that other components reuse compiled programs.

    Raises:
        InputError: x_train is not images, or components not a whole number in that range.

    Example:
        >>> import numpy as np
        >>> images = np.linspace(0, 1, 5).reshape(5, 1, 1, 1) * np.ones((5, 4, 4, 1))
        >>> flat = pca(images, 1)  # the images differ in brightness only
        >>> bool(abs(flat(images) - images).max() < 1e-6)
        True
    """
    from sklearn.decomposition import PCA  # takes half a second to import

    x_train = np.asarray(x_train)
    if x_train.ndim != 4 or not len(x_train):
        raise InputError(f"x_train has shape {x_train.shape}, but images are [n, h, w, c]")
    components = whole("components", components, 1, min(len(x_train), x_train[0].size))
    scale = 255 if x_train.dtype == np.uint8 else 1
    flat = x_train.reshape(len(x_train), -1).astype(np.float32) / scale
    found = PCA(components, random_state=0).fit(flat)
    shape = x_train.shape[1:]
    return Projection(
        jnp.asarray(found.mean_.reshape(shape), jnp.float32),
        jnp.asarray(found.components_.reshape(components, *shape), jnp.float32),
    )
