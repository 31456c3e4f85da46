"""Grad-CAM: where in an image a classifier looks."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense import checks
from jaxdefense.classifiers import Static, join, split
from jaxdefense.errors import InputError
from jaxdefense.precision import float32_products
from jaxdefense.typing import Images, Labels, Logits

Maps = Callable[[Images], jax.Array]
"""Images to the feature maps ``[b, h', w', k]`` of a convolution, usually the last."""


def grad_cam(
    maps: Maps,
    head: Callable[[jax.Array], Logits],
    x: Images | np.ndarray,
    classes: Labels | np.ndarray | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """Heat maps of what speaks for a class (Selvaraju et al. 2017, arXiv 1610.02391, eq. 1 and 2).

    ``relu(sum_k a_k A_k)``, where ``A_k`` is a feature map and ``a_k`` the mean over its pixels of
    the gradient of the class's logit.

    Args:
        maps: the first part of a classifier, images to feature maps; behind a purifier,
            ``Purified(purifier, maps)``.
        head: the rest of it, feature maps to logits.
        x: images ``[n, h, w, c]`` in [0, 1].
        classes: whose logits are explained, ``[n]``; the predicted ones by default.
        batch_size: images per program call.

    Returns:
        float32 ``[n, h, w]`` in [0, 1], enlarged to the images' size; each image's largest value is
        1, or all are 0 where nothing speaks for the class.

    Raises:
        InputError: no images, classes of another number, or maps that are not ``[n, h', w', k]``.

    Example:
        >>> import jax.numpy as jnp
        >>> maps, head = lambda x: x, lambda maps: maps.mean((1, 2)) * jnp.array([[1.0, -1.0]])
        >>> x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 2, 0].set(0.5)
        >>> grad_cam(maps, head, x)[0, 1].tolist()
        [0.0, 0.0, 1.0, 0.0]
    """
    checks.check_images(np.asarray(x))
    if classes is not None:
        checks.check_labels(np.asarray(classes), len(x))
    x = np.asarray(x, np.float32)
    given = None if classes is None else np.asarray(classes, np.int32)
    arrays, static = split((maps, head))
    size, found = min(batch_size, len(x)), []
    with float32_products():
        for start in range(0, len(x), size):
            rows = np.minimum(np.arange(start, start + size), len(x) - 1)
            chosen = None if given is None else given[rows]
            found.append(np.asarray(_heat(static, arrays, x[rows], chosen))[: len(x) - start])
    return np.concatenate(found)


@functools.partial(jax.jit, static_argnums=0)
def _heat(static: Static, arrays, x: Images, classes: Labels | None) -> jax.Array:
    maps, head = join(arrays, static)
    seen = maps(x)
    if seen.ndim != 4:
        raise InputError(f"the feature maps have shape {list(seen.shape)}, not [n, h, w, k]")
    logits, pull = jax.vjp(head, seen)
    chosen = logits.argmax(-1) if classes is None else classes
    (slopes,) = pull(jax.nn.one_hot(chosen, logits.shape[-1], dtype=logits.dtype))
    weights = slopes.mean((1, 2), keepdims=True)
    heat = jax.nn.relu((weights * seen).sum(-1))
    heat = jax.image.resize(heat, x.shape[:3], "bilinear")
    top = heat.max((1, 2), keepdims=True)
    return jnp.where(top > 0, heat / jnp.where(top > 0, top, 1.0), 0.0)
