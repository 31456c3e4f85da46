"""DeepFool: step after step towards the nearest of the linearised class boundaries."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.minimum import closest, draw_in, minimum_norm
from jaxdefense.attacks.probe import Goal, Probe
from jaxdefense.attacks.search import Cost, Search, State, begin, where
from jaxdefense.checks import check_ball
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball, expand, l2
from jaxdefense.typing import Images, Keys, PerExample, Radii

# Bisections on the way back to the image.
_HALVINGS = 10


def deepfool(
    ball: Ball = l2,
    steps: int = 50,
    candidates: int = 10,
    *,
    stride: float = 0.25,
    overshoot: float = 0.02,
    name: str | None = None,
) -> Attack:
    """DeepFool (Moosavi-Dezfooli et al. 2016, arXiv 1511.04599, algorithm 2 and section 3.3).

    Each step linearises the most likely wrong classes and goes towards the nearest of their
    boundaries; the sum of all steps is made a little longer, so that it gets across. An image that
    fools stays where it is. Ours differs in four ways:

    - The first half of the steps goes `stride` of the way each. Boundaries are curved, and many
      short steps end closer to the image than a few whole ones, at the same cost: the original
      mostly uses two or three of its 50.
    - Distances and steps are those inside [0, 1] (`Ball.reach`), where the original plans without
      the box and clips.
    - What is found is drawn in towards the image by bisection.
    - Classes are ranked anew at each point, not once at the image.

    Args:
        ball: whose norm is minimised. In l1 a step fills a few pixels to the brim, which takes its
            linear model further than it holds: `fmn` and `fab` find much closer points there.
        steps: at most.
        candidates: how many wrong classes each step looks at.
        stride: share of the way to the boundary, in the first half of the steps; 1 is the paper's.
        overshoot: by what share the perturbation is made longer.
        name: in tables; ``"deepfool-<steps>"`` by default.

    Returns:
        A minimum-norm `Attack`; it costs ``steps * candidates`` gradients per example (or
        ``steps * (classes - 1)``, where that is less) and 13 forward passes.

    Raises:
        InputError: steps or candidates below 1, a stride outside (0, 1], a negative overshoot.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdefense as jd
        >>> classifier = lambda x: jnp.stack([x.sum((1, 2, 3)), 8 - x.sum((1, 2, 3))], -1)
        >>> x = jnp.full((1, 4, 4, 1), 0.3)  # sum 4.8: class 0 down to 4, which is 0.05 per pixel
        >>> x_adv = deepfool(jd.l2)(jax.random.key(0), classifier, x, jnp.array([0]), jnp.inf)
        >>> round(float(jd.l2.norm(x_adv - x)[0]), 2)
        0.2
    """
    check_ball("deepfool", ball, ("linf", "l2", "l1"))
    if steps < 1 or candidates < 1:
        raise InputError(
            f"deepfool needs steps >= 1 and candidates >= 1, got {steps} and {candidates}"
        )
    if not 0 < stride <= 1 or not overshoot >= 0:
        raise InputError(
            f"deepfool needs 0 < stride <= 1 and overshoot >= 0, got {stride} and {overshoot}: "
            "both are shares, of the way to the boundary and of the perturbation"
        )
    search = _search(ball, steps, candidates, stride, overshoot)
    return minimum_norm(name or f"deepfool-{steps}", search, steps, ball)


def clear_of_ties(keys: Keys, probe: Probe, x: Images, goal: Goal) -> PerExample:
    """How far ahead a class must be for `Probe` to call it a success, with some to spare.

    What walks on the boundary aims at this instead of 0: where slopes are small it would else stay
    between a tie and a success. Costs one forward pass, at the image.
    """
    return 2 * probe.tie(keys, x, goal)


def onto(ball: Ball, gradient: Images, x: Images, rise: PerExample) -> Images:
    """The least perturbation inside [0, 1] that takes a linear function from `rise` to 0."""
    # Never more than the whole box could give, so that nothing overflows where slopes are tiny.
    amount = jnp.minimum(jnp.abs(rise), 2 * jnp.abs(gradient).sum((1, 2, 3)))
    return ball.reach(expand(jnp.where(rise > 0, -1.0, 1.0)) * gradient, x, amount)


def nearest(ball: Ball, x: Images, rises: jax.Array, gradients: jax.Array) -> jax.Array:
    """Which of the linearised boundaries ``[b, m]`` lies nearest to `x`, inside [0, 1].

    One that the box keeps out of reach counts by how far going on like this would take.
    """

    def distance(rise, gradient):
        step = onto(ball, gradient, x, rise)
        gain = jnp.abs((gradient * step).sum((1, 2, 3)))
        share = jnp.minimum(gain / jnp.where(rise == 0, 1.0, jnp.abs(rise)), 1.0)
        going_on = ball.norm(step) / jnp.where(share > 0, share, 1.0)
        return jnp.where(rise == 0, 0.0, jnp.where(share > 0, going_on, jnp.inf))

    return jax.vmap(distance, in_axes=1, out_axes=1)(rises, gradients).argmin(-1)


def pick(values: jax.Array, index: jax.Array) -> jax.Array:
    """``values[i, index[i]]`` of an array ``[b, m, ...]``."""
    return jax.vmap(lambda row, one: row[one])(values, index)


class _Inner(NamedTuple):
    total: Images  # the sum of the steps, without overshoot
    aim: PerExample
    done: jax.Array


@functools.cache
def _search(ball: Ball, steps: int, candidates: int, stride: float, overshoot: float) -> Search:
    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        aim = clear_of_ties(keys, probe, x, goal)
        return begin(x, _Inner(jnp.zeros_like(x), aim, jnp.zeros(len(x), jnp.int32)))

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        total, aim, done = state.inner
        reading, rises, gradients = probe.differences(keys, state.x, goal, candidates)
        state = closest(ball, state, x, state.x, reading)
        rises = jnp.minimum(rises, 0.0) - aim[:, None]
        index = nearest(ball, state.x, rises, gradients)
        move = onto(ball, pick(gradients, index), state.x, pick(rises, index))
        share = expand(jnp.where(done < steps // 2, stride, 1.0))
        total = where(reading.fooled, total, total + share * move)
        moved = jnp.clip(x + (1 + overshoot) * total, 0.0, 1.0)
        return state._replace(x=moved, inner=_Inner(total, aim, done + 1))

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        state = closest(ball, state, x, state.x, probe.read(keys, state.x, goal))
        return draw_in(keys, probe, state, x, goal, ball, _HALVINGS)

    return Search(
        init,
        step,
        finish,
        init_cost=Cost(forwards=1),
        step_cost=Cost(gradients=candidates),
        finish_cost=Cost(forwards=1 + _HALVINGS),
        settings=f"deepfool {ball} {steps=} {candidates=} {stride=} {overshoot=} {_HALVINGS}",
    )
