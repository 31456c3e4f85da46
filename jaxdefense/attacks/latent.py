"""Attack in the latent space of a generator: finds adversarial images that a generator can make."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.features import told
from jaxdefense.attacks.search import Goal, Probe, Search, Stage, State, begin, keep
from jaxdefense.checks import check_ball
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball, linf
from jaxdefense.losses import cross_entropy
from jaxdefense.typing import Images, Keys, Loss, Radii

_ADAM = optax.scale_by_adam(eps=1e-20)  # updates are scaled before it, and may still be small


def latent(
    generator: Callable[[jax.Array], Images],
    start: Callable[[Keys, Images], jax.Array],
    ball: Ball = linf,
    steps: int = 100,
    step_size: float = 0.1,
    *,
    penalty: float = 1.0,
    loss: Loss = cross_entropy,
    name: str | None = None,
) -> Attack:
    """Searches a generator's latent space (Athalye et al. 2018, arXiv 1802.00420, section 5.4.3).

    A purifier that replaces an image by the nearest one its generator can make, as Defense-GAN
    does, undoes whatever leaves the generator's range. This attack stays on it: Adam ascends the
    loss of ``generator(z)`` over z, less a penalty for leaving the ball. What is read and returned
    is ``generator(z)`` projected onto ball and box.

    Give the sweep the classifier behind the purifier as surrogate, or ``Purified(bpda(purifier),
    classifier)``: the purifier's own gradient is not needed.

    The paper minimises the distance and the loss together, without a ball; here the radius is
    given. Both gradients are brought to length 1 in z first, so that neither logits nor pixels set
    the scale. The penalty then weighs `penalty` times the share of the perturbation (in l2) that
    projecting takes away. Measured in eps it would not let go of images that the generator cannot
    reproduce to within eps: it left 94 % standing where this leaves 62 %, on an autoencoder of
    digits.

    Args:
        generator: ``z [b, ...]`` -> images ``[b, h, w, c]``, each row on its own: a decoder. Its
            parameters are constants of the compiled program, and an attack built again is compiled
            again, so build it once and keep it.
        start: (keys, clean images) -> the first z: an encoder, or draws of the prior, from which
            the penalty leads back towards the image. With `restarts` keys are fresh.
        ball: `linf`, `l2` or `l1`.
        steps: gradient evaluations.
        step_size: of Adam, in units of z.
        penalty: weight of what lies outside the ball against the loss.
        loss: ascended.
        name: in tables; ``"latent-<steps>"`` by default.

    Returns:
        An `Attack`; it costs `steps` gradients and one forward pass, and as many of the generator.

    Raises:
        InputError: steps below 1, a step size or a penalty that is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> decoder = lambda z: jnp.broadcast_to(z[:, None, None], (len(z), 4, 4, 1))
        >>> latent(decoder, lambda keys, x: x.mean((1, 2)), steps=20).cost
        Cost(gradients=20, forwards=1)
    """
    check_ball("latent", ball, ("linf", "l2", "l1"))
    if steps < 1:
        raise InputError(f"latent needs at least 1 step, got {steps}")
    if not (step_size > 0 and penalty > 0):
        raise InputError(
            f"latent needs a step size and a penalty above 0, got {step_size} and {penalty}"
        )
    search = _search(generator, start, ball, step_size, penalty)
    return Attack(name or f"latent-{steps}", (Stage(search, steps, loss),), ball)


# Not cached: generators are often modules full of arrays, which cannot be hashed.
def _search(
    generator: Callable[[jax.Array], Images],
    start: Callable[[Keys, Images], jax.Array],
    ball: Ball,
    step_size: float,
    penalty: float,
) -> Search:
    def near(x: Images, made: Images, eps: Radii) -> Images:
        # A generator that answers NaN has made nothing; it must not pass for a fooled classifier.
        return ball.project(x, jnp.where(jnp.isnan(made), x, made), eps)

    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        z = start(keys, x)
        return begin(x, (z, jax.vmap(_ADAM.init)(z)))

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        z, moments = state.inner
        made, pull = jax.vjp(generator, z)
        point = near(x, made, eps)
        reading, gradient = probe.differentiate(keys, point, goal)
        outside = jnp.nan_to_num(made - point)
        rise = _unit(pull(_unit(gradient))[0])
        back = _unit(pull(_unit(outside))[0])
        whole = _length(jnp.nan_to_num(made - x))
        lost = _length(outside) / jnp.where(whole > 0, whole, 1.0)
        update = rise - _expand(penalty * lost, z) * back
        update, moments = jax.vmap(_ADAM.update)(update, moments)
        return keep(state, point, reading)._replace(inner=(z + step_size * update, moments))

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        point = near(x, generator(state.inner[0]), eps)
        return keep(state, point, probe.read(keys, point, goal))

    names = f"{told(generator)} {told(start)}"
    return Search(init, step, finish, settings=f"{names} {ball} {step_size=} {penalty=}")


def _expand(values: jax.Array, like: jax.Array) -> jax.Array:
    return values.reshape(values.shape + (1,) * (like.ndim - 1))


def _length(images: Images) -> jax.Array:
    return jnp.sqrt((images**2).sum((1, 2, 3)))


def _unit(vectors: jax.Array) -> jax.Array:
    """Each row at length 1, or 0; scaled first, because squares of tiny numbers vanish."""
    flat = jnp.nan_to_num(vectors).reshape(len(vectors), -1)
    largest = jnp.abs(flat).max(-1)
    flat = flat / jnp.where(largest > 0, largest, 1.0)[:, None]
    length = jnp.sqrt((flat**2).sum(-1))
    return (flat / jnp.where(length > 0, length, 1.0)[:, None]).reshape(vectors.shape)
