"""What a nested sweep keeps on the host: what is to be done, what came of it, what is known."""

from typing import NamedTuple

import numpy as np


class Task(NamedTuple):
    """One row's work.

    Attributes:
        example: its index.
        radius: index of the radius to start at.
        shrink: whether to go below it.
        warm: whether to begin where the guess points.
    """

    example: int
    radius: int
    shrink: bool = True
    warm: bool = False


class Answer(NamedTuple):
    """What came of a task: success, its norm, and whether the search claimed it while it ran."""

    task: Task
    success: bool
    norm: float
    claimed: bool


class Finds:
    """What is known of every example, over an ascending grid of positive radii.

    Attributes:
        index: ``[n]``: of the smallest radius at which the example is broken; e where at none.
        norm: ``[n]``: of the smallest fooling perturbation; inf where none.
        by: ``[n, e]``: the unit that broke it at each radius; -1 where none.
        gradients, forwards, violations, attempts, doubted, fell: as in `Measured`.

    Args:
        count: how many examples.
        radii, limits: ``[e]``, and the largest norms that count as inside.
        known: ``[n]``: radius from which on each is known to be broken.
    """

    def __init__(
        self, count: int, radii: np.ndarray, limits: np.ndarray, known: np.ndarray | None = None
    ):
        self.radii, self.limits = radii, limits
        # Where it is known beforehand, nothing is looked for at or above that radius.
        known = np.full(count, np.inf) if known is None else known
        self.index = np.where(np.isinf(known), len(radii), np.searchsorted(radii, known))
        self.norm = np.full(count, np.inf)
        self.by = np.full((count, len(radii)), -1)
        self.gradients = self.forwards = self.violations = self.attempts = 0
        self.doubted = self.fell = 0

    def add(self, example: int, norm: float, unit: int) -> None:
        """A perturbation that fools."""
        within = norm <= self.limits
        index = int(np.argmax(within)) if within.any() else len(self.radii)
        self.by[example, index : self.index[example]] = unit
        self.index[example] = min(self.index[example], index)
        self.norm[example] = min(self.norm[example], norm)
