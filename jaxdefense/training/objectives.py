"""Objectives: what a training step minimises, as a pure function of parameters and a batch.

An objective takes ``(params, model_state, key, x, y)`` with images float32 ``[b, h, w, c]`` in
``[0, 1]`` and labels int32 ``[b]``, and returns ``(loss, (new_model_state, metrics))``: a scalar,
the variables that training changes without a gradient (batch statistics), and scalars to report.
Objectives are made by functions and wrapped by functions, so a new one is a closure, not a class.
Those made here are closures that show what they hold (`jax.tree_util.Partial`): the arrays in it,
such as the weights of a frozen purifier, are arguments of the compiled step, and two objectives
that differ in arrays only share a program.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.tree_util import Partial

from jaxdefense.errors import InputError
from jaxdefense.typing import Classifier, Images, Labels, Loss, Purifier, PyTree

Metrics = dict[str, jax.Array]
Objective = Callable[
    [PyTree, PyTree, jax.Array, Images, Labels], tuple[jax.Array, tuple[PyTree, Metrics]]
]
Noise = Callable[[jax.Array, Images], Images]
"""``(key, x) -> x`` with images in ``[0, 1]``: a corruption or an augmentation of a batch."""
Attacker = Callable[[jax.Array, Classifier, Images, Labels, float], Images]
"""``(key, classifier, x, y, eps) -> x_adv``; an `Attack` is one."""


def supervised(
    model: nn.Module, loss: Loss | None = None, preprocess: Purifier | None = None
) -> Objective:
    """Classification: mean loss of the logits, with accuracy as a metric.

    Args:
        model: a linen classifier; batch statistics are updated, dropout is drawn from the key.
        loss: per-example loss ``(logits, labels) -> [b]``; cross-entropy when not given.
        preprocess: a frozen purifier in front of the classifier (training "behind" an
            autoencoder); no gradient flows into it.

    Returns:
        An objective with metrics ``loss`` and ``accuracy``.

    Example:
        >>> import jax
        >>> from flax import linen as nn
        >>> model = nn.Sequential([lambda x, train: x.reshape(len(x), -1), nn.Dense(10)])
        >>> objective = supervised(model)
    """
    per_example = optax.softmax_cross_entropy_with_integer_labels if loss is None else loss

    return Partial(_supervised, model, per_example, preprocess)


def _supervised(model, per_example, preprocess, params, model_state, key, x, y):
    if preprocess is not None:
        x = jax.lax.stop_gradient(preprocess(x))
    logits, model_state = forward(model, params, model_state, key, x)
    value = jnp.mean(per_example(logits, y))
    accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == y)
    return value, (model_state, {"loss": value, "accuracy": accuracy})


def reconstruction(model: nn.Module, method: str | None = None) -> Objective:
    """Autoencoding: mean squared error between images and their reconstructions.

    Args:
        model: a linen autoencoder, images to images.
        method: of the model that does it, for example ``"reconstruct"``; its call when not given.

    Returns:
        An objective with the metric ``loss``.
    """
    return denoising(model, _as_it_is, method)


def _as_it_is(key, x):
    return x


def denoising(model: nn.Module, noise: Noise, method: str | None = None) -> Objective:
    """Denoising: mean squared error between clean images and reconstructions of noisy ones.

    Vincent et al., "Extracting and composing robust features with denoising autoencoders" (2008).

    Args:
        model: a linen autoencoder, images to images.
        noise: ``(key, x) -> x`` the corruption, for example `gaussian_noise`.
        method: of the model that does it; its call when not given.

    Returns:
        An objective with the metric ``loss``.
    """

    return Partial(_denoising, model, noise, method)


def _denoising(model, noise, method, params, model_state, key, x, y):
    noise_key, dropout_key = jax.random.split(key)
    noisy = jax.lax.stop_gradient(noise(noise_key, x))
    restored, model_state = forward(model, params, model_state, dropout_key, noisy, method)
    value = jnp.mean((restored - x) ** 2)
    return value, (model_state, {"loss": value})


def gaussian_noise(sigma: float) -> Noise:
    """Independent Gaussian noise on every pixel value, clipped to ``[0, 1]``.

    Args:
        sigma: standard deviation in the unit of the images, ``[0, 1]``.

    Raises:
        InputError: ``sigma`` is negative, not finite, or above 1 (as if in 0-255 units).

    Example:
        >>> import jax
        >>> gaussian_noise(0.1)(jax.random.key(0), jax.numpy.zeros((2, 4, 4, 1))).shape
        (2, 4, 4, 1)
    """
    if not 0 <= sigma <= 1:
        raise InputError(
            f"sigma is {sigma}, but images are in [0, 1], so it must be between 0 and 1; "
            "a value in 0-255 units has to be divided by 255"
        )

    return Partial(_noisy, sigma)


def _noisy(sigma, key, x):
    return jnp.clip(x + sigma * jax.random.normal(key, x.shape, x.dtype), 0.0, 1.0)


def with_augmentation(objective: Objective, augment: Noise) -> Objective:
    """The same objective on augmented images, new ones in every step.

    Args:
        objective: any objective.
        augment: ``(key, x) -> x`` on a batch of images in ``[0, 1]``; labels stay.
    """

    return Partial(_augmented, objective, augment)


def _augmented(objective, augment, params, model_state, key, x, y):
    augment_key, key = jax.random.split(key)
    x = jax.lax.stop_gradient(augment(augment_key, x))
    return objective(params, model_state, key, x, y)


def adversarial(
    objective: Objective, attack: Attacker, eps: float, deploy: Callable[[PyTree], Classifier]
) -> Objective:
    """The same objective on adversarial images, found anew in every step.

    Madry et al. 2018 (arXiv 1706.06083), equation 2.1: the inner maximum is the attack's, on the
    current parameters in evaluation mode; no gradient flows through it.

    Args:
        objective: usually `supervised`.
        attack: an `Attack`, for example PGD of 7 steps; its gradients are most of the cost.
        eps: radius, in the unit of the images.
        deploy: variables to the attacked function: ``functools.partial(Frozen, model)`` for a bare
            classifier, ``lambda variables: Purified(purifier, Frozen(model, variables))`` for one
            behind a purifier (or a `jax.tree_util.Partial` that holds the purifier).

    Example:
        >>> import functools
        >>> from jaxdefense import Frozen, attacks, linf, models
        >>> model = models.build("lenet5")
        >>> deploy = functools.partial(Frozen, model)
        >>> objective = adversarial(supervised(model), attacks.pgd(linf, 7), 0.2, deploy)
    """
    # An array, so that all radii share a program.
    return Partial(_hardened, objective, attack, np.float32(eps), deploy)


def _hardened(objective, attack, eps, deploy, params, model_state, key, x, y):
    attack_key, key = jax.random.split(key)
    variables = jax.lax.stop_gradient({"params": params, **model_state})
    found = attack(attack_key, deploy(variables), x, y, eps)
    return objective(params, model_state, key, jax.lax.stop_gradient(found), y)


def _takes_train(call: Callable[..., Any]) -> bool:
    parameters = inspect.signature(call).parameters.values()
    return any(p.name == "train" or p.kind is p.VAR_KEYWORD for p in parameters)


def forward(
    model: nn.Module,
    params: PyTree,
    model_state: PyTree,
    key: jax.Array,
    x: Images,
    method: str | None = None,
    **inputs: Any,
) -> tuple[Any, PyTree]:
    """What a linen module makes of images in training mode, and its new state.

    Args:
        model: called with ``train=True`` where it takes that; dropout is drawn from the key.
        params, model_state: its variables.
        key: of this call.
        x: images.
        method: of the model; its call when not given.
        **inputs: further ones of the call.
    """
    variables, rngs = {"params": params, **model_state}, {"dropout": key}
    if _takes_train(getattr(model, method or "__call__", model.apply)):
        inputs["train"] = True
    return model.apply(variables, x, mutable=list(model_state), rngs=rngs, method=method, **inputs)
