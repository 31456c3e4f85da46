"""Rows under a nested attack: which are in which slot, and what becomes of those that end."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jaxdefense.attacks.attack import Attack
from jaxdefense.classifiers import split
from jaxdefense.evaluation.clean import keys_at
from jaxdefense.evaluation.devices import everywhere, local_mesh, whole_rows
from jaxdefense.evaluation.finds import Answer, Finds, Task
from jaxdefense.evaluation.slots import (
    Job,
    Program,
    Setting,
    advance,
    enter,
    leave,
    replace,
    take,
)
from jaxdefense.geometry import inside64, limit64, norm64
from jaxdefense.typing import Classifier

# A row that begins where the guess points is given up after so many steps without success.
SOON = 10


class Rows:
    """Works on tasks of one attack against one deterministic function, white-box.

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
        assert attack.ball is not None
        self.ball = attack.ball
        limits = limit64(self.ball, radii, images[0].size)
        self.finds, self.guessed = Finds(len(images), radii, limits, known), False
        # Padded, so that another number of radii is the same program.
        self.padded = np.zeros(max(64, 1 << (len(radii) - 1).bit_length()), np.float32)
        self.padded[: len(radii)] = radii

    def work(
        self,
        program: Program,
        unit: int,
        attempt: int,
        queue: deque[Task],
        follow: Callable[[Answer], Iterable[Task]],
    ) -> None:
        """All tasks, and those that follow from them.

        Args:
            program: of the stage.
            unit, attempt: the stage, and how many equal ones come before it.
            queue: what is to be done.
            follow: what is to be done next, from what came of a task.
        """
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
        for row, (task, place) in enumerate(zip(tasks, ended, strict=True)):
            held[place] = None
            success = bool(fooled[row] and valid[row])
            if success:
                finds.add(task.example, norm[row], unit)
            queue.extend(follow(Answer(task, success, norm[row], bool(claimed[row]))))
