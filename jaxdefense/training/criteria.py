"""Losses to train with, for ``supervised(model, loss=...)``: minimised, per example.

What attacks ascend is in `jaxdefense.losses`; these are not made for that.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxdefense.errors import InputError
from jaxdefense.losses import cross_entropy
from jaxdefense.typing import Labels, Logits, Loss, PerExample


@dataclasses.dataclass(frozen=True)
class GuidedComplementEntropy:
    """Guided complement entropy; made by `gce`."""

    alpha: float

    def __call__(self, logits: Logits, y: Labels) -> PerExample:
        classes = logits.shape[-1]
        if classes < 3:
            raise InputError(
                f"guided complement entropy spreads probability over the wrong classes, but of "
                f"{classes} classes there are not two wrong ones: train with cross-entropy"
            )
        own = jax.nn.one_hot(y, classes, dtype=bool)
        log_p = jnp.where(own, jax.nn.log_softmax(logits), 0.0).sum(-1)
        # p_j / (1 - p_y) is the softmax of the other logits: no division that could be by zero.
        log_q = jax.nn.log_softmax(jnp.where(own, -jnp.inf, logits))
        log_q = jnp.where(own, 0.0, log_q)
        entropy = -jnp.where(own, 0.0, jnp.exp(log_q) * log_q).sum(-1)
        return -jnp.exp(self.alpha * log_p) * entropy / math.log(classes - 1)


def gce(alpha: float = 1 / 3) -> GuidedComplementEntropy:
    """Guided complement entropy (Chen et al. 2019, arXiv 1903.09799), as a loss for `supervised`.

    ``p_y ** alpha * sum_j q_j log q_j / log(k - 1)`` over the wrong classes j, where
    ``q_j = p_j / (1 - p_y)``: from 0 down to -1, which it approaches where the label has all
    probability and what is left is spread evenly over the wrong classes. The authors' code divides
    by ``log(k)`` instead, which only scales it (by 0.95 for 10 classes), and adds small constants
    that the form used here does not need.

    What withstands attacks on the cross-entropy after such a training may just have small gradients
    of it: attack with `losses.margin` and `losses.dlr` too.

    Args:
        alpha: exponent of the label's probability; the smaller, the sooner the rest is spread.

    Returns:
        A loss of logits ``[b, k]`` and classes ``[b]``, ``[b]``. Calling it raises `InputError`
        where there are fewer than 3 classes.

    Raises:
        InputError: alpha is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = gce()
        >>> round(float(loss(jnp.array([[20.0, 0.0, 0.0]]), jnp.array([0]))[0]), 3)
        -1.0
    """
    if not (alpha > 0 and math.isfinite(alpha)):
        raise InputError(f"alpha is {alpha}, but the exponent of a probability must be positive")
    return GuidedComplementEntropy(float(alpha))


@dataclasses.dataclass(frozen=True)
class AtTemperature:
    """A loss of divided logits; made by `tempered`."""

    temperature: float
    loss: Loss

    def __call__(self, logits: Logits, y: Labels) -> PerExample:
        return self.loss(logits / self.temperature, y)


def tempered(temperature: float, loss: Loss = cross_entropy) -> AtTemperature:
    """A loss of the logits divided by a temperature, for `supervised`.

    Trained at a temperature above 1 and deployed at 1, a network has logits that much larger and a
    saturated softmax (Hinton et al. 2015, arXiv 1503.02531; Papernot et al. 2016, arXiv 1511.04508,
    there with a second network). Attack it as ``Tempered(deployed, temperature)`` too.

    Args:
        temperature: above 0; 1 changes nothing.
        loss: of logits and labels, per example.

    Raises:
        InputError: a temperature that is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> z, y = jnp.array([[5.0, 0.0]]), jnp.array([0])
        >>> bool((tempered(2.5)(z, y) == cross_entropy(z / 2.5, y)).all())
        True
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise InputError(f"the temperature is {temperature}, but must be positive")
    return AtTemperature(float(temperature), loss)
