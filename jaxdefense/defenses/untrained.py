"""An autoencoder that has learned nothing."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdefense import models
from jaxdefense.classifiers import Frozen
from jaxdefense.errors import InputError


def untrained(model: nn.Module, key: jax.Array, image_shape: Sequence[int]) -> Frozen:
    """An autoencoder with its initial, random variables.

    What it makes of images has to be learned by a classifier behind it. A gain that this shows as
    well comes from the architecture and from the classifier, not from learning to reconstruct.

    Args:
        model: a linen autoencoder, for example ``models.build("autoencoder")``.
        key: of its variables, see `jaxdefense.models.initialize`.
        image_shape: ``(h, w, c)`` of one image.

    Returns:
        A purifier ``[b, h, w, c] -> [b, h, w, c]``; other keys reuse compiled programs.

    Raises:
        InputError: a model that does not return images of the size it is given.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxdefense import models
        >>> purifier = untrained(models.build("autoencoder", width=2), jax.random.key(0), (8, 8, 1))
        >>> purifier(jnp.zeros((3, 8, 8, 1))).shape
        (3, 8, 8, 1)
    """
    purifier = Frozen(model, models.initialize(model, key, image_shape))
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shape = jax.eval_shape(purifier, images).shape
    if shape != images.shape:
        raise InputError(
            f"{type(model).__name__} makes {list(shape)} of images {list(images.shape)}: a "
            "purifier must return images of the same size; give an autoencoder"
        )
    return purifier
