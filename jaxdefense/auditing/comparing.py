"""Checks that compare what attackers found: they read curves and attack nothing."""

from collections.abc import Mapping

import numpy as np
import scipy.stats

from jaxdefense.auditing.claims import CERTIFICATE
from jaxdefense.auditing.masking import NOT_APPLICABLE, chance, limited
from jaxdefense.auditing.plan import AGAIN, GREY, MORE, Cell
from jaxdefense.evaluation import Certificate, Robustness
from jaxdefense.evaluation.reliability import Check


def iterative(one: Robustness, many: Robustness, at: int) -> Check:
    """Many steps must break no less than one, at a radius of the grid."""
    return _sign_test(
        "iterative", *_paired(one, many, at), one.n,
        "one step breaks more than many do: steps lose their way", "many steps break what one does",
    )  # fmt: skip


def informed(blind: Robustness, knowing: Robustness, at: int) -> Check:
    """Who knows the defence must break no less than who knows the classifier only."""
    return _sign_test(
        "white-box", *_paired(blind, knowing, at), blind.n,
        "who does not know the defence breaks more: its gradients lead astray",
        "who knows the defence breaks what others do",
    )  # fmt: skip


def further(
    cells: list[tuple[Cell, np.ndarray, np.ndarray]], suite: Robustness | None, at: int, n: int
) -> list[Check]:
    """More steps, and attackers without the defence's gradients, must find next to nothing more.

    Args:
        cells: in their order, each with the share of images ``[e]`` that it was first to break and
            the number ``[e]`` of those it tried.
        suite: AutoAttack's curve, of which Square is a part.
        at: index of the radius.
        n: number of images.
    """
    limit, found = chance(n), []
    for name in (MORE, AGAIN):
        for share in (float(new[at]) for cell, new, _ in cells if cell.name == name):
            says = f"{name} still find more: the attacks are not at their end"
            good = f"{name} find next to nothing more"
            found.append(limited(name, share, limit, says, good))
    others = [
        (c.name, n * float(new[at]), int(tried[at]) if c.most else n)
        for c, new, tried in cells if c.kind in ("transfer", "query")
    ]  # fmt: skip
    if suite is not None:
        others.append(("AutoAttack's Square", (suite.broken_by[:, at] == "square").sum(), n))
    # Those that try all images together; one that tries a few by itself, of these.
    together = [one for one in others if one[2] == n]
    tests = [(name, broken / size, chance(size)) for name, broken, size in others if 0 < size < n]
    if together:
        most = max(together, key=lambda one: one[1])[0]
        tests.append((most, sum(broken for _, broken, _ in together) / n, limit))
    if tests:
        name, share, limit = max(tests, key=lambda test: test[1] / test[2])
        says = f"{name} breaks what withstood every gradient of the defence: gradients are masked"
        good = "attackers without the defence's gradients find next to nothing more"
        found.append(limited("no gradients needed", float(share), limit, says, good))
    return found


def draws(ladder: Mapping[int, Robustness], at: int) -> Check:
    """Against a random defence, means over more draws must find next to nothing more.

    Args:
        ladder: number of draws -> what the same attack finds with means over so many, ascending.
        at: index of the radius.
    """
    *_, few, many = ladder.values()
    fewer, more = _paired(few, many, at)
    told = ", ".join(f"{n}: {100 * curve.robust_accuracy[at]:.1f} %" for n, curve in ladder.items())
    return _sign_test(
        "more draws", more, fewer, many.n, f"more draws still find more ({told})",
        f"more draws find next to nothing more ({told})",
    )  # fmt: skip


def grey_image(worst: Robustness, y: np.ndarray) -> Check:
    """From eps 0.5 in l-inf on, one grey image lies in every ball."""
    at = (worst.radii >= 0.5) & (worst.norm == "linf")
    bound = float(np.bincount(y).max() / len(y))
    if not at.any():
        return Check(GREY, NOT_APPLICABLE, None, bound, "no l-inf radius of 0.5 or more")
    most = float(worst.robust_accuracy[at].max())
    says = "more is left than the share of the largest class, although all images can be made equal"
    return limited(GREY, most, bound, says, "no more is left than the largest class")


def contradiction(certificate: Certificate, worst: Robustness, draws: int) -> Check:
    """Within a certified radius next to nothing may be broken, or attack or certificate are wrong.

    What is certified at R has at r the probability ``Phi((R - r) / sigma)`` of each draw or more: a
    vote goes wrong by chance where that is less than three deviations of the vote above one half.

    Args:
        certificate: of the same images.
        worst: what was broken.
        draws: behind each vote that was attacked.
    """
    slack = scipy.stats.norm.ppf(min(0.5 + 1.5 / draws**0.5, 0.999)) * certificate.sigma
    if slack >= certificate.radius.max(initial=0.0):
        says = f"votes of {draws} draws go wrong by chance within the largest certified radius"
        return Check(CERTIFICATE, NOT_APPLICABLE, None, None, says)
    broken = float((worst.smallest_radius < certificate.radius - slack).mean())
    says = "images were broken within their certified radii: attack or certificate are wrong"
    return limited(
        CERTIFICATE, broken, chance(certificate.n), says, "nothing was broken within its radius"
    )


def _paired(one: Robustness, other: Robustness, index: int) -> tuple[int, int]:
    """How many images only the one broke, and only the other, at a radius."""
    first, second = (r.smallest_radius <= r.radii[index] for r in (one, other))
    return int((first & ~second).sum()), int((second & ~first).sum())


def _sign_test(name: str, against: int, infavour: int, n: int, bad: str, good: str) -> Check:
    """Fails where more images speak against than chance has it."""
    excess = against - infavour
    limit = max(2 * (against + infavour) ** 0.5 + 1, chance(n) * n)
    return limited(name, excess / n, limit / n, bad, good)
