"""Randomised smoothing: the class that a classifier answers most often under Gaussian noise."""

import functools
import math
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from jaxdefense.classifiers import Composite, Purified, Randomized, apply, fold
from jaxdefense.errors import InputError
from jaxdefense.typing import Classifier, Images, Keys, Logits


class Smoothed(Composite):
    """Votes of a classifier under noise; made by `smoothed`."""

    noisy: Purified
    sigma: float = flax.struct.field(pytree_node=False)
    draws: int = flax.struct.field(pytree_node=False)

    def __call__(self, keys: Keys, x: Images) -> Logits:
        return votes(self.noisy, self.draws, keys, x)

    @property
    def vote(self) -> Purified:
        """One of the votes, which has a gradient; counts of them have none."""
        return self.noisy


def smoothed(classifier: Classifier, sigma: float, draws: int = 100) -> Smoothed:
    """The smoothed classifier of Cohen et al. 2019 (arXiv 1902.02918): a vote under Gaussian noise.

    `jaxdefense.evaluation.certify` gives a radius in l2 within which its answer is proven not to
    change. ``smoothed(Purified(denoiser, classifier), sigma)`` is the denoised smoothing of Salman
    et al. 2020 (arXiv 2003.01908) for classifiers that were not trained with noise.

    The votes have no gradient: attack ``eot(deployed, draws)``, which takes the mean of noisy
    answers in their place (Salman et al. 2019, arXiv 1906.04584), as `jaxdefense.audit` does.

    Args:
        classifier: best trained with noise of this strength.
        sigma: standard deviation of the noise, in pixel units of [0, 1]. Noisy images leave [0, 1].
        draws: how many votes an answer takes.

    Returns:
        A random classifier whose logits are numbers of votes.

    Raises:
        InputError: sigma or draws that are not positive.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdefense as jd
        >>> sign = lambda x: jnp.stack([s := x.sum((1, 2, 3)), -s], -1)
        >>> keys = jd.example_keys(jax.random.key(0), 1)
        >>> smoothed(sign, 0.5, draws=20)(keys, jnp.full((1, 1, 1, 1), 3.0)).tolist()
        [[20.0, 0.0]]
    """
    if not (sigma > 0 and math.isfinite(sigma)) or draws < 1:
        raise InputError(
            f"smoothed needs a positive sigma and at least one draw, got {sigma} and {draws}"
        )
    noisy = Purified(Randomized(_noise(float(sigma))), classifier)
    return Smoothed(noisy=noisy, sigma=float(sigma), draws=draws)


@functools.cache  # equal settings are the same function, so that jit compiles it once
def _noise(sigma: float) -> Callable[[Keys, Images], Images]:
    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        return image + sigma * jax.random.normal(key, image.shape, image.dtype)

    return jax.vmap(one)


def votes(noisy: Classifier, draws: int, keys: Keys, x: Images) -> jax.Array:
    """How often a random classifier answers each class ``[b, k]``, in so many draws.

    NaN is no answer. Where it is what comes most often, so is the vote.
    """

    def add(index: jax.Array, counts: jax.Array) -> jax.Array:
        logits = apply(noisy, fold(keys, index), x)
        answered = ~jnp.isnan(logits).any(-1, keepdims=True)
        return counts + answered * jax.nn.one_hot(logits.argmax(-1), logits.shape[-1])

    classes = jax.eval_shape(functools.partial(apply, noisy), keys, x).shape[-1]
    counts = jax.lax.fori_loop(0, draws, add, jnp.zeros((len(x), classes)))
    lost = draws - counts.sum(-1, keepdims=True) > counts.max(-1, keepdims=True)
    return jnp.where(lost, jnp.nan, counts)
