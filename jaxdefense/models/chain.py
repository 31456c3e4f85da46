"""A purifier and a classifier as one model, to be trained together."""

import jax
from flax import linen as nn

from jaxdefense.typing import PyTree


class Chain(nn.Module, kw_only=True):
    """A classifier of what a purifier makes of images, with the parameters of both.

    For training only; the trained parts are deployed as ``Purified(Frozen(...), Frozen(...))``,
    with the variables of `part_variables`, so that attackers may know one and not the other.

    Attributes:
        purifier: a linen module, images to images.
        classifier: a linen module, images to logits.

    Example:
        >>> import jax
        >>> from jaxdefense import models
        >>> parts = {"purifier": models.build("autoencoder", width=2),
        ...          "classifier": models.build("lenet5")}
        >>> model, x = Chain(**parts), jax.numpy.zeros((2, 28, 28, 1))
        >>> variables = models.initialize(model, jax.random.key(0), (28, 28, 1))
        >>> model.apply(variables, x).shape, model.apply(variables, x, method="reconstruct").shape
        ((2, 10), (2, 28, 28, 1))
    """

    purifier: nn.Module
    classifier: nn.Module

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits ``[b, k]`` of images ``[b, h, w, c]`` in ``[0, 1]``."""
        return self.both(x, train)[0]

    def reconstruct(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images of the shape of ``x``."""
        return self.purifier(x, train=train)

    def both(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Logits and the images they are the logits of."""
        restored = self.purifier(x, train=train)
        return self.classifier(restored, train=train), restored


def chain_variables(purifier: PyTree, classifier: PyTree) -> PyTree:
    """Variables of a `Chain` from those of its parts, for example to go on from trained ones.

    Args:
        purifier: ``{"params": ..., ...}`` of the purifier alone.
        classifier: the same of the classifier.

    Example:
        >>> chain_variables({"params": 1}, {"params": 2, "batch_stats": 3})
        {'params': {'purifier': 1, 'classifier': 2}, 'batch_stats': {'classifier': 3}}
    """
    joined: dict[str, dict] = {}
    for part, variables in (("purifier", purifier), ("classifier", classifier)):
        for collection, values in variables.items():
            joined.setdefault(collection, {})[part] = values
    return joined


def part_variables(variables: PyTree) -> tuple[PyTree, PyTree]:
    """Variables of the purifier and of the classifier in a `Chain`: undoes `chain_variables`.

    Example:
        >>> part_variables({"params": {"purifier": 1, "classifier": 2}})
        ({'params': 1}, {'params': 2})
    """
    purifier, classifier = (
        {name: values[part] for name, values in variables.items() if part in values}
        for part in ("purifier", "classifier")
    )
    return purifier, classifier
