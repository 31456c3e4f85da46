"""What attacks share that weigh a penalty for not fooling against the norm of a perturbation.

Carlini and Wagner's attacks and L-BFGS minimise ``size + c * penalty`` for one weight c after
another. Each row counts its own steps, so that where one search ends and the next begins is its
own matter.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdefense.attacks.probe import Goal, Probe, Reading
from jaxdefense.geometry import Ball, expand
from jaxdefense.typing import Flags, Images, Keys, PerExample

_MOST = 1e30


class Weight(NamedTuple):
    """Where each row stands in its search for the smallest weight with which it succeeds.

    Attributes:
        c: the weight in use, of penalties measured in units of `unit`.
        low: the largest that failed, 0 where none has.
        high: the smallest that succeeded, infinite where none has.
        won: whether the search under way has succeeded.
        unit: size of the loss's gradient at the clean image; with it, scaling the logits changes
            nothing and a tiny gradient does not drown.
        made: steps of the search under way.
        started: whether the clean image has been read.
    """

    c: PerExample
    low: PerExample
    high: PerExample
    won: Flags
    unit: PerExample
    made: jax.Array
    started: Flags


def unweighted(count: int) -> Weight:
    """Before anything is known."""
    ones, none, no = jnp.ones(count), jnp.zeros(count), jnp.zeros(count, bool)
    return Weight(ones, none, ones * jnp.inf, no, ones, jnp.zeros(count, jnp.int32), no)


def dual(ball: Ball, gradient: Images) -> PerExample:
    """How steep a loss is: its rise per length in the ball's norm (l2 or l-inf); 1 where flat.

    Scaled first, because squaring a tiny gradient underflows.
    """
    size = jnp.abs(gradient).reshape(len(gradient), -1)
    largest = jnp.where(size.max(-1) > 0, size.max(-1), 1.0)
    scaled = size / largest[:, None]
    rise = scaled.sum(-1) if ball.name == "linf" else jnp.sqrt((scaled**2).sum(-1))
    return jnp.where(rise > 0, largest * rise, 1.0)


def weigh(weight: Weight, unit: PerExample, first: PerExample, initial_c: float | None) -> Weight:
    """The weight to begin with, on each row's first step: `first`, or `initial_c` per logit."""
    c = first if initial_c is None else initial_c * unit
    c = jnp.clip(c, 1.0 / _MOST, _MOST)
    return weight._replace(
        c=jnp.where(weight.started, weight.c, c),
        unit=jnp.where(weight.started, weight.unit, unit),
        started=jnp.ones_like(weight.started),
    )


def distance(reading: Reading, unit: PerExample, x: Images) -> PerExample:
    """How far the boundary is where the loss is linear, at most across the whole box."""
    return jnp.clip(jnp.nan_to_num(-reading.loss / unit), 1e-3, x[0].size ** 0.5)


def narrow(weight: Weight, ending: Flags) -> Weight:
    """The next weight where a search ends: tenfold or a tenth until the right one is bracketed,
    then the middle on a logarithmic scale, since it is unknown by orders of magnitude."""
    high = jnp.where(weight.won, jnp.minimum(weight.high, weight.c), weight.high)
    low = jnp.where(weight.won, weight.low, jnp.maximum(weight.low, weight.c))
    bounded = jnp.isfinite(high)
    between = jnp.sqrt(low) * jnp.sqrt(jnp.where(bounded, high, 0.0))
    c = jnp.where(bounded, jnp.where(low > 0, between, high / 10.0), low * 10.0)
    c = jnp.clip(c, 1.0 / _MOST, _MOST)
    return weight._replace(
        c=jnp.where(ending, c, weight.c),
        low=jnp.where(ending, low, weight.low),
        high=jnp.where(ending, high, weight.high),
        won=weight.won & ~ending,
        made=jnp.where(ending, 0, weight.made),
    )


def confident(probe: Probe, confidence: float) -> Probe:
    """The probe to which only a loss of at least `confidence` is a success."""
    if not confidence:
        return probe

    def sure(reading: Reading) -> Reading:
        return reading._replace(fooled=reading.fooled & (reading.loss >= confidence))

    def read(keys: Keys, x: Images, goal: Goal) -> Reading:
        return sure(probe.read(keys, x, goal))

    def differentiate(keys: Keys, x: Images, goal: Goal) -> tuple[Reading, Images]:
        reading, gradient = probe.differentiate(keys, x, goal)
        return sure(reading), gradient

    return probe._replace(read=read, differentiate=differentiate)


def hinge(reading: Reading, gradient: Images, weight: Weight, confidence: float) -> Images:
    """Gradient of ``c * max(confidence - loss, 0)``, Carlini and Wagner's f6.

    A row that is ahead by no more than rounding has not fooled yet and goes on.
    """
    going = ~reading.fooled | (reading.loss < confidence)
    return -expand(jnp.where(going, weight.c / weight.unit, 0.0)) * gradient


# Their tanh, stretched so that 0 and 1 are reached at a finite w and with a slope: unstretched, a
# black or white pixel stands at infinity and never moves. Closer to 1 such pixels are slower.
_STRETCH = 0.99


def image(w: Images) -> Images:
    """The image in [0, 1] that the unbounded variable w stands for."""
    return jnp.clip(0.5 + (0.5 / _STRETCH) * jnp.tanh(w), 0.0, 1.0)


def unbounded(x: Images) -> Images:
    """The inverse of `image`; finite at 0 and 1 too."""
    return jnp.arctanh(_STRETCH * (2.0 * x - 1.0))


def descend(w: Images, update: Images) -> Images:
    """A step of w that ends where `image` would leave [0, 1], so that a pixel can come back."""
    limit = jnp.arctanh(jnp.asarray(_STRETCH, w.dtype))
    return jnp.clip(w - update, -limit, limit)


def slope(w: Images) -> Images:
    """Derivative of `image`; positive up to the very bounds."""
    return (0.5 / _STRETCH) * (1.0 - jnp.tanh(w) ** 2)
