"""Slots: a fixed number of rows under attack, each at its own radius and step, as array programs.

A row that fools does not stop: its radius shrinks below what it needed, and the search goes on from
where it stands, until it fools no more. So one run gives an upper bound on each row's distance that
is close to the least radius at which the attack succeeds, for few steps beyond the first success.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxdefense.attacks.attack import stage_keys
from jaxdefense.attacks.search import Goal, Stage, State, begin, moves, where
from jaxdefense.classifiers import Static, apply, join
from jaxdefense.convolutions import canonicalize
from jaxdefense.evaluation.devices import by_row
from jaxdefense.geometry import Ball
from jaxdefense.hoisting import hoisted
from jaxdefense.losses import margin
from jaxdefense.typing import Flags, Images, Keys, Labels, PerExample, Radii

# Gradients of one guess.
LOOKS = 3
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


class Program(NamedTuple):
    """What the three programs below are compiled for; hashable.

    Attributes:
        setting: see there.
        static: what of the attacked function is not an array.
        mesh: devices to share the rows; None for one.
    """

    setting: Setting
    static: Static
    mesh: Mesh | None


def judge(setting: Setting, slots: Slots, state: State, radii: jax.Array) -> Slots:
    """Slots after a move: what fooled is kept, radii shrink, rows with no more to gain stop."""
    if setting.whole:
        return slots._replace(state=state, going=slots.going & (slots.steps < setting.stage.steps))
    # Where nothing fools, as in most steps, there is nothing to measure and to copy.
    hit, hopeless, aim, state, found, norm = jax.lax.cond(
        state.fooled.any(),
        lambda: _success(setting.ball, slots, state, radii),
        lambda: (
            jnp.zeros_like(state.fooled), jnp.zeros_like(state.fooled), slots.reach, state,
            slots.found, slots.norm,
        ),
    )  # fmt: skip
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
        found=found,
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


@functools.partial(jax.jit, static_argnums=0)
def enter(
    program: Program,
    arrays: list[jax.Array],
    unit: jax.Array,
    attempt: jax.Array,
    radii: jax.Array,
    job: Job,
) -> Slots:
    """Starts every row of `job`, as the stage with index `unit` of its attack."""

    def work(arrays, unit, attempt, radii, job: Job) -> Slots:
        do = moves(program.setting.stage, join(arrays, program.static))
        job = job._replace(keys=stage_keys(job.keys, unit))
        goal = do.aim(job.keys, job.x, job.y, attempt)
        state = do.start(job.keys, job.x, goal, job.eps)
        near = program.setting.ball.project(job.x, job.start, job.eps)
        state = state._replace(x=where(job.warm, near, state.x))
        none = jnp.zeros(len(job.y), jnp.int32)
        slots = Slots(
            job, goal, state, job.eps, jnp.zeros_like(job.eps), none, none, none, job.x,
            jnp.full_like(job.eps, jnp.inf), jnp.ones(len(job.y), bool),
        )  # fmt: skip
        return judge(program.setting, slots, state, radii)

    return by_row(program.mesh, work, (arrays, unit, attempt, radii), job)


@functools.partial(jax.jit, static_argnums=0)
def advance(
    program: Program,
    arrays: list[jax.Array],
    radii: jax.Array,
    least: jax.Array,
    slots: Slots,
) -> Slots:
    """Steps until no more than `least` rows of each device move."""

    def work(arrays, radii, least, slots: Slots) -> Slots:
        do = moves(program.setting.stage, join(arrays, program.static))

        def step(slots: Slots) -> Slots:
            job = slots.job
            state = do.step(job.keys, slots.steps, slots.state, job.x, slots.goal, slots.reach)
            new = judge(program.setting, slots._replace(steps=slots.steps + 1), state, radii)
            return jax.tree.map(lambda new, old: where(slots.going, new, old), new, slots)

        if jax.default_backend() == "cpu":
            step = hoisted(step, slots)
        return jax.lax.while_loop(lambda slots: slots.going.sum() > least, step, slots)

    return by_row(program.mesh, work, (arrays, radii, least), slots)


@functools.partial(jax.jit, static_argnums=0)
def leave(program: Program, arrays: list[jax.Array], slots: Slots) -> tuple[Images, Flags]:
    """What each row has to show, and whether that fools the function."""

    def work(arrays, slots: Slots) -> tuple[Images, Flags]:
        function, job = join(arrays, program.static), slots.job
        do = moves(program.setting.stage, function)
        last = do.finish(job.keys, slots.state, job.x, slots.goal, slots.reach)
        image = where(jnp.isfinite(slots.norm), slots.found, last.best)
        score = lambda image: apply(function, job.keys, image)
        score = canonicalize(score, often=False) if jax.default_backend() == "cpu" else score
        logits = score(image)
        return image, (logits.argmax(-1) != job.y) | jnp.isnan(logits).any(-1)

    return by_row(program.mesh, work, (arrays,), slots)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def guess(
    ball: Ball, static: Static, mesh: Mesh | None, arrays: list[jax.Array], rows: tuple
) -> tuple[PerExample, Images]:
    """About how far each row's decision boundary is, and the way there.

    Linearises the margin at the image, at the nearest point where that would be zero, and so on;
    each time the nearest zero is taken from the image itself, as FAB does (arXiv 1907.02044).
    Costs `LOOKS` gradients.
    """

    def work(arrays, rows) -> tuple[PerExample, Images]:
        keys, x, y = rows
        function = join(arrays, static)

        value = lambda point: margin(apply(function, keys, point), y)

        def look(point: Images) -> Images:
            ahead, pull = jax.vjp(value, point)
            (slope,) = pull(jnp.ones_like(ahead))
            at_image = ahead + (slope * (x - point)).sum((1, 2, 3))
            return x + ball.reach(slope, x, jnp.maximum(-at_image, 0.0))

        look = canonicalize(look) if jax.default_backend() == "cpu" else look
        point = jax.lax.fori_loop(0, LOOKS, lambda _, point: look(point), x)
        return ball.norm(point - x), point

    return by_row(mesh, work, (arrays,), rows)


@jax.jit
def replace(slots: Slots, new: Slots, fresh: Flags) -> Slots:
    """Slots with the rows of `new` where `fresh`."""
    return jax.tree.map(lambda new, old: where(fresh, new, old), new, slots)


@jax.jit
def take(slots: Slots, index: jax.Array) -> Slots:
    """Some of the rows, in as many slots as there are indices."""
    return jax.tree.map(lambda leaf: leaf[index], slots)
