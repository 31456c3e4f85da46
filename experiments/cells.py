"""Cells that several scripts measure alike, without a word: their bars say how far they are."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments import measuring
from experiments.harness import Study
from jaxdefense.attacks import gaussian
from jaxdefense.evaluation.expense import latency
from jaxdefense.evaluation.identity import identity
from jaxdefense.reporting import Record

WHITE_BOX = "white-box"
"""What an attacker is called who differentiates the very function that is scored."""


def silent(line: str) -> None:
    """Says nothing."""


curve = functools.partial(measuring.curve, progress=silent)
shown = functools.partial(measuring.static, progress=silent)
minimum = functools.partial(measuring.minimum, progress=silent)


def known(defence: str, *given: Any, called: str = WHITE_BOX, **settings: Any) -> Iterator[Record]:
    """Examples shown to several functions, of which one is the very one that they are crafted on.

    Args:
        defence: the name of that one.
        called: what the attacker is called there, who crafts on all that is scored.
        *given, **settings: of `measuring.static`.
    """
    for record in shown(*given, **settings):
        own = record.defence == defence
        yield dataclasses.replace(record, knowledge=called) if own else record


def timed(study: Study, function: Any, size: int, repeats: int, **about: str) -> Record:
    """Seconds of a call (median), as a record with the metric ``seconds, batch <size>``.

    Args:
        study: data, folder, seed.
        function: any; compiled and called once before.
        size: images in a batch.
        repeats: calls that are timed.
        **about: model and defence.
    """
    x, y = (np.resize(a, (size, *a.shape[1:])) for a in study.examples)
    name = identity(gaussian(), function, x, y, [0.0], study.key, None, f"{repeats} times")
    low, median, high = sorted(measuring.kept(
        study.folder / "sweeps" / f"seconds-{name[:16]}.json",
        lambda: list(latency(function, x, repeats=repeats, warmup=1)),
    ))  # fmt: skip
    return measuring.cell(
        study, attack="none", knowledge="none", norm="linf", eps=0.0,
        metric=f"seconds, batch {size}", value=median, low=np.nan, high=np.nan, n=size,
        gradients=0, forwards=size * repeats,
        note=f"quartiles {low:.3g} and {high:.3g} of {repeats}", **about,
    )  # fmt: skip
