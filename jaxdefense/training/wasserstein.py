"""Training of a generator against a critic whose slope is held at one."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxdefense.errors import InputError
from jaxdefense.models.gan import GAN
from jaxdefense.training.turns import Turns, in_turn


def wasserstein(model: GAN, updates: int = 5, penalty: float = 10.0) -> Turns:
    """Wasserstein GAN with gradient penalty: several updates of the critic, one of the generator.

    Gulrajani et al. 2017 (arXiv 1704.00028), algorithm 1. Each update of the critic has its own
    part of the batch, so a batch of 250 images gives five updates of 50. Both networks have their
    own moments (`in_turn`); the paper's optimizer is ``optax.adam(1e-4, 0.5, 0.9)`` (Defense-GAN,
    arXiv 1805.06605, has the same).

    Args:
        model: generator and critic.
        updates: of the critic in each step.
        penalty: weight of ``(|gradient| - 1) ** 2`` between real and generated images.

    Returns:
        What `fit` takes for an objective, with metrics ``distance`` (the critic's estimate of the
        Wasserstein distance), ``penalty`` and ``loss`` (the generator's).

    Raises:
        InputError: no update of the critic.

    Example:
        >>> from jaxdefense.models import GAN
        >>> len(wasserstein(GAN()).objectives)
        6
    """
    if updates < 1:
        raise InputError(f"the critic needs at least 1 update in each step, got {updates}")
    critics = [Partial(_critic, model, np.float32(penalty), i, updates) for i in range(updates)]
    return in_turn(*critics, Partial(_generator, model, updates), states=(*[0] * updates, 1))


def _critic(model, weight, part, parts, params, model_state, key, x, y):
    if len(x) < parts:
        raise InputError(
            f"a batch of {len(x)} images has none for some of the critic's {parts} updates: give "
            "larger batches, or fewer updates"
        )
    size = len(x) // parts
    real = x[part * size : (part + 1) * size]
    code_key, mix_key = jax.random.split(key)
    judge = lambda images: model.apply({"params": params}, images)
    made = jax.lax.stop_gradient(_made(model, params, code_key, size))
    share = jax.random.uniform(mix_key, (size, 1, 1, 1))
    between = share * real + (1 - share) * made
    slope = jax.grad(lambda images: judge(images).sum())(between)
    # A length of 0 has no gradient of its own.
    length = jnp.sqrt((slope**2).sum((1, 2, 3)) + 1e-12)
    distance, cost = judge(real).mean() - judge(made).mean(), ((length - 1) ** 2).mean()
    return weight * cost - distance, (model_state, {"distance": distance, "penalty": cost})


def _generator(model, parts, params, model_state, key, x, y):
    size = len(x) // parts
    fixed = jax.lax.stop_gradient(params["critic"])
    made = _made(model, params, key, size)
    loss = -model.apply({"params": {**params, "critic": fixed}}, made).mean()
    return loss, (model_state, {"loss": loss})


def _made(model, params, key, size):
    code = jax.random.normal(key, (size, model.generator.latent))
    return model.apply({"params": params}, code, method="generate")
