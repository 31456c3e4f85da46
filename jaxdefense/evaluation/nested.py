"""The nested sweep: every example's smallest broken radius for little more than one attack.

Balls are nested, so an example needs no attack at a radius above one at which it is broken. A few
gradients guess how far each example's boundary is. The attack starts a little above that, from
where the guess points; once it fools, the radius shrinks to about where it begins to fail
(`slots`); then one full run from scratch just below, the same that ``method="grid"`` makes there,
shows that nothing more is found. Survivors go to the next attack of a line-up at that radius and no
other. Slots that fall free take the next row at once.

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
from jaxdefense.classifiers import split
from jaxdefense.evaluation.clean import keys_at
from jaxdefense.evaluation.devices import everywhere, local_mesh, whole_rows
from jaxdefense.evaluation.finds import Answer, Finds, Task
from jaxdefense.evaluation.grid import Measured
from jaxdefense.evaluation.slots import (
    LOOKS,
    Job,
    Program,
    Setting,
    advance,
    enter,
    guess,
    leave,
    replace,
    take,
)
from jaxdefense.geometry import inside64, norm64
from jaxdefense.typing import Classifier

# Fewer steps than this are made at every radius: success rises and falls with the radius there.
SHORT = 5
# A guessed distance is some 15 % below the radius at which attacks begin to succeed.
ABOVE = 1.4
# A row that begins there is given up after so many steps without success.
SOON = 10
# Where nothing has fooled yet, the next radius is so many times the last.
GROWTH = 1.4


class Engine:
    """Runs one attack against one deterministic function, white-box.

    Args:
        attack, deployed: as in `sweep`.
        images, labels: on the host.
        behind: margin of each clean image.
        key: of the sweep.
        radii: positive, ascending.
        slots: how many rows are attacked at once.
        report: told often that nothing has gone wrong; whatever it raises ends the search.
        known: ``[n]``: radius from which on each image is known to be broken.
    """

    def __init__(
        self,
        attack: Attack,
        deployed: Classifier,
        images: np.ndarray,
        labels: np.ndarray,
        behind: np.ndarray,
        key: jax.Array,
        radii: np.ndarray,
        slots: int,
        report: Callable[[int], Any],
        known: np.ndarray | None = None,
    ):
        self.attack, self.key, self.mesh = attack, key, local_mesh()
        self.slots, self.report = whole_rows(slots, self.mesh), report
        arrays, self.static = split(deployed)
        self.arrays = everywhere(self.mesh, arrays)
        self.images, self.labels, self.behind, self.points = images, labels, behind, images
        self.finds, self.guessed = Finds(len(images), radii, known), False
        assert attack.ball is not None
        self.ball = attack.ball
        # Padded, so that another number of radii is the same program.
        self.padded = np.zeros(max(64, 1 << (len(radii) - 1).bit_length()), np.float32)
        self.padded[: len(radii)] = radii

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
        radii = finds.radii
        start: dict[int, int] = {}
        if not self.guessed and self._worth_a_guess(stage, whole):
            self.guessed = True
            start = self._guess(examples[(finds.by[examples] < 0).all(1)])

        def beyond(index: int) -> int:
            higher = int(np.searchsorted(radii, GROWTH * radii[index]))
            return min(max(higher, index + 1), len(radii) - 1)

        def first(example: int) -> Task:
            if stage.steps < SHORT and not whole:
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
            if stage.steps < SHORT:  # upwards through all radii below the known one
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
        self._work(program, unit, attempt, queue, follow)

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

    def _work(
        self,
        program: Program,
        unit: int,
        attempt: int,
        queue: deque[Task],
        follow: Callable[[Answer], Iterable[Task]],
    ) -> None:
        width = self.slots
        held: list[Task | None] = [None] * width
        slots: Any = None
        devices = 1 if self.mesh is None else self.mesh.size
        while queue or any(held):
            self.report(0)
            fresh = np.zeros(width, bool)
            for place in range(width):
                if held[place] is None and queue:
                    held[place], fresh[place] = queue.popleft(), True
            if fresh.any():
                job = self._job(held, fresh, program.setting)
                here = (np.int32(unit), np.int32(attempt), self.padded)
                new = enter(program, self.arrays, *here, job)
                slots = new if slots is None else replace(slots, new, fresh)
                if slots is new and not fresh.all():
                    slots = slots._replace(going=slots.going & fresh)
            used = sum(task is not None for task in held)
            # Rows that have ended wait until enough of them can leave together.
            least = np.int32((used * 3 // 4 if queue else used // 2) // devices)
            slots = advance(program, self.arrays, self.padded, least, slots)
            going = np.asarray(slots.going)
            ended = [i for i, task in enumerate(held) if task is not None and not going[i]]
            if ended:
                self._close(program, unit, slots, held, ended, queue, follow)
            rest = [i for i, task in enumerate(held) if task is not None]
            if rest and not queue and len(rest) <= width // 4 and width >= 32 * devices:
                width = whole_rows(width // 4, self.mesh)
                index = np.resize(np.array(rest), width)
                held = [held[i] if k < len(rest) else None for k, i in enumerate(index)]
                slots = take(slots, index)
                slots = slots._replace(going=slots.going & (np.arange(width) < len(rest)))

    def _job(self, held: list[Task | None], fresh: np.ndarray, setting: Setting) -> Job:
        tasks = [task for task, new in zip(held, fresh, strict=True) if new and task]
        # The other slots get a copy of the last one, which is thrown away.
        spread = np.minimum(np.cumsum(fresh), len(tasks)) - 1
        tasks = [tasks[max(i, 0)] for i in spread]
        example = np.array([task.example for task in tasks])
        radii, steps, whole = self.finds.radii, setting.stage.steps, setting.whole
        eps = np.full(len(tasks), np.inf) if whole else radii[[task.radius for task in tasks]]
        column: Callable[..., Any] = np.array  # goes to the device with the call
        return Job(
            keys=keys_at(self.key, example),
            x=self.images[example],
            y=self.labels[example],
            eps=column(eps, np.float32),
            behind=self.behind[example],
            shrink=column([task.shrink for task in tasks]),
            start=self.points[example],
            warm=column([task.warm for task in tasks]),
            limit=column([SOON if task.warm else steps for task in tasks], np.int32),
        )

    def _left(self, program: Program, slots: Any, ended: list[int]) -> tuple[Any, Any]:
        """What the rows that have ended show; in small batches, since most are few."""
        size = whole_rows(-(-self.slots // 4), self.mesh)
        starts = range(0, len(ended), size)
        index = np.resize(ended, len(starts) * size)
        parts = [leave(program, self.arrays, slots, index[i : i + size]) for i in starts]
        images, flags = map(np.concatenate, zip(*parts, strict=True))
        return images[: len(ended)], flags[: len(ended)]

    def _close(self, program, unit, slots, held, ended, queue, follow) -> None:
        stage, ball, finds = program.setting.stage, self.ball, self.finds
        image, fooled = self._left(program, slots, ended)
        steps, claimed = np.asarray(slots.steps)[ended], np.isfinite(slots.norm)[ended]
        eps = np.asarray(slots.job.eps, np.float64)[ended]
        tasks = [task for task in (held[i] for i in ended) if task]
        clean = self.images[[task.example for task in tasks]]
        valid = inside64(ball, clean, image, eps)
        norm = norm64(ball, clean, image)
        per_row = stage.start_cost + stage.search.step_cost * steps
        per_row = per_row + stage.search.finish_cost * ~claimed
        finds.gradients += int(np.sum(per_row.gradients + np.zeros(len(ended), int)))
        finds.forwards += int(np.sum(per_row.forwards + np.ones(len(ended), int)))
        finds.violations += int((~valid).sum())
        finds.attempts += len(ended)
        slack = ball.slack(self.images[0].size)
        for row, (task, place) in enumerate(zip(tasks, ended, strict=True)):
            held[place] = None
            success = bool(fooled[row] and valid[row])
            if success:
                finds.add(task.example, norm[row], slack, unit)
            queue.extend(follow(Answer(task, success, norm[row], bool(claimed[row]))))


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
        broken, norms, by, finds.gradients, finds.forwards, finds.attempts, finds.violations
    )
