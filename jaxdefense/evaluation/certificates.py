"""Certificates: radii within which no attack can succeed, whatever it knows."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from jaxdefense import checks
from jaxdefense.classifiers import Static, fold, join, split
from jaxdefense.defenses.smoothing import Smoothed, votes
from jaxdefense.errors import InputError
from jaxdefense.evaluation.clean import keys_at
from jaxdefense.evaluation.devices import everywhere
from jaxdefense.evaluation.robustness import interval
from jaxdefense.precision import float32_products
from jaxdefense.typing import Images, Keys, Labels

# Keeps the draws for the choice of a class apart from those for its probability.
_CHOOSE, _ESTIMATE = 2**30 + 3, 2**30 + 4


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Certified radii; what `certify` returns.

    Attributes:
        radius: per example ``[n]``, in l2: the answer is proven to be the label within it. Below 0
            where the answer is another one, or where the smoothed classifier abstains.
        answer: ``[n]``, the class certified; -1 where it abstains.
        alpha: the probability that a radius is wrong, for each example.
        draws: behind each probability.
        sigma: of the noise.
    """

    radius: np.ndarray
    answer: np.ndarray
    alpha: float
    draws: int
    sigma: float
    norm: str = "l2"

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.radius)

    def accuracy(self, radii: np.ndarray | list[float]) -> np.ndarray:
        """Certified accuracy ``[e]``: the share of examples whose radius is above each of these."""
        return (self.radius[:, None] > np.asarray(radii, float)).mean(0)

    def interval(self, radii: np.ndarray | list[float]) -> np.ndarray:
        """95 % Clopper-Pearson intervals of `accuracy`, ``[e, 2]``."""
        return interval(np.rint(self.accuracy(radii) * self.n).astype(int), self.n)


def certify(
    smoothed: Smoothed,
    x: Images | np.ndarray,
    y: Labels | np.ndarray,
    key: jax.Array,
    *,
    choose: int = 100,
    draws: int = 10_000,
    alpha: float = 0.001,
    batch_size: int = 64,
) -> Certificate:
    """Certified l2 radii of a smoothed classifier (Cohen et al. 2019, arXiv 1902.02918, figure 1).

    A few draws choose a class; fresh ones give a lower bound of its probability p that is exact for
    any number of draws (Clopper and Pearson 1934, one-sided, at level alpha). Where it is above 1/2
    the radius is ``sigma * Phi^-1(p)`` (theorem 1), else the classifier abstains. The radius is
    that of the ideal smoothed classifier, whose vote never ends.

    Args:
        smoothed: made by `jaxdefense.defenses.smoothed`.
        x: images ``[n, h, w, c]`` in [0, 1].
        y: labels ``[n]``.
        key: example i uses ``fold_in(key, i)``.
        choose: draws for the choice (the paper's n0, 100).
        draws: draws for the probability (the paper's n, 100,000). They bound the largest radius:
            ``sigma * Phi^-1(alpha ** (1 / draws))``.
        alpha: of each bound.
        batch_size: images per program call.

    Raises:
        InputError: another classifier, or one that answers NaN under noise; numbers of draws that
            are not positive; alpha outside (0, 1); images or labels that cannot be right.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxdefense.defenses import smoothed
        >>> sign = lambda x: jnp.stack([s := x.sum((1, 2, 3)) - 0.5, -s], -1)
        >>> found = certify(smoothed(sign, 0.25), jnp.ones((1, 1, 1, 1)), jnp.zeros(1, jnp.int32),
        ...                 jax.random.key(0), draws=1000)  # true distance to the boundary: 0.5
        >>> bool(0.3 < found.radius[0] < 0.5)
        True
    """
    if not isinstance(smoothed, Smoothed):
        raise InputError(
            f"certify() needs what jaxdefense.defenses.smoothed made, got "
            f"{type(smoothed).__name__}: no other function here has a certificate"
        )
    if choose < 1 or draws < 1 or not 0 < alpha < 1:
        raise InputError(
            f"certify() needs positive numbers of draws and alpha in (0, 1), got {choose}, {draws} "
            f"and {alpha}"
        )
    images, labels = np.asarray(x), np.asarray(y)
    checks.check_images(images)
    checks.check_labels(labels, len(images))
    images = images.astype(np.float32)
    arrays, static = split(smoothed.noisy)
    arrays = everywhere(None, arrays)

    def count(number: int, stream: int) -> np.ndarray:
        parts = []
        size = min(batch_size, len(images))
        for start in range(0, len(images), size):
            index = np.minimum(np.arange(start, start + size), len(images) - 1)
            keys = fold(keys_at(key, jnp.asarray(index)), stream)
            found = _count(static, arrays, keys, jnp.asarray(images[index]), number)
            parts.append(np.asarray(found)[: len(images) - start])
        return np.concatenate(parts)

    with float32_products():
        chosen, counts = count(choose, _CHOOSE), count(draws, _ESTIMATE)
    silent = int(np.isnan(chosen).any(-1).sum())
    if silent:
        raise InputError(
            f"the classifier answers NaN to most noisy copies of {silent} of {len(images)} images: "
            "noise takes pixels out of [0, 1], and what is smoothed must bear that"
        )
    answer = chosen.argmax(-1)
    hits = np.nan_to_num(np.take_along_axis(counts, answer[:, None], -1)[:, 0])
    least = lower_bound(hits, draws, alpha)
    certain = least > 0.5
    radius = np.where(certain, smoothed.sigma * scipy.stats.norm.ppf(least), -1.0)
    return Certificate(
        radius=np.where(answer == labels, radius, -1.0),
        answer=np.where(certain, answer, -1),
        alpha=alpha,
        draws=draws,
        sigma=smoothed.sigma,
    )


def lower_bound(successes: np.ndarray, n: int, alpha: float) -> np.ndarray:
    """One-sided Clopper-Pearson lower bounds of probabilities, at level ``1 - alpha``.

    Example:
        >>> bool(abs(lower_bound(np.array([100]), 100, 0.001)[0] - 0.001 ** 0.01) < 1e-12)
        True
    """
    k = np.asarray(successes, float)
    return np.where(k == 0, 0.0, scipy.stats.beta.ppf(alpha, np.maximum(k, 1), n - k + 1))


@functools.partial(jax.jit, static_argnums=(0, 4))
def _count(static: Static, arrays, keys: Keys, x: Images, number: int) -> jax.Array:
    return votes(join(arrays, static), number, keys, x)
