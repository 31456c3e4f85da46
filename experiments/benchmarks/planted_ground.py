"""What planted defences are made of: settings, images, labels, a trained network."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np

import jaxdefense as jd
from jaxdefense import data, models
from jaxdefense.auditing import Claim
from jaxdefense.geometry import Ball, linf
from jaxdefense.training import fit, optimizer, schedule, supervised


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    dataset: str = "digits"
    data_dir: str | None = None
    """where the images lie; JAXDEFENSE_DATA by default"""
    size: int = 16
    """pixels of a side"""
    eps: float = 0.1
    """l-inf radius of the claims"""
    eps_l2: float = 0.5
    """l2 radius of the smoothed classifier's claim"""
    sigma: float = 0.5
    """of its noise"""
    epochs: int = 12
    n_train: int = 1200
    n: int = 200
    """images of each audit"""
    budget: str = "quick"
    seeds: tuple[int, ...] = (0, 1, 2)
    cases: tuple[str, ...] | None = None
    """some of them only"""
    output: str = "runs/planted"


class Case(NamedTuple):
    """A defence with its claim and the verdict it must get.

    Attributes:
        defence: with all its parts.
        claim: what its author says.
        must: the verdict.
        ball: of the claim's radius.
        fails: check that must fail, or none.
    """

    defence: jd.Defence
    claim: Claim
    must: str
    ball: Ball = linf
    fails: str | None = None


class Ground(NamedTuple):
    """What the cases are made of: images, labels, a trained network, settings.

    Test images are the audit's ``x, y``, and `others`, on which authors measure what they claim.
    """

    config: Config
    x_train: np.ndarray
    y_train: np.ndarray
    x: np.ndarray
    y: np.ndarray
    others: tuple[np.ndarray, np.ndarray]
    net: jd.Frozen
    key: jax.Array


def prepare(config: Config, seed: int) -> Ground:
    """Loads the images and trains the classifier that stands behind most of the cases."""
    chosen = data.load(config.dataset, data_dir=config.data_dir, size=config.size, channels=1)
    chosen = chosen.subset(n_train=config.n_train, n_test=2 * config.n, seed=seed)
    images, labels = data.as_images(chosen.x_test), chosen.y_test
    x, y, others = images[: config.n], labels[: config.n], (images[config.n :], labels[config.n :])
    key = jax.random.key(seed)
    module = models.build("lenet5")
    net = train(supervised(module), module, chosen.x_train, chosen.y_train, config.epochs, key)
    return Ground(config, chosen.x_train, chosen.y_train, x, y, others, net, key)


def train(objective, module, x, y, epochs: int, key, initial=None) -> jd.Frozen:
    """A model by an objective."""
    variables = models.initialize(module, key, x.shape[1:]) if initial is None else initial
    result = fit(
        objective, variables, _adam(epochs * (len(x) // 64)), x, y, key=key, epochs=epochs,
        batch_size=64, progress=False,
    )  # fmt: skip
    return jd.Frozen(module, result.variables)


@functools.cache
def _adam(steps: int):
    return optimizer("adam", schedule("cosine", 2e-3, steps))
