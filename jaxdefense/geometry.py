"""Balls around images: the l-inf, l2 and l1 norms as records of five pure functions.

All functions are per example: images ``[b, h, w, c]``, radii ``[b]``, keys ``[b]``. `project` is
the exact Euclidean projection onto ball and box together, not one after the other: clipping an
l2 or l1 projection to [0, 1] afterwards gives part of the budget away.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.typing import Images, Keys, PerExample, Radii

_ROUNDS = 64  # of an exact search that takes less than ten as a rule
_MOST = 1e30  # so that nothing overflows
_EDGE = 1e-6  # pixels this near to 0 or 1 are at it


class Ball(NamedTuple):
    """A norm ball in the space of images; `linf`, `l2` and `l1` are the three there are.

    Attributes:
        name: ``"linf"``, ``"l2"`` or ``"l1"``.
        norm: perturbations -> norms ``[b]``.
        sample: (keys, images, eps) -> perturbations uniform in the ball (box not applied).
        steepest: (gradient, images, length) -> the perturbation of norm at most `length` that
            raises a linear function most. In l2 and l1 it wastes nothing on pixels that would leave
            [0, 1] at once, and in l1 it goes on to the next pixel where one is full.
        reach: (gradient, images, amount) -> the perturbation of least norm inside [0, 1] that
            raises the linear function of that gradient by `amount` >= 0, as far as the box allows.
        project: (images, points, eps) -> the nearest point of ball(images, eps) and [0, 1].
        slack: pixels per image -> how far float32 rounding alone can carry the norm outside.
    """

    name: str
    norm: Callable[[Images], PerExample]
    sample: Callable[[Keys, Images, Radii], Images]
    steepest: Callable[[Images, Images, Radii], Images]
    reach: Callable[[Images, Images, PerExample], Images]
    project: Callable[[Images, Images, Radii], Images]
    slack: Callable[[int], float]

    def __repr__(self) -> str:
        return self.name


def expand(values: PerExample) -> Images:
    """``[b]`` -> ``[b, 1, 1, 1]``, to meet images."""
    return values[:, None, None, None]


def within_box(ball: Ball, x: Images, eps: Radii) -> Radii:
    """The radius, at most that which spans [0, 1]: a step of infinite length leads nowhere."""
    return jnp.minimum(eps, ball.norm(jnp.ones_like(x)))


def _flat(x: Images) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def _blocked(gradient: Images, x: Images) -> jax.Array:
    # Beside the box counts as at it, because rounding differs between batch sizes.
    return ((x < _EDGE) & (gradient < 0)) | ((x > 1.0 - _EDGE) & (gradient > 0))


def _movable(gradient: Images, x: Images) -> Images:
    """The gradient without the coordinates that would leave [0, 1] at once.

    Scaled to a largest entry of 1, because squaring a tiny gradient underflows to nothing and an
    attack without a direction makes any network look robust.
    """
    blocked = _blocked(gradient, x)
    gradient = jnp.where(blocked, 0.0, gradient)
    largest = expand(jnp.abs(_flat(gradient)).max(-1))
    return gradient / jnp.where(largest > 0, largest, 1.0)


class _Uphill(NamedTuple):
    """Slopes of a linear function, scaled to a largest of 1, and the room up to the box."""

    slope: Images
    room: Images
    sign: Images
    amount: PerExample


def _uphill(gradient: Images, x: Images, amount: PerExample) -> _Uphill:
    blocked = _blocked(gradient, x)
    largest = jnp.abs(_flat(jnp.where(blocked, 0.0, gradient))).max(-1)
    amount = jnp.where(largest > 0, amount / jnp.where(largest > 0, largest, 1.0), 0.0)
    gradient = _movable(gradient, x)
    return _Uphill(
        jnp.abs(gradient), jnp.where(gradient > 0, 1.0 - x, x), jnp.sign(gradient), amount
    )


def _spread(up: _Uphill, ease: Images) -> Images:
    """The smallest ``min(scale * ease, room)`` that gains the amount, or all the room."""
    gain = lambda size: _flat(up.slope * size).sum(-1)

    def refine(carry):
        # For given pixels at the box the scale has a closed form, which only brings more there.
        scale, _, count = carry
        full = expand(scale) * ease >= up.room
        rest = gain(jnp.where(full, 0.0, ease))
        left = up.amount - gain(jnp.where(full, up.room, 0.0))
        new = jnp.where(rest > 0, jnp.minimum(left / jnp.where(rest > 0, rest, 1.0), _MOST), scale)
        return jnp.maximum(new, scale), scale, count + 1

    scale = _settle(refine, jnp.zeros_like(up.amount))
    return up.sign * jnp.minimum(expand(scale) * ease, up.room)


def _settle(refine: Callable[[tuple], tuple], start: Radii) -> Radii:
    """Repeats ``refine((new, old, count))`` as long as any row grows."""
    moving = lambda carry: (carry[0] > carry[1]).any() & (carry[2] < _ROUNDS)
    return jax.lax.while_loop(moving, refine, refine((start, start, 0)))[0]


def _keep_inside(norm, x: Images, point: Images, moved: Images, eps: Radii) -> Images:
    """`point` clipped to the box where that lies in the ball already, else `moved`; x at eps 0."""
    boxed = jnp.clip(point, 0.0, 1.0)
    inside = norm(boxed - x) <= eps
    # Solving for far points cancels digits; what that leaves outside the ball is drawn in.
    moved = moved * expand(jnp.minimum(eps / jnp.maximum(norm(moved), 1e-30), 1.0))
    result = jnp.where(expand(inside), boxed, jnp.clip(x + moved, 0.0, 1.0))
    return jnp.where(expand(eps > 0), result, x)


# --------------------------------------------------------------------------------------- l-inf


def _linf_norm(delta: Images) -> PerExample:
    return jnp.abs(_flat(delta)).max(-1)


def _linf_sample(keys: Keys, x: Images, eps: Radii) -> Images:
    draw = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:], x.dtype, -1.0, 1.0))
    return expand(eps) * draw(keys)


def _linf_steepest(gradient: Images, x: Images, length: Radii) -> Images:
    return expand(length) * jnp.sign(gradient)


@jax.jit
def _linf_reach(gradient: Images, x: Images, amount: PerExample) -> Images:
    return _spread(_uphill(gradient, x, amount), jnp.ones_like(x))


@jax.jit
def _linf_project(x: Images, point: Images, eps: Radii) -> Images:
    return jnp.clip(jnp.clip(point, x - expand(eps), x + expand(eps)), 0.0, 1.0)


# ------------------------------------------------------------------------------------------ l2


def _l2_norm(delta: Images) -> PerExample:
    return jnp.sqrt((_flat(delta) ** 2).sum(-1))


def _l2_sample(keys: Keys, x: Images, eps: Radii) -> Images:
    size = math.prod(x.shape[1:])

    def draw(key):
        direction, radius = jax.random.split(key)
        noise = jax.random.normal(direction, x.shape[1:], x.dtype)
        unit = noise / jnp.sqrt((noise**2).sum())
        return unit * jax.random.uniform(radius, (), x.dtype) ** (1.0 / size)

    return expand(eps) * jax.vmap(draw)(keys)


def _l2_steepest(gradient: Images, x: Images, length: Radii) -> Images:
    gradient = _movable(gradient, x)
    norm = expand(_l2_norm(gradient))
    return expand(length) * gradient / jnp.where(norm > 0, norm, 1.0)


@jax.jit
def _l2_reach(gradient: Images, x: Images, amount: PerExample) -> Images:
    up = _uphill(gradient, x, amount)
    return _spread(up, up.slope)


@jax.jit
def _l2_project(x: Images, point: Images, eps: Radii) -> Images:
    # The nearest point of ball and box is clip(scale * delta) for one scale in (0, 1].
    delta = point - x
    room = jnp.where(delta > 0, 1.0 - x, x)
    size = jnp.abs(delta)
    # Scaled, because squares of tiny differences would underflow.
    unit = size / expand(jnp.maximum(_flat(size).max(-1), 1e-30))

    def refine(carry):
        # For given pixels at a bound the scale has a closed form, which only brings more there.
        scale, _, count = carry
        full = expand(scale) * unit >= room
        held = (_flat(jnp.where(full, room, 0.0)) ** 2).sum(-1)
        free = (_flat(jnp.where(full, 0.0, unit)) ** 2).sum(-1)
        left = jnp.sqrt(jnp.maximum(eps**2 - held, 0.0))
        new = jnp.where(free > 0, left / jnp.sqrt(jnp.where(free > 0, free, 1.0)), scale)
        return jnp.maximum(new, scale), scale, count + 1

    scale = _settle(refine, jnp.zeros_like(eps))
    moved = jnp.sign(delta) * jnp.minimum(expand(scale) * unit, room)
    return _keep_inside(_l2_norm, x, point, moved, eps)


# ------------------------------------------------------------------------------------------ l1


def _l1_norm(delta: Images) -> PerExample:
    return jnp.abs(_flat(delta)).sum(-1)


def _l1_sample(keys: Keys, x: Images, eps: Radii) -> Images:
    def draw(key):
        # Uniform in the l1 ball: Laplace noise over its own norm plus one more exponential.
        noise, last = jax.random.split(key)
        laplace = jax.random.laplace(noise, x.shape[1:], x.dtype)
        return laplace / (jnp.abs(laplace).sum() + jax.random.exponential(last, (), x.dtype))

    return expand(eps) * jax.vmap(draw)(keys)


@jax.jit
def _l1_steepest(gradient: Images, x: Images, length: Radii) -> Images:
    # Spend the length on the largest gradient first, up to the box, then on the next.
    gradient = _movable(gradient, x)
    slope, room = _flat(jnp.abs(gradient)), _flat(jnp.where(gradient > 0, 1.0 - x, x))
    room = jnp.where(slope > 0, room, 0.0)
    order = jnp.argsort(-slope, axis=-1)
    ordered = jnp.take_along_axis(room, order, -1)
    before = jnp.cumsum(ordered, -1) - ordered
    spent = jnp.clip(length[:, None] - before, 0.0, ordered)
    rows = jnp.arange(len(x))[:, None]
    return jnp.zeros_like(slope).at[rows, order].set(spent).reshape(x.shape) * jnp.sign(gradient)


@jax.jit
def _l1_reach(gradient: Images, x: Images, amount: PerExample) -> Images:
    up = _uphill(gradient, x, amount)
    slope, room = _flat(up.slope), _flat(up.room)
    order = jnp.argsort(-slope, axis=-1)
    rise = jnp.take_along_axis(slope * room, order, -1)
    left = up.amount[:, None] - (jnp.cumsum(rise, -1) - rise)
    ordered, most = (jnp.take_along_axis(v, order, -1) for v in (slope, room))
    spent = jnp.clip(left / jnp.where(ordered > 0, ordered, 1.0), 0.0, most)
    spent = jnp.where(ordered > 0, spent, 0.0)
    rows = jnp.arange(len(x))[:, None]
    return jnp.zeros_like(slope).at[rows, order].set(spent).reshape(x.shape) * up.sign


@jax.jit
def _l1_project(x: Images, point: Images, eps: Radii) -> Images:
    # The nearest point of ball and box is clip(soft(delta, level)) for one level >= 0.
    delta = point - x
    size = jnp.abs(delta)

    room = jnp.where(delta > 0, 1.0 - x, x)

    def refine(carry):
        # Newton's method on a piecewise linear function, kept inside a bracket.
        low, high, level, _, count = carry
        left = size - expand(level)
        excess = _flat(jnp.clip(left, 0.0, room)).sum(-1) - eps
        free = _flat((left > 0) & (left < room)).sum(-1)
        low, high = jnp.where(excess > 0, level, low), jnp.where(excess > 0, high, level)
        new = level + excess / jnp.maximum(free, 1)
        new = jnp.where((free > 0) & (new >= low) & (new <= high), new, 0.5 * (low + high))
        return low, high, new, level, count + 1

    unsettled = lambda c: (jnp.abs(c[2] - c[3]) > 1e-7 * c[2]).any() & (c[4] < _ROUNDS)
    most, none = _flat(size).max(-1), jnp.zeros_like(eps)
    level = jax.lax.while_loop(unsettled, refine, refine((none, most, none, none, 0)))[2]
    return _keep_inside(
        _l1_norm, x, point, jnp.sign(delta) * jnp.clip(size - expand(level), 0.0, room), eps
    )


# Half a unit in the last place below 1 for a pixel of x_adv, as much for the norm in float32.
_ULP = 2.0**-24

linf = Ball("linf", _linf_norm, _linf_sample, _linf_steepest, _linf_reach, _linf_project,
            lambda n: 2 * _ULP)  # fmt: skip
l2 = Ball("l2", _l2_norm, _l2_sample, _l2_steepest, _l2_reach, _l2_project,
          lambda n: 2 * math.sqrt(n) * _ULP)  # fmt: skip
l1 = Ball("l1", _l1_norm, _l1_sample, _l1_steepest, _l1_reach, _l1_project,
          lambda n: 2 * n * _ULP)  # fmt: skip

BALLS: dict[str, Ball] = {ball.name: ball for ball in (linf, l2, l1)}


def norm64(ball: Ball, x: np.ndarray, x_adv: np.ndarray) -> np.ndarray:
    """Norms ``[b]`` of ``x_adv - x`` in float64 on the host: what a result is judged by."""
    delta = np.asarray(x_adv, np.float64) - np.asarray(x, np.float64)
    if ball.name == "l0":  # pixels, not channels
        return (delta != 0).any(-1).reshape(len(delta), -1).sum(-1).astype(np.float64)
    orders = {"linf": np.inf, "l2": 2, "l1": 1}
    return np.linalg.norm(delta.reshape(len(delta), -1), ord=orders[ball.name], axis=-1)


def inside64(ball: Ball, x: np.ndarray, x_adv: np.ndarray, eps: np.ndarray) -> np.ndarray:
    """Whether each x_adv is finite, in the box exactly and in the ball up to rounding, ``[b]``."""
    flat = np.asarray(x_adv).reshape(len(x_adv), -1)
    boxed = ((flat >= 0) & (flat <= 1)).all(-1)  # false for NaN as well
    limit = limit64(ball, eps, flat.shape[-1])
    return boxed & (norm64(ball, x, np.where(np.isfinite(x_adv), x_adv, 2.0)) <= limit)


def limit64(ball: Ball, eps: np.ndarray, pixels: int) -> np.ndarray:
    """The largest norm that counts as inside balls of radius `eps`, up to rounding."""
    eps = np.asarray(eps, np.float64)
    return eps * (1 + 4 * np.finfo(np.float32).eps) + ball.slack(pixels) * (eps > 0)
