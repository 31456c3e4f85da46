"""What a search may ask of the function under attack: a `Probe`."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdefense import losses
from jaxdefense.classifiers import fold
from jaxdefense.precision import floats
from jaxdefense.surrogates import draw
from jaxdefense.typing import Classifier, Flags, Images, Keys, Labels, Logits, Loss, PerExample

# Two compiled programs may differ by this share of the largest logit; in less than float32 by some
# of its last digits, and never by more than `_MOST`.
_TIE, _DIGITS, _MOST = 1e-5, 4, 0.05
# A logit so many times those that decide is no answer but a class that is masked out.
_MASKED = 100.0
# Folded in for what the classifier draws, so that it shares no random numbers with a search.
_ANSWER = 2**23


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
        tie: (keys, x, goal) -> how far ahead a class must at least be to count; one forward pass.
        differences: (keys, x, goal, count) -> (Reading, rises ``[b, m]``, their gradients
            ``[b, m, h, w, c]``): logit of each of the m = min(count, classes - 1) strongest other
            classes minus the true label's, strongest first; m gradients.
    """

    read: Callable[[Keys, Images, Goal], Reading]
    differentiate: Callable[[Keys, Images, Goal], tuple[Reading, Images]]
    logits: Callable[[Keys, Images], Logits]
    tie: Callable[[Keys, Images, Goal], PerExample]
    differences: Callable[[Keys, Images, Goal, int], tuple[Reading, jax.Array, jax.Array]]


def tie(logits: Logits, truth: Labels, rounding: float = 0.0) -> PerExample:
    """Margins up to this size may change sign from one compiled program to another.

    Args:
        logits, truth: of each image.
        rounding: of the least precise floats on the way to the logits.
    """
    share = max(_TIE, min(_DIGITS * rounding, _MOST))
    own = jax.nn.one_hot(losses.hard_labels(truth), logits.shape[-1], dtype=bool)
    best = jnp.abs(jnp.where(own, -jnp.inf, logits).max(-1))
    deciding = jnp.maximum(jnp.abs(jnp.where(own, logits, 0.0)).max(-1), best)
    return jnp.minimum(share * jnp.abs(logits).max(-1), max(share, _MASKED * _TIE) * deciding)


def make_probe(loss: Loss, classifier: Classifier, *, any_wrong_class: bool = False) -> Probe:
    """How a search sees the classifier through a loss.

    Args:
        loss: ascended; sees `Goal.slot`.
        classifier: what is differentiated; for `surrogates.eot` the loss is averaged over draws,
            or taken of the averaged logits, as that says.
        any_wrong_class: success is any class but `Goal.truth`, even for a targeted loss.
    """
    aim = losses.cross_entropy if any_wrong_class else loss

    rounding: list[float] = []  # known from the first trace on
    narrow: list[bool] = []

    def interpret(draws: jax.Array, goal: Goal) -> Reading:
        logits = draws.mean(0)
        # NaN is not a correct answer, and the sweep scores it so.
        unanswered = jnp.isnan(logits).any(-1)
        ahead = jnp.where(unanswered, jnp.inf, losses.score(aim, logits, goal.truth))
        # Nearly a tie may be decided otherwise when it is scored by another program: go on.
        clear = ahead > tie(logits, goal.truth, rounding[0])
        fooled = unanswered | (losses.fooled(aim, logits, goal.truth) & clear)
        worth = jnp.stack([loss(each, goal.slot) for each in draws]).mean(0)
        return Reading(worth, ahead, fooled)

    def look(keys, x):
        if not rounding:  # logits of float32 may have been computed in less
            one = functools.partial(draw, classifier)
            made = [jnp.finfo(dtype) for dtype in floats(one, fold(keys, _ANSWER), x)]
            rounding.append(max((float(each.eps) for each in made), default=0.0))
            narrow.append(any(float(each.tiny) > 1e-30 for each in made))

    def answers(keys, x):
        look(keys, x)
        return draw(classifier, fold(keys, _ANSWER), x)

    def read(keys, x, goal):
        return interpret(answers(keys, x), goal)

    def scaled(keys, x, goal):
        # Float16 holds nothing below 6e-8: what goes back through it is made of size 1 before.
        def total(draws):
            reading = interpret(draws, goal)
            return reading.loss.sum(), reading

        draws, pull = jax.vjp(lambda x: answers(keys, x), x)
        (_, reading), back = jax.value_and_grad(total, has_aux=True)(draws)
        size = jnp.abs(back).max((0, 2))
        size = jnp.where(size > 0, size, 1.0).astype(back.dtype)
        (gradient,) = pull(back / size[None, :, None])
        size = size.reshape(-1, *(1,) * (x.ndim - 1))
        return reading, gradient * size.astype(gradient.dtype)

    def differentiate(keys, x, goal):
        def total(x):
            reading = read(keys, x, goal)
            return reading.loss.sum(), reading

        look(keys, x)
        if narrow[0]:
            reading, gradient = scaled(keys, x, goal)
        else:
            (_, reading), gradient = jax.value_and_grad(total, has_aux=True)(x)
        # A NaN would spread from one pixel to the whole image through the norm.
        return reading, jnp.nan_to_num(gradient, nan=0.0)

    def differences(keys, x, goal, count):
        draws, pull = jax.vjp(lambda x: answers(keys, x), x)
        logits = jax.lax.stop_gradient(draws.mean(0))
        number = logits.shape[-1]
        own = jax.nn.one_hot(losses.hard_labels(goal.truth), number, dtype=logits.dtype)
        others = jnp.where(own > 0, -jnp.inf, jnp.nan_to_num(logits))
        strongest, classes = jax.lax.top_k(others, min(count, number - 1))
        seeds = jax.nn.one_hot(classes, number, dtype=logits.dtype) - own[:, None]

        def gradient(seed):
            return pull(jnp.broadcast_to(seed / len(draws), draws.shape))[0]

        gradients = jax.vmap(gradient, in_axes=1, out_axes=1)(seeds)
        rises = strongest - (own * jnp.nan_to_num(logits)).sum(-1, keepdims=True)
        return interpret(draws, goal), rises, jnp.nan_to_num(gradients, nan=0.0)

    def logits(keys, x):
        return answers(keys, x).mean(0)

    def least(keys, x, goal):
        said = logits(keys, x)
        return tie(jnp.where(jnp.isfinite(said), said, 0.0), goal.truth, rounding[0])

    return Probe(read, differentiate, logits, least, differences)
