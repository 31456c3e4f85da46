"""Slots as array programs: a fixed number of rows under attack, each at its own radius and step."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxdefense.attacks.attack import stage_keys
from jaxdefense.attacks.search import State, moves, where
from jaxdefense.classifiers import Static, apply, join
from jaxdefense.convolutions import canonicalize
from jaxdefense.evaluation.devices import by_row
from jaxdefense.evaluation.shrinking import Job, Setting, Slots, calm, judge
from jaxdefense.geometry import Ball
from jaxdefense.hoisting import hoisted
from jaxdefense.losses import margin
from jaxdefense.typing import Flags, Images, PerExample

# Gradients of one guess.
LOOKS = 3


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
        setting = program.setting
        do = moves(setting.stage, join(arrays, program.static))

        def only_going(new: Slots, slots: Slots) -> Slots:
            return jax.tree.map(lambda new, old: where(slots.going, new, old), new, slots)

        def step(slots: Slots) -> tuple[Slots, jax.Array]:
            job = slots.job
            state = do.step(job.keys, slots.steps, slots.state, job.x, slots.goal, slots.reach)
            moved = slots._replace(steps=slots.steps + 1)
            if setting.whole:
                return only_going(judge(setting, moved, state, radii), slots), jnp.zeros((), bool)
            won = (state.fooled & slots.going).any()
            quiet = calm(setting, moved, state, radii)
            # Where a row has won, all are judged outside, from where they stood.
            undone: dict[str, Any] = {
                name: jnp.where(won, getattr(slots, name), getattr(quiet, name))
                for name in ("reach", "low", "stale", "tries", "going")
            }
            return only_going(quiet._replace(**undone), slots), won

        if jax.default_backend() == "cpu":
            step = hoisted(step, slots)

        def on(slots: Slots) -> jax.Array:
            return slots.going.sum() > least

        def until_one_wins(slots: Slots) -> Slots:
            slots, won = jax.lax.while_loop(
                lambda held: ~held[1] & on(held[0]),
                lambda held: step(held[0]),
                (slots, jnp.zeros((), bool)),
            )
            if setting.whole:
                return slots
            settle = lambda slots: only_going(judge(setting, slots, slots.state, radii), slots)
            return jax.lax.cond(won, settle, lambda slots: slots, slots)

        return jax.lax.while_loop(on, until_one_wins, slots)

    return by_row(program.mesh, work, (arrays, radii, least), slots)


@functools.partial(jax.jit, static_argnums=0)
def leave(
    program: Program, arrays: list[jax.Array], slots: Slots, index: jax.Array
) -> tuple[Images, Flags]:
    """What some of the rows have to show, and whether that fools the function."""

    def work(arrays, slots: Slots) -> tuple[Images, Flags]:
        function, job = join(arrays, program.static), slots.job
        do = moves(program.setting.stage, function)

        def last(state: State) -> Images:
            return do.finish(job.keys, state, job.x, slots.goal, slots.reach).best

        score = lambda image: apply(function, job.keys, image)
        if jax.default_backend() == "cpu":
            last, score = (canonicalize(part, often=False) for part in (last, score))
        image = where(jnp.isfinite(slots.norm), slots.found, last(slots.state))
        logits = score(image)
        return image, (logits.argmax(-1) != job.y) | jnp.isnan(logits).any(-1)

    return by_row(program.mesh, work, (arrays,), take(slots, index))


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
