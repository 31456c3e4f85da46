"""Architectures as linen modules, and a registry to build them by name.

Every model is called as ``model.apply(variables, x, train=False)`` with images ``[b, h, w, c]`` in
``[0, 1]``; classifiers return logits ``[b, num_classes]``, autoencoders images of the same shape.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxdefense.errors import InputError, UnknownNameError
from jaxdefense.models.autoencoder import (
    Autoencoder,
    UAutoencoder,
    autoencoder,
    bottleneck,
    u_autoencoder,
)
from jaxdefense.models.chain import Chain, chain_variables, part_variables
from jaxdefense.models.convert import from_keras, from_torch, read_h5
from jaxdefense.models.denoising import DenoisingAutoencoder
from jaxdefense.models.efficientnet import EfficientNet, efficientnet_b0
from jaxdefense.models.gan import GAN, Critic, Generator
from jaxdefense.models.latent_noise import LatentNoiseAutoencoder
from jaxdefense.models.lenet import LeNet5
from jaxdefense.models.pooled import PooledCNN
from jaxdefense.models.pooling import EncoderClassifier, PoolingAutoencoder
from jaxdefense.models.preresnet import PreResNet, PyramidNet, preresnet, sepreresnet
from jaxdefense.models.resnet import (
    BasicBlock,
    ResNet,
    resnet8,
    resnet18,
    resnet20,
    resnet56,
    resnet110,
    seresnet20,
    seresnet56,
    seresnet110,
)
from jaxdefense.models.variational import ConditionalVAE
from jaxdefense.models.vgg import VGG, vgg8, vgg16
from jaxdefense.typing import PyTree

__all__ = [
    "GAN",
    "VGG",
    "Autoencoder",
    "BasicBlock",
    "Chain",
    "ConditionalVAE",
    "Critic",
    "DenoisingAutoencoder",
    "EfficientNet",
    "EncoderClassifier",
    "Generator",
    "LatentNoiseAutoencoder",
    "LeNet5",
    "PooledCNN",
    "PoolingAutoencoder",
    "PreResNet",
    "PyramidNet",
    "ResNet",
    "UAutoencoder",
    "bottleneck",
    "build",
    "chain_variables",
    "count_parameters",
    "from_keras",
    "from_torch",
    "initialize",
    "names",
    "part_variables",
    "read_h5",
]

_CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": LeNet5,
    "resnet8": resnet8,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet56": resnet56,
    "resnet110": resnet110,
    **{f"preresnet{depth}": functools.partial(preresnet, depth) for depth in (20, 56, 110)},
    "seresnet20": seresnet20,
    "seresnet56": seresnet56,
    "seresnet110": seresnet110,
    **{f"sepreresnet{depth}": functools.partial(sepreresnet, depth) for depth in (20, 56, 110)},
    "pyramidnet110_a48": functools.partial(PyramidNet, depth=110, alpha=48),
    "pyramidnet110_a84": functools.partial(PyramidNet, depth=110, alpha=84),
    "efficientnet_b0": efficientnet_b0,
    "vgg16": vgg16,
    "vgg8": vgg8,
    "pooled_cnn": PooledCNN,
    "encoder_classifier": EncoderClassifier,
}
_AUTOENCODERS: dict[str, Callable[..., nn.Module]] = {
    "autoencoder": autoencoder,
    "u_autoencoder": u_autoencoder,
    "pooling_autoencoder": PoolingAutoencoder,
    "denoising_autoencoder": DenoisingAutoencoder,
    "latent_noise_autoencoder": LatentNoiseAutoencoder,
}


def names() -> tuple[str, ...]:
    """Names that `build` knows: classifiers first, then autoencoders."""
    return (*_CLASSIFIERS, *_AUTOENCODERS)


def build(name: str, num_classes: int = 10, **kwargs: Any) -> nn.Module:
    """A model by name.

    Args:
        name: one of `names()`.
        num_classes: size of the logits; autoencoders have none and take no notice of it.
        **kwargs: settings of the model, such as ``width``, ``depth`` or ``dtype``.

    Returns:
        A linen module; `initialize` makes its variables.

    Raises:
        UnknownNameError: no model has this name.
        InputError: a setting that this model does not have, or no class.

    Example:
        >>> build("resnet18", num_classes=43, width=16).width
        16
    """
    if name not in names():
        raise UnknownNameError("model", name, names())
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}, but a classifier needs at least one class")
    try:
        if name in _CLASSIFIERS:
            return _CLASSIFIERS[name](num_classes=num_classes, **kwargs)
        return _AUTOENCODERS[name](**kwargs)
    except TypeError as error:
        given = ", ".join(f"{key}={value!r}" for key, value in kwargs.items())
        raise InputError(
            f"model {name!r} cannot be built with {given or 'no settings'}: {error}; "
            "remove or correct the setting"
        ) from error


def initialize(
    model: nn.Module, key: jax.Array, image_shape: Sequence[int], **settings: Hashable
) -> PyTree:
    """Random variables for a model.

    The same key always gives the same variables on one kind of device. Numbers come from the rbg
    generator, because compiling hundreds of threefry calls takes several times as long.

    Args:
        model: a linen module.
        key: PRNG key.
        image_shape: ``(h, w, c)`` of one image.
        **settings: keyword arguments of the call, such as ``train=False``.

    Raises:
        InputError: images that are too small for the model.

    Returns:
        Variables: ``{"params": ...}``, and ``"batch_stats"`` where the model has batch norm.

    Example:
        >>> import jax
        >>> variables = initialize(build("lenet5"), jax.random.key(0), (28, 28, 1))
        >>> count_parameters(variables)
        61706
    """
    seed = jax.random.bits(key, (4,), jnp.uint32)
    images = jnp.zeros((1, *image_shape))
    try:
        given = tuple(sorted(settings.items()))
        return _init(model, given, jax.random.wrap_key_data(seed, impl="rbg"), images)
    except ZeroDivisionError:
        height, width, _ = image_shape
        raise InputError(
            f"images of {height}x{width} are too small for {type(model).__name__}: nothing is left "
            "after its pooling; resize them (--size), or choose another model"
        ) from None


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init(model: nn.Module, settings: tuple, key: jax.Array, images: jax.Array) -> PyTree:
    return model.init(key, images, **dict(settings))


def count_parameters(variables: PyTree) -> int:
    """How many numbers are trained: the size of ``variables["params"]``, without batch statistics.

    Example:
        >>> import jax
        >>> count_parameters({"params": {"bias": jax.numpy.zeros(3)}, "batch_stats": {}})
        3
    """
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
