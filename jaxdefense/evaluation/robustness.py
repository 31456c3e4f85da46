"""What a sweep returns: robust accuracy over a grid of radii, with all that makes it honest."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.stats
from tabulate import tabulate

from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball


@dataclasses.dataclass(frozen=True)
class Evaluations:
    """What was spent: totals over examples and radii, padding not counted.

    Attributes:
        gradients: gradient evaluations (one forward and one backward pass each).
        forwards: forward passes besides those.
        seconds: by the clock, compiling included; of the run that measured it, where a result was
            kept, and of the last one, where a killed run went on.
        compiling: tracing and compiling programs, seconds added up over threads.
    """

    gradients: int
    forwards: int
    seconds: float = dataclasses.field(default=0.0, compare=False)
    compiling: float = dataclasses.field(default=0.0, compare=False)

    def __sub__(self, other: "Evaluations") -> "Evaluations":
        """What was spent besides."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Evaluations(*(one - two for one, two in pairs))

    @property
    def time(self) -> str:
        """In words.

        Example:
            >>> Evaluations(1, 1, 12.34, 5.6).time
            '12.3 s, 5.6 s of compiling'
        """
        return f"{self.seconds:.1f} s, {self.compiling:.1f} s of compiling"


def interval(successes: np.ndarray | int, n: int, confidence: float = 0.95) -> np.ndarray:
    """Clopper-Pearson intervals for proportions (1934): exact, never too narrow.

    Args:
        successes: counts, any shape.
        n: how many trials.
        confidence: of each interval.

    Returns:
        ``[..., 2]``: lower and upper bound.

    Example:
        >>> interval(10, 10).round(3).tolist()
        [0.692, 1.0]
    """
    k = np.asarray(successes)
    tail = (1 - confidence) / 2
    low = np.where(k == 0, 0.0, scipy.stats.beta.ppf(tail, np.maximum(k, 1), n - k + 1))
    high = np.where(k == n, 1.0, scipy.stats.beta.ppf(1 - tail, k + 1, np.maximum(n - k, 1)))
    return np.stack([low, high], axis=-1)


@dataclasses.dataclass(frozen=True)
class Robustness:
    """Robust accuracy over a grid of radii; what `jaxdefense.sweep` returns.

    Attributes:
        radii: the grid ``[e]``, in the order it was given.
        robust_accuracy: ``[e]``, the share of examples classified correctly at every point found
            within each radius. Never increases with eps, because balls are nested: an example
            broken at one radius counts at every other that contains the perturbation.
        interval: ``[e, 2]``, 95 % Clopper-Pearson interval of it.
        smallest_radius: per example ``[n]``: 0 where misclassified clean, the smallest radius of
            the grid at which it breaks, inf where it never does (or where the grid holds inf and
            it breaks there only: then its distance is finite).
        distance: per example ``[n]``: norm of the smallest fooling perturbation found (0, inf).
        broken_by: ``[n, e]``: which attack of the line-up broke the example at that radius (or at
            another, with a perturbation that lies within it); empty where none did, or where it is
            misclassified clean.
        raw_accuracy: ``[e]``: with ``method="grid"``, from the attack at that radius alone; where
            it rises with eps the attack is weak. Else as `robust_accuracy`.
        clean_accuracy: without any attack.
        evaluations: gradients and forward passes spent.
        n: number of examples.
        attack: name of the attack.
        norm: "linf", "l2", "l1", or "sigma" where eps is a noise level.
        knowledge: what the attacker differentiated: "white-box" (the deployed function),
            "surrogate" (another one), "none" (no gradients).
        seed: key data of the PRNG key, as a tuple of ints.
        violations: how often the attack returned an image outside the ball or the box, or not
            finite. Such images count as failures of the attack.
        warnings: why the numbers may not be what they seem.
    """

    radii: np.ndarray
    robust_accuracy: np.ndarray
    interval: np.ndarray
    smallest_radius: np.ndarray
    distance: np.ndarray
    broken_by: np.ndarray
    raw_accuracy: np.ndarray
    clean_accuracy: float
    evaluations: Evaluations
    n: int
    attack: str
    norm: str
    knowledge: str
    seed: tuple[int, ...]
    violations: int
    warnings: tuple[str, ...]

    def accuracy_after(self, attacks: Sequence[str]) -> dict[str, np.ndarray]:
        """Robust accuracy ``[e]`` after each attack of a line-up that ran one after another.

        Args:
            attacks: names in the order they ran, for example `Attack.labels`.
        """
        robust = np.full(len(self.radii), self.clean_accuracy)
        after = {}
        for name in dict.fromkeys(attacks):
            robust = robust - (self.broken_by == name).mean(0)
            after[name] = robust
        return after

    def __str__(self) -> str:
        rows = [
            [f"{eps:g}", f"{100 * accuracy:.1f}", f"[{100 * low:.1f}, {100 * high:.1f}]"]
            for eps, accuracy, (low, high) in zip(
                self.radii, self.robust_accuracy, self.interval, strict=True
            )
        ]
        table = tabulate(
            rows,
            headers=[f"eps ({self.norm})", "robust accuracy %", "95 % interval"],
            disable_numparse=True,
            colalign=("right", "right", "left"),
        )
        spent = f"{self.evaluations.gradients / self.n:.1f} gradients per example"
        head = (
            f"{self.attack}, {self.knowledge}, n = {self.n}, "
            f"clean accuracy {100 * self.clean_accuracy:.1f} %, {spent}"
        )
        return "\n".join([head, table, *(f"warning: {text}" for text in self.warnings)])


