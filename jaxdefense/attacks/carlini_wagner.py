"""Carlini and Wagner's attacks: a penalty for not fooling is weighed against the norm."""

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
from jaxdefense.geometry import Ball, expand, l2, linf
from jaxdefense.losses import margin
from jaxdefense.typing import Flags, Images, Keys, Loss, PerExample, PyTree, Radii

_HALVINGS = 8
# In l-inf: the bound is tightened by a tenth, and given up when c has doubled so often in vain.
_SHRINK, _DOUBLINGS = 0.9, 2
_DEFAULTS = {"l2": (9, 1000), "linf": (20, 50)}


def carlini_wagner(
    ball: Ball = l2,
    searches: int | None = None,
    steps: int | None = None,
    step_size: float | None = None,
    initial_c: float | None = None,
    confidence: float = 0.0,
    *,
    loss: Loss = margin,
    name: str | None = None,
) -> Attack:
    """The closest fooling point, by a penalty (Carlini and Wagner 2017, arXiv 1608.04644).

    With ``f = max(confidence - loss, 0)`` (their f6) and Adam on w, where ``x = tanh(w)`` up to
    scale:

    - l2 (section VI.A) minimises ``|r|^2 + c * f``, one search of `steps` steps from the image for
      each of `searches` weights c, found by binary search for each example;
    - l-inf (section VI.C) minimises ``sum max(|r_i| - tau, 0) + c * f``. Where that succeeds
      within tau, tau falls to 0.9 times the norm; where it fails for `steps` steps, c doubles.

    The closest of all fooling iterates is kept, and drawn in by bisection at the end.

    Where this differs from the paper: tanh is stretched by 1 % so that pixels of exactly 0 and 1
    can move; c is searched by factors of ten and then on a logarithmic scale; rows do not stop
    early. In l-inf the classifier is asked about r clipped to tau, because Adam swings about the
    bound and would meet it by luck only; a tau that fails with c doubled twice is given up for the
    middle between it and the best norm, where the paper would stop; and `steps` is small, because
    a search ends as soon as it succeeds.

    Args:
        ball: `l2` or `linf`.
        searches: 9 in l2, 20 in l-inf; in l-inf only ``searches * steps`` matters as a total.
        steps: of one search; 1000 in l2, 50 in l-inf.
        step_size: of Adam in w, whose change is about twice the pixel's. In l2 the authors' 0.01,
            larger for less than 500 steps (``5 / steps``): with theirs so few barely move a black
            pixel. In l-inf 0.02.
        initial_c: the first c, per logit (1e-3 in the authors' code). By default it is read off the
            clean image's margin and gradient, so that the logits' scale does not matter; in l-inf
            one far below that leaves too few steps.
        confidence: how far ahead the loss must be to count as success (kappa), in logits.
        loss: `losses.margin`; ``losses.targeted(losses.margin)`` for success at the class in the
            label slot only.
        name: in tables; ``"cw-<searches>x<steps>"`` by default.

    Returns:
        A minimum-norm `Attack`; it costs ``searches * steps`` gradients and 9 forward passes.

    Raises:
        InputError: another ball, or settings that are not positive.

    Example:
        >>> import jaxdefense as jd
        >>> carlini_wagner(jd.l2, searches=5, steps=100).cost
        Cost(gradients=500, forwards=9)
    """
    check_ball("carlini_wagner", ball, tuple(_DEFAULTS), "use fmn or fab, which work in l1")
    usual = _DEFAULTS[ball.name]
    searches = usual[0] if searches is None else searches
    steps = usual[1] if steps is None else steps
    if searches < 1 or steps < 1:
        raise InputError(
            f"carlini_wagner needs searches >= 1 and steps >= 1, got {searches} and {steps}"
        )
    if step_size is None:
        step_size = max(0.01, 5 / steps) if ball.name == "l2" else 0.02
    if not step_size > 0 or (initial_c is not None and not initial_c > 0) or confidence < 0:
        raise InputError(
            f"carlini_wagner needs step_size > 0, initial_c > 0 and confidence >= 0, got "
            f"{step_size}, {initial_c} and {confidence}: 0.01 is a usual step"
        )
    build = _l2 if ball.name == "l2" else _linf
    search = build(steps, step_size, initial_c, confidence)
    return minimum_norm(name or f"cw-{searches}x{steps}", search, searches * steps, ball, loss)


# Far below optax's 1e-8: what it divides is the size of a perturbation's pixel at most.
_ADAM = optax.scale_by_adam(eps=1e-12)


def _settled(start: Flags, adam: PyTree, w: Images) -> PyTree:
    """Adam's state, fresh where a search starts."""
    return jax.tree.map(lambda new, old: where(start, new, old), jax.vmap(_ADAM.init)(w), adam)


class _L2(NamedTuple):
    w: Images
    adam: PyTree
    weight: penalty.Weight


