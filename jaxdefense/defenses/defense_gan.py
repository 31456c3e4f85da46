"""Projection onto what a generator can make."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxdefense.classifiers import Randomized
from jaxdefense.convolutions import canonicalize
from jaxdefense.errors import InputError
from jaxdefense.typing import Images, Keys


def defense_gan(
    generator: Callable[[jax.Array], Images],
    latent: int = 128,
    restarts: int = 10,
    steps: int = 200,
    lr: float = 10.0,
    momentum: float = 0.7,
) -> Randomized:
    """Replaces an image by the nearest one that gradient descent finds among a generator's.

    Defense-GAN (Samangouei, Kabkab and Chellappa 2018, arXiv 1805.06605, equation 4), with the
    settings of its public code: starts from ``N(0, 1 / latent)``, descent with momentum on the mean
    squared error, a tenth of the learning rate for the last fifth of the steps, the best restart
    wins. Its own gradient is that of hundreds of steps: attack it with `jaxdefense.bpda` as well,
    and in the generator's latent space (`jaxdefense.attacks.latent`, started from `invert`), as
    Athalye et al. 2018 (arXiv 1802.00420) do.

    Args:
        generator: codes ``[b, latent]`` to images in [0, 1]: ``Frozen(Generator(), variables)``, or
            any other generative model.
        latent: numbers in a code.
        restarts, steps: of the descent (R and L of the paper).
        lr, momentum: of the descent.

    Returns:
        A random purifier ``(keys, x) -> images``; ``restarts * steps`` gradients for each image.

    Raises:
        InputError: no restart, no step, or a rate that is not above 0.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> flat = lambda code: jax.nn.sigmoid(code).reshape(-1, 2, 2, 1)
        >>> purifier = defense_gan(flat, latent=4, restarts=2, steps=50)
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> bool(jnp.abs(purifier(keys, jnp.full((1, 2, 2, 1), 0.7)) - 0.7).max() < 0.05)
        True
    """
    return Randomized(Partial(_projected, generator, invert(
        generator, latent, restarts, steps, lr, momentum
    )))  # fmt: skip


def invert(
    generator: Callable[[jax.Array], Images],
    latent: int = 128,
    restarts: int = 10,
    steps: int = 200,
    lr: float = 10.0,
    momentum: float = 0.7,
) -> Callable[[Keys, Images], jax.Array]:
    """The search of `defense_gan` for the code whose image is nearest: ``(keys, x) -> codes``.

    It is where an attack in the generator's latent space may start. Arguments, errors and source as
    in `defense_gan`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> flat = lambda code: jax.nn.sigmoid(code).reshape(-1, 2, 2, 1)
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> invert(flat, latent=4, restarts=2, steps=50)(keys, jnp.full((3, 2, 2, 1), 0.7)).shape
        (3, 4)
    """
    if restarts < 1 or steps < 1 or latent < 1:
        raise InputError(
            f"defense_gan needs at least one restart, step and latent number, got {restarts}, "
            f"{steps} and {latent}"
        )
    if not lr > 0 or not 0 <= momentum < 1:
        raise InputError(f"lr must be above 0 and momentum in [0, 1), got {lr} and {momentum}")
    rates = np.array([lr, momentum], np.float32)
    return Partial(_nearest, latent, restarts, steps, rates, generator)


def _projected(generator, nearest, keys, x):
    return generator(nearest(keys, x))


def _nearest(latent, restarts, steps, rates, generator, keys, x):
    lr, momentum = rates
    count = len(x)
    wanted = jnp.tile(x, (restarts, 1, 1, 1))
    draw = lambda key: jax.random.normal(key, (restarts, latent)) / jnp.sqrt(1.0 * latent)
    code = jax.vmap(draw)(keys).swapaxes(0, 1).reshape(restarts * count, latent)
    error = lambda code: ((generator(code) - wanted) ** 2).mean((1, 2, 3))
    slope = jax.grad(lambda code: error(code).sum())
    if jax.default_backend() == "cpu":  # inside a loop convolutions need it
        slope = canonicalize(slope)

    def step(i, held):
        code, speed = held
        rate = jnp.where(i < 0.8 * steps, lr, 0.1 * lr)
        speed = momentum * speed - rate * slope(code)
        return code + speed, speed

    code, _ = jax.lax.fori_loop(0, steps, step, (code, jnp.zeros_like(code)))
    best = error(code).reshape(restarts, count).argmin(0)
    return code.reshape(restarts, count, latent)[best, jnp.arange(count)]
