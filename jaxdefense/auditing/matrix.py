"""The matrix: every attacker's curve, and the worst case over all so far."""

import dataclasses
import os
import shlex

import jax
import numpy as np

from jaxdefense.attacks import Attack
from jaxdefense.auditing.defence import Defence
from jaxdefense.auditing.plan import GREY, Cell
from jaxdefense.auditing.result import Outcome
from jaxdefense.errors import InputError
from jaxdefense.evaluation import Robustness, recall, sweep
from jaxdefense.evaluation.identity import identity
from jaxdefense.evaluation.robustness import worst
from jaxdefense.typing import Classifier


class Matrix:
    """Measures cells one after another.

    Args:
        defence: what is attacked.
        x, y: images and labels.
        radii: the grid, ascending.
        key: of the sweeps.
        eps: radius at which those are chosen who stand before an attacker that tries few.
        folder: for finished cells, or None.
        command: of the audit.

    Attributes:
        outcomes: one for each cell.
        curves: what each attacker broke by itself, by name; where it was carried, only that.
        history: name -> worst case after this cell and all before it; cells against the classifier
            alone are not in it.
        new: each cell with the share of images ``[e]`` that it was the first to break, and how
            many ``[e]`` of those that stood it tried.
    """

    def __init__(
        self,
        defence: Defence,
        x: np.ndarray,
        y: np.ndarray,
        radii: np.ndarray,
        key: jax.Array,
        eps: float,
        folder: str | os.PathLike[str] | None,
        command: str,
    ):
        self.defence, self.x, self.y, self.radii, self.key = defence, x, y, radii, key
        self.eps, self.folder, self.command, self.scored = eps, folder, command, defence.scored
        self.outcomes: list[Outcome] = []
        self.curves: dict[str, Robustness] = {}
        self.history: list[tuple[str, Robustness]] = []
        self.new: list[tuple[Cell, np.ndarray, np.ndarray]] = []

    @property
    def worst(self) -> Robustness:
        """The worst case over all attackers of the defence so far."""
        return self.history[-1][1]

    @property
    def before_grey(self) -> Robustness:
        """The worst case over all attackers but the grey image, which needs no skill."""
        return ([found for name, found in self.history if name != GREY] or [self.worst])[-1]

    def measure(self, cell: Cell) -> None:
        """One attacker."""
        new, chosen = np.zeros(len(self.radii)), np.ones(len(self.x), bool)
        if cell.kind == "undefended":
            assert self.defence.undefended is not None
            curve = shown = self._sweep(cell.attack, self.defence.undefended, None, None)
        elif cell.carried and self.history:
            chosen = self._chosen(cell.most)
            curve = self._sweep(cell.attack, *self._target(cell), self._until(chosen))
            curve = _only(curve, chosen)
        else:
            curve = shown = self._sweep(cell.attack, *self._target(cell), None)
        if cell.kind != "undefended":
            both, tried = curve, np.full(len(self.radii), len(self.x))
            if self.history:
                both = worst(self.worst, curve)
                left = self.worst.smallest_radius[:, None] > self.radii
                tried = (chosen[:, None] & left).sum(0)
                new = self.worst.robust_accuracy - both.robust_accuracy
            self.history.append((cell.name, both))
            self.new.append((cell, new, tried))
            if cell.carried:
                shown = both
        self.curves[cell.name] = curve
        self.outcomes.append(
            Outcome(
                name=cell.name,
                kind=cell.kind,
                says=cell.says,
                attack=cell.attack.name,
                settings=cell.attack.settings,
                carried=cell.carried,
                robust_accuracy=shown.robust_accuracy,
                interval=shown.interval,
                new=new,
                gradients=curve.evaluations.gradients,
                forwards=curve.evaluations.forwards,
                seconds=curve.evaluations.seconds,
                warnings=curve.warnings,
                command=self.command and f"{self.command} --only {shlex.quote(cell.name)}",
            )
        )

    def _target(self, cell: Cell) -> tuple[Classifier, Classifier | None]:
        """What is scored, and what is differentiated instead."""
        if cell.exact and cell.surrogate is not None:
            return cell.surrogate, None
        return self.scored, cell.surrogate

    def at(self, eps: float) -> int:
        """Index of a radius of the grid."""
        return int(np.argmin(abs(self.radii - eps)))

    def standing(self, eps: float) -> np.ndarray:
        """Which images no attacker has broken at a radius, ``[n]``."""
        return self.worst.smallest_radius > eps * (1 + 1e-6)

    def _chosen(self, most: int | None) -> np.ndarray:
        """Which images are still worth an attack; any of those at `eps`, where few may be."""
        standing = self.worst.smallest_radius > self.radii[self.radii > 0].min(initial=np.inf)
        if most is None or standing.sum() <= most:
            return standing
        drawn = np.asarray(jax.random.permutation(jax.random.fold_in(self.key, 4), len(self.x)))
        first = drawn[np.argsort(~self.standing(self.eps)[drawn], kind="stable")]
        return np.isin(np.arange(len(self.x)), first[:most]) & standing

    def _until(self, chosen: np.ndarray) -> Robustness:
        """The worst case so far, with nothing left to break of the images that are not chosen."""
        only = lambda known: np.where(chosen, known, 0.0)
        smallest, distance = only(self.worst.smallest_radius), only(self.worst.distance)
        return dataclasses.replace(self.worst, smallest_radius=smallest, distance=distance)

    def _sweep(
        self,
        attack: Attack,
        deployed: Classifier,
        surrogate: Classifier | None,
        after: Robustness | None,
    ) -> Robustness:
        given = (attack, deployed, self.x, self.y, self.radii, self.key, surrogate)
        # A curve that stands by itself costs what it costs; what it shares with others is dropped.
        if self.folder is not None and _can_be_kept(given):
            found = recall(self.folder, *given, after=after, progress=None)
        else:
            found = sweep(*given, after=after, progress=None)
        if after is None:
            return found
        spent = found.evaluations - after.evaluations
        own = tuple(said for said in found.warnings if said not in after.warnings)
        return dataclasses.replace(found, evaluations=spent, warnings=own)


def _only(curve: Robustness, chosen: np.ndarray) -> Robustness:
    """What was found of the chosen images; of the others nothing is known."""
    unknown = ~chosen
    smallest, distance = curve.smallest_radius.copy(), curve.distance.copy()
    smallest[unknown] = distance[unknown] = np.inf
    by = np.where(unknown[:, None], "", curve.broken_by)
    return dataclasses.replace(curve, smallest_radius=smallest, distance=distance, broken_by=by)


def _can_be_kept(given: tuple) -> bool:
    attack, deployed, x, y, radii, key, surrogate = given
    try:
        identity(attack, deployed, x[:1], y[:1], radii, key, surrogate, "nested")
    except InputError:
        return False
    return True