def summarize(
    broken: np.ndarray,
    norms: np.ndarray,
    correct: np.ndarray,
    radii: np.ndarray,
    limits: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """From what each radius found to one non-increasing curve.

    Args:
        broken: ``[n, e]``, whether a valid fooling image was found at that radius.
        norms: ``[n, e]``, the norm of its perturbation.
        correct: ``[n]``, classified correctly when clean.
        radii: ``[e]``.
        limits: ``[e]``, the largest norms that count as inside the balls of those radii. None
            where they are no radii of balls: then each speaks for itself.

    Returns:
        robust accuracy ``[e]``, raw accuracy ``[e]``, smallest radius ``[n]``, distance ``[n]``.
    """
    broken = broken | ~correct[:, None]
    found = np.where(broken, norms, np.inf)
    distance = np.where(correct, found.min(axis=1), 0.0)
    fallen = broken.copy()
    if limits is not None:
        # A perturbation of the attack at radius r lies in every ball at least as large as r, and
        # in each smaller one that is no smaller than its norm.
        reach = np.where(broken, np.minimum(norms, radii), np.inf).min(axis=1)[:, None]
        # Where nothing was found, an infinite radius is withstood like any other.
        fallen |= np.isfinite(reach) & (reach <= limits)
    smallest = np.where(fallen, radii, np.inf).min(axis=1)
    smallest = np.where(correct, smallest, 0.0)
    return 1 - fallen.mean(0), 1 - broken.mean(0), smallest, distance


def known_radii(
    after: Robustness | None, ball: Ball | None, n: int, radii: np.ndarray
) -> np.ndarray:
    """Radius ``[n]`` from which on an earlier result says that each image is broken; inf if none.

    Raises:
        InputError: a result of another norm, of other radii or of another number of images.
    """
    if after is None:
        return np.full(n, np.inf)
    norm = "sigma" if ball is None else ball.name
    same = after.n == n and np.array_equal(after.radii, radii) and after.norm == norm
    if ball is None or not same:
        raise InputError(
            f"after: the earlier result is of {after.n} images, {len(after.radii)} radii and "
            f"{after.norm}, this sweep of {n}, {len(radii)} and {norm}; a sweep goes on from one "
            "of the same images and radii, in a norm whose balls are nested"
        )
    return after.smallest_radius


def worst(first: Robustness, then: Robustness) -> Robustness:
    """What either of two results of the same function, images and radii broke.

    Args:
        first, then: what an image is broken by is taken from the first of them that broke it.

    Returns:
        Costs, violations and warnings of both; the attacker's knowledge is the larger one.
    """
    smallest = np.minimum(first.smallest_radius, then.smallest_radius)
    distance = np.minimum(first.distance, then.distance)
    fallen = fallen_at(smallest, distance, first.radii)
    robust = 1 - fallen.mean(0)
    spent = (dataclasses.astuple(result.evaluations) for result in (first, then))
    known = [result.knowledge for result in (first, then)]
    return dataclasses.replace(
        then,
        robust_accuracy=robust,
        raw_accuracy=robust,
        interval=interval(np.rint(robust * then.n).astype(int), then.n),
        smallest_radius=smallest,
        distance=distance,
        broken_by=np.where(first.broken_by != "", first.broken_by, then.broken_by),
        evaluations=Evaluations(*map(sum, zip(*spent, strict=True))),
        attack="+".join(dict.fromkeys((*first.attack.split("+"), *then.attack.split("+")))),
        knowledge=next(k for k in ("white-box", "surrogate", "none") if k in known),
        violations=first.violations + then.violations,
        warnings=tuple(dict.fromkeys((*first.warnings, *then.warnings))),
    )


def fallen_at(smallest: np.ndarray, distance: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Which examples are broken at which radius ``[n, e]``, the infinite one among them.

    Args:
        smallest, distance: ``[n]``, as in `Robustness`: an infinite smallest radius may be the
            radius of the grid, or say that there is none; the distance tells.
        radii: ``[e]``.
    """
    return (smallest[:, None] <= radii) & np.isfinite(distance)[:, None]


def suspicions(
    raw: np.ndarray,
    robust: np.ndarray,
    radii: np.ndarray,
    y: np.ndarray,
    norm: str,
    violations: int,
    attempts: int,
    doubted: int = 0,
    fell: int = 0,
) -> tuple[str, ...]:
    """What a strict reader would say about the numbers, as plain sentences."""
    said = []
    order = np.argsort(radii, kind="stable")
    # One example more or less is chance; more than that is an attack that loses its way.
    lowest = np.minimum.accumulate(raw[order])
    rises = raw[order][1:] - lowest[:-1] > 1.5 / len(y)
    if norm != "sigma" and rises.any():
        at = radii[order][1:][rises]
        said.append(
            f"raw accuracy rises with eps (at {', '.join(f'{r:g}' for r in at)}): the attack is "
            "weak there; more steps, restarts or another loss would find more"
        )
    # One is chance, as above.
    if fell > max(1, doubted // 16):
        said.append(
            f"{fell} of {doubted} images that had withstood the largest radius fell at a smaller "
            "one: the attack loses its way at large radii; method='grid' looks at each radius"
        )
    if norm == "linf":
        bound = np.bincount(y).max() / len(y)
        impossible = (radii >= 0.5) & (robust > bound + 1e-9)
        if impossible.any():
            said.append(
                f"at eps >= 0.5 a grey image lies in every ball, so true robust accuracy is at "
                f"most {100 * bound:.1f} % (the largest class); "
                f"{100 * robust[impossible].max():.1f} % means the attack was too weak"
            )
    if violations:
        said.append(
            f"{violations} of {attempts} returned images lay outside the ball or the box or were "
            "not finite and count as failures of the attack: the attack has a fault"
        )
    return tuple(said)
