"""What `ghosh2024_ct_denoising` measures, of one seed."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments import measuring, readings
from experiments.cells import WHITE_BOX, curve, shown
from experiments.ghosh2024_parts import (
    APART,
    BLUR,
    BORDERS,
    OWN,
    RESAMPLED,
    SECOND,
    SPLITS,
    Parts,
    counts,
    everything,
)
from experiments.harness import Study
from jaxdefense import attacks, linf
from jaxdefense.attacks import Attack
from jaxdefense.data.duplicates import similarity
from jaxdefense.evaluation import interval
from jaxdefense.reporting import Record

CLEAN = "none"
TRAINING, VALIDATION = ", training images", ", validation images"
NEAREST, LEAKED = "nearest training image", "share with a near-duplicate in training"


@dataclasses.dataclass(frozen=True)
class Lineup:
    """The attackers; made by `lineup`.

    Attributes:
        fgsm, pgd: the paper's two kinds.
        suite: AutoAttack or a part of it, empty in preset smoke.
        further: PGD with restarts, and what sees no gradients; empty in preset smoke.
        noise: no attack.
    """

    fgsm: Attack
    pgd: Attack
    suite: tuple[Attack, ...]
    further: tuple[Attack, ...]
    noise: Attack

    @property
    def printed(self) -> dict[str, Attack]:
        """The paper's two kinds by their names in tables."""
        return {"FGSM": self.fgsm, "PGD": self.pgd}


def lineup(config: Any) -> Lineup:
    """The attackers of a run."""
    suite = () if config.suite is None else (attacks.SUITES[config.suite](linf),)
    steps, times = config.restarts
    restarted = attacks.restarts(attacks.pgd(linf, steps), times)
    further = (restarted, attacks.square(linf, config.queries)) if config.queries else ()
    pgd = attacks.pgd(linf, config.steps)
    # Attacked images count, also where the step makes nothing worse.
    fgsm = attacks.last_iterate(attacks.fgsm(linf))
    return Lineup(fgsm, pgd, suite, further, attacks.gaussian())


def measured(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
    """Accuracies without an attack and under one, of one seed.

    Args:
        team: the attackers.
        config: of the script.
        parts: what was trained.
    """
    yield from _clean(config, parts)
    yield from _attacked(team, config, parts)


# ------------------------------------------------------------------------------------------- clean


def _clean(config: Any, parts: Parts) -> Iterator[Record]:
    """Without an attack: every function, every split, and what the splits let through."""
    study, net, model = parts.study, parts.net, parts.model
    for name, deployed in {**parts.defended, **parts.controls}.items():
        yield measuring.clean(study, model, name, deployed)
    held = (study.data.x_train, study.data.y_train), (study.x_val, study.y_val)
    for (x, y), ending in zip(held, (TRAINING, VALIDATION), strict=True):
        other = readings.instead(study, x, y, ending[2:])
        yield measuring.clean(other, model + ending, "none", net)
    for name in (CLEAN, *SPLITS):
        own, trained = parts.splits.get(name, (study, net))
        called = model if name == CLEAN else f"{model}, {name}"
        if name != CLEAN:
            yield measuring.clean(own, called, "none", trained)
        for what, count in counts(own).items():
            yield number(own, called, f"images {what}", count, count)
        if name not in (BORDERS, APART):
            yield from _leaks(config, own, called)
    labels = everything(study)[1]
    for label, name in enumerate(study.data.class_names):
        found = int((labels == label).sum())
        yield number(study, model, f"images of class {label}", found, found, note=name)
        shown_to = int((study.examples[1] == label).sum())
        yield number(study, model, f"attacked images of class {label}", shown_to, shown_to)
    yield number(study, model, "images in all", len(labels), len(labels))


def _leaks(config: Any, study: Study, model: str) -> Iterator[Record]:
    """What a split gives away without any learning: the label of the most similar image."""
    data = study.data
    alike = similarity(data.x_test, data.x_train)
    right = int((data.y_train[alike.argmax(1)] == data.y_test).sum())
    twins = int((alike.max(1) >= config.threshold).sum())
    for metric, count in (("accuracy", right), (LEAKED, twins)):
        low, high = interval(count, len(alike))
        yield number(
            study, f"{NEAREST}, {model}", metric, count / len(alike), len(alike), low, high
        )


def number(
    study: Study, model: str, metric: str, value: float, n: int, low: float = np.nan,
    high: float = np.nan, **about: Any,
) -> Record:  # fmt: skip
    """A reading that is no accuracy under an attack."""
    same = {"defence": "none", "attack": "none", "knowledge": "none", "eps": 0.0}
    return measuring.cell(
        study, model=model, metric=metric, value=value, n=n, low=low, high=high, norm="linf",
        gradients=0, forwards=0, **{**same, **about},
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- attacked


def _attacked(team: Lineup, config: Any, parts: Parts) -> Iterator[Record]:
    """Accuracy against radius: on the classifier's examples, and through the whole."""
    study, net, model, radii = parts.study, parts.net, parts.model, config.radii
    functions = {**parts.defended, **parts.controls}
    for each in team.printed.values():
        for record in shown(study, model, each, net, functions, radii, alone=1):
            yield dataclasses.replace(record, knowledge=_known(record.defence))
    through = functools.partial(shown, knowledge=WHITE_BOX, alone=1)
    faint = tuple(sorted({*(eps for eps in radii if 0 < eps < config.eps), config.eps / 2}))
    for name in (BLUR, RESAMPLED):
        whole = parts.controls[name]
        yield from through(study, model, team.pgd, whole, {name: whole}, faint)
        for each in (*team.suite, *team.further):
            yield from curve(study, model, name, each, whole, faint)
    for name, deployed in parts.defended.items():
        for each in team.printed.values() if name != "none" else ():
            # Counted as for the classifier alone: attacked images and each radius by themselves.
            yield from through(study, model, each, deployed, {name: deployed}, radii)
        for each in (*team.suite, *team.further):
            yield from curve(study, model, name, each, deployed, radii)
        # Each sigma by itself, or one that turns all answers into one looks no worse than the next.
        sigmas = (0.0, *config.sigmas)
        yield from curve(study, model, name, team.noise, deployed, sigmas, method="grid")


def _known(defence: str) -> str:
    """What knows who attacks the classifier of the paper, when it is this that is scored."""
    if defence == "none":
        return WHITE_BOX
    return measuring.TRANSFER if defence in (SECOND, OWN) else measuring.OBLIVIOUS
