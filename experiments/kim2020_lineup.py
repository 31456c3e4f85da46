"""Who attacks what in `kim2020_revisiting_autoencoders`: every measured cell of one seed."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import optax

from experiments import measuring
from experiments.cells import silent
from experiments.kim2020_parts import AE, CONTROL, CONTROLS, HARDENED, SMOOTHED, Parts
from experiments.kim2020_settings import Setting
from experiments.measuring import Around
from experiments.paper_numbers import of_paper
from jaxdefense import attacks, l2, linf, losses
from jaxdefense.attacks import Attack
from jaxdefense.reporting import Record

NETS = "encoder+classifier"
"""The paper's name of the net whose head classifies the autoencoder's code."""


@dataclasses.dataclass(frozen=True)
class Lineup:
    """The attackers of one data set; made by `lineup`.

    Attributes:
        fgsm, pgd: as the paper attacks.
        restarted: a longer PGD, several times.
        suite, suite_of_hardened, suite_of_others: AutoAttack or a part of it, see
            `jaxdefense.attacks.SUITES`.
        losses: the PGD of the paper on other losses.
        queries: what sees no gradients, so that none can be masked.
        handed_on: examples that are shown to other networks, where FGSM ends and with momentum.
        cw, deepfool: of minimum l2 norm.
        closest: the same, and nearer to the minimum.
        hasty: the paper's two, stopped far too early.

    What is not part of a run is empty.
    """

    fgsm: Attack
    pgd: Attack
    restarted: tuple[Attack, ...]
    suite: Attack
    suite_of_hardened: Attack
    suite_of_others: Attack
    losses: tuple[Attack, ...]
    queries: tuple[Attack, ...]
    handed_on: tuple[Attack, ...]
    cw: Attack
    deepfool: Attack
    closest: tuple[Attack, ...]
    hasty: tuple[Attack, ...]


def lineup(config: Any, setting: Setting) -> Lineup:
    """The attackers of one data set."""
    steps, (more, times) = setting.steps, config.restarts
    pgd = functools.partial(attacks.pgd, linf, steps, setting.step_size)
    others = {
        # The textbook form's gradient vanishes where float32 softmax saturates; ours keeps it.
        "textbook": optax.softmax_cross_entropy_with_integer_labels,
        "margin": losses.margin,
        "dlr": losses.dlr,
    }
    searches, each = config.cw
    return Lineup(
        fgsm=attacks.fgsm(linf),
        pgd=pgd(),
        restarted=(attacks.restarts(attacks.pgd(linf, more), times),) * config.thorough,
        suite=attacks.SUITES[config.suite](linf),
        suite_of_hardened=attacks.SUITES[config.suite_of_hardened](linf),
        suite_of_others=attacks.SUITES[config.suite_of_others](linf),
        losses=tuple(
            pgd(loss=loss, name=f"pgd-{steps}-{name}")
            for name, loss in others.items()
            if config.thorough
        ),
        queries=(attacks.square(linf, config.queries), attacks.spsa(linf, 20, 16))
        * config.thorough,
        # FGSM hands on where its step ends, even where that is no better than the clean image.
        handed_on=(
            attacks.last_iterate(attacks.fgsm(linf)),
            pgd(),
            *(attacks.mifgsm(linf, 10),) * config.thorough,
        ),
        cw=attacks.carlini_wagner(l2, searches, each),
        deepfool=attacks.deepfool(l2, config.deepfool_steps, 9, stride=1.0),
        closest=(attacks.ddn(l2, min(searches * each, 1000)),) * config.thorough,
        hasty=(
            attacks.carlini_wagner(l2, 1, max(1, each // 10), step_size=0.01),
            attacks.deepfool(l2, 2, 9, stride=1.0),
        )
        if config.thorough
        else (),
    )


def printed(dataset: str, nets: bool = False) -> tuple[float, ...]:
    """The l-inf radii at which the paper attacks the classifiers, or the `NETS`, of a data set."""
    rows = (n for n in of_paper("4") if n.dataset == dataset and (n.model == NETS) == nets)
    return tuple(sorted({n.radius for n in rows if n.radius}))


def everywhere(shape: tuple[int, ...]) -> float:
    """The l2 radius that holds every image."""
    return math.sqrt(math.prod(shape))


def attack(config: Any, setting: Setting, dataset: str, parts: Parts) -> list[Record]:
    """All attackers on all networks of one data set and seed.

    Args:
        config: of the script.
        setting: of the data set.
        dataset: the paper's name for it.
        parts: what was trained.
    """
    team = lineup(config, setting)
    return [
        *_white_box(team, setting, dataset, parts),
        *_nets(team, dataset, parts),
        *_minimum(team, parts),
        *_transfer(team, setting, dataset, parts),
    ]


def _white_box(team: Lineup, setting: Setting, dataset: str, parts: Parts) -> Iterator[Record]:
    curve = functools.partial(measuring.curve, parts.study, parts.model, progress=silent)
    at = printed(dataset)
    grid = tuple(sorted({*(eps / 255 for eps in setting.eps), *at}))
    early = tuple(sorted({*at, FAINT[dataset] / 255}))
    for name, deployed in parts.deployed.items():
        yield measuring.clean(parts.study, parts.model, name, deployed)
        yield from curve(name, team.fgsm, deployed, grid, method="grid")
        yield from curve(name, team.pgd, deployed, grid)
        # What is compared meets the same attackers.
        hardened = name.endswith(HARDENED)
        compared = name in ("none", AE) or name.endswith(tuple(SMOOTHED))
        suite = team.suite_of_hardened if hardened else team.suite
        if compared or hardened:
            for each in (suite, *team.restarted):
                yield from curve(name, each, deployed, at if hardened else early)
        if not (compared or hardened) or suite != team.suite_of_others:
            yield from curve(name, team.suite_of_others, deployed, at if hardened else early)
        for each in team.losses if compared else ():
            yield from curve(name, each, deployed, early)
        for each in team.queries[: None if compared else int(name == CONTROL)]:
            yield from curve(name, each, deployed, at)


FAINT = {"MNIST": 40, "CIFAR-10": 1}
"""Radii beside the paper's, in 1 / 255, at which something is left of some networks only."""


