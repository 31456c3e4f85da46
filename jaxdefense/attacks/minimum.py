"""Minimum-norm attacks: what turns a search for the closest fooling point into an `Attack`.

Such a search is written as if there were no radius; `minimum_norm` makes it keep one.
"""

import functools

import jax
import jax.numpy as jnp

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.search import (
    Cost,
    Goal,
    Probe,
    Reading,
    Search,
    Stage,
    State,
    begin,
    keep,
    where,
)
from jaxdefense.geometry import Ball, expand
from jaxdefense.losses import margin
from jaxdefense.typing import Images, Keys, Loss, Radii


def minimum_norm(
    name: str,
    search: Search,
    steps: int,
    ball: Ball,
    loss: Loss = margin,
    target=None,
) -> Attack:
    """An attack that looks for the closest fooling point.

    With ``eps=inf`` it returns the closest it found. With a finite eps it returns that point where
    it lies in ball(x, eps), else its projection, which mostly fails. `jaxdefense.sweep` runs it
    once without a radius and reads the whole curve off the norms.

    Args:
        name: in tables.
        search: works without a radius and keeps its best with `closest`; its eps is always inf.
        steps: of the search.
        ball: whose norm is minimised.
        loss, target: as in `Stage`.
    """
    stage = Stage(limited(search, ball), steps, loss, target)
    return Attack(name, (stage,), ball, minimal=True)


def closest(ball: Ball, state: State, x: Images, point: Images, reading: Reading) -> State:
    """The state with `point`, just read, as the best where it fools closer to `x` than the best.

    Until something fools, the point with the largest margin is kept.
    """
    ahead = jnp.where(reading.fooled, -ball.norm(point - x), reading.ahead)
    return keep(state, point, reading._replace(ahead=ahead))


def draw_in(
    keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, ball: Ball, halvings: int = 8
) -> State:
    """Moves each fooling best towards `x` by bisection along the line between them.

    Costs `halvings` forward passes per example.
    """

    def halve(_, carry):
        state, low, high = carry  # shares of the way from x to the best; `high` fools
        middle = 0.5 * (low + high)
        point = jnp.clip(x + expand(middle) * (end - x), 0.0, 1.0)
        reading = probe.read(keys, point, goal)
        fooled = reading.fooled & state.fooled
        state = closest(ball, state, x, point, reading._replace(fooled=fooled, ahead=-far))
        return state, jnp.where(fooled, low, middle), jnp.where(fooled, middle, high)

    end, share = state.best, jnp.ones(len(x), x.dtype)
    far = jnp.full_like(share, jnp.inf)
    carry = (state, jnp.zeros_like(share), share)
    return jax.lax.fori_loop(0, halvings, halve, carry)[0]


@functools.cache
def limited(search: Search, ball: Ball) -> Search:
    """The search without a radius until it finishes; the outer state claims points inside only.

    Claiming them as they come lets a row go as soon as it is broken at its radius.
    """

    def outer(state: State, x: Images, eps: Radii) -> State:
        inside = state.fooled & (ball.norm(state.best - x) <= eps)
        none = begin(x)
        return none._replace(
            best=where(inside, state.best, x),
            ahead=jnp.where(inside, state.ahead, none.ahead),
            fooled=inside,
            inner=state,
        )

    def free(eps: Radii) -> Radii:
        return jnp.full_like(eps, jnp.inf)

    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        return outer(search.init(keys, probe, x, goal, free(eps)), x, eps)

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        return outer(search.step(keys, probe, state.inner, x, goal, free(eps)), x, eps)

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        found = search.finish(keys, probe, state.inner, x, goal, free(eps))
        near = ball.norm(found.best - x) <= eps
        point = where(near, found.best, ball.project(x, found.best, eps))
        return closest(ball, begin(point, found), x, point, probe.read(keys, point, goal))

    return Search(
        init,
        step,
        finish,
        search.init_cost,
        search.step_cost,
        search.finish_cost + Cost(forwards=1),
        f"{search.settings} minimum {ball}",
        minimal=True,
    )
