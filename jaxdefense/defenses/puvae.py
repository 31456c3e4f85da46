"""Purification by a variational autoencoder that tries every class."""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxdefense.classifiers import Randomized
from jaxdefense.models.variational import ConditionalVAE
from jaxdefense.typing import PyTree


def puvae(model: ConditionalVAE, variables: PyTree, noise: float = 0.1) -> Randomized:
    """Reconstructs an image once for each class and keeps the reconstruction nearest to it.

    PuVAE (Hwang et al. 2019, arXiv 1903.00585, section 3.2). The choice is a minimum over a few
    differentiable branches, so gradients through the chosen one are sound; codes are drawn, so
    attack it with `jaxdefense.eot`.

    Args:
        model: the autoencoder.
        variables: as trained; other variables reuse compiled programs.
        noise: scale of the deviations that codes are drawn with; 0 takes the means.

    Returns:
        A random purifier ``(keys, x) -> images``; ``num_classes`` passes through the autoencoder
        for each image.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = ConditionalVAE(features=4, hidden=16, kernel=3)
        >>> x = jnp.zeros((2, 28, 28, 1))
        >>> variables = model.init(jax.random.key(0), x, jnp.arange(2))
        >>> puvae(model, variables)(jax.random.split(jax.random.key(1), 2), x).shape
        (2, 28, 28, 1)
    """
    return Randomized(Partial(_nearest, model, variables, jnp.float32(noise)))


def _nearest(model, variables, noise, keys, x):
    count, classes = len(x), model.num_classes
    labels = jnp.repeat(jnp.arange(classes), count)
    images = jnp.tile(x, (classes, 1, 1, 1))
    mean, std = model.apply(variables, images, labels, method="encode")
    # The same draw for every class, so that classes are compared by what they make of it.
    drawn = jax.vmap(lambda key: jax.random.normal(key, (model.latent,)))(keys)
    code = mean + noise * std * jnp.tile(drawn, (classes, 1))
    made = model.apply(variables, code, labels, method="decode").reshape(classes, *x.shape)
    error = ((made - x[None]) ** 2).mean((2, 3, 4))
    return made[error.argmin(0), jnp.arange(count)]
