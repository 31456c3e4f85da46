"""The l0 ball: how many pixels differ. Not convex, so it is not one of `geometry.BALLS`."""

import jax
import jax.numpy as jnp

from jaxdefense.geometry import Ball, expand
from jaxdefense.typing import Images, Keys, PerExample, Radii


def _changed(delta: Images) -> jax.Array:
    """Whether a pixel differs in any channel, ``[b, h, w]``."""
    return (delta != 0).any(-1)


def _largest(values: jax.Array, count: PerExample) -> Images:
    """The floor(count) pixels of largest value ``[b, h, w]``, as a mask ``[b, h, w, 1]``."""
    flat = values.reshape(len(values), -1)
    place = jnp.argsort(jnp.argsort(-flat, axis=-1), axis=-1)
    chosen = place < jnp.floor(count)[:, None]
    return chosen.reshape(values.shape)[..., None]


def uphill(gradient: Images, x: Images) -> tuple[Images, jax.Array]:
    """Each channel's way to the bound that a gradient points to, and what a pixel gains by it.

    Returns:
        Perturbations ``[b, h, w, c]`` and gains ``[b, h, w]``, for gradients scaled to a largest
        entry of 1.
    """
    largest = jnp.abs(gradient).reshape(len(gradient), -1).max(-1)
    gradient = gradient / expand(jnp.where(largest > 0, largest, 1.0))
    way = jnp.where(gradient > 0, 1.0 - x, jnp.where(gradient < 0, -x, 0.0))
    return way, (gradient * way).sum(-1)


def _norm(delta: Images) -> PerExample:
    return _changed(delta).sum((1, 2)).astype(delta.dtype)


def _sample(keys: Keys, x: Images, eps: Radii) -> Images:
    def draw(key):
        where, what = jax.random.split(key)
        return (
            jax.random.uniform(where, x.shape[1:3], x.dtype),
            jax.random.uniform(what, x.shape[1:], x.dtype),
        )

    order, values = jax.vmap(draw)(keys)
    return jnp.where(_largest(order, eps), values - x, 0.0)


def _steepest(gradient: Images, x: Images, length: Radii) -> Images:
    way, gain = uphill(gradient, x)
    return jnp.where(_largest(gain, length), way, 0.0)


def _reach(gradient: Images, x: Images, amount: PerExample) -> Images:
    largest = jnp.abs(gradient).reshape(len(gradient), -1).max(-1)
    amount = jnp.where(largest > 0, amount / jnp.where(largest > 0, largest, 1.0), 0.0)
    way, gain = uphill(gradient, x)
    flat = gain.reshape(len(x), -1)
    order = jnp.argsort(-flat, axis=-1)
    ordered = jnp.take_along_axis(flat, order, -1)
    left = amount[:, None] - (jnp.cumsum(ordered, -1) - ordered)
    # The last pixel goes only as far as it must.
    share = jnp.clip(left / jnp.where(ordered > 0, ordered, 1.0), 0.0, 1.0)
    share = jnp.where(ordered > 0, share, 0.0)
    rows = jnp.arange(len(x))[:, None]
    share = jnp.zeros_like(flat).at[rows, order].set(share).reshape(gain.shape)
    return share[..., None] * way


def _project(x: Images, point: Images, eps: Radii) -> Images:
    boxed = jnp.clip(point, 0.0, 1.0)
    moved = ((boxed - x) ** 2).sum(-1)
    return jnp.where(_largest(moved, eps), boxed, x)


l0 = Ball("l0", _norm, _sample, _steepest, _reach, _project, lambda n: 0.0)
"""Images in which at most eps pixels differ; all channels of one position count as one pixel, and
a fractional eps is rounded down.

- `sample`: floor(eps) pixels at random, with uniform values in [0, 1];
- `steepest`: the floor(length) pixels that gain most, each channel taken to the bound;
- `reach`: the fewest pixels that gain the amount;
- `project`: the floor(eps) pixels that moved most, in the box.
"""
