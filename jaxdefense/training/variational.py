"""Training of a variational autoencoder that helps a classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.tree_util import Partial

from jaxdefense.training.objectives import Objective, forward
from jaxdefense.typing import Classifier


def variational(
    model: nn.Module,
    classifier: Classifier | None = None,
    reconstruction: float = 0.01,
    divergence: float = 0.1,
    classification: float = 10.0,
) -> Objective:
    """Reconstruction, distance of codes from a standard normal, and what a classifier makes of it.

    PuVAE (Hwang et al. 2019, arXiv 1903.00585), with the weights of its public code: binary
    cross-entropy summed over pixel values, Kullback-Leibler divergence summed over the code, and
    cross-entropy of a trained classifier, which stays as it is, on the reconstructions; the means
    over the batch are weighted and added. Without a classifier and with weights of 1 this is the
    bound of Kingma and Welling 2014 (arXiv 1312.6114).

    Args:
        model: `models.ConditionalVAE`, or what is called ``(x, labels, train) -> (image, mean,
            std)``.
        classifier: images to logits; None to leave its term out.
        reconstruction, divergence, classification: the weights.

    Returns:
        An objective with metrics ``loss``, ``reconstruction``, ``divergence``, and, with a
        classifier, ``accuracy`` on the reconstructions.

    Example:
        >>> from jaxdefense.models import ConditionalVAE
        >>> objective = variational(ConditionalVAE(), lambda x: x.mean((1, 2)))
    """
    weights = np.array([reconstruction, divergence, classification], np.float32)
    return Partial(_bound, model, weights, classifier)


def _bound(model, weights, classifier, params, model_state, key, x, y):
    (image, mean, std), model_state = forward(model, params, model_state, key, x, labels=y)
    # The sigmoid may reach 0 or 1 in float32.
    image_in = jnp.clip(image, 1e-6, 1 - 1e-6)
    entropy = -(x * jnp.log(image_in) + (1 - x) * jnp.log1p(-image_in)).sum((1, 2, 3)).mean()
    divergence = 0.5 * (mean**2 + std**2 - 1 - 2 * jnp.log(std)).sum(-1).mean()
    value = weights[0] * entropy + weights[1] * divergence
    metrics = {"reconstruction": entropy, "divergence": divergence}
    if classifier is not None:
        logits = classifier(image)
        cost = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        value = value + weights[2] * cost
        metrics["accuracy"] = jnp.mean(jnp.argmax(logits, axis=-1) == y)
    return value, (model_state, {"loss": value, **jax.tree.map(jnp.float32, metrics)})
