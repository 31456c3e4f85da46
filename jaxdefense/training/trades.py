"""TRADES: accuracy on clean images against agreement between clean and adversarial ones."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.tree_util import Partial

from jaxdefense.classifiers import Frozen, Purified
from jaxdefense.errors import InputError
from jaxdefense.losses import kl
from jaxdefense.training.objectives import Attacker, Objective, forward
from jaxdefense.typing import Purifier


def trades(
    model: nn.Module,
    attack: Attacker,
    eps: float,
    beta: float = 6.0,
    preprocess: Purifier | None = None,
) -> Objective:
    """Cross-entropy on clean images plus beta times the divergence to adversarial ones.

    ``CE(f(x), y) + beta * KL(f(x) || f(x_adv))`` (Zhang et al. 2019, arXiv 1901.08573, eq. 5). The
    attack sees the current parameters in evaluation mode and the clean prediction, a distribution,
    in the label slot. No gradient flows through it; in the divergence it flows through both sides.
    Batch statistics are updated by the clean and then by the adversarial batch, as in the authors'
    code.

    Args:
        model: a linen classifier.
        attack: an `Attack` with a loss of distributions, ``pgd(linf, 10, loss=losses.kl)`` as in
            the paper. It must start at random, because the divergence has no gradient at x itself.
            It returns the iterate of largest margin against the clean prediction (the authors'
            code: the last).
        eps: radius, in the unit of the images.
        beta: weight of the divergence, 1 / lambda in the paper, which uses 1 and 6.
        preprocess: a frozen purifier in front of the classifier; the attack goes through it.

    Returns:
        An objective with metrics ``loss``, ``accuracy`` (clean), ``divergence`` and
        ``adversarial_accuracy``.

    Raises:
        InputError: a beta that is negative or not finite.

    Example:
        >>> from jaxdefense import attacks, linf, losses, models
        >>> attack = attacks.pgd(linf, 10, loss=losses.kl)
        >>> objective = trades(models.build("lenet5"), attack, eps=0.3, beta=6.0)
    """
    if not (beta >= 0 and math.isfinite(beta)):
        raise InputError(f"beta is {beta}, but the weight of the divergence must be 0 or more")
    # Arrays, so that all radii and weights share a program.
    return Partial(_trades, model, attack, np.float32(eps), np.float32(beta), preprocess)


def _trades(model, attack, eps, beta, preprocess, params, model_state, key, x, y):
    attack_key, clean_key, found_key = jax.random.split(key, 3)
    net = Frozen(model, jax.lax.stop_gradient({"params": params, **model_state}))
    deployed = net if preprocess is None else Purified(preprocess, net)
    found = attack(attack_key, deployed, x, jax.nn.softmax(deployed(x)), eps)
    if preprocess is not None:
        x, found = jax.lax.stop_gradient((preprocess(x), preprocess(found)))
    clean, model_state = forward(model, params, model_state, clean_key, x)
    moved, model_state = forward(model, params, model_state, found_key, found)
    divergence = jnp.mean(kl(moved, jax.nn.softmax(clean)))
    entropy = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(clean, y))
    value = entropy + beta * divergence
    metrics = {
        "loss": value,
        "accuracy": jnp.mean(clean.argmax(-1) == y),
        "divergence": divergence,
        "adversarial_accuracy": jnp.mean(moved.argmax(-1) == y),
    }
    return value, (model_state, metrics)
