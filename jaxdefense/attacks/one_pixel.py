"""One-pixel attack: differential evolution over the positions and colours of a few pixels."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.search import (
    Cost,
    Goal,
    Probe,
    Search,
    Stage,
    State,
    begin,
    keep,
)
from jaxdefense.errors import InputError
from jaxdefense.losses import margin
from jaxdefense.pixels import l0
from jaxdefense.typing import Images, Keys, Loss, Radii

# The share of the difference of two candidates that is added to a third (F in the paper).
_SHARE = 0.5


def one_pixel(
    pixels: int = 1,
    population: int = 100,
    generations: int = 40,
    *,
    loss: Loss = margin,
    name: str | None = None,
) -> Attack:
    """One-pixel attack (Su et al. 2019, arXiv 1710.08864): differential evolution.

    A candidate is a position and a colour for each of `pixels` pixels. Every generation makes a
    child ``a + 0.5 (b - c)`` (equation 3) for each candidate from three others; it takes its place
    unless its loss is lower. It needs no gradients.

    Where we differ: the loss is the margin, where the paper lowers the probability of the true
    class, which saturates for confident networks; colours start uniform in [0, 1], with as many
    channels as the image has; children that leave the image or the colours' range are brought back
    to the edge. The paper runs 400 candidates for 100 generations.

    Args:
        pixels: how many may change. In the l0 ball eps is a number of pixels too: an example gets
            ``min(pixels, floor(eps))``.
        population: candidates, at least 4.
        generations: of children.
        loss: ascended; with `losses.targeted` the label slot holds the targets.
        name: in tables; ``"one-pixel"``, or ``"<pixels>-pixel"``, by default.

    Returns:
        An `Attack` without gradients in the l0 ball; it costs ``population * (generations + 1)``
        forward passes.

    Raises:
        InputError: no pixel or generation, or fewer than 4 candidates.

    Example:
        >>> one_pixel(population=10, generations=5).cost
        Cost(gradients=0, forwards=60)
    """
    if pixels < 1 or generations < 1 or population < 4:
        raise InputError(
            "one_pixel needs at least 1 pixel, 1 generation and a population of 4 (a child has "
            f"three parents besides the one it replaces), got {pixels}, {generations} and "
            f"{population}"
        )
    search = _search(pixels, population)
    name = name or ("one-pixel" if pixels == 1 else f"{pixels}-pixel")
    return Attack(name, (Stage(search, generations, loss),), l0)


class _Population(NamedTuple):
    """Candidates ``[b, n, pixels, 2 + c]`` (row, column, colour; in [0, 1]) and their losses."""

    candidates: jax.Array
    losses: jax.Array


@functools.cache
def _search(pixels: int, population: int) -> Search:
    def trial(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii, index):
        """The state after reading one candidate of `candidates`, and its loss."""
        candidates = state.inner.candidates
        point = jax.vmap(_paint)(x, candidates[:, index], eps)
        draw = jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)
        reading = probe.read(draw, point, goal)
        loss = jnp.where(jnp.isnan(reading.loss), -jnp.inf, reading.loss)
        return keep(state, point, reading), loss

    def contest(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii, new):
        """Reads new candidates, each of which may take its predecessor's place."""

        def one(index, carry):
            state, losses = carry
            state, loss = trial(keys, probe, state, x, goal, eps, index)
            return state, losses.at[:, index].set(loss)

        old = state.inner
        state = state._replace(inner=_Population(new, old.losses))
        state, losses = jax.lax.fori_loop(0, population, one, (state, old.losses))
        better = losses >= old.losses  # ties too, so that plateaus are crossed
        chosen = jnp.where(better[:, :, None, None], new, old.candidates)
        inner = _Population(chosen, jnp.where(better, losses, old.losses))
        return state._replace(x=state.best, inner=inner)

    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        shape = (population, pixels, 2 + x.shape[3])
        new = jax.vmap(lambda key: jax.random.uniform(key, shape, x.dtype))(keys)
        nothing = _Population(new, jnp.full((len(x), population), -jnp.inf))
        return contest(keys, probe, begin(x, nothing), x, goal, eps, new)

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        children = jax.vmap(_children)(keys, state.inner.candidates)
        return contest(keys, probe, state, x, goal, eps, children)

    def finish(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        return state

    all_of_them = Cost(forwards=population)
    settings = f"{pixels=} {population=}"
    return Search(init, step, finish, all_of_them, all_of_them, Cost(), settings)


def _paint(x: jax.Array, candidate: jax.Array, eps: jax.Array) -> jax.Array:
    """The image ``[h, w, c]`` with a candidate's pixels, as many as eps allows."""
    limits = jnp.array(x.shape[:2])
    places = jnp.floor(candidate[:, :2] * limits[None]).astype(jnp.int32)
    places = jnp.minimum(places, limits[None] - 1)
    for index in range(len(candidate)):
        row, column = places[index]
        colour = jnp.where(index + 1 <= eps, candidate[index, 2:], x[row, column])
        x = x.at[row, column].set(colour)
    return x


def _children(key: jax.Array, candidates: jax.Array) -> jax.Array:
    """One child for each candidate, of three others, all different."""
    count = len(candidates)

    def child(key, index):
        shifts = jax.random.choice(key, count - 1, (3,), replace=False) + 1
        a, b, c = candidates[(index + shifts) % count]
        return jnp.clip(a + _SHARE * (b - c), 0.0, 1.0)

    return jax.vmap(child)(jax.random.split(key, count), jnp.arange(count))
