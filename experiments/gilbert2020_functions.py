"""Functions that `gilbert2020_denoising` attacks and deploys, its networks, faults of its code."""

import functools
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxdefense import Frozen, Normalized, Purified, attacks, defenses, linf, models
from jaxdefense.attacks import Attack
from jaxdefense.classifiers import Composite, apply
from jaxdefense.losses import cross_entropy
from jaxdefense.training import compute_dtype
from jaxdefense.typing import Classifier, Images, Labels, Logits, PerExample, Purifier

EPS = 8 / 255
RESNET, SEPRE, EFFICIENT = "resnet20", "sepreresnet56", "efficientnet_b0"
TITLES = {
    RESNET: "ResNet-20", "resnet56": "ResNet-56", "resnet110": "ResNet-110",
    "preresnet20": "PreResNet-20", "preresnet56": "PreResNet-56", "preresnet110": "PreResNet-110",
    "seresnet20": "SEResNet-20", "seresnet56": "SEResNet-56", "seresnet110": "SEResNet-110",
    "sepreresnet20": "SEPreResNet-20", SEPRE: "SEPreResNet-56",
    "sepreresnet110": "SEPreResNet-110", "pyramidnet110_a48": "PyramidNet-110 (a 48)",
    "pyramidnet110_a84": "PyramidNet-110 (a 84)", EFFICIENT: "EfficientNet-B0",
}  # fmt: skip
"""The classifiers of the paper's two tables, of its model search, and the one it did not finish."""

CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation by channel: what the networks are trained with, and what the public
code divides by when it scores them."""


class Standardised(Composite):
    """A purifier whose images are shifted and scaled by channel, as the networks take them."""

    purifier: Purifier
    mean: Any
    std: Any

    def __call__(self, x: Images) -> Images:
        by_channel = lambda value: jnp.asarray(value).reshape(1, 1, 1, -1)
        return (apply(self.purifier, None, x) - by_channel(self.mean)) / by_channel(self.std)


def in_front(statistics: Sequence[Sequence[float]], purifier: Purifier | None = None) -> Any:
    """What stands before a network in training: nothing or a purifier, then the statistics."""
    before = defenses.identity() if purifier is None else purifier
    return Standardised(before, *(np.array(each, np.float32) for each in statistics))


def normalized(net: Frozen, statistics: Sequence[Sequence[float]]) -> Normalized:
    """A network as a classifier of images in [0, 1]."""
    mean, std = (jnp.array(each, jnp.float32) for each in statistics)
    return Normalized(net, mean, std)


def as_probabilities(logits: Logits, y: Labels) -> PerExample:
    """The public code's loss in fine-tuning, which takes logits for probabilities.

    ``-log(clip(z_y) / sum clip(z))`` with z clipped to [1e-7, 1 - 1e-7]: no gradient once the true
    logit exceeds 1, and none where a logit is negative.
    """
    clipped = jnp.clip(logits, 1e-7, 1 - 1e-7)
    own = jnp.take_along_axis(clipped, y[:, None], axis=-1)[:, 0]
    return jnp.log(clipped.sum(-1)) - jnp.log(own)


def from_probabilities(logits: Logits, y: Labels) -> PerExample:
    """The public code's loss in attacks: the same of the softmax; none where that saturates."""
    return as_probabilities(jax.nn.softmax(logits), y)


@functools.cache
def printed_attacks(coded: bool) -> tuple[Attack, Attack]:
    """FGSM, and PGD of ten steps of 0.01 from a random start, with the code's loss or without.

    FGSM, and PGD as coded, hand on where their last step ends; PGD without the faults the best.
    """
    loss = from_probabilities if coded else cross_entropy
    pgd = attacks.pgd(linf, 10, 0.01 / EPS, loss=loss)
    fgsm = attacks.last_iterate(attacks.fgsm(linf, loss=loss))
    return fgsm, attacks.last_iterate(pgd) if coded else pgd


def attacked(net: Frozen, coded: bool) -> Classifier:
    """The function that the attacker differentiates; as coded, without the normalisation."""
    return net if coded else normalized(net, CIFAR)


def scored(net: Frozen, coded: bool, purifier: Purifier | None = None) -> Classifier:
    """The function that is deployed; as coded, with statistics of other images."""
    classifier = normalized(net, IMAGENET if coded else CIFAR)
    return classifier if purifier is None else Purified(purifier, classifier)


def label(config: Any, name: str) -> str:
    """A network in tables: the paper's name, and what this run has in its place."""
    title = TITLES[name]
    if config.shallower == 1 and config.width == config.deep_width == 16:
        return title
    instead, name = ("ResNet, ", RESNET) if config.alike else ("", name)
    blocks = _blocks(config, name)
    depth = f"{2 * config.stages * blocks + 2} layers, " if blocks else ""
    return f"{title} (here {instead}{depth}width {_width(config, name)})"


def _blocks(config: Any, name: str) -> int:
    """Blocks of each stage."""
    if name == EFFICIENT:
        return 0
    (depth,) = re.findall(r"t(\d+)", name)
    return max(1, (int(depth) - 2) // 6 // config.shallower)


def _width(config: Any, name: str) -> int:
    return config.width if name.endswith("20") else config.deep_width


def build(config: Any, name: str, classes: int) -> nn.Module:
    """An untrained network in the size of this run."""
    name = RESNET if config.alike else name
    width, dtype = _width(config, name), compute_dtype()
    if name == EFFICIENT:
        scale = lambda channels: max(4, channels * width // 16)
        stages = tuple(
            stage._replace(
                features=scale(stage.features), blocks=max(1, stage.blocks // config.shallower)
            )
            for stage in models.EfficientNet().stages
        )
        size = {"stages": stages, "stem": scale(32), "head": scale(1280)}
        return models.build(name, classes, **size, dtype=dtype)
    blocks = _blocks(config, name)
    if name.startswith("pyramidnet"):
        size = {"depth": 6 * blocks + 2, "alpha": int(name.rpartition("_a")[2]) * width // 16}
        return models.build(name, classes, width=width, **size, dtype=dtype)
    return models.build(name, classes, width=width, blocks=(blocks,) * config.stages, dtype=dtype)


def as_bytes(x: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as uint8, as a file would hold them; within a ball of 8/255 they stay."""
    return np.round(255 * np.asarray(x)).astype(np.uint8)
