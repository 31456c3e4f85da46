"""Attack -> Attack: join stages, repeat them, bring minimum-norm attacks to a radius."""

import dataclasses
import functools
import itertools

import jax.numpy as jnp

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.search import (
    Cost,
    Goal,
    Probe,
    Search,
    State,
    begin,
    keep,
    where,
)
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball
from jaxdefense.typing import Images, Keys, Radii


def strongest(*attacks: Attack, name: str | None = None) -> Attack:
    """The worst case over attacks: each works on what the earlier ones left standing.

    The first stage of all uses the example's key unchanged and stage i a key folded with i, so
    ``strongest(a) == a`` bit for bit.

    Args:
        attacks: at least one, all in the same ball.
        name: in tables; the names joined by ``+`` by default.

    Raises:
        InputError: no attack, or attacks in different balls.

    Example:
        >>> import jaxdefense as jd
        >>> strongest(jd.attacks.fgsm(), jd.attacks.pgd(steps=10)).cost
        Cost(gradients=11, forwards=2)
    """
    if not attacks:
        raise InputError("strongest() needs at least one attack")
    balls = {attack.ball.name if attack.ball else "none" for attack in attacks}
    if len(balls) > 1:
        raise InputError(
            f"strongest() joins attacks in one ball, got {', '.join(sorted(balls))}: "
            "an eps means something else in each"
        )
    stages = tuple(stage for attack in attacks for stage in attack.stages)
    return Attack(name or _joined([a.name for a in attacks]), stages, attacks[0].ball)


def _joined(names: list[str]) -> str:
    runs = [(name, len(list(group))) for name, group in itertools.groupby(names)]
    return "+".join(name if count == 1 else f"{name}x{count}" for name, count in runs)


def restarts(attack: Attack, times: int) -> Attack:
    """The attack `times` times with fresh randomness: ``strongest(*[attack] * times)``.

    Args:
        attack: any attack; one without randomness gains nothing.
        times: at least 1; 1 gives the attack itself.

    Raises:
        InputError: times below 1.

    Example:
        >>> import jaxdefense as jd
        >>> restarts(jd.attacks.pgd(steps=10), 3).cost
        Cost(gradients=30, forwards=3)
    """
    if times < 1:
        raise InputError(f"restarts needs times >= 1, got {times}")
    return strongest(*[attack] * times)


def at_radius(attack: Attack, ball: Ball) -> Attack:
    """A minimum-norm attack as an attack at radius eps, so that it joins the same tables.

    The attack is run without a radius (eps is inf for its stages); what it finds is projected onto
    ball(x, eps) and read once more. Where the found perturbation lies in the ball it is returned
    as it is.

    Args:
        attack: one whose stages return the closest fooling point they found, whatever eps is.
        ball: the ball that eps is the radius of.

    Example:
        >>> import jaxdefense as jd
        >>> at_radius(jd.attacks.gaussian(0.3), jd.l2).cost
        Cost(gradients=0, forwards=2)
    """
    stages = tuple(stage._replace(search=_limited(stage.search, ball)) for stage in attack.stages)
    return dataclasses.replace(attack, stages=stages, ball=ball)


@functools.cache
def _limited(search: Search, ball: Ball) -> Search:
    """The search without a radius until it finishes.

    While it runs, the outer state must not claim success at a point outside the ball.
    """

    def outer(state: State, x: Images) -> State:
        return begin(x, state)

    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        return outer(search.init(keys, probe, x, goal, jnp.full_like(eps, jnp.inf)), x)

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        free = jnp.full_like(eps, jnp.inf)
        return outer(search.step(keys, probe, state.inner, x, goal, free), x)

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        free = jnp.full_like(eps, jnp.inf)
        found = search.finish(keys, probe, state.inner, x, goal, free)
        near = ball.norm(found.best - x) <= eps
        point = where(near, found.best, ball.project(x, found.best, eps))
        return keep(begin(point, found), point, probe.read(keys, point, goal))

    return Search(
        init,
        step,
        finish,
        search.init_cost,
        search.step_cost,
        search.finish_cost + Cost(forwards=1),
        f"{search.settings} at_radius {ball}",
    )
