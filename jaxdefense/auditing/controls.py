"""What explains away that a defence withstands examples made for another network."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from jaxdefense import attacks, defenses, models
from jaxdefense.auditing.defence import Defence
from jaxdefense.auditing.plan import Skipped
from jaxdefense.auditing.substitutes import NO_OWN
from jaxdefense.classifiers import Purified
from jaxdefense.evaluation import craft
from jaxdefense.geometry import Ball
from jaxdefense.typing import Classifier


class Explanation(NamedTuple):
    """How something simple does on the examples that the defence is shown to withstand.

    Attributes:
        name: the defence itself, the classifier alone, or a control.
        explains: what a gain of it would be explained by.
        clean_accuracy, accuracy: on the images, and on the examples made for the classifier.
        interval: of `accuracy`, 95 %.
    """

    name: str
    explains: str
    clean_accuracy: float
    accuracy: float
    interval: tuple[float, float]


_SETTINGS: dict[str, dict[str, object]] = {
    "identity": {}, "blur": {"sigma": 1.0}, "resample": {"factor": 2}, "jpeg": {"quality": 50},
    "bit_depth": {"bits": 2},
}  # fmt: skip


def explanations(
    defence: Defence,
    scored: Classifier,
    x: np.ndarray,
    y: np.ndarray,
    eps: float,
    ball: Ball,
    steps: int,
    substitutes: Mapping[str, Classifier],
    key: jax.Array,
) -> list[Explanation]:
    """Examples made for the classifier alone, shown to the defence and to what has learned nothing.

    Empty where nothing but the deployed function was given.
    """
    bare = defence.undefended
    if bare is None:
        return []
    crafted = craft(attacks.pgd(ball, steps), bare, x, y, eps, key, name="the classifier alone")
    shown: list[tuple[str, str, Classifier]] = [
        (defence.name, "the defence itself", scored),
        ("classifier alone", "nothing", bare),
    ]
    for name, settings in _SETTINGS.items():
        if name == "jpeg" and x.shape[-1] not in (1, 3):
            continue
        control = Purified(defenses.build(name, **settings), bare)
        shown.append((_told(name, settings), defenses.CONTROLS[name].explains, control))
    random = defenses.untrained(models.build("autoencoder", width=16), key, x.shape[1:])
    shown.append(("untrained", defenses.CONTROLS["untrained"].explains, Purified(random, bare)))
    if defence.train is not None:
        images = np.asarray(defence.train[0])
        # Files are often in the order of their classes.
        drawn = np.asarray(jax.random.permutation(jax.random.fold_in(key, 1), len(images)))
        images = images[np.sort(drawn[:2000])]
        components = min(64, len(images), images[0].size)
        control = Purified(defenses.pca(images, components), bare)
        shown.append((f"pca ({components})", defenses.CONTROLS["pca"].explains, control))
    for name, network in substitutes.items():
        if name == "another seed":
            shown.append((name, "examples that do not transfer between networks", network))
    found = []
    for name, explains, function in shown:
        result = crafted.accuracy(function)
        low, high = map(float, result.interval)
        found.append(
            Explanation(name, explains, result.clean_accuracy, result.accuracy, (low, high))
        )
    return found


def left_out(
    defence: Defence, channels: int, substitutes: Mapping[str, Classifier]
) -> list[Skipped]:
    """Which controls are missing, and why."""
    if defence.undefended is None:
        reason = "no classifier was given besides what is deployed"
        return [Skipped("what explains it", reason)]
    reasons = {}
    if channels not in (1, 3):
        reasons["control: jpeg"] = f"images of {channels} channels have no JPEG"
    if defence.train is None:
        reasons["control: pca"] = "no training images were given"
    if "another seed" not in substitutes:
        known = "no training images were given" if defence.train is None else NO_OWN
        reasons["control: another seed"] = known
    return [Skipped(name, reason) for name, reason in reasons.items()]


def _told(name: str, settings: dict[str, object]) -> str:
    values = ", ".join(f"{key} {value}" for key, value in settings.items())
    return f"{name} ({values})" if values else name
