"""How large the gradients are that an attacker of a classifier gets to see."""

import functools
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.classifiers import Static, apply, is_random, join, split
from jaxdefense.errors import InputError
from jaxdefense.losses import cross_entropy
from jaxdefense.precision import float32_products
from jaxdefense.typing import Classifier, Images, Keys, Labels, PerExample, example_keys

Of = Literal["probability", "softmax", "cross_entropy"]


class Amplitude(NamedTuple):
    """Sizes of gradients with respect to images in [0, 1].

    Attributes:
        total: sum over the image's values of the gradient's absolute value, ``[n]``.
        mean: ``total / (h * w * c)``, ``[n]``.
    """

    total: np.ndarray
    mean: np.ndarray

    @property
    def zero_share(self) -> float:
        """Share of the images at which nothing changes: gradients that are zero everywhere.

        At the images themselves; `reliability` looks at random points around them.
        """
        return float((self.total == 0).mean())


def gradient_amplitude(
    classifier: Classifier,
    x: Images | np.ndarray,
    y: Labels | np.ndarray,
    *,
    of: Of = "probability",
    key: jax.Array | None = None,
    batch_size: int = 64,
) -> Amplitude:
    """Absolute gradients of a classifier's answer with respect to its input.

    Kim et al. 2020 (arXiv 2005.10750, eq. 2 and table 4) compare the mean amplitude with and
    without an autoencoder. Which answer is differentiated, whether pixels are summed or averaged,
    and the unit of pixels are open there, so all readings can be had: `of`, the two fields of the
    result, and its unit, which is that of pixels in [0, 1]; divide by 255 for pixels from 0 to 255.

    Small amplitudes are no robustness: they may come from saturation, which `Tempered` undoes. In
    float32 a probability within 6e-8 of 1 has no gradient at all, where that of the cross-entropy
    is kept (see `losses.cross_entropy`).

    Args:
        classifier: any callable ``x -> logits``.
        x: images ``[n, h, w, c]`` in [0, 1].
        y: labels ``[n]``; only the cross-entropy depends on them.
        of: what is differentiated: ``"probability"``: softmax probability of the predicted class;
            ``"softmax"``: every class's probability, absolute gradients summed over classes (as
            many gradients as classes); ``"cross_entropy"``: `losses.cross_entropy` at the label.
        key: for random classifiers.
        batch_size: images per program call.

    Returns:
        An `Amplitude`; its mean over images is ``result.mean.mean()``.

    Raises:
        InputError: no images, labels of another number, an unknown `of`, a random classifier
            without a key.

    Example:
        >>> import jax.numpy as jnp
        >>> classifier = lambda x: jnp.stack([x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], -1)
        >>> x = jnp.zeros((1, 2, 2, 1))  # p = 1/2 each, dp/dx = p (1 - p) = 1/4 at each of 4 pixels
        >>> found = gradient_amplitude(classifier, x, jnp.array([0]))
        >>> found.total.tolist(), found.mean.tolist()
        ([1.0], [0.25])
    """
    x, y = np.asarray(x, np.float32), np.asarray(y, np.int32)
    if x.ndim != 4 or not len(x) or y.shape != (len(x),):
        raise InputError(
            f"x has shape {list(x.shape)} and y {list(y.shape)}, but images are [n, h, w, c], at "
            "least one, with a label each"
        )
    if of not in get_args(Of):
        raise InputError(f"of is {of!r}, but must be one of {', '.join(get_args(Of))}")
    if key is None and is_random(classifier):
        raise InputError("this classifier is random (Randomized): give a key")
    arrays, static = split(classifier)
    keys = example_keys(jax.random.key(0) if key is None else key, len(x))
    size, totals = min(batch_size, len(x)), []
    with float32_products():
        for start in range(0, len(x), size):
            rows = np.minimum(np.arange(start, start + size), len(x) - 1)
            total = _total(static, of, arrays, keys[rows], x[rows], y[rows])
            totals.append(np.asarray(total)[: len(x) - start])
    total = np.concatenate(totals)
    return Amplitude(total, total / x[0].size)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _total(static: Static, of: Of, arrays, keys: Keys, x: Images, y: Labels) -> PerExample:
    def answers(x):
        """Numbers ``[b, m]`` to be differentiated."""
        logits = apply(join(arrays, static), keys, x)
        if of == "cross_entropy":
            return cross_entropy(logits, y)[:, None]
        p = jax.nn.softmax(logits)
        # Not the maximum, whose gradient between equal classes is their mean.
        predicted = logits.argmax(-1, keepdims=True)
        return p if of == "softmax" else jnp.take_along_axis(p, predicted, axis=-1)

    values, pull = jax.vjp(answers, x)
    seeds = jnp.eye(values.shape[1], dtype=values.dtype)
    gradient = lambda seed: pull(jnp.broadcast_to(seed[None], values.shape))[0]
    return jnp.abs(jax.vmap(gradient)(seeds)).sum((0, 2, 3, 4))
