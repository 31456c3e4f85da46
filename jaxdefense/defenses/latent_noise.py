"""An autoencoder that stays noisy when it is deployed."""

import jax
from jax.tree_util import Partial

from jaxdefense.classifiers import Randomized
from jaxdefense.models.latent_noise import LatentNoiseAutoencoder
from jaxdefense.typing import PyTree


def latent_noise(model: LatentNoiseAutoencoder, variables: PyTree) -> Randomized:
    """A purifier that adds Gaussian noise to the code of every image, as in training.

    Mandal 2023 (arXiv 2312.03520). It is random, so robust accuracies of it are expectations:
    attack it with `jaxdefense.eot`. Without noise it is ``Frozen(model, variables)``.

    Args:
        model: the autoencoder.
        variables: as trained; other variables reuse compiled programs.

    Returns:
        A random purifier ``(keys, x) -> images``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxdefense import models
        >>> model = models.build("latent_noise_autoencoder")
        >>> variables = models.initialize(model, jax.random.key(0), (32, 32, 1))
        >>> purifier = latent_noise(model, variables)
        >>> purifier(jax.random.split(jax.random.key(1), 2), jnp.zeros((2, 32, 32, 1))).shape
        (2, 32, 32, 1)
    """
    return Randomized(Partial(_noisy, model, variables))


def _noisy(model, variables, keys, x):
    noise = jax.vmap(lambda key: jax.random.normal(key, (model.code,)))(keys)
    return model.apply(variables, x, noise=noise)