@functools.cache
def _l2(steps: int, step_size: float, initial_c: float | None, confidence: float) -> Search:
    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        w = penalty.unbounded(x)
        return begin(x, _L2(w, jax.vmap(_ADAM.init)(w), penalty.unweighted(len(x))))

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        w, adam, weight = state.inner
        reading, gradient = penalty.confident(probe, confidence).differentiate(keys, state.x, goal)
        state = closest(l2, state, x, state.x, reading)
        unit = penalty.dual(l2, gradient)
        # What puts the minimum on the boundary of a linear classifier.
        exact = 2.0 * penalty.distance(reading, unit, x)
        weight = penalty.weigh(weight, unit, exact, initial_c)
        downhill = 2.0 * (state.x - x) + penalty.hinge(reading, gradient, weight, confidence)
        update, adam = jax.vmap(_ADAM.update)(downhill * penalty.slope(w), adam)
        w = penalty.descend(w, step_size * update)
        weight = weight._replace(won=weight.won | reading.fooled, made=weight.made + 1)
        ending = weight.made >= steps
        # A search starts at the image itself, bit for bit, not at what tanh makes of it.
        point = where(ending, x, penalty.image(w))
        w = where(ending, penalty.unbounded(x), w)
        inner = _L2(w, _settled(ending, adam, w), penalty.narrow(weight, ending))
        return state._replace(x=point, inner=inner)

    return _drawn_in(l2, init, step, f"{steps=} {step_size=} {initial_c=}", confidence)


class _Linf(NamedTuple):
    w: Images
    adam: PyTree
    weight: penalty.Weight
    tau: PerExample
    failed: PerExample  # the largest tau given up
    doubled: jax.Array  # how often c has doubled for this tau


@functools.cache
def _linf(steps: int, step_size: float, initial_c: float | None, confidence: float) -> Search:
    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        w, count = penalty.unbounded(x), len(x)
        wide, none, never = jnp.ones(count), jnp.zeros(count), jnp.zeros(count, jnp.int32)
        adam = jax.vmap(_ADAM.init)(w)
        return begin(x, _Linf(w, adam, penalty.unweighted(count), wide, none, never))

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        w, adam, weight, tau, failed, doubled = state.inner
        reading, gradient = penalty.confident(probe, confidence).differentiate(keys, state.x, goal)
        state = closest(linf, state, x, state.x, reading)
        # Outside tau the penalty's slope is 1: half of that keeps the steepest pixel inside.
        unit = jnp.abs(gradient).max((1, 2, 3))
        weight = penalty.weigh(
            weight, jnp.where(unit > 0, unit, 1.0), jnp.full_like(tau, 0.5), initial_c
        )
        moved = penalty.image(w) - x
        beyond = jnp.sign(moved) * (jnp.abs(moved) > expand(tau))
        downhill = beyond + penalty.hinge(reading, gradient, weight, confidence)
        update, adam = jax.vmap(_ADAM.update)(downhill * penalty.slope(w), adam)
        w = penalty.descend(w, step_size * update)

        # state.x lies within tau, so that fooling there is the paper's success.
        made = weight.made + 1
        ending = reading.fooled | (made >= steps)
        vain = ending & ~reading.fooled
        given_up = vain & state.fooled & (doubled >= _DOUBLINGS)
        harder = vain & ~given_up
        failed = jnp.where(given_up, jnp.maximum(failed, tau), failed)
        norm = linf.norm(state.best - x)
        tighter = jnp.maximum(_SHRINK * norm, 0.5 * (norm + failed))
        tau = jnp.where(reading.fooled | given_up, tighter, tau)
        back = jnp.exp2(-jnp.minimum(doubled, _DOUBLINGS).astype(x.dtype))
        factor = jnp.where(harder, 2.0, jnp.where(given_up, back, 1.0))
        weight = weight._replace(
            c=jnp.clip(weight.c * factor, 1e-30, 1e30), made=jnp.where(ending, 0, made)
        )
        doubled = jnp.where(ending, jnp.where(harder, doubled + 1, 0), doubled)
        # Until something fools, best is the point that came nearest to it.
        w = where(ending, penalty.unbounded(state.best), w)
        point = linf.project(x, penalty.image(w), tau)
        inner = _Linf(w, _settled(ending, adam, w), weight, tau, failed, doubled)
        return state._replace(x=point, inner=inner)

    return _drawn_in(linf, init, step, f"{steps=} {step_size=} {initial_c=}", confidence)


def _drawn_in(ball: Ball, init, step, settings: str, confidence: float) -> Search:
    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        return draw_in(keys, penalty.confident(probe, confidence), state, x, goal, ball, _HALVINGS)

    cost = Cost(forwards=_HALVINGS)
    settings = f"cw {settings} {confidence=} {_HALVINGS}"
    return Search(init, step, finish, finish_cost=cost, settings=settings)
