"""Fast adaptive boundary attack: goes round the boundary, drawn towards the image."""

import functools

import jax.numpy as jnp

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.deepfool import clear_of_ties, nearest, onto, pick
from jaxdefense.attacks.minimum import closest, draw_in, minimum_norm
from jaxdefense.attacks.probe import Goal, Probe, Reading
from jaxdefense.attacks.search import Cost, Search, State, begin, where
from jaxdefense.checks import check_ball
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball, expand, linf
from jaxdefense.losses import margin
from jaxdefense.typing import Images, Keys, Loss, PerExample, Radii

# The paper's constants: most weight of the image, overshoot, backward step.
_ALPHA_MAX, _ETA, _BETA = 0.1, 1.05, 0.9
# A random start lies half as far away as the boundary seems to, or as a grey level of this size.
_MOST = 0.1


def fab(
    ball: Ball = linf,
    steps: int = 100,
    *,
    candidates: int | None = None,
    random_start: bool = False,
    halvings: int = 10,
    loss: Loss = margin,
    name: str | None = None,
) -> Attack:
    """Fast adaptive boundary attack (Croce and Hein 2020, arXiv 1907.02044, algorithm 1).

    Each step linearises the boundary at the current point and projects that point and the image
    onto it, within [0, 1]; their weighted mean, a little beyond, is the next point. Where that
    fools, it is kept if it is the closest so far, and the search goes on from 0.9 of the way to
    it. The constants are the paper's (alpha_max 0.1, eta 1.05, beta 0.9).

    Which boundary that is:

    - by default the one of `loss`, which must be 0 on it: `losses.margin`'s is the boundary to the
      strongest other class. One gradient a step;
    - ``multi_targeted(fab(ball), 9)`` is FAB-T, AutoAttack's: nine runs, each with the boundary
      between the true class and one other. One gradient a step;
    - ``candidates=9`` is the paper's untargeted form: the nearest of the boundaries to the nine
      strongest other classes, chosen anew in each step. Nine gradients a step.

    It differs from the authors' code in little: points from which a step starts may be kept, too;
    the linear models' zero is put beyond what `Probe` takes for a tie; with `candidates` the
    nearest boundary is the nearest inside [0, 1]; see also `halvings`.

    Args:
        ball: whose norm is minimised.
        steps: gradient evaluations, or how many times `candidates` of them.
        candidates: see above.
        random_start: start at a random point, so that `restarts` differ. It lies in the ball of
            half the distance at which a linear model puts the boundary, at most 0.05 times the
            norm of a white image (where the authors use the best norm known or eps, which a search
            of its own does not know).
        halvings: bisections that draw what is found in towards the image at the end. The original
            has none (0), and its overshoot keeps it about 1 % beyond even a flat boundary.
        loss: ascended, and 0 on the boundary: `losses.margin`, or
            ``losses.targeted(losses.margin)`` for success at the class in the label slot only.
        name: in tables; ``"fab-<steps>"`` by default.

    Returns:
        A minimum-norm `Attack`; it costs `steps` gradients (times `candidates`, or the number of
        wrong classes where that is less) and ``steps + halvings + 3`` forward passes, and one
        gradient more with a random start.

    Raises:
        InputError: steps or candidates below 1, halvings below 0, or candidates with another loss.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdefense as jd
        >>> classifier = lambda x: jnp.stack([x.sum((1, 2, 3)), 8 - x.sum((1, 2, 3))], -1)
        >>> x = jnp.full((1, 4, 4, 1), 0.3)  # sum 4.8: class 0 down to 4, which is 0.05 per pixel
        >>> x_adv = fab(jd.linf)(jax.random.key(0), classifier, x, jnp.array([0]), jnp.inf)
        >>> round(float(jd.linf.norm(x_adv - x)[0]), 3)
        0.05
    """
    check_ball("fab", ball, ("linf", "l2", "l1"))
    if steps < 1 or halvings < 0 or (candidates is not None and candidates < 1):
        raise InputError(
            f"fab needs steps >= 1, candidates >= 1 or None, and halvings >= 0, got {steps}, "
            f"{candidates} and {halvings}"
        )
    if candidates is not None and loss is not margin:
        raise InputError(
            "fab with candidates chooses among the boundaries of all classes and uses no loss: "
            "leave out candidates to follow a loss"
        )
    search = _search(ball, candidates, random_start, halvings)
    return minimum_norm(name or f"fab-{steps}", search, steps, ball, loss)


@functools.cache
def _search(ball: Ball, candidates: int | None, random_start: bool, halvings: int) -> Search:
    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        state = begin(x, clear_of_ties(keys, probe, x, goal))
        if not random_start:
            return state
        reading, gradient = probe.differentiate(keys, x, goal)
        state = closest(ball, state, x, x, reading)
        distance = ball.norm(onto(ball, gradient, x, reading.loss))
        most = _MOST * ball.norm(jnp.ones_like(x))
        size = 0.5 * jnp.where(distance > 0, jnp.minimum(distance, most), most)
        return state._replace(x=jnp.clip(x + ball.sample(keys, x, size), 0.0, 1.0))

    def linearise(
        keys: Keys, probe: Probe, point: Images, goal: Goal
    ) -> tuple[Reading, PerExample, Images]:
        if candidates is None:
            reading, gradient = probe.differentiate(keys, point, goal)
            return reading, jnp.nan_to_num(reading.loss), gradient
        reading, rises, gradients = probe.differences(keys, point, goal, candidates)
        index = nearest(ball, point, rises, gradients)
        return reading, pick(rises, index), pick(gradients, index)

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        reading, rise, gradient = linearise(keys, probe, state.x, goal)
        state = closest(ball, state, x, state.x, reading)
        # A class that leads by no more than a tie has not fooled: go on upwards.
        rise = jnp.where(reading.fooled, rise, jnp.minimum(rise, 0.0)) - state.inner
        at_image = rise + (gradient * (x - state.x)).sum((1, 2, 3))
        here, clean = onto(ball, gradient, state.x, rise), onto(ball, gradient, x, at_image)
        near, far = (jnp.maximum(ball.norm(move), 1e-8) for move in (here, clean))
        alpha = expand(jnp.minimum(near / (near + far), _ALPHA_MAX))
        point = (1 - alpha) * (state.x + _ETA * here) + alpha * (x + _ETA * clean)
        point = jnp.clip(point, 0.0, 1.0)
        reading = probe.read(keys, point, goal)
        state = closest(ball, state, x, point, reading)
        back = jnp.clip(x + _BETA * (point - x), 0.0, 1.0)
        return state._replace(x=where(reading.fooled, back, point))

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        state = closest(ball, state, x, state.x, probe.read(keys, state.x, goal))
        return draw_in(keys, probe, state, x, goal, ball, halvings) if halvings else state

    return Search(
        init,
        step,
        finish,
        init_cost=Cost(gradients=int(random_start), forwards=1),
        step_cost=Cost(gradients=candidates or 1, forwards=1),
        finish_cost=Cost(forwards=1 + halvings),
        settings=f"fab {ball} {candidates=} {random_start=} {halvings=} "
        f"{_ALPHA_MAX} {_ETA} {_BETA} {_MOST}",
    )
