"""Which parts of a defence an attacker can work with, and their logits."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense import checks
from jaxdefense.auditing.defence import (
    Defence,
    LogProbabilities,
    are_probabilities,
    with_logits,
)
from jaxdefense.auditing.masking import flatness
from jaxdefense.auditing.plan import Skipped
from jaxdefense.classifiers import apply, is_random
from jaxdefense.defenses.smoothing import Smoothed
from jaxdefense.errors import InputError
from jaxdefense.evaluation.clean import all_logits
from jaxdefense.geometry import Ball
from jaxdefense.precision import float32_products
from jaxdefense.typing import Classifier, Purifier, example_keys


def usable(
    defence: Defence, x: np.ndarray, y: np.ndarray, eps: float, ball: Ball, key: jax.Array
) -> tuple[Defence, list[Skipped]]:
    """The defence without the parts that cannot be attacked by themselves, and which those are.

    A purifier that makes images of another size leaves nothing to compare its classifier with; a
    classifier without a gradient none to take around the purifier.
    """
    bare, reason = defence.undefended, ""
    if defence.purifier is not None:
        shape = _shape(defence.purifier, x)
        if shape != x.shape[1:]:
            reason = f"the purifier makes images {list(shape)} of images {list(x.shape[1:])}"
    if bare is not None and not reason:
        _, blocked = flatness(bare, x, y, eps, ball, key)
        reason = blocked and f"the classifier cannot be differentiated ({blocked})"
    if not reason:
        return defence, []
    whole = dataclasses.replace(defence, deployed=defence.whole, classifier=None, purifier=None)
    return whole, [Skipped("attackers of the parts", reason)]


def _shape(purifier: Purifier, x: np.ndarray) -> tuple[int, ...]:
    keys = example_keys(jax.random.key(0), 1) if is_random(purifier) else None
    image = jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.float32)
    try:
        return jax.eval_shape(functools.partial(apply, purifier, keys), image).shape[1:]
    except Exception:  # whoever calls the defence as a whole says what is wrong
        return x.shape[1:]


def logits_of_all(
    defence: Defence, x: np.ndarray, y: np.ndarray, key: jax.Array
) -> tuple[Defence, bool, np.ndarray]:
    """The defence with logits where it returns probabilities, whether it did, and its answers.

    Raises:
        InputError: a function that cannot be called on such images, or returns what cannot be
            logits or probabilities of these labels.
    """
    few = x[:64]

    def returned(function: Classifier, name: str) -> np.ndarray:
        with float32_products():
            return all_logits(function, few, key, len(few), name)

    own, wrapped = returned(defence.whole, "defence"), {}
    for name, network in defence.substitutes.items():
        theirs = returned(network, f"substitute {name!r}")
        if theirs.shape != own.shape:
            raise InputError(
                f"the substitute {name!r} returns {list(theirs.shape)} for {len(few)} images, but "
                f"the defence {list(own.shape)}: give one of the same classes, in the same order"
            )
        wrapped[name] = LogProbabilities(network) if are_probabilities(theirs) else network
    defence = dataclasses.replace(defence, substitutes=wrapped)
    odds = not isinstance(defence.whole, Smoothed) and are_probabilities(own)  # not a single vote
    checks.check_logits(np.log(own + 1e-30) if odds else own, y[: len(few)], "defence")
    bare = defence.undefended
    both = bare is not None and are_probabilities(returned(bare, "classifier"))
    if odds:
        return with_logits(defence, LogProbabilities, both), True, own
    return _with_bare_logits(defence) if both else defence, False, own


def _with_bare_logits(defence: Defence) -> Defence:
    """Around the classifier alone: what is deployed makes votes or logits of its probabilities."""
    assert defence.classifier is not None
    wrapped, whole = LogProbabilities(defence.classifier), defence.whole
    if isinstance(whole, Smoothed) and whole.noisy.classifier is defence.classifier:
        whole = whole.replace(noisy=whole.noisy.replace(classifier=wrapped))
    return dataclasses.replace(defence, classifier=wrapped, deployed=whole)
