"""Which label an attack uses: target classes, predicted or random labels instead of the true one.

Choosers fill `Stage.target`: (keys, clean logits, y, attempt) -> label slot. Success stays "any
class but y", whatever the slot holds.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdefense import losses
from jaxdefense.attacks.attack import Attack, named
from jaxdefense.attacks.search import Stage
from jaxdefense.errors import InputError
from jaxdefense.losses import Targeted
from jaxdefense.typing import Keys, Labels, Logits, Loss

Chooser = Callable[[Keys, Logits, Labels, Any], Labels]

# Losses of one class that have a form towards another; the rest are sign-flipped.
_TOWARDS = {losses.dlr: losses.dlr_towards, losses.margin: losses.margin_towards}


@functools.cache
def ranked(count: int) -> Chooser:
    """The `count` most likely wrong classes in turn, one each attempt; fewer classes come round."""

    def nth_most_likely(keys: Keys, logits: Logits, y: Labels, attempt: Any) -> Labels:
        number = min(count, logits.shape[-1] - 1)
        own = jax.nn.one_hot(y, logits.shape[-1], dtype=bool)
        _, classes = jax.lax.top_k(jnp.where(own, -jnp.inf, jnp.nan_to_num(logits)), number)
        return classes[:, attempt % number]

    return _told(nth_most_likely, f"ranked {count}")


def least_likely(keys: Keys, logits: Logits, y: Labels, attempt: Any) -> Labels:
    """The wrong class with the lowest logit (Kurakin et al. 2017, arXiv 1607.02533)."""
    own = jax.nn.one_hot(y, logits.shape[-1], dtype=bool)
    return jnp.where(own, jnp.inf, logits).argmin(-1).astype(y.dtype)


def random_wrong(keys: Keys, logits: Logits, y: Labels, attempt: Any) -> Labels:
    """A wrong class drawn with equal chances."""
    number = logits.shape[-1]
    shift = jax.vmap(lambda key: jax.random.randint(key, (), 1, number, y.dtype))(keys)
    return (y + shift) % number


def predicted(keys: Keys, logits: Logits, y: Labels, attempt: Any) -> Labels:
    """The classifier's own prediction: an attacker who does not know the true label."""
    return logits.argmax(-1).astype(y.dtype)


def towards(attack: Attack, chooser: Chooser, name: str | None = None) -> Attack:
    """The attack aimed at the class a chooser picks; any wrong class counts as success.

    For success at the target only, call an attack built with `losses.targeted` with the targets in
    place of y.

    Args:
        attack: untargeted; every stage's loss is turned towards the target.
        chooser: for example `least_likely` or `random_wrong`.
        name: in tables.

    Example:
        >>> import jaxdefense as jd
        >>> towards(jd.attacks.pgd(steps=10), least_likely)
        Attack(pgd-10-least-likely, linf)
    """
    stages = []
    loss: Loss
    for stage in attack.stages:
        if stage.loss in _TOWARDS:
            loss, target = _TOWARDS[stage.loss], _paired(chooser)
        else:
            aimed = isinstance(stage.loss, Targeted) or stage.loss in _TOWARDS.values()
            loss = stage.loss if aimed else losses.targeted(stage.loss)
            target = _paired(chooser) if stage.loss in _TOWARDS.values() else chooser
        stages.append(stage._replace(loss=loss, target=target))
    name = name or f"{attack.name}-{chooser.__name__.replace('_', '-')}"
    return _renamed(attack, name, stages)


def _told(chooser: Chooser, settings: str) -> Chooser:
    """With what tells it from another, for results on disk."""
    chooser.settings = settings  # type: ignore[attr-defined]
    return chooser


@functools.cache
def _paired(chooser: Chooser) -> Chooser:
    def pair(keys: Keys, logits: Logits, y: Labels, attempt: Any) -> Labels:
        return jnp.stack([y, chooser(keys, logits, y, attempt)], axis=-1)

    return _told(pair, f"paired {named(chooser)}")


def _renamed(attack: Attack, name: str, stages: Iterable[Stage]) -> Attack:
    stages = tuple(stages)
    return dataclasses.replace(attack, name=name, stages=stages, labels=(name,) * len(stages))


def multi_targeted(attack: Attack, targets: int = 9, name: str | None = None) -> Attack:
    """The attack once towards each of the most likely wrong classes (Gowal et al. 2019,
    arXiv 1910.09338; Croce and Hein 2020, arXiv 2003.01690).

    Each run works on what the earlier ones left standing and costs one forward pass more, for
    finding its target. With fewer wrong classes than targets, they come round with fresh keys.

    Args:
        attack: of one stage, untargeted; its loss is turned towards the target.
        targets: how many.
        name: in tables.

    Raises:
        InputError: targets below 1, or an attack of several stages.

    Example:
        >>> import jaxdefense as jd
        >>> multi_targeted(jd.attacks.pgd(steps=10), 3).cost
        Cost(gradients=30, forwards=6)
    """
    if targets < 1 or len(attack.stages) != 1:
        raise InputError(
            f"multi_targeted needs targets >= 1 and an attack of one stage, got {targets} and "
            f"{len(attack.stages)} stages: apply it before restarts or strongest"
        )
    name = name or f"{attack.name}-t{targets}"
    one = towards(attack, ranked(targets), name)
    return _renamed(one, name, one.stages * targets)


def with_labels(attack: Attack, chooser: Chooser, name: str | None = None) -> Attack:
    """The attack led away from the label a chooser picks instead of from the true one.

    The control for label leaking (Kurakin et al. 2017, arXiv 1611.01236): a purifier trained on
    examples made with true labels can read the label off the perturbation. `predicted` does not
    give it away.

    Example:
        >>> import jaxdefense as jd
        >>> with_labels(jd.attacks.fgsm(), predicted)
        Attack(fgsm-predicted, linf)
    """
    stages = tuple(stage._replace(target=chooser) for stage in attack.stages)
    name = name or f"{attack.name}-{chooser.__name__.replace('_', '-')}"
    return _renamed(attack, name, stages)
