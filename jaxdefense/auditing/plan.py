"""Who attacks, in which order, with what: the rows of an audit's matrix."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxdefense import attacks
from jaxdefense.attacks import Attack
from jaxdefense.auditing.budgets import Budget
from jaxdefense.auditing.defence import Defence
from jaxdefense.classifiers import Purified
from jaxdefense.geometry import Ball
from jaxdefense.losses import margin
from jaxdefense.surrogates import bpda, diverse, ensemble, identity
from jaxdefense.typing import Classifier

MORE, AGAIN = "more steps", "more restarts"
"""The cells that show whether gradients are at their end."""

SUITE, SHORT = "AutoAttack", "AutoAttack, in short"
"""The cell of AutoAttack, and of a part of it."""

GREY = "grey image"
"""The cell of the image that lies in every ball from l-inf 0.5 on."""


_ASKED = 4
"""Draws behind each answer that an attacker without gradients is given."""


def draws_of(count: int) -> str:
    """Name of the cell of so many draws."""
    return f"EOT, {count} draws"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One attacker.

    Attributes:
        name: in tables.
        kind: ``"undefended"``, ``"oblivious"``, ``"white-box"``, ``"transfer"`` or ``"query"``.
        says: what the attacker knows and does.
        attack: with its settings.
        surrogate: what is differentiated; the deployed function where None.
        carried: whether it attacks only what those before it left standing; else everything, so
            that its curve stands by itself.
        most: attack at most so many of the images.
        exact: the surrogate answers as what is deployed does, bit by bit, and only its gradient is
            another one: then success on it is success.
    """

    name: str
    kind: str
    says: str
    attack: Attack
    surrogate: Classifier | None = None
    carried: bool = True
    most: int | None = None
    exact: bool = False


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A row of the matrix that is empty, and why."""

    name: str
    reason: str


def plan(
    defence: Defence,
    ball: Ball,
    budget: Budget,
    substitutes: Mapping[str, Classifier],
    learned: Classifier | None,
    *,
    on_grid: bool,
    blocked: str = "",
    flat: float = 0.0,
    largest: float = 0.0,
) -> tuple[list[Cell], list[Skipped]]:
    """The cells of a matrix in the order they run, and what is missing.

    Args:
        defence: what is attacked.
        ball: of the radii.
        budget: how much is spent.
        substitutes: networks to transfer from, by name.
        learned: a network that imitates the purifier, where one was trained.
        on_grid: whether the images are 8-bit ones.
        blocked: why the deployed function cannot be differentiated, where it cannot.
        flat: share of images of which its gradient is zero.
        largest: of the radii.
    """
    cells: list[Cell] = []
    skipped: list[Skipped] = []

    def add(name: str, kind: str, says: str, attack: Attack, surrogate=None, **more: Any) -> None:
        cells.append(Cell(name, kind, says, attack, surrogate, **more))

    def skip(name: str, reason: str) -> None:
        skipped.append(Skipped(name, reason))

    bare, purifier = defence.undefended, defence.purifier
    averaged = lambda function: defence.averaged(function, budget.draws)
    known = averaged(defence.attacked) if defence.random else None
    # Where the gradient is of no use, the strongest attacks go around the purifier.
    around = defence.route is not defence.attacked
    best = averaged(defence.route) if around else known
    same = {"exact": defence.composed and not defence.random}
    best_is = same if around else {}
    # The luckiest of single draws would not be the worst image for the answer that counts.
    queried = defence.averaged(defence.attacked, _ASKED) if defence.random else None
    pgd = attacks.pgd(ball, budget.steps)
    # The margin has a gradient where a saturated cross-entropy has none.
    apgd = _apgd(ball, budget.steps)

    if bare is None:
        for name in ("undefended", "oblivious"):
            skip(name, "no classifier was given besides what is deployed")
    else:
        add("undefended", "undefended", "the classifier alone, attacked", pgd, carried=False)
        add("oblivious", "oblivious", "gradients of the classifier alone", pgd, bare, carried=False)

    through = "gradients of what is deployed"
    if defence.random:
        through += f", means over {budget.draws} draws"
    if blocked:
        for name in ("white-box, one step", "white-box"):
            skip(name, f"what is deployed cannot be differentiated ({blocked})")
    else:
        one = attacks.fgsm(ball)
        add("white-box, one step", "white-box", f"one of the {through}", one, known, carried=False)
        add("white-box", "white-box", through, pgd, known, carried=False)

    if purifier is None or bare is None:
        skip("BPDA", "purifier and classifier were not given")
    else:
        backwards = {"identity": identity, "given": defence.backward, "learned": learned}
        told = {
            "identity": "gradients passed through the purifier as they are",
            "given": "gradients of the given function in place of the purifier's",
            "learned": "gradients of a network that was trained to imitate the purifier",
        }
        for name, backward in backwards.items():
            if backward is not None:
                attacked = averaged(Purified(bpda(purifier, backward), bare))
                add(f"BPDA, {name}", "white-box", told[name], apgd, attacked, **same)
        if learned is None and not defence.train:
            skip("BPDA, learned", "no training images were given")

    suite = attacks.SUITES["rand" if defence.random else budget.suite](ball)
    if blocked and not around:
        skip(SUITE, f"what is deployed cannot be differentiated ({blocked})")
    else:
        way = "around the purifier's gradient" if around else through
        short = budget.suite == "quick" and not defence.random
        line_up = SHORT if short else SUITE
        says = "a part of its line-up, " if short else "its line-up, "
        minimum, longer = attacks.fmn(ball, budget.minimum_steps), _apgd(ball, budget.longer)
        add(line_up, "white-box", says + way, suite, best, **best_is)
        if around and not blocked and flat <= 0.5:  # whatever its author says of its gradient
            add(f"{line_up}, its own gradient", "white-box", says + through, suite, known)
        if defence.random:
            skip("minimum norm", "its images lie where half of the draws fool")
        else:
            says = f"looks for the closest image that fools, {way}"
            add("minimum norm", "white-box", says, minimum, best, **best_is)
        add(MORE, "white-box", f"whether more is to be found, {way}", longer, best, **best_is)
        # The first of them is the start of the white-box attacker.
        repeated = attacks.restarts(pgd, budget.restarts + 1)
        says = f"PGD from {budget.restarts} further starts"
        add(AGAIN, "white-box", says, repeated, best, **best_is)
        for count in budget.ladder if defence.random else ():
            if count == budget.draws and not around:
                continue  # that is the white-box attacker
            says = f"one of a ladder: means over {count} draws"
            drawn = defence.averaged(defence.route, count)
            add(draws_of(count), "white-box", says, pgd, drawn, carried=False)

    for name, network in substitutes.items():
        add(f"transfer: {name}", "transfer", "gradients of another network", apgd, network)
    if len(substitutes) > 1:
        several = diverse(ensemble(*substitutes.values()))
        says = "gradients of their mean, images resized at random"
        add("transfer: together", "transfer", says, attacks.mifgsm(ball), several)
    if not substitutes and not defence.train:
        skip("transfer", "neither training images nor substitutes were given")

    # What goes around a purifier may answer otherwise than what is deployed.
    asked = best is None or same["exact"]
    if "square" not in suite.labels or not asked or (blocked and not around):
        queries = budget.queries // 2 if defence.random else budget.queries
        says = f"{queries} answers of what is deployed, no gradients"
        says += f", means over {_ASKED} draws" if defence.random else ""
        add("Square", "query", says, attacks.square(ball, queries), queried)
    steps, queries = budget.decisions
    if not steps:
        skip("decision-based", "not within this budget")
    elif ball.name not in ("linf", "l2"):
        skip("decision-based", f"HopSkipJump does not work in {ball.name}")
    else:
        jump = attacks.hopskipjump(ball, steps, queries)
        most, answers = budget.decision_images, defence.scored if defence.random else None
        add("decision-based", "query", "labels only", jump, answers, most=most)
    if not on_grid:
        skip("white-box, 8-bit", "the images are not 8-bit ones")
    elif blocked and not around:
        skip("white-box, 8-bit", f"what is deployed cannot be differentiated ({blocked})")
    else:
        says = "PGD whose result is saved as an image file"
        whole = {"carried": False, **best_is}
        add("white-box, 8-bit", "white-box", says, attacks.eight_bit(pgd), best, **whole)
    # The last, so that what the others leave tells how good they are.
    if ball.name == "linf" and largest >= 0.5:
        says = "all images become the same grey one, of which one label at most is right"
        add(GREY, "oblivious", says, attacks.grey(ball), queried)
    return cells, skipped


def _apgd(ball: Ball, steps: int) -> Attack:
    return attacks.apgd(ball, steps, loss=margin, name=f"apgd-margin-{steps}")
