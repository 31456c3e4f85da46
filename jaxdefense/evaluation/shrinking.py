"""How rows under attack go on: at which radius, and when they have no more to gain.

A row that fools does not stop: its radius shrinks below what it needed, and the search goes on from
where it stands, until it fools no more. So one run gives an upper bound on each row's distance that
is close to the least radius at which the attack succeeds, for few steps beyond the first success.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdefense.attacks.search import Goal, Stage, State, begin, where
from jaxdefense.geometry import Ball
from jaxdefense.typing import Flags, Images, Keys, Labels, PerExample, Radii

# Give up on a row that has fooled after so many radii in turn at which it did not again.
_TRIES = 3
# Of the radius that fooled last: how far one shrinking goes at least and at most.
_LEAST, _MOST = 0.95, 0.4
# A row stops where its margin would vanish at more than this many times the next radius below.
_HOPE = 1.15
_ROUND = 1 - 2e-6


class Job(NamedTuple):
    """What is to be done in each slot; every leaf ``[b, ...]``.

    Attributes:
        keys: of the examples.
        x, y: clean image and label.
        eps: the radius to start at.
        behind: by how much the clean image is classified correctly (margin, positive).
        shrink: whether to go on below a radius that fools; else the row stops there.
        start: where to begin instead of where the search would, where `warm`.
        warm: see there. A row that begins elsewhere makes another run than from scratch, so that
            its failure says nothing: it is given up after `limit` steps.
        limit: steps without success.
    """

    keys: Keys
    x: Images
    y: Labels
    eps: Radii
    behind: PerExample
    shrink: Flags
    start: Images
    warm: Flags
    limit: jax.Array


class Slots(NamedTuple):
    """Rows under attack.

    Attributes:
        job: what they do.
        goal, state: of the search.
        reach: the current radius.
        low: the largest radius at which a row that has fooled failed since.
        steps: made in this job; up to the first success only they prove anything.
        stale: since the last success, or the last change of radius.
        tries: radii given up since the first success.
        found: the fooling image nearest to the clean one.
        norm: of its perturbation; inf where nothing has fooled.
        going: whether the row still moves.
    """

    job: Job
    goal: Goal
    state: State
    reach: Radii
    low: Radii
    steps: jax.Array
    stale: jax.Array
    tries: jax.Array
    found: Images
    norm: PerExample
    going: Flags


class Setting(NamedTuple):
    """What a program is compiled for.

    Attributes:
        stage: whose steps are made.
        ball: whose norm is shrunk.
        patience: steps without success before another radius is tried.
        whole: make all the steps and keep what the search thinks best (minimum-norm searches, which
            have no radius).
    """

    stage: Stage
    ball: Ball
    patience: int
    whole: bool


def judge(setting: Setting, slots: Slots, state: State, radii: jax.Array) -> Slots:
    """Slots after a move: what fooled is kept, radii shrink, rows with no more to gain stop."""
    if setting.whole:
        return slots._replace(state=state, going=slots.going & (slots.steps < setting.stage.steps))
    hit, hopeless, aim, state, found, norm = _success(setting.ball, slots, state, radii)
    slots = slots._replace(found=found)
    return _ruled(setting, slots, state, radii, hit, hopeless, aim, norm)


def calm(setting: Setting, slots: Slots, state: State, radii: jax.Array) -> Slots:
    """The same where no row fools: no image is measured or copied."""
    none = jnp.zeros_like(state.fooled)
    return _ruled(setting, slots, state, radii, none, none, slots.reach, slots.norm)


def _ruled(setting, slots, state, radii, hit, hopeless, aim, norm) -> Slots:
    stale = jnp.where(hit, 0, slots.stale + 1)
    tired = jnp.isfinite(norm) & (stale >= setting.patience)
    low = jnp.where(tired, slots.reach, slots.low)
    reach = jnp.where(hit, aim, jnp.where(tired, 0.5 * (slots.reach + norm), slots.reach))
    tries = slots.tries + tired
    below = _below(norm, radii)
    over = jnp.where(
        jnp.isfinite(norm),
        ~slots.job.shrink | (below <= low) | hopeless | (tries >= _TRIES),
        slots.steps >= slots.job.limit,
    )
    return slots._replace(
        state=state,
        reach=reach,
        low=low,
        stale=jnp.where(tired, 0, stale),
        tries=tries,
        norm=norm,
        going=slots.going & ~over,
    )


def _below(norm: PerExample, radii: jax.Array) -> PerExample:
    """The next radius of interest below; what lies within rounding of one is at it."""
    return jnp.where(radii[None] < norm[:, None] * _ROUND, radii[None], 0.0).max(-1)


def _success(ball: Ball, slots: Slots, state: State, radii: jax.Array) -> tuple:
    """Which rows hit, which have no more to gain, the next radii; state, finds and norms then."""
    x = slots.job.x
    norm = ball.norm(state.best - x)
    hit = state.fooled & (norm < slots.norm)
    found, norm = where(hit, state.best, slots.found), jnp.where(hit, norm, slots.norm)
    # If the margin grew evenly with the radius, this is where it would have passed zero.
    behind = slots.job.behind
    share = behind / (behind + jnp.maximum(state.ahead, 0.0))
    hopeless = hit & (share * norm > _HOPE * _below(norm, radii))
    aim = jnp.maximum(norm * jnp.clip(share, _MOST, _LEAST), 0.5 * (slots.low + norm))
    fresh = begin(x)  # so that the next success shows
    state = state._replace(
        # The next point to be read was made for the old radius.
        x=where(hit, ball.project(x, state.x, jnp.where(hit, aim, slots.reach)), state.x),
        best=where(hit, fresh.best, state.best),
        ahead=jnp.where(hit, fresh.ahead, state.ahead),
        fooled=jnp.where(hit, fresh.fooled, state.fooled),
    )
    return hit, hopeless, aim, state, found, norm
