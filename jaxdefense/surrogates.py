"""Surrogates: they change what an attacker differentiates, not the attack."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.classifiers import Composite, Frozen, Purified, Randomized, apply, fold
from jaxdefense.errors import InputError
from jaxdefense.typing import Classifier, Images, Keys, Logits


class Averaged(Composite):
    """A random classifier averaged over draws of its randomness; made by `eot`."""

    classifier: Classifier
    draws: int = flax.struct.field(pytree_node=False, default=20)
    of: str = flax.struct.field(pytree_node=False, default="losses")

    def __call__(self, *keys_and_x) -> Logits:
        draws = _draws(self, *_keyed(keys_and_x))
        if self.of != "probabilities":
            return draws.mean(0)
        return jax.nn.logsumexp(jax.nn.log_softmax(draws), axis=0) - math.log(self.draws)


def eot(
    classifier: Classifier,
    draws: int = 20,
    of: Literal["losses", "logits", "probabilities"] = "losses",
) -> Averaged:
    """Expectation over transformation (Athalye et al. 2018, arXiv 1707.07397) of a random defence.

    Give it to an attack, or to `jaxdefense.sweep` as ``surrogate=eot(deployed, 20)``.

    Args:
        classifier: `Randomized`, or composed of something that is. Votes of a smoothed classifier
            (`defenses.smoothed`) have no gradient: the probabilities of single votes are averaged
            in their place, whatever `of` says.
        draws: how often its randomness is drawn in every evaluation, which costs as many gradients.
        of: what is averaged: ``"losses"``: the attack ascends the mean of the losses, as in
            AutoAttack's ``rand``; ``"logits"``: the loss of the mean logits; ``"probabilities"``:
            the loss of the logarithm of the mean softmax, which is the right one where draws vote
            (Salman et al. 2019, arXiv 1906.04584): one draw counts for no more than any other,
            however sure it is. Success is judged by the mean logits, or probabilities.

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
    if of not in ("losses", "logits", "probabilities"):
        raise InputError(f"eot averages 'losses', 'logits' or 'probabilities', got {of!r}")
    vote = getattr(classifier, "vote", None)
    if vote is not None:
        classifier, of = vote, "probabilities"
    return Averaged(classifier, draws, of)


def identity(x: Images) -> Images:
    """The images themselves: the backward pass of plain `bpda`."""
    return x


class StraightThrough(Composite):
    """A purifier with the gradient of another function; made by `bpda`."""

    purifier: Callable[..., Images]
    backward: Callable[..., Images] = identity

    def __call__(self, *keys_and_x) -> Images:
        keys, x = _keyed(keys_and_x)
        # Nothing is differentiated before the purifier: one that runs on the host has no rule.
        pure = apply(self.purifier, keys, jax.lax.stop_gradient(x))
        # Both see the same keys, so that a backward pass may repeat the purifier's own noise.
        smooth = apply(self.backward, keys, x)
        if smooth.shape != pure.shape:
            raise InputError(
                f"bpda: the purifier returns {pure.shape} but its backward pass {smooth.shape}: "
                "give a backward function that returns images of the purifier's size"
            )
        # Zero in value, not in gradient, so that the purifier's answer stays exact to the bit.
        nothing = smooth - jax.lax.stop_gradient(smooth)
        return jax.lax.stop_gradient(pure) + jnp.where(nothing == 0, nothing, 0.0)


def bpda(
    purifier: Callable[..., Images], backward: Callable[..., Images] = identity
) -> StraightThrough:
    """Backward pass differentiable approximation (Athalye et al. 2018, arXiv 1802.00420).

    A purifier that answers exactly as the given one but passes gradients back as `backward` does.
    It gets through rounding, quantisation, JPEG, projections that run on the host: whatever gives
    no gradient or a useless one. Where the purifier's own gradient is sound this one is worse, so
    run the attack without it too.

    Args:
        purifier: images -> images; `Randomized` ones are called with keys. Never differentiated,
            so it may call the host through `jax.pure_callback`.
        backward: what is differentiated in its place: the identity for a purifier that returns
            about what it is given (straight-through), else a smooth or learned substitute. Where
            it is random it gets the same keys as the purifier.

    Returns:
        A purifier, for ``Purified(bpda(purifier), classifier)`` as the attacker's function.

    Raises:
        InputError: when called, where the two return images of different sizes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> through = bpda(jnp.round)
        >>> x = jnp.full((1, 1, 1, 1), 0.7)
        >>> float(through(x)[0, 0, 0, 0]), float(jax.grad(lambda x: through(x).sum())(x).sum())
        (1.0, 1.0)
    """
    return StraightThrough(purifier, backward)


