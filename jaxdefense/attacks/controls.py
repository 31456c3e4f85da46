"""Controls: what must break any defence, and what an attack is worth once it is saved as a file."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.minimum import closest
from jaxdefense.attacks.search import (
    Cost,
    Goal,
    Probe,
    Search,
    Stage,
    State,
    begin,
    keep,
    where,
)
from jaxdefense.checks import check_ball
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball, expand, linf
from jaxdefense.losses import cross_entropy
from jaxdefense.typing import Flags, Images, Keys, Radii

# As data.as_images has it: a product, because compilers make one of a division by a constant.
_LEVEL = np.float32(1 / 255)

# How far beyond what was found to look: rounding undoes a success that was only just one.
_FACTORS = (1.0, 1.005, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0)

# Bisections for how much is rounded up.
_HALVINGS = 10


def unbounded(attack: Attack) -> Attack:
    """The attack with all of [0, 1] as its ball, whatever eps is.

    It must reach zero on anything whose gradients are of use (Carlini et al. 2019, arXiv
    1902.06705, section 4.3): if it does not, the attack fails and not the classifier.

    Args:
        attack: any with a ball.

    Returns:
        An attack without a ball: sweep it at one radius, say ``[1.0]``.

    Raises:
        InputError: an attack that has no ball already.

    Example:
        >>> import jaxdefense as jd
        >>> unbounded(jd.attacks.pgd(steps=10))
        Attack(pgd-10-unbounded)
    """
    if attack.ball is None:
        raise InputError(f"{attack.name} has no ball whose radius could be lifted")
    stages = tuple(s._replace(search=_unbounded(s.search, attack.ball)) for s in attack.stages)
    labels = tuple(f"{label}-unbounded" for label in attack.labels)
    return Attack(f"{attack.name}-unbounded", stages, None, labels=labels)


@functools.cache
def _unbounded(search: Search, ball: Ball) -> Search:
    def whole(x: Images) -> Radii:
        return ball.norm(jnp.ones_like(x))  # no two images are further apart

    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        return search.init(keys, probe, x, goal, whole(x))

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        return search.step(keys, probe, state, x, goal, whole(x))

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        return search.finish(keys, probe, state, x, goal, whole(x))

    settings = f"{search.settings} unbounded {ball}"
    return search._replace(init=init, step=step, finish=finish, settings=settings)


def grey(ball: Ball = linf, level: float = 0.5) -> Attack:
    """Moves each image towards one and the same grey image, as far as eps allows.

    No attack but a bound: from eps 0.5 in l-inf all images can be made the same one, so that no
    classifier is right more often than its most frequent class. Whatever claims more there was
    not attacked well enough.

    Args:
        ball: where the nearest point to the grey image is taken; in l-inf the perturbed image is
            exactly grey from eps ``max(level, 1 - level)``.
        level: of grey, in [0, 1].

    Returns:
        An `Attack` without gradients; it costs one forward pass.

    Raises:
        InputError: a level outside [0, 1].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> classifier = lambda x: jnp.stack([x.sum((1, 2, 3)), 1 - x.sum((1, 2, 3))], -1)
        >>> x = jnp.array([0.0, 0.9]).reshape(2, 1, 1, 1)
        >>> grey()(jax.random.key(0), classifier, x, jnp.array([1, 0]), 0.5).ravel().tolist()
        [0.5, 0.5]
    """
    check_ball("grey", ball, ("linf", "l2", "l1", "l0"))
    if not 0 <= level <= 1:
        raise InputError(f"grey needs a level in [0, 1], got {level}: divide by 255 if it is 0-255")
    return Attack("grey", (Stage(_grey(ball, level), 0, cross_entropy),), ball)


@functools.cache
def _grey(ball: Ball, level: float) -> Search:
    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        return begin(ball.project(x, jnp.full_like(x, level), eps))

    def step(keys, probe, state, x, goal, eps):
        return state

    return Search(init, step, step_cost=Cost(), settings=f"{ball} {level=}")


def eight_bit(attack: Attack) -> Attack:
    """The attack with its result on the 8-bit grid k / 255, as an image file holds it.

    What the attack found is rounded to the nearest level that stays in the ball, else towards the
    image, and read again; only what fools after rounding counts. Some points beyond it on the line
    from the image, brought into the ball, are tried as well, because a closest point fools by so
    little that rounding undoes it. A minimum-norm attack stays one, with the rounded images' norms.

    Changed pixels equal ``data.as_images`` of the file's uint8 bit for bit. Clean images must be
    on the grid themselves: where one is not, for example after resizing, the row comes back
    unchanged. `jaxdefense.sweep` refuses such images, so round such data sets first.

    Success is known only at the end, so no row leaves early: a full run is paid for every row, and
    8 forward passes for each stage.

    Args:
        attack: any; minimum-norm attacks too.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdefense as jd
        >>> classifier = lambda x: jnp.stack([x.sum((1, 2, 3)), 8 - x.sum((1, 2, 3))], -1)
        >>> x = jnp.full((1, 4, 4, 1), 77 / 255)
        >>> attack = eight_bit(jd.attacks.fgsm())
        >>> x_adv = attack(jax.random.key(0), classifier, x, jnp.array([0]), 0.1)  # 25.5 levels
        >>> round(float(255 * x_adv.max()), 3)
        52.0
    """
    rounded = lambda search: _eight_bit(search, attack.ball, attack.minimal)
    stages = tuple(stage._replace(search=rounded(stage.search)) for stage in attack.stages)
    labels = tuple(f"{label}-8bit" for label in attack.labels)
    name = f"{attack.name}-8bit"
    return dataclasses.replace(attack, name=name, stages=stages, labels=labels, on_grid=True)


def on_grid(x: Images) -> Flags:
    """Which images lie on the 8-bit grid, ``[b]``, up to the rounding of ``k / 255``."""
    return (jnp.abs(x - jnp.round(255.0 * x) * _LEVEL) <= 2.0**-23).all((1, 2, 3))


@functools.cache
def _eight_bit(search: Search, ball: Ball | None, minimal: bool) -> Search:
    def hide(x: Images, inner: State) -> State:
        """Nothing is claimed before it is rounded."""
        return begin(x, inner)

    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        return hide(x, search.init(keys, probe, x, goal, eps))

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        return hide(x, search.step(keys, probe, state.inner, x, goal, eps))

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        found = search.finish(keys, probe, state.inner, x, goal, eps)
        # An eps that is no radius of a ball leaves the box alone.
        space, radius = (linf, jnp.ones_like(eps)) if ball is None else (ball, eps)
        usable = on_grid(x)

        def attempt(index: jax.Array, best: State) -> State:
            factor = jnp.asarray(_FACTORS, x.dtype)[index]
            point = space.project(x, x + factor * (found.best - x), radius)
            point = _round(space, x, point, radius)
            reading = probe.read(keys, point, goal)
            if minimal:
                return closest(space, best, x, point, reading)
            return keep(best, point, reading)

        state = jax.lax.fori_loop(0, len(_FACTORS), attempt, begin(x))
        state = jax.tree.map(functools.partial(where, usable), state, begin(x))
        return state._replace(inner=found)

    return Search(
        init,
        step,
        finish,
        search.init_cost,
        search.step_cost,
        search.finish_cost + Cost(forwards=len(_FACTORS)),
        f"{search.settings} 8bit {ball} {minimal=} {_FACTORS}",
    )


def _round(ball: Ball, x: Images, point: Images, eps: Radii) -> Images:
    """`point` of the ball on the grid: the nearest that stays inside; `x` where nothing changes."""
    start = jnp.round(255.0 * x)
    moved = 255.0 * point - start
    # No pixel alone may use more than the radius; a little more is what float32 makes of k / 255.
    most = jnp.floor(255.0 * eps * (1 + 2e-7) + 1e-5)
    size = jnp.minimum(jnp.abs(moved), expand(most))

    def grid(threshold: Radii) -> Images:
        """Fractions of a level above the threshold are rounded up, the rest down."""
        # Not floor and fraction apart: a compiler may compute `size` twice, and not equally.
        steps = jnp.maximum(jnp.ceil(size - expand(threshold)), 0.0)
        level = jnp.clip(start + jnp.sign(moved) * steps, 0.0, 255.0)
        return jnp.where(steps > 0, level * _LEVEL, x)

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        outside = ball.norm(grid(middle) - x) > limit
        return jnp.where(outside, middle, low), jnp.where(outside, high, middle)

    limit = eps * (1 + 2e-7) + 1e-7
    # Rounding all down leaves alone what is on a level up to rounding.
    nearest, down = jnp.full_like(eps, 0.5), jnp.full_like(eps, 1 - 5e-5)
    threshold = jax.lax.fori_loop(0, _HALVINGS, halve, (nearest, down))[1]
    threshold = jnp.where(ball.norm(grid(nearest) - x) > limit, threshold, nearest)
    return grid(threshold)
