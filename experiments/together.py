"""Seeds side by side: on an accelerator, trainings of the same part run as one program.

Every seed runs the same code in a thread of its own; where it comes to a training it waits for the
others, so that scripts need not know. On a CPU one seed after another is faster.
"""

import contextvars
import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax

from jaxdefense import training
from jaxdefense.classifiers import split
from jaxdefense.training import FitResult

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


@dataclasses.dataclass(eq=False)
class _Call:
    """A seed at a training."""

    place: int
    positional: tuple[Any, ...]
    settings: dict[str, Any]
    result: FitResult | None = None
    error: BaseException | None = None

    @property
    def kind(self) -> Any:
        """Equal for trainings that can run as one program."""
        objective, variables, optimizer, x_train, y_train = self.positional
        given = self.settings
        shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(variables)]
        return (
            split(objective)[1], id(optimizer), x_train.shape, y_train.shape, tuple(shapes),
            *(given.get(name) for name in ("name", "epochs", "batch_size", "patience")),
        )  # fmt: skip


class _Meeting:
    """Where the seeds wait for each other."""

    def __init__(self, members: int):
        self.members, self.waiting = members, list[_Call]()
        # Held by whoever computes: seeds take turns in everything but the trainings they share.
        self.changed = threading.Condition()

    def fit(self, call: _Call) -> FitResult:
        """Waits until this training was done, by this thread or another."""
        self.waiting.append(call)
        while call in self.waiting:
            if len(self.waiting) == self.members:
                self._run()
                self.changed.notify_all()
            else:
                self.changed.wait()
        if call.error is not None:
            raise call.error
        assert call.result is not None
        return call.result

    def leave(self) -> None:
        """One seed has no more to train."""
        self.members -= 1
        self.changed.notify_all()

    def _run(self) -> None:
        chosen = self.waiting
        try:
            groups: dict[Any, list[_Call]] = {}
            for call in sorted(self.waiting, key=lambda call: call.place):
                groups.setdefault(call.kind, []).append(call)
            # What few wait for first, for they may catch up with the others then; of those the
            # first seed's, which has most to train.
            chosen = min(groups.values(), key=lambda group: (len(group), group[0].place))
            for call, result in zip(chosen, _fit(chosen), strict=True):
                call.result = result
        except BaseException as error:
            for call in chosen:
                call.error = error
        self.waiting = [call for call in self.waiting if call not in chosen]


def _fit(calls: Sequence[_Call]) -> list[FitResult]:
    if len(calls) == 1:
        return [training.fit(*calls[0].positional, **calls[0].settings)]
    objectives, variables, optimizers, x_train, y_train = zip(
        *(call.positional for call in calls), strict=True
    )
    settings = dict(calls[0].settings)
    for one, many in (("key", "keys"), ("validate", "validate"), ("checkpoint", "checkpoints")):
        settings.pop(one, None)
        settings[many] = [call.settings.get(one) for call in calls]
    return training.fit_together(objectives, variables, optimizers[0], x_train, y_train, **settings)


_here: contextvars.ContextVar[tuple[_Meeting, int] | None]
_here = contextvars.ContextVar("meeting", default=None)


def fit(*positional: Any, **settings: Any) -> FitResult:
    """`jaxdefense.training.fit`, together with the other seeds where `each` runs them."""
    here = _here.get()
    if here is None:
        return training.fit(*positional, **settings)
    meeting, place = here
    return meeting.fit(_Call(place, positional, settings))


def each(
    function: Callable[[_Item], _Made], items: Sequence[_Item], together: bool | None = None
) -> list[_Made]:
    """``[function(item) for item in items]``, with the trainings in it as one program for all.

    Args:
        function: trains by `fit`.
        items: usually one for each seed.
        together: by default on accelerators only.
    """
    if together is None:
        together = jax.default_backend() != "cpu"
    if not together or len(items) < 2:
        return [function(item) for item in items]
    meeting = _Meeting(len(items))

    def work(place: int, item: _Item) -> _Made:
        _here.set((meeting, place))
        with meeting.changed:
            try:
                return function(item)
            finally:
                meeting.leave()

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, range(len(items)), items))
