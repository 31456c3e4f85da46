"""Decoupled direction and norm: gradient steps on a sphere whose radius follows success."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.minimum import closest, draw_in, minimum_norm
from jaxdefense.attacks.probe import Goal, Probe
from jaxdefense.attacks.search import Cost, Search, State, begin
from jaxdefense.checks import check_ball
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball, expand, l2
from jaxdefense.losses import cross_entropy
from jaxdefense.typing import Images, Keys, Loss, PerExample, Radii

_HALVINGS = 8
# Of the step length, on a cosine.
_LAST = 0.01


def ddn(
    ball: Ball = l2,
    steps: int = 100,
    *,
    init_epsilon: float = 1.0,
    gamma: float = 0.05,
    loss: Loss = cross_entropy,
    name: str | None = None,
) -> Attack:
    """Decoupled direction and norm (Rony et al. 2019, arXiv 1811.09600, algorithm 1).

    Each step adds the gradient's direction, of length 1 and falling to 0.01 on a cosine, and
    rescales the perturbation to a radius, which shrinks by the share `gamma` where the last point
    fooled and grows by it where not. As in the paper, lengths are l2 norms of images in [0, 1] and
    do not depend on a radius; where the gradient is zero the direction is random. Unlike there
    nothing is rounded to 8 bits, and what is found is drawn in towards the image by bisection.

    Args:
        ball: `l2` only.
        steps: gradient evaluations.
        init_epsilon: the first radius.
        gamma: by what share the radius changes.
        loss: ascended; ``losses.targeted(losses.cross_entropy)`` for success at the class in the
            label slot only.
        name: in tables; ``"ddn-<steps>"`` by default.

    Returns:
        A minimum-norm `Attack`; it costs `steps` gradients and 10 forward passes per example.

    Raises:
        InputError: another ball, steps below 1, a radius that is not positive, a gamma outside
            (0, 1).

    Example:
        >>> import jax, jax.numpy as jnp, jaxdefense as jd
        >>> classifier = lambda x: jnp.stack([x.sum((1, 2, 3)), 8 - x.sum((1, 2, 3))], -1)
        >>> x = jnp.full((1, 4, 4, 1), 0.3)  # sum 4.8: class 0 down to 4, which is 0.05 per pixel
        >>> x_adv = ddn()(jax.random.key(0), classifier, x, jnp.array([0]), jnp.inf)
        >>> round(float(jd.l2.norm(x_adv - x)[0]), 2)
        0.2
    """
    advice = "it rescales perturbations to a sphere. Use fmn, its successor, in l-inf and l1"
    check_ball("ddn", ball, ("l2",), advice)
    if steps < 1 or not init_epsilon > 0 or not 0 < gamma < 1:
        raise InputError(
            f"ddn needs steps >= 1, init_epsilon > 0 and 0 < gamma < 1, got {steps}, "
            f"{init_epsilon} and {gamma}"
        )
    search = _search(steps, init_epsilon, gamma)
    return minimum_norm(name or f"ddn-{steps}", search, steps, l2, loss)


def unit(values: Images) -> Images:
    """Divided by their l2 norms; scaled first, because squaring tiny numbers underflows."""
    largest = expand(jnp.abs(values).max((1, 2, 3)))
    values = values / jnp.where(largest > 0, largest, 1.0)
    length = expand(l2.norm(values))
    return values / jnp.where(length > 0, length, 1.0)


def cosine(first: float, last: float, done: jax.Array, steps: int) -> PerExample:
    """From `first` at step 0 to `last` at step `steps`, on half a cosine."""
    return last + (first - last) * 0.5 * (1 + jnp.cos(jnp.pi * done / steps))


class _Inner(NamedTuple):
    radius: PerExample
    done: jax.Array


@functools.cache
def _search(steps: int, init_epsilon: float, gamma: float) -> Search:
    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        radius = jnp.full(len(x), init_epsilon, x.dtype)
        return begin(x, _Inner(radius, jnp.zeros(len(x), jnp.int32)))

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        radius, done = state.inner
        reading, gradient = probe.differentiate(keys, state.x, goal)
        state = closest(l2, state, x, state.x, reading)
        radius = radius * jnp.where(reading.fooled, 1 - gamma, 1 + gamma)
        radius = jnp.minimum(radius, l2.norm(jnp.maximum(x, 1 - x)))  # the farthest in the box
        noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
        flat = expand((gradient == 0).all((1, 2, 3)))
        direction = unit(jnp.where(flat, noise, gradient))
        moved = state.x - x + expand(cosine(1.0, _LAST, done, steps)) * direction
        point = jnp.clip(x + expand(radius) * unit(moved), 0.0, 1.0)
        return state._replace(x=point, inner=_Inner(radius, done + 1))

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        state = closest(l2, state, x, state.x, probe.read(keys, state.x, goal))
        return draw_in(keys, probe, state, x, goal, l2, _HALVINGS)

    return Search(
        init,
        step,
        finish,
        finish_cost=Cost(forwards=1 + _HALVINGS),
        settings=f"ddn {steps=} {init_epsilon=} {gamma=} {_LAST} {_HALVINGS}",
    )
