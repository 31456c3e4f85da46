"""The nested sweep: every example's smallest broken radius for little more than one attack.

Balls are nested, so an example needs no attack at a radius above one at which it is broken. A few
gradients guess how far each example's boundary is. The attack starts a little above that, from
where the guess points; once it fools, the radius shrinks to about where it begins to fail
(`slots`); then one full run from scratch just below, the same that ``method="grid"`` makes there,
shows that nothing more is found. Where even the largest radius is withstood, one in sixteen is
tried at a smaller one: if it falls, the attack loses its way at large radii, and the result says
so. Survivors go to the next attack of a line-up at that radius and no other. Slots that fall free
take the next row at once.

Only what the attack itself reads counts as found, checked and scored as any other image. Attacks
without gradients do without the guess: they start at the largest radius.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.search import Stage
from jaxdefense.evaluation.clean import keys_at
from jaxdefense.evaluation.finds import Answer, Task
from jaxdefense.evaluation.grid import Measured
from jaxdefense.evaluation.rows import Rows
from jaxdefense.evaluation.slots import LOOKS, Program, Setting, guess
from jaxdefense.typing import Classifier

# Fewer steps than this are made at every radius: success rises and falls with the radius there.
SHORT = 5
# A guessed distance is some 15 % below the radius at which attacks begin to succeed.
ABOVE = 1.4
# Where nothing has fooled yet, the next radius is so many times the last.
GROWTH = 1.4
# One in so many of those that withstand the largest radius is tried at a smaller one, too.
ONE_IN = 16


class Engine(Rows):
    """Runs one attack against one deterministic function, white-box."""

    def search(self, examples: np.ndarray, unit: int, attempt: int) -> None:
        """One stage of the attack against some examples, below what is known of each."""
        stage = self.attack.stages[unit]
        finds = self.finds
        whole = self.attack.minimal or stage.search.minimal
        setting = Setting(stage, self.ball, max(4, stage.steps // 10), whole)
        program = Program(setting, self.static, self.mesh)
        # The largest radius at which the stage has failed, by example.
        lost: dict[int, int] = {}
        claims: set[int] = set()  # examples that have fooled before the end of a run
        failed: set[tuple[int, int]] = set()  # (example, radius), from scratch
        upward = stage.steps < SHORT and not whole
        radii = finds.radii
        start: dict[int, int] = {}
        if not self.guessed and self._worth_a_guess(stage, whole):
            self.guessed = True
            start = self._guess(examples[(finds.by[examples] < 0).all(1)])

        def beyond(index: int) -> int:
            higher = int(np.searchsorted(radii, GROWTH * radii[index]))
            return min(max(higher, index + 1), len(radii) - 1)

        def first(example: int) -> Task:
            if upward:
                return Task(example, 0, shrink=False)
            if example in start:
                return Task(example, min(start[example], finds.index[example]) - 1, warm=True)
            return Task(example, finds.index[example] - 1)

        def follow(answer: Answer) -> Iterable[Task]:
            claims.update([answer.task.example] if answer.claimed or answer.task.warm else [])
            task, example = answer.task, answer.task.example
            known = finds.index[example]
            if whole or known == 0:
                return
            if not answer.success and not task.warm:
                failed.add((example, task.radius))
            if upward:  # upwards through all radii below the known one
                if task.radius + 1 < known:
                    yield task._replace(radius=task.radius + 1)
            elif answer.success:
                # What is only found at the end of a run does not shrink: halve instead.
                low = lost.get(example, -1)
                index = known - 1 if example in claims else (low + known) // 2
                if index > low:
                    yield Task(example, index)
            elif answer.claimed and task.shrink:
                yield task._replace(shrink=False)  # lost on the way down: once more, up to success
            elif task.warm:
                yield Task(example, min(beyond(task.radius), known - 1))
            else:
                low = lost[example] = max(lost.get(example, -1), task.radius)
                if low + 1 < known:
                    middle = (low + known) // 2
                    yield Task(example, beyond(low) if known == len(radii) else middle)

        queue = deque(first(i) for i in examples if finds.index[i] > 0)
        self.work(program, unit, attempt, queue, follow)
        if not upward and not whole:
            # By its own index, so that no image's outcome depends on the others.
            standing = [i for i in examples if i % ONE_IN == 0 and finds.index[i] == len(radii)]
            tasks = [self._below(i, failed, start.get(i, 0)) for i in standing]
            queue = deque(task for task in tasks if task is not None)
            tried = [task.example for task in queue]
            self.work(program, unit, attempt, queue, follow)
            finds.doubted += len(tried)
            finds.fell += int((finds.index[tried] < len(radii)).sum())

    def _below(self, example: int, failed: set[tuple[int, int]], start: int) -> Task | None:
        """A radius that an example has not been tried at, well below the largest.

        A little above its guessed distance for one half of them, anywhere for the other.
        """
        radii, place = self.finds.radii, example // ONE_IN
        below = int(np.searchsorted(radii, radii[-1] / GROWTH, side="right"))
        fresh = [r for r in range(below) if (example, r) not in failed]
        near = [r for r in fresh if 1.2 * radii[r] <= radii[max(start, 1) - 1]]
        if not fresh:
            return None
        return Task(example, near[-1] if near and place % 2 == 0 else fresh[place % len(fresh)])

    def _worth_a_guess(self, stage: Stage, whole: bool) -> bool:
        """There are radii to choose from, and the attacker has gradients."""
        return bool(stage.search.step_cost.gradients and len(self.finds.radii) > 2 and not whole)

    def _guess(self, examples: np.ndarray) -> dict[int, int]:
        """Example -> how many radii there are up to a little above its distance, roughly."""
        self.points = np.zeros_like(self.images)  # pages that nobody writes take no memory
        most = len(self.finds.radii)
        start: dict[int, int] = {}
        for first in range(0, len(examples), self.slots):
            some = np.resize(examples[first : first + self.slots], self.slots)
            rows = (keys_at(self.key, some), self.images[some], self.labels[some])
            about, point = guess(self.ball, self.static, self.mesh, self.arrays, rows)
            about, self.points[some] = np.asarray(about), np.asarray(point)
            index = np.searchsorted(self.finds.radii, ABOVE * about.astype(np.float64)) + 1
            some, index = some[about > 0], np.minimum(index, most)[about > 0]
            start |= dict(zip(some.tolist(), index.tolist(), strict=True))
        self.finds.gradients += LOOKS * len(examples)
        return start


def nested(
    attack: Attack,
    deployed: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    behind: np.ndarray,
    worth: np.ndarray,
    key: jax.Array,
    grid: np.ndarray,
    slots: int,
    report: Callable[[int], Any],
    known: np.ndarray | None = None,
) -> Measured:
    """All stages one after another, each on what the earlier ones left standing.

    Args:
        attack, deployed, images, labels, key: as in `sweep`; the function is deterministic.
        behind: margin of each clean image.
        worth: ``[n]``: which examples to attack.
        grid: the radii, in any order.
        slots: how many rows are attacked at once.
        report: told how many (example, stage) pairs are done.
        known: ``[n]``: radius from which on each image is known to be broken.
    """
    radii, column = np.unique(grid[grid > 0], return_inverse=True)
    # Those that will take longest first, so that none is left to go on alone at the end.
    examples = np.flatnonzero(worth)
    examples = examples[np.argsort(-behind[examples], kind="stable")]
    engine = Engine(attack, deployed, images, labels, behind, key, radii, slots, report, known)
    for first, stop in attack.groups:
        for unit in range(first, stop):
            engine.search(examples, unit, unit - first)
            report(len(examples))
    finds = engine.finds
    shape = (len(images), len(grid))
    broken, norms, by = np.zeros(shape, bool), np.zeros(shape), np.full(shape, -1)
    positive = grid > 0
    broken[:, positive] = (np.arange(len(radii)) >= finds.index[:, None])[:, column]
    by[:, positive] = finds.by[:, column]
    norms[:] = finds.norm[:, None]
    return Measured(
        broken, norms, by, finds.gradients, finds.forwards, finds.attempts, finds.violations,
        finds.doubted, finds.fell,
    )  # fmt: skip
