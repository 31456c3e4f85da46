"""Training of a purifier on adversarial images."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.tree_util import Partial

from jaxdefense.training.objectives import Attacker, Objective, forward
from jaxdefense.typing import Classifier


def purification(
    model: nn.Module, attack: Attacker, eps: float, classifier: Classifier, clean: float = 0.0
) -> Objective:
    """Denoising of adversarial images: squared error between clean and restored images.

    As Mandal 2023 (arXiv 2312.03520) and Gilbert 2020 train theirs: the images are adversarial to
    the bare classifier, which has never seen the autoencoder, so an attacker who knows it was never
    met in training. New ones are made in every step.

    Args:
        model: a linen autoencoder, images to images.
        attack: an `Attack`, for example FGSM; its gradients are most of the cost.
        eps: radius, in the unit of the images.
        classifier: what is attacked; it stays as it is.
        clean: share of the images of each batch that is left clean.

    Returns:
        An objective with the metric ``loss``.

    Example:
        >>> from jaxdefense import attacks, linf, models
        >>> model = models.build("denoising_autoencoder")
        >>> objective = purification(model, attacks.fgsm(linf), 8 / 255, lambda x: x.mean((1, 2)))
    """
    about = np.array([eps, clean], np.float32)
    return Partial(_restored, model, attack, about, classifier)


def _restored(model, attack, about, classifier, params, model_state, key, x, y):
    attack_key, dropout_key = jax.random.split(key)
    eps, clean = about
    attacked = attack(attack_key, classifier, x, y, eps)
    # Batches are shuffled, so the first images are any images.
    kept = jnp.arange(len(x)) < jnp.round(clean * len(x))
    given = jnp.where(kept[:, None, None, None], x, attacked)
    given = jax.lax.stop_gradient(given)
    restored, model_state = forward(model, params, model_state, dropout_key, given)
    value = jnp.mean((restored - x) ** 2)
    return value, (model_state, {"loss": value})