def diverse(classifier: Classifier, probability: float = 0.5, smallest: float = 0.9) -> Purified:
    """Input diversity for transfer (Xie et al. 2019, arXiv 1803.06978).

    Every evaluation first shrinks each image, with some probability, to a random size and pads it
    with zeros at a random place. `mifgsm` on ``diverse(surrogate)`` is the paper's M-DI2-FGSM.

    The paper enlarges 299 pixels to 330, with images of 299 to 329 inside; here the canvas stays
    what the classifier was built for and images shrink by the same share.

    Args:
        classifier: deterministic or random.
        probability: that an image is transformed, for each image and evaluation on its own.
        smallest: smallest height and width, as a share of the whole, rounded down to whole pixels.

    Returns:
        A random classifier.

    Raises:
        InputError: a share outside (0, 1], a probability outside [0, 1].

    Example:
        >>> import jax, jax.numpy as jnp, jaxdefense as jd
        >>> small = diverse(lambda x: x.mean((1, 2)), probability=1.0, smallest=0.5)
        >>> keys = jd.example_keys(jax.random.key(0), 2)
        >>> bool((small(keys, jnp.ones((2, 32, 32, 3))) < 0.99).all())
        True
    """
    if not 0 <= probability <= 1 or not 0 < smallest <= 1:
        raise InputError(
            f"diverse needs a probability in [0, 1] and a smallest size in (0, 1], got "
            f"{probability} and {smallest}: both are shares"
        )
    return Purified(Randomized(_shrunk(probability, smallest)), classifier)


@functools.cache  # equal settings are the same function, so that jit compiles it once
def _shrunk(probability: float, smallest: float) -> Callable[[Keys, Images], Images]:
    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        chance, size_key, place_key = jax.random.split(key, 3)
        whole = jnp.array(image.shape[:2], image.dtype)
        least = jnp.maximum(jnp.floor(smallest * whole + 1e-3), 1.0)
        # Sizes and places are whole pixels; both sides shrink by the same draw.
        size = least + jnp.floor(jax.random.uniform(size_key) * (whole - least + 1))
        free = whole - size
        place = jnp.floor(jax.random.uniform(place_key, (2,)) * (free + 1))
        small = jax.image.scale_and_translate(
            image, image.shape, (0, 1), size / whole, jnp.minimum(place, free), method="linear"
        )
        return jnp.where(jax.random.uniform(chance) < probability, small, image)

    return jax.vmap(one)


class Ensemble(Composite):
    """The mean logits of several classifiers; made by `ensemble`."""

    first: Classifier
    others: "Ensemble | None" = None  # one field each, so that any random one makes it random

    @property
    def members(self) -> tuple[Classifier, ...]:
        """The classifiers, in order."""
        return (self.first, *(() if self.others is None else self.others.members))

    def __call__(self, *keys_and_x) -> Logits:
        keys, x = _keyed(keys_and_x)
        each = [
            apply(member, None if keys is None else fold(keys, index), x)
            for index, member in enumerate(self.members)
        ]
        if len({logits.shape for logits in each}) > 1:
            raise InputError(
                f"ensemble: the classifiers return logits of shapes {[z.shape for z in each]}: "
                "their classes must be the same, in the same order"
            )
        return jnp.stack(each).mean(0)


