"""Gaussian noise: no attack at all, and the control every attack must beat."""

import functools

import jax
import jax.numpy as jnp

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.search import Cost, Goal, Probe, Search, Stage, State, begin
from jaxdefense.checks import check_ball
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball, expand, linf
from jaxdefense.losses import cross_entropy
from jaxdefense.typing import Images, Keys, Radii


def gaussian(sigma: float | None = None, ball: Ball = linf) -> Attack:
    """Gaussian noise of standard deviation sigma on every pixel, clipped to [0, 1].

    Args:
        sigma: in pixel units. The noisy image is projected onto ball(x, eps); ``eps=inf`` leaves
            the noise whole. None: each example's eps *is* sigma and there is no ball, so that a
            sweep over radii is a sweep over noise levels.
        ball: the ball that eps is the radius of, where sigma is given.

    Returns:
        An `Attack` without gradients; it costs one forward pass.

    Example:
        >>> gaussian(0.1).cost
        Cost(gradients=0, forwards=1)
    """
    if sigma is not None and not 0 < sigma < 10:
        raise InputError(
            f"sigma is {sigma}, but is a standard deviation in pixels of [0, 1]: "
            "divide by 255 if it is in 0-255 units"
        )

    check_ball("gaussian", ball, ("linf", "l2", "l1", "l0"))
    stage = Stage(_search(sigma, ball), 0, cross_entropy)
    name = "gaussian" if sigma is None else f"gaussian-{sigma:g}"
    return Attack(name, (stage,), None if sigma is None else ball)


@functools.cache
def _search(sigma: float | None, ball: Ball) -> Search:
    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        draw = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
        if sigma is None:
            return begin(jnp.clip(x + expand(eps) * draw, 0.0, 1.0))
        return begin(ball.project(x, x + sigma * draw, eps))

    def step(keys, probe, state, x, goal, eps):
        return state

    return Search(init, step, step_cost=Cost(), settings=f"{ball} {sigma=}")
