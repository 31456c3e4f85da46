"""Purifiers: generative ones to compare with, and controls that explain a defence's gain away.

A purifier is any callable from images ``[b, h, w, c]`` in [0, 1] to images of the same shape in
[0, 1]; ``Purified(purifier, classifier)`` deploys it. Trained ones are `Frozen` autoencoders, or
made by `latent_noise`, `puvae` and `defense_gan`. The controls, by function and by name, have
learned nothing about adversarial examples, most of them nothing at all: where one of them does as
well as a learned purifier, its gain is no merit of learning.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxdefense.defenses.defense_gan import defense_gan as defense_gan
from jaxdefense.defenses.defense_gan import invert as invert
from jaxdefense.defenses.filters import bit_depth as bit_depth
from jaxdefense.defenses.filters import blur as blur
from jaxdefense.defenses.filters import identity as identity
from jaxdefense.defenses.filters import resample as resample
from jaxdefense.defenses.jpeg import jpeg as jpeg
from jaxdefense.defenses.latent_noise import latent_noise as latent_noise
from jaxdefense.defenses.pca import pca as pca
from jaxdefense.defenses.puvae import puvae as puvae
from jaxdefense.defenses.smoothing import Smoothed as Smoothed
from jaxdefense.defenses.smoothing import smoothed as smoothed
from jaxdefense.defenses.untrained import untrained as untrained
from jaxdefense.errors import InputError, UnknownNameError
from jaxdefense.typing import Purifier


class Control(NamedTuple):
    """One registered control.

    Attributes:
        make: settings -> purifier.
        differentiable: whether its own gradient is sound; else it is attacked through
            `jaxdefense.bpda`.
        explains: what explains a learned purifier's gain where this one has it as well.
    """

    make: Callable[..., Purifier]
    differentiable: bool
    explains: str


CONTROLS: dict[str, Control] = {
    "identity": Control(identity, True, "nothing in front of the classifier"),
    "blur": Control(blur, True, "loss of fine detail"),
    "resample": Control(resample, True, "a bottleneck, without learning"),
    "pca": Control(pca, True, "a short code, without a network"),
    "untrained": Control(untrained, True, "the architecture, without learning"),
    "jpeg": Control(jpeg, False, "compression, and gradients that rounding hides"),
    "bit_depth": Control(bit_depth, False, "gradients that rounding hides"),
}


def names() -> tuple[str, ...]:
    """Names that `build` knows."""
    return tuple(CONTROLS)


def build(name: str, **settings: Any) -> Purifier:
    """A control by its name.

    Args:
        name: a key of `CONTROLS`.
        **settings: of the function of that name, such as ``sigma`` of `blur` or ``x_train`` and
            ``components`` of `pca`.

    Returns:
        A purifier ``[b, h, w, c] -> [b, h, w, c]``.

    Raises:
        UnknownNameError: no control has this name.
        InputError: settings that it does not have, lacks, or does not take.

    Example:
        >>> build("blur", sigma=1.5)
        Blur(sigma=1.5)
    """
    if name not in CONTROLS:
        raise UnknownNameError("control", name, CONTROLS)
    try:
        return CONTROLS[name].make(**settings)
    except TypeError as error:
        raise InputError(
            f"control {name!r} cannot be built with {', '.join(settings) or 'no settings'}: "
            f"{error}; remove, add or correct the setting"
        ) from error
