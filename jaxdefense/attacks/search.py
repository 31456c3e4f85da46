"""What an attack is made of: a `Search` inside a `Stage` inside an `Attack`, and the one loop.

A search is a pair of pure functions, as in optax and blackjax. It never sees the classifier, the
loss or the labels themselves: it asks a `Probe` about points. Every leaf of its state has the batch
as leading axis and no row looks at another, so that any attack can be compacted, padded and sharded
by one gather.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdefense.attacks.probe import Goal, Probe, Reading, make_probe
from jaxdefense.classifiers import fold
from jaxdefense.convolutions import canonicalize
from jaxdefense.typing import (
    Classifier,
    Flags,
    Images,
    Keys,
    Labels,
    Logits,
    Loss,
    PerExample,
    PyTree,
    Radii,
)

# Folded in for choosing a target; steps use 0 upwards.
_CHOOSE = 2**21


@dataclasses.dataclass(frozen=True)
class Cost:
    """Evaluations: numbers per example, or arrays ``[b]`` of what each example took.

    A gradient evaluation is one forward and one backward pass; its forward pass is not counted
    again.
    """

    gradients: Any = 0
    forwards: Any = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.gradients + other.gradients, self.forwards + other.forwards)

    def __mul__(self, times: Any) -> "Cost":
        return Cost(self.gradients * times, self.forwards * times)


class State(NamedTuple):
    """A search under way; every leaf has the batch as leading axis.

    Attributes:
        x: the current iterate.
        best: the best iterate read so far: a fooling one before others, then the largest margin.
        ahead: its margin in the attacker's favour.
        fooled: whether it fools.
        inner: what the search keeps for itself.
    """

    x: Images
    best: Images
    ahead: PerExample
    fooled: Flags
    inner: PyTree = ()


def begin(x: Images, inner: PyTree = ()) -> State:
    """The state of a search that has read nothing yet and stands at `x`."""
    count = x.shape[0]
    return State(x, x, jnp.full(count, -jnp.inf), jnp.zeros(count, bool), inner)


def stronger(new: Reading | State, old: State) -> Flags:
    """Where `new` is worth more: success before none, then the larger margin.

    Margins compare across losses, and at equal success the larger one transfers better.
    """
    return jnp.where(new.fooled == old.fooled, new.ahead > old.ahead, new.fooled)


def keep(state: State, x: Images, reading: Reading) -> State:
    """The state with `x`, just read, as the best where it is better."""
    better = stronger(reading, state)
    return state._replace(
        best=where(better, x, state.best),
        ahead=where(better, reading.ahead, state.ahead),
        fooled=where(better, reading.fooled, state.fooled),
    )


def read_last(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
    """The usual `Search.finish`: one forward pass at the last iterate, which no step has read."""
    return keep(state, state.x, probe.read(keys, state.x, goal))


def only_last(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
    """A `Search.finish` for which the last iterate counts, even where an earlier one is better."""
    reading = probe.read(keys, state.x, goal)
    return state._replace(best=state.x, ahead=reading.ahead, fooled=reading.fooled)


class Search(NamedTuple):
    """The inside of an iterative attack.

    Attributes:
        init: (keys, probe, x, goal, eps) -> State.
        step: (keys, probe, state, x, goal, eps) -> State; `x` is the clean image.
        finish: like step, once at the end; reads the last iterate by default.
        init_cost, step_cost, finish_cost: evaluations per example of each.
        settings: all that tells this search from another of the same name, for results on disk.
        minimal: whether it looks for the closest fooling point and uses eps only to say whether
            that lies inside, so that one run with ``eps=inf`` serves every radius.
    """

    init: Callable[[Keys, Probe, Images, Goal, Radii], State]
    step: Callable[[Keys, Probe, State, Images, Goal, Radii], State]
    finish: Callable[[Keys, Probe, State, Images, Goal, Radii], State] = read_last
    init_cost: Cost = Cost()
    step_cost: Cost = Cost(gradients=1)
    finish_cost: Cost = Cost(forwards=1)
    settings: str = ""
    minimal: bool = False


class Stage(NamedTuple):
    """One search, how many steps it makes, which loss it ascends and which label slot that uses.

    Attributes:
        search: the inside.
        steps: how many times ``search.step`` runs.
        loss: ascended; `losses.targeted` ones go towards the class in the label slot.
        target: (keys, clean logits, y, attempt) -> label slot, for attacks that choose it from the
            clean prediction; `attempt` counts the equal stages before this one, so that repeats can
            choose in turn. Success is then still any wrong class. None: the slot is y itself.
    """

    search: Search
    steps: int
    loss: Loss
    target: Callable[[Keys, Logits, Labels, Any], Labels] | None = None

    @property
    def start_cost(self) -> Cost:
        """Evaluations per example before the first step."""
        return self.search.init_cost + Cost(forwards=0 if self.target is None else 1)

    @property
    def cost(self) -> Cost:
        """Evaluations per example of a full run."""
        return self.start_cost + self.search.step_cost * self.steps + self.search.finish_cost


def where(mask: Flags, yes: jax.Array, no: jax.Array) -> jax.Array:
    """``jnp.where`` by row, for arrays of any rank."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (yes.ndim - 1)), yes, no)


