"""Which checks an audit makes, and on which images."""

import jax
import numpy as np

from jaxdefense.auditing import masking
from jaxdefense.auditing.budgets import Budget
from jaxdefense.auditing.defence import Defence
from jaxdefense.auditing.matrix import Matrix
from jaxdefense.evaluation import Check, reliability
from jaxdefense.geometry import Ball


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
    """All checks, at one radius.

    Args:
        defence, matrix: what is audited, with all attackers measured.
        budget: how much is spent.
        eps: the radius.
        ball: of that radius.
        probabilities: whether the defence returned these instead of logits.
        blocked: why what is deployed cannot be differentiated, where it cannot.
        declared: whether its author said that gradients lead nowhere.
    """
    x, y, key = matrix.x, matrix.y, jax.random.fold_in(matrix.key, 2)
    scored, route, worst = matrix.scored, defence.route, matrix.worst
    averaged = lambda function: defence.averaged(function, budget.draws)
    few = slice(budget.few)
    found = _of_the_function(defence, x[few], y[few], eps, ball, key, probabilities, declared)
    one, many = (matrix.curves.get(name) for name in ("white-box, one step", "white-box"))
    if one is not None and many is not None:
        found.append(masking.iterative(one, many))
    found += masking.further(matrix.new, len(x))

    # Images that are broken need no gradients; of those that are not, all of them do.
    standing = np.flatnonzero(matrix.standing(eps))[few]
    if len(standing):
        found.append(masking.gradients(route, x[standing], y[standing], eps, ball, key))
    right = np.flatnonzero(worst.smallest_radius > 0)[few]
    seen = (x[right], y[right])
    if len(right) and not (blocked and route is defence.attacked):
        found.append(masking.differences(route, defence.whole, *seen, key))
        ways = [route] if blocked or route is defence.attacked else [route, defence.attacked]
        surrogates = [averaged(way) for way in ways]
        found.append(masking.unbounded(surrogates, scored, *seen, budget.steps, ball, key))
        if defence.random:
            more = lambda count: defence.averaged(route, count)
            ladder = budget.ladder
            found.append(masking.draws(more, scored, *seen, eps, ball, budget.steps, ladder, key))
        found.append(masking.amplitude(route, defence.undefended, *seen, key))
    if len(right) and defence.undefended is not None:
        found.append(masking.label_leak(defence.undefended, scored, *seen, eps, ball, key))
    found.append(masking.grey_image(worst, y))
    return tuple(found)


def _of_the_function(
    defence, x, y, eps, ball, key, probabilities: bool, declared: bool
) -> list[Check]:
    """AutoAttack's checks of the function itself."""
    found = {c.name: c for c in reliability(defence.attacked, x, y, key, eps=eps, ball=ball)}
    if probabilities:
        says = "it returns probabilities: their logarithm was attacked instead"
        found["probabilities"] = Check("probabilities", "note", None, None, says)
    zero = found["zero gradients"]
    if zero.value is not None and 0 < zero.value <= 0.05:  # too few to hide behind
        found["zero gradients"] = zero._replace(outcome="note")
    elif zero.outcome == "fail" and declared:
        says = f"{zero.says}; as its author says, so BPDA was used"
        found["zero gradients"] = zero._replace(outcome="note", says=says)
    return list(found.values())
