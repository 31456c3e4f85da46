"""One scorer for everybody's adversarial images, and the rule that ours must not be weaker."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdefense.geometry import Ball, norm64

# Peers compute in float32 and clip in their own ways; more than this is a violation.
SLACK = 1e-5


class Score(NamedTuple):
    """What adversarial images are worth.

    Attributes:
        broken: ``[n]``, wrong without attack or fooled inside ball and box.
        norms: ``[n]``: 0 where wrong without attack, inf where not broken.
        violations: images outside the ball or the box, or not finite; they count as not fooling.
    """

    broken: np.ndarray
    norms: np.ndarray
    violations: int


def score(
    ball: Ball, x: np.ndarray, x_adv: np.ndarray, wrong: np.ndarray, fooled: np.ndarray, eps: float
) -> Score:
    """Scores images as they are; nothing is clipped or projected.

    Args:
        ball: whose norm counts.
        x, x_adv: clean and adversarial images ``[n, h, w, c]``.
        wrong: misclassified without attack ``[n]``.
        fooled: the adversarial image is misclassified ``[n]``.
        eps: radius; inf for minimum-norm attacks.
    """
    finite = np.isfinite(x_adv).reshape(len(x), -1).all(-1)
    points = np.where(finite[:, None, None, None], x_adv, 0.0).astype(np.float64)
    boxed = ((points >= -SLACK) & (points <= 1 + SLACK)).reshape(len(x), -1).all(-1)
    norms = norm64(ball, x, points)
    inside = finite & boxed & (norms <= limit(ball, eps, x[0].size))
    found = fooled & inside
    norms = np.where(wrong, 0.0, np.where(found, norms, np.inf))
    return Score(wrong | found, norms, int((~inside).sum()))


def limit(ball: Ball, eps: float, pixels: int) -> float:
    """The norm up to which an image counts as inside, rounding included."""
    return eps * (1 + SLACK) + SLACK + ball.slack(pixels)


def within(ball: Ball, norms: np.ndarray, radii: Any, pixels: int) -> np.ndarray:
    """Robust accuracy at each radius ``[e]`` from minimum norms ``[n]``."""
    return np.array([(norms > limit(ball, r, pixels)).mean() for r in radii])


class Verdict(NamedTuple):
    """How ours compares with the strongest peer.

    Attributes:
        points: robust accuracy of ours minus the lowest of the peers', at the worst radius.
        at: that radius.
        excess: median norm of ours over the smallest of the peers' minus 1; None without medians.
        weaker: whether either is more than allowed.
        error: standard error of `points` over several runs; 0 for one.
        runs: how many.
    """

    points: float
    at: float
    excess: float | None
    weaker: bool
    error: float = 0.0
    runs: int = 1

    def __str__(self) -> str:
        spread = f" \u00b1 {100 * self.error:.1f} ({self.runs} runs)" if self.runs > 1 else ""
        text = f"{100 * self.points:+.1f}{spread} at {self.at:g}"
        if self.excess is not None:
            text += f", median {100 * self.excess:+.1f} %"
        return text + (" WEAKER" if self.weaker else "")


class Allowed(NamedTuple):
    """What ours may be weaker by: robust accuracy, and share of the median norm."""

    points: float = 0.01
    share: float = 0.02

    def __str__(self) -> str:
        return f"{100 * self.points:+g} points, medians {100 * self.share:+g} %"


ALLOWED = Allowed()
# Of the normal distribution: 95 % lie below so many standard errors.
ONE_SIDED = 1.645


def judge(
    radii: Any, ours: Any, peers: list[Any], median: float | None = None,
    medians: Sequence[float] = (), allowed: Allowed = ALLOWED,
) -> Verdict:  # fmt: skip
    """Ours against the strongest of the peers at each radius.

    Several runs with other random numbers are judged by their mean, less what chance explains: ours
    is weaker if the mean is above what is allowed with a confidence of 95 %.

    Args:
        radii: ``[e]``.
        ours: robust accuracy ``[e]``, or of several runs ``[r, e]``.
        peers: the same of at least one peer.
        median, medians: of the minimum norms, for attacks that minimise it.
        allowed: the rule.
    """
    mine, theirs = np.atleast_2d(ours), np.stack([np.atleast_2d(peer) for peer in peers])
    strongest = theirs.mean(1).argmin(0)  # at each radius
    each = mine - np.stack([theirs[peer, :, e] for e, peer in enumerate(strongest)], axis=-1)
    runs, gaps = len(mine), each.mean(0)
    errors = each.std(0, ddof=1) / runs**0.5 if runs > 1 else np.zeros(len(gaps))
    worst, excess = int((gaps - ONE_SIDED * errors).argmax()), None
    weaker = gaps[worst] - ONE_SIDED * errors[worst] > allowed.points + 1e-9
    if median is not None and medians:
        best = min(medians)
        # Both infinite, or both 0, is equal.
        excess = 0.0 if median == best else (median / best - 1 if best > 0 else float("inf"))
        weaker |= excess > allowed.share + 1e-9
    return Verdict(
        float(gaps[worst]), float(radii[worst]), excess, bool(weaker), float(errors[worst]), runs
    )