class Moves(NamedTuple):
    """A stage against one classifier, as functions of arrays alone.

    Attributes:
        aim: (keys, x, y, attempt) -> Goal.
        start: (keys, x, goal, eps) -> State.
        step: (keys, made, state, x, goal, eps) -> State, after so many steps ``[b]``.
        finish: (keys, state, x, goal, eps) -> State.
    """

    aim: Callable[[Keys, Images, Labels, Any], Goal]
    start: Callable[[Keys, Images, Goal, Radii], State]
    step: Callable[[Keys, jax.Array, State, Images, Goal, Radii], State]
    finish: Callable[[Keys, State, Images, Goal, Radii], State]


def moves(stage: Stage, classifier: Classifier) -> Moves:
    """What one stage does, with the randomness of each move folded into the examples' keys.

    Args:
        stage: whose moves.
        classifier: what is differentiated.
    """
    search = stage.search
    # A stage that picks its own target succeeds with any wrong class, whatever its loss is.
    probe = make_probe(stage.loss, classifier, any_wrong_class=stage.target is not None)
    # Repeated stages are run inside a loop, so this matters before and after the steps as well.
    tidy = canonicalize if jax.default_backend() == "cpu" else lambda function: function

    def aim(keys: Keys, x: Images, y: Labels, attempt: int | jax.Array) -> Goal:
        if stage.target is None:
            return Goal(y, y)
        chooser = fold(keys, _CHOOSE)
        return Goal(y, stage.target(chooser, tidy(probe.logits)(chooser, x), y, attempt))

    def start(keys: Keys, x: Images, goal: Goal, eps: Radii) -> State:
        return search.init(fold(keys, 0), probe, x, goal, eps)

    def step(keys: Keys, made: jax.Array, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        here = jax.vmap(jax.random.fold_in)(keys, made + 1)
        return search.step(here, probe, state, x, goal, eps)

    def finish(keys: Keys, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        return search.finish(fold(keys, stage.steps + 1), probe, state, x, goal, eps)

    return Moves(aim, tidy(start), tidy(step), tidy(finish))


def run(
    stage: Stage,
    keys: Keys,
    classifier: Classifier,
    x: Images,
    y: Labels,
    eps: Radii,
    active: Flags | None = None,
    attempt: int | jax.Array = 0,
) -> tuple[State, Cost]:
    """Runs one stage as one traceable function.

    Args:
        stage: what to run.
        keys: ``[b]``.
        classifier: what is differentiated.
        x, y, eps: clean images, labels (or targets), radii ``[b]``.
        active: rows worth attacking ``[b]``. If given, a row is left as it is from the moment it is
            fooled and the loop ends when all active rows are. Rows do not influence each other
            either way: this changes the cost, never the outcome. If None, every row runs in full.
        attempt: what `Stage.target` is told.

    Returns:
        The last state, and the evaluations each row took ``[b]``.
    """
    search, do = stage.search, moves(stage, classifier)
    started = jnp.ones(x.shape[0], bool) if active is None else active
    running = lambda state: started if active is None else started & ~state.fooled

    def settle(old: State, new: State) -> State:
        """Rows that have finished stay as they are."""
        if active is None:
            return new
        going = running(old)
        return jax.tree.map(lambda new, old: where(going, new, old), new, old)

    def step(carry):
        state, steps = carry
        # Rows that run have all made as many steps as the one that has made most.
        made = jnp.full_like(steps, steps.max())
        new = do.step(keys, made, state, x, goal, eps)
        return settle(state, new), steps + running(state)

    goal = do.aim(keys, x, y, attempt)
    carry = (do.start(keys, x, goal, eps), jnp.zeros(x.shape[0], jnp.int32))
    if stage.steps:
        unfinished = lambda carry: (carry[1].max() < stage.steps) & running(carry[0]).any()
        carry = jax.lax.while_loop(unfinished, step, carry)
    state, steps = carry
    ending = running(state)
    last = do.finish(keys, state, x, goal, eps)
    spent = (
        stage.start_cost * started.astype(jnp.int32)
        + search.step_cost * steps
        + search.finish_cost * ending.astype(jnp.int32)
    )
    return settle(state, last), spent
