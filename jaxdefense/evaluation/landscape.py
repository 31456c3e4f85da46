"""The loss around images, where a masked gradient shows as a plane, a cliff or a saw."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense import checks
from jaxdefense.classifiers import Static, apply, is_random, join, split
from jaxdefense.errors import InputError
from jaxdefense.losses import cross_entropy
from jaxdefense.precision import float32_products
from jaxdefense.typing import Classifier, Images, Keys, Labels, PerExample, example_keys


class Surface(NamedTuple):
    """Loss over a plane through each image.

    Attributes:
        offsets: l-inf distances ``[p]`` along either direction, from -eps to eps.
        loss: ``[n, p, p]``, first along the gradient's signs, then across, along random signs.
    """

    offsets: np.ndarray
    loss: np.ndarray


def loss_surface(
    classifier: Classifier,
    x: Images | np.ndarray,
    y: Labels | np.ndarray,
    eps: float,
    *,
    points: int = 13,
    key: jax.Array | None = None,
    batch_size: int = 64,
) -> Surface:
    """Cross-entropy on the plane of each image's gradient signs and of random signs.

    The picture of Tramer et al. 2018 (arXiv 1705.07204, section 4.1). Around an image whose
    gradient can be trusted the loss rises smoothly along the gradient and hardly across it; where
    gradients are masked it is flat at the image and jumps elsewhere, or rises across as well.
    Points outside [0, 1] are clipped to it, since a deployed function sees nothing else.

    Args:
        classifier: any callable ``x -> logits``.
        x: images ``[n, h, w, c]`` in [0, 1].
        y: labels ``[n]``.
        eps: how far to go along either direction, l-inf, in the unit of the images.
        points: along each direction, odd, so that the image itself is the one in the middle.
        key: of the random signs, and of a random classifier.
        batch_size: images per program call.

    Returns:
        A `Surface`; ``points ** 2`` forward passes and one gradient an image.

    Raises:
        InputError: no images, labels of another number, a radius that is not in (0, 1], an even
            number of points, a random classifier without a key.

    Example:
        >>> import jax.numpy as jnp
        >>> classifier = lambda x: jnp.stack([x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], -1)
        >>> found = loss_surface(classifier, jnp.full((1, 2, 2, 1), 0.5), jnp.array([0]), 0.1)
        >>> found.loss.shape, bool(found.loss[0, -1, 6] > found.loss[0, 0, 6])
        ((1, 13, 13), True)
    """
    checks.check_images(np.asarray(x))
    checks.check_labels(np.asarray(y), len(x))
    x, y = np.asarray(x, np.float32), np.asarray(y, np.int32)
    if not 0 < eps <= 1:
        raise InputError(
            f"eps is {eps}, but images are in [0, 1], so it must be above 0 and at most 1; divide "
            "by 255 if it is in 0-255 units"
        )
    if points < 3 or points % 2 == 0:
        raise InputError(f"points is {points}, but must be odd and at least 3")
    if key is None and is_random(classifier):
        raise InputError("this classifier is random (Randomized): give a key")
    arrays, static = split(classifier)
    offsets = np.linspace(-eps, eps, points).astype(np.float32)
    keys = example_keys(jax.random.key(0) if key is None else key, len(x))
    size, parts = min(batch_size, len(x)), []
    with float32_products():
        for start in range(0, len(x), size):
            index = np.minimum(np.arange(start, start + size), len(x) - 1)
            rows = (keys[index], x[index], y[index])
            plane = _directions(static, arrays, *rows)
            look = lambda a, b, rows=rows, plane=plane: _loss(static, arrays, *rows, *plane, a, b)
            part = np.array([[np.asarray(look(a, b)) for b in offsets] for a in offsets])
            parts.append(np.moveaxis(part, 2, 0)[: len(x) - start])
    return Surface(offsets, np.concatenate(parts))


@functools.partial(jax.jit, static_argnums=0)
def _directions(static: Static, arrays, keys: Keys, x: Images, y: Labels) -> tuple[Images, Images]:
    loss = lambda x: cross_entropy(apply(join(arrays, static), keys, x), y).sum()
    signs = jax.vmap(lambda key: jax.random.rademacher(key, x.shape[1:], x.dtype))(keys)
    return jnp.sign(jax.grad(loss)(x)), signs


@functools.partial(jax.jit, static_argnums=0)
def _loss(static: Static, arrays, keys: Keys, x, y, along, across, a, b) -> PerExample:
    point = jnp.clip(x + a * along + b * across, 0.0, 1.0)
    return cross_entropy(apply(join(arrays, static), keys, point), y)
