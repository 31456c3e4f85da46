"""A defence by its parts: the more of them are known, the more can be tested."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.classifiers import Composite, Purified, is_random
from jaxdefense.defenses.smoothing import Smoothed, votes
from jaxdefense.errors import InputError
from jaxdefense.surrogates import bpda, eot, identity
from jaxdefense.typing import Classifier, Images, Keys, Logits, Purifier

VOTES = 9
"""Draws behind the answer of a random defence."""


@dataclasses.dataclass(frozen=True)
class Defence:
    """What is audited. Every part is optional, as long as there is something to deploy.

    Attributes:
        deployed: ``x -> logits``, what users of the defence call; ``Purified(purifier,
            classifier)`` if not given. Random ones say so by their type (`Randomized`).
        classifier: what stands behind the purifier: for the undefended and oblivious attackers.
        purifier: what stands in front of it: for attackers who replace its gradient, and for
            controls in its place.
        differentiable: whether the purifier's own gradient is sound. Not for rounding, JPEG,
            quantisation, or calls of the host.
        backward: a smooth function of the purifier's kind, whose gradient an attacker may take
            instead of the purifier's.
        train: images and labels (uint8 or floats in [0, 1]) to train an attacker's own networks
            with. Never the images of the audit.
        substitutes: networks of your own to transfer attacks from, by name.
        name: in tables.
    """

    deployed: Classifier | None = None
    classifier: Classifier | None = None
    purifier: Purifier | None = None
    differentiable: bool = True
    backward: Purifier | None = None
    train: tuple[np.ndarray, np.ndarray] | None = None
    substitutes: Mapping[str, Classifier] = dataclasses.field(default_factory=dict)
    name: str = "defence"

    def __post_init__(self) -> None:
        if self.deployed is None and self.classifier is None:
            raise InputError(
                "a Defence needs something to deploy: give deployed=, or classifier= and, in front "
                "of it, purifier="
            )
        for part in ("deployed", "classifier", "purifier", "backward"):
            value = getattr(self, part)
            if value is not None and not callable(value):
                raise InputError(
                    f"{part} is a {type(value).__name__}, but must be a function of images "
                    "[b, h, w, c]: Frozen(module, variables) makes one of a linen module"
                )

    @property
    def whole(self) -> Classifier:
        """What is deployed."""
        if self.deployed is not None:
            return self.deployed
        assert self.classifier is not None
        if self.purifier is None:
            return self.classifier
        return Purified(self.purifier, self.classifier)

    @property
    def undefended(self) -> Classifier | None:
        """The classifier where something stands in front of it, else None."""
        return None if self.classifier is self.whole else self.classifier

    @property
    def composed(self) -> bool:
        """Whether what is deployed is the classifier behind the purifier, and nothing else."""
        whole = self.whole
        return (
            isinstance(whole, Purified)
            and whole.purifier is self.purifier
            and whole.classifier is self.classifier
        )

    @property
    def random(self) -> bool:
        """Whether what is deployed says that it is random."""
        return is_random(self.whole)

    @property
    def attacked(self) -> Classifier:
        """What has a gradient of what is deployed; of votes under noise, one of the votes."""
        return self.whole.noisy if isinstance(self.whole, Smoothed) else self.whole

    @property
    def scored(self) -> Classifier:
        """What decides whether an image is broken: of a random defence its most frequent answer.

        Many attackers try each image. Were each of them judged by one draw, they would in the end
        find one that fails by chance.
        """
        whole: Any = self.whole
        if self.random and not isinstance(whole, Smoothed):
            whole = Voted(whole, VOTES)
        return whole

    def averaged(self, function: Classifier, draws: int) -> Classifier:
        """What an attacker of a random defence differentiates: means over draws."""
        if not is_random(function):
            return function
        votes = isinstance(self.whole, Smoothed)
        return eot(function, draws, of="probabilities" if votes else "losses")

    @property
    def route(self) -> Classifier:
        """What has a gradient of use: around the purifier where its own is not sound."""
        if self.differentiable or self.purifier is None or self.undefended is None:
            return self.attacked
        return Purified(bpda(self.purifier, self.backward or identity), self.undefended)


def as_defence(given: Any) -> Defence:
    """A `Defence` of itself, of a `Purified` with its parts, or of any function ``x -> logits``.

    Raises:
        InputError: something that cannot be called.
    """
    if isinstance(given, Defence):
        # One object from here on: who is attacked is told from who is deployed by identity.
        whole = given.whole
        given = dataclasses.replace(given, deployed=whole)
        if isinstance(whole, Purified):  # what the user did not say is taken from the parts
            return dataclasses.replace(
                given,
                classifier=given.classifier or whole.classifier,
                purifier=given.purifier or whole.purifier,
            )
        return given
    if isinstance(given, Smoothed):
        deployed: Any = given  # random, by its type
        return Defence(deployed=deployed, classifier=given.noisy.classifier)
    if isinstance(given, Purified):
        return Defence(deployed=given, classifier=given.classifier, purifier=given.purifier)
    return Defence(deployed=given)


class Voted(Composite):
    """The answer that a random classifier gives most often; logits are numbers of votes."""

    classifier: Classifier
    draws: int = flax.struct.field(pytree_node=False)

    def __call__(self, keys: Keys, x: Images) -> Logits:
        return votes(self.classifier, self.draws, keys, x)


class LogProbabilities(Composite):
    """Logits of a function that returns probabilities: their logarithm.

    The softmax of these is the probabilities again, so nothing about the function changes; its
    gradient is what a softmax that has saturated in float32 leaves of it.
    """

    classifier: Classifier

    def __call__(self, *keys_and_x: Any) -> Logits:
        probabilities = self.classifier(*keys_and_x)
        return jnp.log(jnp.maximum(probabilities, jnp.finfo(probabilities.dtype).tiny))


def with_logits(defence: Defence, wrap: Any, own: bool) -> Defence:
    """The defence with another function around what it deploys.

    Args:
        defence: any.
        wrap: function to function.
        own: also around its classifier, where that is another function.
    """
    whole = defence.whole
    classifier = defence.classifier
    if classifier is whole:
        wrapped = wrap(whole)
        return dataclasses.replace(defence, classifier=wrapped, deployed=wrapped)
    if isinstance(whole, Purified) and whole.classifier is classifier:
        wrapped = wrap(classifier)
        return dataclasses.replace(
            defence, classifier=wrapped, deployed=Purified(whole.purifier, wrapped)
        )
    return dataclasses.replace(
        defence,
        deployed=wrap(whole),
        classifier=wrap(classifier) if own and classifier is not None else classifier,
    )


def are_probabilities(outputs: np.ndarray | jax.Array) -> bool:
    """Whether outputs ``[n, k]`` are probabilities where logits are expected."""
    outputs = np.asarray(outputs)
    inside = (outputs >= 0).all() and (outputs <= 1).all()
    return bool(inside and (np.abs(outputs.sum(-1) - 1) < 1e-4).all())