def ensemble(*classifiers: Classifier) -> Ensemble:
    """Several classifiers as one surrogate to transfer from (Liu et al. 2017, arXiv 1611.02770).

    Liu et al. average probabilities; this averages logits, as Dong et al. 2018 (arXiv 1710.06081)
    do and found to transfer better.

    Args:
        classifiers: at least one, of the same classes; trained apart from the deployed one.

    Raises:
        InputError: no classifier; when called, different numbers of classes.

    Example:
        >>> import jax.numpy as jnp
        >>> both = ensemble(lambda x: x.sum((1, 2)), lambda x: 3 * x.sum((1, 2)))
        >>> both(jnp.ones((1, 1, 1, 2))).tolist(), evaluations(both)
        ([[2.0, 2.0]], 2)
    """
    if not classifiers:
        raise InputError("ensemble() needs at least one classifier")
    first, *others = classifiers
    return Ensemble(first, ensemble(*others) if others else None)


class Bfloat16(Composite):
    """A classifier computed in bfloat16; made by `bfloat16`."""

    classifier: Classifier

    def __call__(self, *keys_and_x) -> Logits:
        keys, x = _keyed(keys_and_x)
        rounded = jax.tree.map(
            _rounded, self.classifier, is_leaf=lambda leaf: isinstance(leaf, Frozen)
        )
        return apply(rounded, keys, x.astype(jnp.bfloat16)).astype(jnp.float32)


def bfloat16(classifier: Classifier) -> Bfloat16:
    """A deployed function whose gradients are computed in bfloat16: twice as fast on accelerators.

    Give it to `jaxdefense.sweep` as ``surrogate=bfloat16(deployed)``: what it finds is scored on
    the deployed function in float32, so that it can be weaker but never report what is not there.
    How much weaker is up to the network: signs of small gradients flip. It is slower on a CPU, and
    a sweep with a surrogate goes through the radii one by one. Measure before you trust it.

    Args:
        classifier: `Frozen` modules are cloned with ``dtype=bfloat16``, other arrays of float32 are
            rounded; functions that close over their parameters stay as precise as those.

    Example:
        >>> import jax.numpy as jnp
        >>> rough = bfloat16(lambda x: x.sum((1, 2)))
        >>> rough(jnp.full((1, 1, 1, 1), 1.001)).tolist()
        [[1.0]]
    """
    return Bfloat16(classifier)


def _rounded(leaf: Any) -> Any:
    if isinstance(leaf, Frozen) and hasattr(leaf.module, "dtype"):
        return leaf.replace(module=leaf.module.clone(dtype=jnp.bfloat16))
    if isinstance(leaf, Frozen):
        return leaf.replace(variables=jax.tree.map(_rounded, leaf.variables))
    if isinstance(leaf, jax.Array | np.ndarray) and leaf.dtype == jnp.float32:
        return jnp.asarray(leaf, jnp.bfloat16)
    return leaf


def evaluations(classifier: Classifier) -> int:
    """How many evaluations of the network one call of this classifier is."""
    if isinstance(classifier, Averaged):
        return classifier.draws * evaluations(classifier.classifier)
    if isinstance(classifier, Ensemble):
        return sum(map(evaluations, classifier.members))
    if isinstance(classifier, Composite):
        fields = dataclasses.fields(classifier)
        return max(evaluations(getattr(classifier, field.name)) for field in fields)
    return 1


def knows(classifier: Classifier, deployed: Classifier) -> bool:
    """Whether a classifier is `eot` or `bfloat16` of the deployed one: its attacker knows it."""
    if not isinstance(classifier, Averaged | Bfloat16):
        return classifier is deployed or classifier is getattr(deployed, "vote", deployed)
    return knows(classifier.classifier, deployed)


def draw(classifier: Classifier, keys: Keys, x: Images) -> jax.Array:
    """Logits ``[d, b, k]`` whose losses are to be averaged; d is 1 but for `eot` of losses."""
    if isinstance(classifier, Averaged) and classifier.of == "losses":
        return _draws(classifier, keys, x)
    return apply(classifier, keys, x)[None]


def _keyed(keys_and_x: tuple) -> tuple[Keys | None, Images]:
    *keys, x = keys_and_x
    return (keys[0] if keys else None), x


def _draws(averaged: Averaged, keys: Keys | None, x: Images) -> jax.Array:
    one = lambda index: apply(averaged.classifier, keys if keys is None else fold(keys, index), x)
    return jax.vmap(one)(jnp.arange(averaged.draws))
