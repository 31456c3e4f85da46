"""Suites: line-ups of attacks as one `Attack`, each working on what the earlier ones left."""

from jaxdefense.attacks.apgd import apgd
from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.combinators import restarts, strongest
from jaxdefense.attacks.fab import fab
from jaxdefense.attacks.square import square
from jaxdefense.attacks.targets import multi_targeted
from jaxdefense.checks import check_ball
from jaxdefense.geometry import Ball, linf
from jaxdefense.losses import dlr


def standard(ball: Ball = linf) -> Attack:
    """AutoAttack ``standard`` (Croce and Hein 2020, arXiv 2003.01690; l1: arXiv 2103.01208).

    APGD on cross-entropy (in l1 with 5 restarts), APGD on targeted DLR towards the 9 (in l1 5)
    most likely wrong classes, FAB towards 9, Square with 5,000 queries; 100 iterations each.

    Every example is attacked by itself, so the outcome depends neither on the batch nor on other
    examples. Where that, or exactness, asks for something else than the authors' code does:
    Square draws its squares for each image (there: once per batch); projections are exact onto
    ball and box (there: in l2 one after the other); with fewer than 4 classes the margin takes
    the place of targeted DLR (there: skipped); with fewer classes than targets, targets come round
    with fresh keys. Strength is asserted against the authors' own results in the tests.

    Args:
        ball: `linf`, `l2` or `l1`.

    Example:
        >>> import jaxdefense as jd
        >>> standard(jd.linf).cost
        Cost(gradients=1910, forwards=6035)
    """
    return line_up(ball)


def plus(ball: Ball = linf) -> Attack:
    """AutoAttack ``plus``: APGD-CE, APGD-DLR and untargeted FAB 5 times; Square; APGD-T; FAB-T.

    Untargeted FAB looks at the boundaries of the 9 most likely wrong classes at each step, where
    the authors' looks at all: with more than 10 classes that is less, and much cheaper.

    Args:
        ball: `linf`, `l2` or `l1`.
    """
    return line_up(ball, plus=True)


def line_up(ball: Ball, steps: int = 100, queries: int = 5000, *, plus: bool = False) -> Attack:
    """The attacks of `standard` or `plus` at other budgets, which are then not AutoAttack."""
    check_ball("AutoAttack", ball, ("linf", "l2", "l1"))
    few = ball.name == "l1"
    apgd_ce = apgd(ball, steps, name="apgd-ce")
    targets = 5 if few and not plus else 9
    apgd_t = multi_targeted(apgd(ball, steps, loss=dlr), targets, name="apgd-t")
    fab_t = multi_targeted(fab(ball, steps), 9, name="fab-t")
    queried = square(ball, queries, name="square")
    name = "autoattack-plus" if plus else "autoattack"
    if (steps, queries) != (100, 5000):
        name = f"{name}-{steps}-{queries}"
    if plus:
        apgd_dlr = restarts(apgd(ball, steps, loss=dlr, name="apgd-dlr"), 5)
        free = fab(ball, steps, candidates=9, name="fab")
        again = restarts(fab(ball, steps, candidates=9, random_start=True, name="fab"), 4)
        return strongest(
            restarts(apgd_ce, 5), apgd_dlr, free, again, queried, apgd_t, fab_t, name=name
        )
    return strongest(restarts(apgd_ce, 5 if few else 1), apgd_t, fab_t, queried, name=name)


def rand(ball: Ball = linf) -> Attack:
    """AutoAttack ``rand``, for random defences: APGD-CE and APGD-DLR.

    Give it gradients averaged over draws: ``sweep(rand(ball), defence, ..., surrogate=eot(defence,
    20))``; `jaxdefense.autoattack` does so.

    Args:
        ball: `linf`, `l2` or `l1`.
    """
    return strongest(
        apgd(ball, name="apgd-ce"),
        apgd(ball, loss=dlr, name="apgd-dlr"),
        name="autoattack-rand",
    )


def quick(ball: Ball = linf) -> Attack:
    """A cheap first look: APGD of 25 steps on cross-entropy and on targeted DLR towards 3 classes.

    What it breaks is broken; what it leaves standing needs `standard`.

    Args:
        ball: `linf`, `l2` or `l1`.
    """
    return strongest(
        apgd(ball, 25, name="apgd-ce"),
        multi_targeted(apgd(ball, 25, loss=dlr), 3, name="apgd-t"),
        name="quick",
    )


SUITES = {"quick": quick, "standard": standard, "plus": plus, "rand": rand}
