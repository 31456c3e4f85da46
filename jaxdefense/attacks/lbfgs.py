"""The box-constrained L-BFGS attack, the first of all."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdefense.attacks import penalty
from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.minimum import closest, draw_in, minimum_norm
from jaxdefense.attacks.probe import Goal, Probe
from jaxdefense.attacks.search import Cost, Search, State, begin, where
from jaxdefense.checks import check_ball
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball, expand, l2
from jaxdefense.losses import margin
from jaxdefense.typing import Images, Keys, Loss, PerExample, PyTree, Radii

_HALVINGS = 8
# The log-loss bends over this share of the clean margin.
_BEND = 0.1
# A search is over when its step has been halved so often, or an objective falls by less.
_SHORTEST, _GAIN = 2.0**-10, 1e-6


def lbfgs(
    ball: Ball = l2,
    searches: int = 10,
    steps: int = 30,
    memory: int = 10,
    *,
    initial_c: float | None = None,
    loss: Loss = margin,
    name: str | None = None,
) -> Attack:
    """The closest fooling point by L-BFGS (Szegedy et al. 2014, arXiv 1312.6199, section 4.1).

    Minimises ``|r|^2 + c * log-loss`` with ``x + r`` in [0, 1], for one c after another, to find
    the smallest c with which it succeeds. Each step costs one gradient: it is accepted if the
    objective does not rise; if it does, the next step is half as long from the last accepted point.

    Where this differs from the paper: the log-loss is that of the true class against the nearest
    other, ``T * log(1 + exp(-margin / T))`` with T a tenth of the clean margin, instead of
    cross-entropy towards a given class, so that neither a target nor the logits' scale matters;
    c stands at the loss rather than at the norm and is searched on a logarithmic scale; the norm
    is squared; the box is kept by projection, with pixels that press against it left out of the
    search direction; the result is drawn in by bisection.

    Args:
        ball: `l2` only.
        searches: how many weights c are tried at least; a search that has converged makes room.
        steps: of one search at most.
        memory: pairs of steps that the Hessian is estimated from.
        initial_c: the first c, per logit; by default read off the clean image's margin and
            gradient.
        loss: `losses.margin`; ``losses.targeted(losses.margin)`` for success at the class in the
            label slot only; `targets.towards` for a class of choice as the direction.
        name: in tables; ``"lbfgs-<searches>x<steps>"`` by default.

    Returns:
        A minimum-norm `Attack`; it costs ``searches * steps`` gradients and 9 forward passes.

    Raises:
        InputError: another ball, or settings that are not positive.

    Example:
        >>> lbfgs(searches=5, steps=20).cost
        Cost(gradients=100, forwards=9)
    """
    advice = "other norms have no smooth square. Use fmn or carlini_wagner"
    check_ball("lbfgs", ball, ("l2",), advice)
    if min(searches, steps, memory) < 1 or (initial_c is not None and not initial_c > 0):
        raise InputError(
            "lbfgs needs searches, steps and memory >= 1 and initial_c > 0, got "
            f"{searches}, {steps}, {memory} and {initial_c}"
        )
    search = _search(steps, memory, initial_c)
    return minimum_norm(name or f"lbfgs-{searches}x{steps}", search, searches * steps, l2, loss)


class _Inner(NamedTuple):
    base: Images  # the last accepted point,
    value: PerExample  # its objective, infinite before the first,
    direction: Images  # and where the search goes from it
    length: PerExample
    memory: PyTree
    weight: penalty.Weight
    bend: PerExample


@functools.cache
def _search(steps: int, memory: int, initial_c: float | None) -> Search:
    rule = optax.scale_by_lbfgs(memory)
    # By example, so that curvature and counters are each example's own.
    fresh, update = jax.vmap(rule.init), jax.vmap(rule.update)

    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        one = jnp.ones(len(x))
        weight = penalty.unweighted(len(x))
        inner = _Inner(x, one * jnp.inf, jnp.zeros_like(x), one, fresh(x), weight, one)
        return begin(x, inner)

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        base, value, direction, length, past, weight, bend = state.inner
        reading, gradient = probe.differentiate(keys, state.x, goal)
        state = closest(l2, state, x, state.x, reading)
        unit = penalty.dual(l2, gradient)
        scale = _BEND * jnp.abs(jnp.nan_to_num(reading.loss))
        bend = jnp.where(weight.started, bend, jnp.where(scale > 0, scale, 1.0))
        # On the boundary the log-loss has slope 1/2, hence 4 times the distance in place of 2.
        weight = penalty.weigh(weight, unit, 4.0 * penalty.distance(reading, unit, x), initial_c)

        behind = jnp.nan_to_num(-reading.loss / bend)
        share = weight.c / weight.unit
        here = (state.x - x).reshape(len(x), -1)
        now = (here**2).sum(-1) + share * bend * jax.nn.softplus(behind)
        slope = 2.0 * (state.x - x) - expand(share * jax.nn.sigmoid(behind)) * gradient
        pressed = ((state.x <= 0) & (slope > 0)) | ((state.x >= 1) & (slope < 0))
        slope = jnp.where(pressed, 0.0, slope)

        accepted = now <= value
        start = jnp.isinf(value)
        ahead, remembered = update(slope, past, state.x)
        plain, forgotten = update(slope, fresh(x), state.x)
        ahead = jnp.where(pressed, 0.0, ahead)
        rise = (ahead * slope).reshape(len(x), -1).sum(-1)
        # Curvature that points uphill is worth nothing: begin again from the gradient.
        sound = (rise > 0) & jnp.isfinite(rise) & ~start
        ahead = where(sound, ahead, plain)
        remembered = jax.tree.map(lambda a, b: where(sound, a, b), remembered, forgotten)

        converged = accepted & ~start & (value - now <= _GAIN * value)
        base = where(accepted, state.x, base)
        value = jnp.where(accepted, now, value)
        direction = where(accepted, -ahead, direction)
        length = jnp.where(accepted, 1.0, 0.5 * length)
        past = jax.tree.map(lambda a, b: where(accepted, a, b), remembered, past)

        weight = weight._replace(won=weight.won | reading.fooled, made=weight.made + 1)
        ending = (weight.made >= steps) | converged | (length < _SHORTEST)
        base = where(ending, x, base)
        direction = where(ending, jnp.zeros_like(x), direction)
        value = jnp.where(ending, jnp.inf, value)
        length = jnp.where(ending, 1.0, length)
        point = jnp.clip(base + expand(length) * direction, 0.0, 1.0)
        weight = penalty.narrow(weight, ending)
        inner = _Inner(base, value, direction, length, past, weight, bend)
        return state._replace(x=point, inner=inner)

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        return draw_in(keys, probe, state, x, goal, l2, _HALVINGS)

    settings = f"lbfgs {steps=} {memory=} {initial_c=} {_HALVINGS} {_BEND} {_SHORTEST} {_GAIN}"
    return Search(init, step, finish, finish_cost=Cost(forwards=_HALVINGS), settings=settings)
