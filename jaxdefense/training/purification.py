"""Training of a purifier on adversarial images."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.tree_util import Partial

from jaxdefense.errors import InputError
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


def restoration(model: nn.Module) -> Objective:
    """Squared error between wanted images and what a model makes of given ones, both made before.

    As Gilbert 2020 trains on one static set of adversarial images; `purification` makes new ones in
    every step.

    Args:
        model: a linen autoencoder, images ``[b, h, w, c]`` to images.

    Returns:
        An objective with the metric ``loss``. Its images hold a given and a wanted one in their
        channels, ``[b, h, w, 2 c]``; see `paired`.
    """
    return Partial(_between, model)


def _between(model, params, model_state, key, x, y):
    given, wanted = jnp.split(x, 2, axis=-1)
    made, model_state = forward(model, params, model_state, key, given)
    value = jnp.mean((made - wanted) ** 2)
    return value, (model_state, {"loss": value})


def paired(given: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Images to train `restoration` with.

    Args:
        given, wanted: uint8 ``[n, h, w, c]``.

    Returns:
        uint8 ``[n, h, w, 2 c]``.

    Raises:
        InputError: images of different shapes.

    Example:
        >>> paired(np.zeros((5, 8, 8, 3), np.uint8), np.ones((5, 8, 8, 3), np.uint8)).shape
        (5, 8, 8, 6)
    """
    if given.shape != wanted.shape:
        raise InputError(
            f"given images are {list(given.shape)} and wanted ones {list(wanted.shape)}: each "
            "needs a counterpart of its size"
        )
    return np.concatenate([given, wanted], axis=-1)
