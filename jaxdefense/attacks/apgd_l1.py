"""The l1 search of Auto-PGD: sparse steps that adapt to the sparsity found so far."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.attacks.probe import Goal, Probe
from jaxdefense.attacks.search import Cost, Search, State, begin, keep, where
from jaxdefense.geometry import expand, l1
from jaxdefense.typing import Flags, Images, Keys, PerExample, Radii

_FIRST_PERCENT = 20
_WINDOW = 0.04
_FLOOR = 0.1
# Rounding may leave a pixel that was projected onto the box this far inside.
_AT_BOX = 1e-6
_RADII = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))


class Peak(NamedTuple):
    """The iterate of the highest loss so far, with the loss and the gradient read there."""

    x: Images
    gradient: Images
    loss: PerExample


def higher(new: Peak, old: Peak, always: Flags | bool = False) -> Peak:
    """The one of the higher loss; `new` where `always`, or where the old loss was no number."""
    better = (new.loss > old.loss) | jnp.isnan(old.loss) | always
    return Peak(*(where(better, a, b) for a, b in zip(new, old, strict=True)))


class Sparse(NamedTuple):
    """What the l1 search keeps.

    Attributes:
        gradient: of the loss at the current iterate.
        peak: the highest loss of this phase.
        moves: how many pixels a step moves.
        changed: how many pixels the peak had changed at the last check.
        size: of the steps, as a multiple of the phase's radius.
        made: steps so far.
    """

    gradient: Images
    peak: Peak
    moves: jax.Array
    changed: jax.Array
    size: PerExample
    made: jax.Array


class Schedule(NamedTuple):
    """For the start and each step: the radius in multiples of eps, whether it begins a phase, and
    whether it ends a window."""

    radius: np.ndarray
    begins: np.ndarray
    checks: np.ndarray


def schedule(steps: int, large_radii: bool) -> Schedule:
    """Radii 3 eps, 2 eps and eps for 30, 30 and 40 % of the steps, with windows of 4 %."""
    radius, begins, checks = (
        np.ones(steps + 1),
        np.zeros(steps + 1, bool),
        np.zeros(steps + 1, bool),
    )
    phases = _RADII if large_radii else _RADII[-1:]
    window, start = max(int(_WINDOW * steps), 1), 0
    for factor, share in phases:
        stop = steps + 1 if factor == 1 else start + int(share * steps)
        radius[start:stop] = factor
        checks[start + window : stop : window] = True
        begins[start : min(start + 1, stop)] = start > 0
        start = stop
    return Schedule(radius.astype(np.float32), begins, checks)


@functools.cache
def search_l1(steps: int, random_start: bool, large_radii: bool) -> Search:
    """The inside of ``apgd(l1)``; what it does and why is told there."""
    plan = schedule(steps, large_radii)

    def point_in(x: Images, point: Images, eps: Radii, made: jax.Array) -> Images:
        return l1.project(x, point, _radius(plan, x, eps, made))

    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        made, pixels = jnp.zeros(len(x), jnp.int32), x[0].size
        start = x
        if random_start:
            noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
            start = point_in(x, x + noise, eps, made)
        reading, gradient = probe.differentiate(keys, start, goal)
        inner = Sparse(
            gradient,
            Peak(start, gradient, reading.loss),
            moves=jnp.full_like(made, -(-pixels * _FIRST_PERCENT // 100)),
            changed=jnp.full_like(made, pixels),
            size=jnp.ones(len(x), x.dtype),
            made=made,
        )
        if random_start and large_radii:
            changed = _changed(start, x)
            inner = inner._replace(moves=_moves(changed), changed=changed)
        return _keep_at_last(begin(start, inner), start, reading, plan, made)

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        inner = state.inner
        made = inner.made + 1
        begins, checks = (jnp.asarray(table)[made] for table in (plan.begins, plan.checks))
        length = inner.size * _radius(plan, x, eps, made)
        moved = state.x + expand(length) * _direction(inner.gradient, state.x, inner.moves)
        # A phase starts where the one before it got highest, drawn into the smaller ball.
        point = point_in(x, where(begins, inner.peak.x, moved), eps, made)
        reading, gradient = probe.differentiate(keys, point, goal)
        state = _keep_at_last(state, point, reading, plan, made)
        peak = higher(Peak(point, gradient, reading.loss), inner.peak, always=begins)

        changed = _changed(peak.x, x)
        back = checks & (20 * changed < 19 * inner.changed)
        shorter = jnp.maximum(inner.size / 1.5, _FLOOR)
        size = jnp.where(begins | back, 1.0, jnp.where(checks, shorter, inner.size))
        told = begins | checks
        return state._replace(
            x=where(back, peak.x, point),
            inner=Sparse(
                where(back, peak.gradient, gradient),
                peak,
                jnp.where(told, _moves(changed), inner.moves),
                jnp.where(told, changed, inner.changed),
                size,
                made,
            ),
        )

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        return state

    settings = f"apgd l1 {steps=} {random_start=} {large_radii=}"
    return Search(init, step, finish, Cost(gradients=1), Cost(gradients=1), Cost(), settings)


def _radius(plan: Schedule, x: Images, eps: Radii, made: jax.Array) -> Radii:
    return jnp.asarray(plan.radius)[made] * jnp.minimum(eps, l1.norm(jnp.ones_like(x)))


def _keep_at_last(state: State, point: Images, reading, plan: Schedule, made: jax.Array) -> State:
    """Only in the last phase does a point lie in the ball that was asked for."""
    last = jnp.asarray(plan.radius)[made] == 1.0
    ahead = jnp.where(last, reading.ahead, -jnp.inf)
    return keep(state, point, reading._replace(fooled=reading.fooled & last, ahead=ahead))


def _changed(point: Images, x: Images) -> jax.Array:
    """How many pixels differ."""
    return (point != x).reshape(len(x), -1).sum(-1)


def _moves(changed: jax.Array) -> jax.Array:
    """That number over 1.5, rounded up; in integers, so that it never hangs on a rounding error."""
    return jnp.maximum((2 * changed + 2) // 3, 1)


def _direction(gradient: Images, point: Images, moves: jax.Array) -> Images:
    """Equal steps in as many pixels as told, those with the largest gradients; l1 norm 1.

    Pixels at the box that would leave it are passed over: they would use up the number.
    """
    low, high = point <= _AT_BOX, point >= 1.0 - _AT_BOX
    blocked = (low & (gradient < 0)) | (high & (gradient > 0))
    flat = jnp.where(blocked, 0.0, gradient).reshape(len(gradient), -1)
    pixels = flat.shape[-1]
    least = jnp.clip(pixels - moves, 0, pixels - 1)
    threshold = jnp.take_along_axis(jnp.sort(jnp.abs(flat), -1), least[:, None], -1)
    chosen = jnp.where(jnp.abs(flat) >= threshold, jnp.sign(flat), 0.0)
    number = jnp.maximum(jnp.abs(chosen).sum(-1, keepdims=True), 1.0)
    return (chosen / number).reshape(gradient.shape)
