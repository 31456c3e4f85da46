"""SPSA: gradient descent with gradients estimated from forward passes alone."""

import functools

import jax
import jax.numpy as jnp
import optax

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.search import Cost, Goal, Probe, Search, Stage, State, begin, keep
from jaxdefense.checks import check_ball
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball, expand, linf, within_box
from jaxdefense.losses import margin
from jaxdefense.typing import Images, Keys, Loss, Radii


def spsa(
    ball: Ball = linf,
    steps: int = 40,
    samples: int = 64,
    perturbation: float = 0.01,
    step_size: float = 0.2,
    *,
    loss: Loss = margin,
    name: str | None = None,
) -> Attack:
    """Simultaneous perturbation stochastic approximation (Uesato et al. 2018, arXiv 1802.05666).

    Each step estimates the gradient as the mean of ``(f(x + d v) - f(x - d v)) / 2d * v`` over
    random sign images v (algorithm 1) and follows it with Adam, projected onto the ball. In l2
    Adam's division by each pixel's own scale would waste the budget, so there the first moment
    alone is followed in its steepest direction.

    Where we differ: queries stay in [0, 1], since a deployed function sees nothing else (a pixel
    at the edge then moves on one side only, which keeps the sign of its estimate); the step is
    relative to eps; each step also reads the iterate itself, so that the best one is kept. The
    paper uses up to 8,192 samples a step: more samples are a better estimate, and images of more
    pixels need more.

    Args:
        ball: `linf` or `l2`.
        steps: Adam's.
        samples: sign images per step, two forward passes each.
        perturbation: d, in pixel units. Not relative to eps: it has to be larger than the steps of
            a quantised defence and smaller than the features of the classifier.
        step_size: as a fraction of eps.
        loss: ascended; with `losses.targeted` the label slot holds the targets.
        name: in tables; ``"spsa-<steps>x<samples>"`` by default.

    Returns:
        An `Attack` without gradients; it costs ``steps * (2 * samples + 1) + 1`` forward passes.

    Raises:
        InputError: steps or samples below 1, another ball, or sizes that are not positive.

    Example:
        >>> spsa(steps=10, samples=16).cost
        Cost(gradients=0, forwards=331)
    """
    if steps < 1 or samples < 1:
        raise InputError(f"spsa needs at least 1 step and 1 sample, got {steps} and {samples}")
    if not 0 < perturbation < 1 or not step_size > 0:
        raise InputError(
            f"spsa got perturbation {perturbation} and step_size {step_size}: the first is in "
            "pixels of [0, 1] (divide by 255 if it is in 0-255 units), the second a fraction of "
            "eps, and both are positive"
        )
    check_ball("spsa", ball, ("linf", "l2"), "use square(l1)")
    search = _search(ball, samples, perturbation, step_size)
    return Attack(name or f"spsa-{steps}x{samples}", (Stage(search, steps, loss),), ball)


@functools.cache
def _search(ball: Ball, samples: int, perturbation: float, step_size: float) -> Search:
    # The estimate is scaled to a largest entry of 1, so that no floor of Adam's drowns it.
    adam = ball.name == "linf"
    rule = optax.scale_by_adam(eps=1e-12) if adam else optax.ema(0.9)

    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        return begin(x, jax.vmap(rule.init)(x))

    def estimate(keys: Keys, probe: Probe, x: Images, goal: Goal) -> Images:
        def add(index, total):
            draw = jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)
            signs = jax.vmap(lambda key: jax.random.rademacher(key, x.shape[1:], x.dtype))(draw)
            up = probe.read(draw, jnp.clip(x + perturbation * signs, 0.0, 1.0), goal).loss
            down = probe.read(draw, jnp.clip(x - perturbation * signs, 0.0, 1.0), goal).loss
            # One infinite or absent answer must not decide about all pixels.
            rise = jnp.where(jnp.isfinite(up - down), (up - down) / samples, 0.0)
            return total + expand(rise) * signs

        gradient = jax.lax.fori_loop(0, samples, add, jnp.zeros_like(x))
        largest = jnp.abs(gradient).max((1, 2, 3), keepdims=True)
        return gradient / jnp.where(largest > 0, largest, 1.0)

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        state = keep(state, state.x, probe.read(keys, state.x, goal))
        update, inner = jax.vmap(rule.update)(estimate(keys, probe, state.x, goal), state.inner)
        length = step_size * within_box(ball, x, eps)
        move = expand(length) * update if adam else ball.steepest(update, state.x, length)
        return state._replace(x=ball.project(x, state.x + move, eps), inner=inner)

    return Search(
        init,
        step,
        step_cost=Cost(forwards=2 * samples + 1),
        settings=f"{ball} {samples=} {perturbation=} {step_size=}",
    )
