"""Classification and reconstruction by one model, at once or in turn.

Kim, Kim, Lee and Ro 2020 (arXiv 2005.10750), table 3: ``cross-entropy + lambda * reconstruction``,
and gamma reconstruction updates for every classification update. The model has the methods
``reconstruct`` (images) and ``both`` (logits and images) besides its call (logits), as
`models.EncoderClassifier` and `models.Chain` have.
"""

import math

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.tree_util import Partial

from jaxdefense.errors import InputError
from jaxdefense.training.objectives import Objective, forward, supervised
from jaxdefense.training.turns import Turns, in_turn
from jaxdefense.typing import Loss


def joint(model: nn.Module, weight: float = 1.0, loss: Loss | None = None) -> Objective:
    """Classification plus weighted reconstruction, all parameters trained together.

    ``mean(loss) + weight * mean((restored - x) ** 2)``; the squared error is the mean over images
    and pixel values, so weights are comparable between image sizes (a sum over pixels would be
    h * w * c times as large).

    Args:
        model: a linen module with the method ``both``: logits and images of the shape of the input.
        weight: of the reconstruction (lambda), 0 or more; 0 leaves a decoder as it is.
        loss: per-example loss ``(logits, labels) -> [b]``; cross-entropy when not given.

    Returns:
        An objective with metrics ``loss`` (the sum), ``accuracy``, ``classification`` and
        ``reconstruction``.

    Raises:
        InputError: a weight that is negative or not finite.

    Example:
        >>> from jaxdefense import models
        >>> objective = joint(models.build("encoder_classifier"), weight=4.0)
    """
    if not (weight >= 0 and math.isfinite(weight)):
        raise InputError(f"the weight of the reconstruction is {weight}, but must be 0 or more")
    per_example = optax.softmax_cross_entropy_with_integer_labels if loss is None else loss

    # An array, so that all weights share a program.
    return Partial(_both, model, np.float32(weight), per_example)


def _both(model, weight, per_example, params, model_state, key, x, y):
    (logits, restored), model_state = forward(model, params, model_state, key, x, "both")
    classification = jnp.mean(per_example(logits, y))
    reconstruction = jnp.mean((restored - x) ** 2)
    value = classification + weight * reconstruction
    metrics = {
        "loss": value,
        "accuracy": jnp.mean(jnp.argmax(logits, axis=-1) == y),
        "classification": classification,
        "reconstruction": reconstruction,
    }
    return value, (model_state, metrics)


def alternating(model: nn.Module, reconstructions: int = 1, loss: Loss | None = None) -> Turns:
    """Reconstruction updates, then one classification update, on every batch.

    Reconstruction moves what ``model.reconstruct`` uses (encoder and decoder), classification what
    the logits use (encoder and head), each with moments of its own; see `in_turn`. The paper leaves
    open whether every update has a batch of its own: here the updates of a step share one, so that
    the number of classification updates does not depend on gamma.

    Args:
        model: a linen module with the method ``reconstruct``: images to images.
        reconstructions: updates before each classification update (gamma); with 0 this is
            ``supervised(model, loss)``.
        loss: per-example loss ``(logits, labels) -> [b]``; cross-entropy when not given.

    Returns:
        What `fit` takes for an objective, with metrics ``loss`` and ``accuracy`` of the
        classification, and ``reconstruction``: the error before the last of its updates.

    Raises:
        InputError: a number of updates below 0.

    Example:
        >>> from jaxdefense import models
        >>> len(alternating(models.build("encoder_classifier"), reconstructions=2).objectives)
        3
    """
    if reconstructions < 0:
        raise InputError(f"reconstructions is {reconstructions}, but must be 0 or more")

    restore = Partial(_restore, model)
    return in_turn(*[restore] * reconstructions, supervised(model, loss))


def _restore(model, params, model_state, key, x, y):
    restored, model_state = forward(model, params, model_state, key, x, "reconstruct")
    value = jnp.mean((restored - x) ** 2)
    return value, (model_state, {"reconstruction": value})
