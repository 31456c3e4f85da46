"""Which checks an audit makes, and on which images."""

import jax
import numpy as np

from jaxdefense.auditing import comparing, masking
from jaxdefense.auditing.budgets import Budget
from jaxdefense.auditing.defence import Defence
from jaxdefense.auditing.matrix import Matrix
from jaxdefense.auditing.plan import SUITE, draws_of
from jaxdefense.defenses.smoothing import Smoothed
from jaxdefense.evaluation import Check, reliability
from jaxdefense.geometry import Ball
from jaxdefense.typing import Classifier

_NONE_LEFT = "no image is classified right"


def examine(
    defence: Defence,
    matrix: Matrix,
    budget: Budget,
    eps: float,
    ball: Ball,
    *,
    probabilities: bool,
    blocked: str,
    declared: bool,
) -> tuple[Check, ...]:
    """Checks that are of no claim in particular.

    Args:
        defence, matrix: what is audited, with all attackers measured.
        budget: how much is spent.
        eps: a radius, of the size of the claims.
        ball: of that radius.
        probabilities: whether the defence returned these instead of logits.
        blocked: why what is deployed cannot be differentiated, where it cannot.
        declared: whether its author said that gradients lead nowhere.
    """
    x, y, key = matrix.x, matrix.y, jax.random.fold_in(matrix.key, 2)
    scored, route, worst = matrix.scored, defence.route, matrix.worst
    averaged = lambda function: defence.averaged(function, budget.draws)
    around = route is not defence.attacked
    few = slice(budget.few)
    found = _of_the_function(defence, x[few], y[few], eps, ball, key, probabilities, declared)
    right = np.flatnonzero(worst.smallest_radius > 0)[few]
    seen = (x[right], y[right])
    if len(right) and (around or not blocked):
        # A staircase that is gone around is one over the distance of an attack, not of a step.
        distance = each_pixel(eps, ball, x[0].size) if around else 0.0
        found.append(masking.differences(*_pair(defence, budget), *seen, key, distance))
        ways = [route] if blocked or not around else [route, defence.attacked]
        surrogates = [averaged(way) for way in ways]
        found.append(masking.unbounded(surrogates, scored, *seen, budget.steps, ball, key))
        found.append(masking.amplitude(route, defence.undefended, *seen, key))
    else:
        reason = f"what is deployed cannot be differentiated ({blocked})" if blocked else _NONE_LEFT
        found += [masking.untested(name, reason) for name in ("differences", "unbounded")]
    if len(right) and defence.undefended is not None:
        found.append(masking.label_leak(defence.undefended, scored, *seen, eps, ball, key))
    else:
        reason = "no classifier was given besides what is deployed" if len(right) else _NONE_LEFT
        found.append(masking.untested("label leak", reason))
    found.append(comparing.grey_image(matrix.before_grey, y))
    return tuple(found)


def at_radius(
    defence: Defence, matrix: Matrix, budget: Budget, eps: float, ball: Ball
) -> list[Check]:
    """Checks of what was found at one radius, that of a claim."""
    key, curves, at = jax.random.fold_in(matrix.key, 3), matrix.curves, matrix.at(eps)
    found = []
    one, many, blind = (
        curves.get(name) for name in ("white-box, one step", "white-box", "oblivious")
    )
    if one is not None and many is not None:
        found.append(comparing.iterative(one, many, at))
    else:
        found.append(masking.untested("iterative", "white-box attackers did not run"))
    around = defence.route is not defence.attacked
    if around:
        found.append(masking.untested("white-box", "its gradient is known to be of no use"))
    elif blind is not None and many is not None:
        found.append(comparing.informed(blind, many, at))
    else:
        found.append(masking.untested("white-box", "needs an oblivious and a white-box attacker"))
    found += comparing.further(matrix.new, curves.get(SUITE), at, len(matrix.x))
    ladder = {count: curves[n] for count in budget.ladder if (n := draws_of(count)) in curves}
    if not around and many is not None:
        ladder[budget.draws] = many  # the white-box attacker is one of them
    if defence.random and len(ladder) > 1:
        found.append(comparing.draws(dict(sorted(ladder.items())), at))
    else:
        reason = "its attackers did not run" if defence.random else "nothing is random"
        found.append(masking.untested("more draws", reason))
    # Images that are broken need no gradients; of those that are not, all of them do.
    standing = np.flatnonzero(matrix.standing(eps))[: budget.few]
    if len(standing):
        x, y = matrix.x[standing], matrix.y[standing]
        pair = None if around else _pair(defence, budget)
        found.append(masking.gradients(defence.route, x, y, eps, ball, key, pair))
    return found


def _pair(defence: Defence, budget: Budget) -> tuple[Classifier, Classifier]:
    """Whose gradients are compared with whose values."""
    if isinstance(defence.whole, Smoothed):
        # Votes have no slope between two numbers of them; the means that attacks ascend do.
        averaged = defence.averaged(defence.route, budget.draws)
        return averaged, averaged
    return defence.route, defence.whole


def each_pixel(eps: float, ball: Ball, pixels: int) -> float:
    """How far each pixel may move, where all move as far."""
    share = {"linf": 1.0, "l2": pixels**-0.5, "l1": 1.0 / pixels}
    return eps * share.get(ball.name, 0.0)


def _of_the_function(
    defence, x, y, eps, ball, key, probabilities: bool, declared: bool
) -> list[Check]:
    """AutoAttack's checks of the function itself."""
    found = {c.name: c for c in reliability(defence.attacked, x, y, key, eps=eps, ball=ball)}
    if probabilities:
        says = "it returns probabilities: their logarithm was attacked instead"
        found["probabilities"] = Check("probabilities", "note", None, None, says)
    zero = found["zero gradients"]
    if zero.value is not None and 0 < zero.value <= masking.chance(
        len(x)
    ):  # too few to hide behind
        found["zero gradients"] = zero._replace(outcome="note")
    elif zero.outcome == "fail" and declared:
        says = f"{zero.says}; as its author says, so BPDA was used"
        found["zero gradients"] = zero._replace(outcome="note", says=says)
    return list(found.values())
