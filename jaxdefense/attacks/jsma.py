"""The Jacobian-based saliency map attack: few pixels, changed as far as they go."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdefense import losses
from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.minimum import closest, minimum_norm
from jaxdefense.attacks.probe import Goal, Probe
from jaxdefense.attacks.search import Cost, Search, State, begin, where
from jaxdefense.attacks.targets import Chooser, ranked
from jaxdefense.checks import check_ball
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball
from jaxdefense.pixels import l0
from jaxdefense.typing import Images, Keys, Labels, Logits, PerExample, Radii


def jsma(
    ball: Ball = l0,
    theta: float = 1.0,
    steps: int = 100,
    *,
    target: Chooser | None = ranked(1),  # noqa: B008
    name: str | None = None,
) -> Attack:
    """Jacobian-based saliency map attack (Papernot et al. 2016, arXiv 1511.07528, algorithm 3).

    Each step changes the pixel of largest saliency: a channel counts if it raises the target's
    logit and lowers the others together, and the saliency is the product of the two (eq. 8 for
    rising and eq. 9 for falling channels). Changed channels leave the search at their bound.

    Where this differs from the paper: a step changes one pixel, all its channels, where the paper
    takes the best pair of features, whose search grows with the square of their number; rising and
    falling channels are allowed together, where the paper takes one sign for a run; saliencies are
    weighed by the way a channel can go, which is the same for all in the paper's black and white
    digits; where no channel has a saliency, the rise of the target's logit over the others' mean
    stands in, instead of giving up. Once it has succeeded, the steps left over take back pixels
    that turn out not to be needed.

    Args:
        ball: `pixels.l0` only.
        theta: how far a step moves a channel, at most; 1.0 takes it to the bound.
        steps: pixels changed, and taken back, at most.
        target: which class it goes towards, where any wrong class counts as success: the most
            likely wrong class by default (`targets.multi_targeted` tries several). None: the class
            in the label slot, and only that is success.
        name: in tables; ``"jsma-<steps>"`` by default.

    Returns:
        A minimum-norm `Attack` whose norm is the number of pixels changed; it costs ``2 * steps``
        gradients and 2 forward passes, and one more for finding a target.

    Raises:
        InputError: another ball, theta outside (0, 1], or steps below 1.

    Example:
        >>> jsma(steps=40).cost
        Cost(gradients=80, forwards=3)
    """
    check_ball("jsma", ball, ("l0",), "it counts changed pixels")
    if not 0 < theta <= 1 or steps < 1:
        raise InputError(
            f"jsma needs theta in (0, 1] and steps >= 1, got {theta} and {steps}: theta is how far "
            "a channel moves, in units of the range of pixels"
        )
    return minimum_norm(name or f"jsma-{steps}", _search(theta), steps, l0, _TOWARDS, target)


def _falling(logits: Logits, slot: Labels) -> PerExample:
    """Minus the logit of the class in the slot; in slot ``-1 - t``, minus the mean of all but t."""
    own = jax.nn.one_hot(jnp.where(slot < 0, -1 - slot, slot), logits.shape[-1])
    others = (1.0 - own) / (logits.shape[-1] - 1)
    return -(jnp.where(slot[:, None] < 0, others, own) * logits).sum(-1)


# A targeted loss, so that without a chooser the label slot holds the targets.
_TOWARDS = losses.targeted(_falling)


class _Inner(NamedTuple):
    closed: Images  # channels that have been taken to their bound
    kept: jax.Array  # pixels that could not be taken back, or not again, [b, h, w]


@functools.cache
def _search(theta: float) -> Search:
    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        return begin(x, _Inner(jnp.zeros(x.shape, bool), jnp.zeros(x.shape[:3], bool)))

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        reading, rise = probe.differentiate(keys, state.x, goal)
        others = goal._replace(slot=-1 - goal.slot)
        _, fall = probe.differentiate(keys, state.x, others)
        state = closest(l0, state, x, state.x, reading)

        add, closed = _add(state.x, rise, fall, theta, state.inner.closed)
        less, kept = _take_back(state.best, x, rise - fall, state.inner.kept)
        inner = _Inner(where(state.fooled, state.inner.closed, closed),
                       where(state.fooled, kept, state.inner.kept))  # fmt: skip
        return state._replace(x=where(state.fooled, less, add), inner=inner)

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        return closest(l0, state, x, state.x, probe.read(keys, state.x, goal))

    return Search(init, step, finish, step_cost=Cost(gradients=2), settings=f"jsma {theta=}")


def _scaled(gradient: Images) -> Images:
    largest = jnp.abs(gradient).max((1, 2, 3), keepdims=True)
    return gradient / jnp.where(largest > 0, largest, 1.0)


def _one(value: jax.Array) -> jax.Array:
    """The first of the largest of each row, if that is above 0, as a mask ``[b, h, w]``."""
    flat = value.reshape(len(value), -1)
    first = jax.nn.one_hot(flat.argmax(-1), flat.shape[-1], dtype=bool) & (flat > 0)
    return first.reshape(value.shape)


def _add(
    x: Images, rise: Images, fall: Images, theta: float, closed: Images
) -> tuple[Images, Images]:
    """The image with its most salient pixel changed, and the channels that are done with."""

    def way(direction: Images) -> Images:
        room = jnp.where(direction > 0, 1.0 - x, jnp.where(direction < 0, x, 0.0))
        return jnp.where(closed, 0.0, jnp.minimum(room, theta))

    salient = jnp.where(jnp.sign(rise) * jnp.sign(fall) < 0, jnp.sign(rise), 0.0)
    gains = [(jnp.abs(_scaled(part)) * way(salient)).sum(-1) for part in (rise, fall)]
    saliency = jnp.sqrt(gains[0]) * jnp.sqrt(gains[1])
    # Where no channel helps both ways.
    over = _scaled(rise - fall)
    spare = (jnp.abs(over) * way(over)).sum(-1)
    none = saliency.max((1, 2)) == 0
    chosen = _one(where(none, spare, saliency))[..., None]
    direction = where(none, jnp.sign(over), salient)
    length = jnp.where(chosen, way(direction), 0.0)
    moved = jnp.clip(x + direction * length, 0.0, 1.0)
    full = jnp.where(direction > 0, moved >= 1.0, moved <= 0.0)
    return moved, closed | (chosen & (direction != 0) & full)


def _take_back(
    best: Images, x: Images, gradient: Images, kept: jax.Array
) -> tuple[Images, jax.Array]:
    """The best without the pixel that seems to be needed least, each tried once."""
    changed = (best != x).any(-1) & ~kept
    worth = (_scaled(gradient) * (best - x)).sum(-1)
    # Above 0 and falling with the worth, whose scale does not matter.
    value = jnp.where(changed, 2.0 - jnp.tanh(_scaled(worth[..., None])[..., 0]), 0.0)
    chosen = _one(value)
    return jnp.where(chosen[..., None], x, best), kept | chosen