def surroundings(dataset: str, parts: Parts) -> dict[str, Around]:
    """Losses and gradients around the attacked images, of the paper's networks and the control."""
    eps = max(printed(dataset))
    return {
        f"{parts.study.data.title}\n{'C' if name == 'none' else name}": measuring.around(
            parts.study, parts.deployed[name], eps
        )
        for name in ("none", AE, CONTROL)
    }


def _nets(team: Lineup, dataset: str, parts: Parts) -> Iterator[Record]:
    at = printed(dataset, nets=True)
    for name, net in parts.nets.items():
        yield measuring.clean(parts.study, NETS, name, net)
        for each in (team.fgsm, team.pgd, team.suite_of_others):
            yield from measuring.curve(
                parts.study, NETS, name, each, net, (0.0, *at), progress=silent,
                method="grid" if each is team.fgsm else "nested",
            )  # fmt: skip


def _minimum(team: Lineup, parts: Parts) -> Iterator[Record]:
    radii = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, everywhere(parts.study.data.image_shape))
    for name in ("none", AE, CONTROL):
        deployed = parts.deployed[name]
        for each in (team.cw, team.deepfool, *team.closest, *team.hasty):
            yield from measuring.minimum(
                parts.study, parts.model, name, each, deployed, radii, progress=silent
            )
        yield from measuring.amplitudes(parts.study, parts.model, name, deployed)


def _transfer(team: Lineup, setting: Setting, dataset: str, parts: Parts) -> Iterator[Record]:
    at = printed(dataset)
    shown = {
        name: deployed
        for name, deployed in parts.deployed.items()
        if name in ("none", AE, CONTROL, *CONTROLS) or name.endswith(tuple(SMOOTHED))
    }
    # Curves where the paper draws them, which is where such classifiers are trained for each seed.
    if "smoothed" in setting.every:
        at = tuple(sorted({*(eps / 255 for eps in setting.eps if eps), *at}))
    # The paper counts attacked images by themselves.
    static = functools.partial(measuring.static, parts.study, parts.model, progress=silent, alone=1)
    for kind, source in parts.sources.items():
        yield measuring.clean(parts.study, parts.model, f"substitute, {kind}", source)
    defended = {name: deployed for name, deployed in shown.items() if name != "none"}
    for each in team.handed_on:
        for kind, source in parts.sources.items():
            yield from static(each, source, shown, at, knowledge=f"transfer, {kind}")
        yield from static(
            each, parts.deployed["none"], defended, printed(dataset), knowledge=FROM_C
        )


FROM_C = "transfer, C"
"""Of the classifier without a defence: what an oblivious attacker has."""
