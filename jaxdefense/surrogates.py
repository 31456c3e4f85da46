"""Surrogates: they change what an attacker differentiates, not the attack."""

from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp

from jaxdefense.classifiers import Composite, apply, fold
from jaxdefense.errors import InputError
from jaxdefense.typing import Classifier, Images, Keys, Logits


class Averaged(Composite):
    """A random classifier averaged over draws of its randomness; made by `eot`."""

    classifier: Classifier
    draws: int = flax.struct.field(pytree_node=False, default=20)
    of: str = flax.struct.field(pytree_node=False, default="losses")

    def __call__(self, keys: Keys, x: Images) -> Logits:
        return _draws(self, keys, x).mean(0)


def eot(
    classifier: Classifier, draws: int = 20, of: Literal["losses", "logits"] = "losses"
) -> Averaged:
    """Expectation over transformation (Athalye et al. 2018, arXiv 1707.07397) of a random defence.

    Give it to an attack, or to `jaxdefense.sweep` as ``surrogate=eot(deployed, 20)``.

    Args:
        classifier: `Randomized`, or composed of something that is.
        draws: how often its randomness is drawn in every evaluation, which costs as many gradients.
        of: what is averaged: ``"losses"``: the attack ascends the mean of the losses, as in
            AutoAttack's ``rand``; ``"logits"``: the loss of the mean logits. Success is judged by
            the mean logits either way.

    Raises:
        InputError: draws below 1, or an unknown `of`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdefense as jd
        >>> noise = lambda key, x: x + jax.random.normal(key, x.shape)
        >>> noisy = jd.Randomized(lambda keys, x: jax.vmap(noise)(keys, x).sum((1, 2)))
        >>> steady = eot(noisy, draws=1000)
        >>> keys = jd.example_keys(jax.random.key(0), 1)
        >>> bool(abs(steady(keys, jnp.zeros((1, 1, 1, 2)))).max() < 0.2)
        True
    """
    if draws < 1:
        raise InputError(f"eot needs draws >= 1, got {draws}")
    if of not in ("losses", "logits"):
        raise InputError(f"eot averages 'losses' or 'logits', got {of!r}")
    return Averaged(classifier, draws, of)


def evaluations(classifier: Classifier) -> int:
    """How many evaluations of the network one call of this classifier is."""
    return classifier.draws if isinstance(classifier, Averaged) else 1


def draw(classifier: Classifier, keys: Keys, x: Images) -> jax.Array:
    """Logits ``[d, b, k]`` whose losses are to be averaged; d is 1 but for `eot` of losses."""
    if isinstance(classifier, Averaged) and classifier.of == "losses":
        return _draws(classifier, keys, x)
    return apply(classifier, keys, x)[None]


def _draws(averaged: Averaged, keys: Keys, x: Images) -> jax.Array:
    one = lambda index: apply(averaged.classifier, fold(keys, index), x)
    return jax.vmap(one)(jnp.arange(averaged.draws))
