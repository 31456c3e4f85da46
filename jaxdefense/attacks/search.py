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

from jaxdefense import losses
from jaxdefense.classifiers import apply, fold
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

# Two compiled programs may differ by this share of the largest logit.
_TIE = 1e-5
# Folded in for choosing a target; steps use 0 upwards.
_CHOOSE = 2**21


class Goal(NamedTuple):
    """The label slots: `truth` decides success, `slot` is what the loss sees."""

    truth: Labels
    slot: Labels


class Reading(NamedTuple):
    """What one evaluation tells of each example: loss, margin in the attacker's favour, success."""

    loss: PerExample
    ahead: PerExample
    fooled: Flags


class Probe(NamedTuple):
    """What a search may ask of the function under attack.

    Attributes:
        read: (keys, x, goal) -> Reading; one forward pass.
        differentiate: (keys, x, goal) -> (Reading, gradient of each example's loss); one gradient.
        logits: (keys, x) -> logits; one forward pass.
    """

    read: Callable[[Keys, Images, Goal], Reading]
    differentiate: Callable[[Keys, Images, Goal], tuple[Reading, Images]]
    logits: Callable[[Keys, Images], Logits]


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


class Search(NamedTuple):
    """The inside of an iterative attack.

    Attributes:
        init: (keys, probe, x, goal, eps) -> State.
        step: (keys, probe, state, x, goal, eps) -> State; `x` is the clean image.
        finish: like step, once at the end; reads the last iterate by default.
        init_cost, step_cost, finish_cost: evaluations per example of each.
        settings: all that tells this search from another of the same name, for results on disk.
    """

    init: Callable[[Keys, Probe, Images, Goal, Radii], State]
    step: Callable[[Keys, Probe, State, Images, Goal, Radii], State]
    finish: Callable[[Keys, Probe, State, Images, Goal, Radii], State] = read_last
    init_cost: Cost = Cost()
    step_cost: Cost = Cost(gradients=1)
    finish_cost: Cost = Cost(forwards=1)
    settings: str = ""


class Stage(NamedTuple):
    """One search, how many steps it makes, which loss it ascends and which label slot that uses.

    Attributes:
        search: the inside.
        steps: how many times ``search.step`` runs.
        loss: ascended; `losses.targeted` ones go towards the class in the label slot.
        target: (keys, clean logits, y) -> label slot, for attacks that choose their target from the
            clean prediction; success is then still any wrong class. None: the slot is y itself.
    """

    search: Search
    steps: int
    loss: Loss
    target: Callable[[Keys, Logits, Labels], Labels] | None = None

    @property
    def start_cost(self) -> Cost:
        """Evaluations per example before the first step."""
        return self.search.init_cost + Cost(forwards=0 if self.target is None else 1)

    @property
    def cost(self) -> Cost:
        """Evaluations per example of a full run."""
        return self.start_cost + self.search.step_cost * self.steps + self.search.finish_cost


def make_probe(stage: Stage, classifier: Classifier) -> Probe:
    """How the stage sees the classifier. Success is judged by `Goal.truth`."""
    # A stage that picks its own target succeeds with any wrong class, whatever its loss is.
    aim = stage.loss if stage.target is None else losses.cross_entropy

    def interpret(logits: Logits, goal: Goal) -> Reading:
        # NaN is not a correct answer, and the sweep scores it so.
        unanswered = jnp.isnan(logits).any(-1)
        ahead = jnp.where(unanswered, jnp.inf, losses.score(aim, logits, goal.truth))
        # Nearly a tie may be decided otherwise when it is scored by another program: go on.
        clear = ahead > _TIE * jnp.abs(logits).max(-1)
        fooled = unanswered | (losses.fooled(aim, logits, goal.truth) & clear)
        return Reading(stage.loss(logits, goal.slot), ahead, fooled)

    def read(keys, x, goal):
        return interpret(apply(classifier, keys, x), goal)

    def differentiate(keys, x, goal):
        def total(x):
            reading = read(keys, x, goal)
            return reading.loss.sum(), reading

        (_, reading), gradient = jax.value_and_grad(total, has_aux=True)(x)
        # A NaN would spread from one pixel to the whole image through the norm.
        return reading, jnp.nan_to_num(gradient, nan=0.0)

    return Probe(read, differentiate, lambda keys, x: apply(classifier, keys, x))


def where(mask: Flags, yes: jax.Array, no: jax.Array) -> jax.Array:
    """``jnp.where`` by row, for arrays of any rank."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (yes.ndim - 1)), yes, no)


def run(
    stage: Stage,
    keys: Keys,
    classifier: Classifier,
    x: Images,
    y: Labels,
    eps: Radii,
    active: Flags | None = None,
) -> tuple[State, Cost]:
    """Runs one stage: the only loop over attack steps in the package.

    Args:
        stage: what to run.
        keys: ``[b]``.
        classifier: what is differentiated.
        x, y, eps: clean images, labels (or targets), radii ``[b]``.
        active: rows worth attacking ``[b]``. If given, a row is left as it is from the moment it is
            fooled and the loop ends when all active rows are. Rows do not influence each other
            either way: this changes the cost, never the outcome. If None, every row runs in full.

    Returns:
        The last state, and the evaluations each row took ``[b]``.
    """
    search, probe = stage.search, make_probe(stage, classifier)
    started = jnp.ones(x.shape[0], bool) if active is None else active
    running = lambda state: started if active is None else started & ~state.fooled

    def settle(old: State, new: State) -> State:
        """Rows that have finished stay as they are."""
        if active is None:
            return new
        going = running(old)
        return jax.tree.map(lambda new, old: where(going, new, old), new, old)

    goal = Goal(y, y)
    if stage.target is not None:
        goal = Goal(y, stage.target(keys, probe.logits(fold(keys, _CHOOSE), x), y))
    state = search.init(fold(keys, 0), probe, x, goal, eps)

    def step(index, state, steps, keys, x, goal, eps):
        new = search.step(fold(keys, index + 1), probe, state, x, goal, eps)
        return index + 1, settle(state, new), steps + running(state)

    if jax.default_backend() == "cpu":
        step = canonicalize(step)
    carry = (jnp.zeros((), jnp.int32), state, jnp.zeros(x.shape[0], jnp.int32))
    if stage.steps:
        carry = jax.lax.while_loop(
            lambda carry: (carry[0] < stage.steps) & running(carry[1]).any(),
            lambda carry: step(*carry, keys, x, goal, eps),
            carry,
        )
    _, state, steps = carry
    ending = running(state)
    last = search.finish(fold(keys, stage.steps + 1), probe, state, x, goal, eps)
    spent = (
        stage.start_cost * started.astype(jnp.int32)
        + search.step_cost * steps
        + search.finish_cost * ending.astype(jnp.int32)
    )
    return settle(state, last), spent
