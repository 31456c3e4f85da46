"""Means over a labelled set: accuracy and loss of a classifier, error of an autoencoder.

Measures compare by value, so that validating after every epoch compiles once.
"""

import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdefense.classifiers import Static, join, split
from jaxdefense.errors import InputError
from jaxdefense.training.objectives import Metrics, Noise
from jaxdefense.typing import Images, Labels, PyTree

Apply = Callable[[PyTree, Images], jax.Array]
"""``(variables, x) -> logits or images``; ``model.apply`` of a linen module is one."""

Measure = Callable[[PyTree, Images, Labels], Metrics]
"""``(variables, x, y) -> {name: [b]}``: numbers per example. Compiled; arrays that it holds as a
pytree are arguments, everything else must be hashable."""


@flax.struct.dataclass
class Classification:
    """Measures cross-entropy (``loss``) and ``accuracy`` of a classifier.

    Attributes:
        apply_fn: ``(variables, x) -> logits``, for example ``model.apply``.
    """

    apply_fn: Apply

    def __call__(self, variables: PyTree, x: Images, y: Labels) -> Metrics:
        """Both numbers per example, ``[b]``."""
        logits = self.apply_fn(variables, x)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return {"loss": loss, "accuracy": (jnp.argmax(logits, axis=-1) == y).astype(jnp.float32)}


@flax.struct.dataclass
class Reconstruction:
    """Measures the mean squared error (``loss``) of an autoencoder.

    Attributes:
        apply_fn: ``(variables, x) -> images``, for example ``model.apply``.
        noise: corruption of its input; the same draw every time, so that epochs can be compared.
        seed: of that draw.
    """

    apply_fn: Apply
    noise: Noise | None = None
    seed: int = 0

    def __call__(self, variables: PyTree, x: Images, y: Labels) -> Metrics:
        """The error per example, ``[b]``."""
        noisy = x if self.noise is None else self.noise(jax.random.key(self.seed), x)
        error = (self.apply_fn(variables, noisy) - x) ** 2
        return {"loss": error.mean(axis=(1, 2, 3))}


def evaluate(
    apply_fn: Apply, variables: PyTree, x: np.ndarray, y: np.ndarray, batch_size: int = 256
) -> dict[str, float]:
    """Accuracy and mean cross-entropy of a classifier on a labelled set.

    Args:
        apply_fn: ``(variables, x) -> logits``, for example ``model.apply``. Pass the same function
            every time: another one compiles anew.
        variables: variables of the model.
        x: uint8 images ``[n, h, w, c]``.
        y: labels ``[n]``.
        batch_size: images per compiled call; the last batch is padded and the padding masked.

    Returns:
        ``{"loss": ..., "accuracy": ...}`` as Python floats.

    Raises:
        InputError: no images, images that are not uint8, labels of another length or out of range.

    Example:
        >>> import numpy as np
        >>> x, y = np.zeros((5, 2, 2, 1), np.uint8), np.zeros(5, np.int32)
        >>> apply_fn = lambda bias, x: x.reshape(len(x), -1)[:, :2] + bias
        >>> evaluate(apply_fn, np.array([9.0, 0.0]), x, y, batch_size=2)["accuracy"]
        1.0
    """
    check_data(x, y)
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.float32)
    classes = jax.eval_shape(apply_fn, variables, one).shape[-1]
    if np.max(y) >= classes:
        raise InputError(
            f"the largest label is {np.max(y)}, but the classifier has {classes} classes, 0 to "
            f"{classes - 1}: the labels belong to another data set, or the model was built with "
            "another num_classes"
        )
    return mean(Classification(apply_fn), variables, x, y, batch_size)


def mean(
    measure: Measure, variables: PyTree, x: np.ndarray, y: np.ndarray, batch_size: int = 256
) -> dict[str, float]:
    """Means of any per-example measure over a labelled set; arguments and errors of `evaluate`."""
    check_data(x, y)
    size = min(batch_size, len(x))
    arrays, static = split(measure)
    sums = []
    for start in range(0, len(x), size):
        images, labels = x[start : start + size], y[start : start + size]
        padding = size - len(images)
        images = np.pad(images, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
        labels = np.pad(labels, (0, padding)).astype(np.int32)
        sums.append(_masked_sums(static, arrays, variables, images, labels, size - padding))
    return {name: float(sum(float(part[name]) for part in sums) / len(x)) for name in sums[0]}


def validation(
    measure: Measure, x: np.ndarray, y: np.ndarray, batch_size: int = 256
) -> Callable[[PyTree], dict[str, float]]:
    """The ``validate`` argument of `fit`: variables to means over a validation split.

    Example:
        >>> import numpy as np
        >>> x, y = np.zeros((5, 2, 2, 1), np.uint8), np.zeros(5, np.int32)
        >>> validate = validation(Reconstruction(lambda bias, x: x + bias), x, y)
        >>> validate(np.float32(0.5))
        {'loss': 0.25}
    """
    check_data(x, y)
    return functools.partial(_validate, measure, x, y, batch_size)


def check_data(x: np.ndarray, y: np.ndarray) -> None:
    """Checks images ``[n, h, w, c]`` and labels ``[n]`` as they are stored.

    Raises:
        InputError: no images, images that are not uint8, or labels of another length or below 0.
    """
    if getattr(x, "dtype", None) != np.uint8 or x.ndim != 4:
        raise InputError(
            f"images are {getattr(x, 'dtype', type(x).__name__)} {np.shape(x)}, but they must be "
            "stored as uint8 [n, h, w, c] with values 0 to 255; convert floats in [0, 1] with "
            "np.round(255 * x).astype(np.uint8)"
        )
    if len(x) == 0:
        raise InputError("there are no images: the set or the split of it is empty")
    if np.shape(y) != (len(x),) or not np.issubdtype(y.dtype, np.integer):
        raise InputError(
            f"labels are {y.dtype} {np.shape(y)}, but {len(x)} images need {len(x)} integer labels"
        )
    if np.min(y) < 0:
        raise InputError(f"the smallest label is {np.min(y)}, but labels count from 0")


def _validate(measure, x, y, batch_size, variables):
    return mean(measure, variables, x, y, batch_size)


@functools.partial(jax.jit, static_argnums=0)
def _masked_sums(
    static: Static, arrays: list[jax.Array], variables: PyTree, x: jax.Array, y: jax.Array,
    count: jax.Array,
) -> Metrics:  # fmt: skip
    measure = join(arrays, static)
    real = jnp.arange(x.shape[0]) < count
    values = measure(variables, x.astype(jnp.float32) / 255, y)
    return {name: jnp.sum(jnp.where(real, value, 0.0)) for name, value in values.items()}
