"""What `mandal2023_convolutional_autoencoder` measures for the paper's tables, of one seed."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from experiments import measuring
from experiments.cells import WHITE_BOX, curve, known, shown
from experiments.mandal2023_functions import dropping
from experiments.mandal2023_lineup import FEW, Lineup, grids
from experiments.mandal2023_parts import (
    AUTOENCODERS,
    CODED_AE,
    FIXED,
    LARGE,
    PGD_AE,
    RADII,
    Parts,
)
from experiments.readings import instead
from jaxdefense import Purified, eot
from jaxdefense.reporting import Record
from jaxdefense.typing import Classifier

DROPOUT, TRAINING = ", dropout on", ", dropout on, training images"
"""Added to a classifier's name where it is scored as the public code does it."""
SMALL = 0.1
"""A radius below those that tables 1 and 2 compare at, where something is left."""


def attacked(team: Lineup, config: Any, dataset: str, parts: Parts) -> Iterator[Record]:
    """The classifier, and the autoencoders in front of it, attacked in every way.

    Args:
        team: the attackers.
        config: of the script.
        dataset: the paper's name for the data.
        parts: what was trained.
    """
    yield from _bare(team, dataset, parts)
    yield from _transferred(team, config, dataset, parts)
    yield from _coded(team, config, dataset, parts)
    for name in AUTOENCODERS.values():
        yield from _white_box(team, config, dataset, parts, name)
    few = dataclasses.replace(parts.study, n_eval=config.n_adaptive)
    coded, at = parts.behind(CODED_AE), (RADII[CODED_AE],)
    mean = eot(coded, config.draws)
    for each, source in ((team.fgsm_mean, mean), (team.pgd_mean, mean), (team.grey, None)):
        yield from curve(few, parts.model, CODED_AE, each, coded, at, source)


def _bare(team: Lineup, dataset: str, parts: Parts) -> Iterator[Record]:
    """Classifiers without a defence; of VGG-16 what the tables print only."""
    study, net, large = parts.study, parts.net, parts.large
    fgsm, pgd = grids(dataset)
    yield measuring.clean(study, parts.model, "none", net)
    for each in (team.free, *team.suite, team.grey):
        yield from curve(study, parts.model, "none", each, net, tuple(sorted({*fgsm, *pgd})))
    if large is not None:
        yield measuring.clean(study, LARGE, "none", large)
        for each, eps in ((team.coded_fgsm, fgsm), (team.fgsm, fgsm), (team.pgd, pgd)):
            yield from shown(
                study, LARGE, each, large, {"none": large}, eps, knowledge=WHITE_BOX, alone=1
            )


def _transferred(team: Lineup, config: Any, dataset: str, parts: Parts) -> Iterator[Record]:
    """Examples crafted on the classifier alone, without the faults of the public code."""
    study, net, model = parts.study, parts.net, parts.model
    defended = {name: parts.behind(name) for name in parts.autoencoders}
    others: dict[str, Classifier] = {**defended, **parts.controls}
    for name, deployed in others.items():
        yield measuring.clean(study, model, name, deployed)
    fgsm, pgd = grids(dataset)
    for name in (n for n in FIXED if n in parts.controls):
        for each in (team.free, *team.suite):
            yield from curve(study, model, name, each, parts.controls[name], pgd)
    at = [(team.fgsm, fgsm), (team.coded_fgsm, fgsm), (team.pgd, pgd)]
    for each, eps in (*at, *((leak, FEW) for leak in team.leaks)):
        functions = {"none": net, **others}
        yield from known("none", study, model, each, net, functions, eps, alone=config.draws)


def _coded(team: Lineup, config: Any, dataset: str, parts: Parts) -> Iterator[Record]:
    """With the faults of the public code: dropout on, logits for a loss, training images."""
    study, net, data = parts.study, dropping(parts.net), parts.study.data
    functions: dict[str, Classifier] = {"none": net}
    functions |= {name: parts.behind(name, net) for name in parts.autoencoders}
    fgsm, pgd = grids(dataset)
    at = functools.partial(known, "none", alone=config.draws)
    for each, eps in ((team.coded_fgsm, fgsm), (team.pgd, (RADII[PGD_AE],))):
        yield from at(study, parts.model + DROPOUT, each, net, functions, eps)
    again = instead(study, data.x_train, data.y_train, "training images")
    yield from at(again, parts.model + TRAINING, team.coded_pgd, net, {"none": net}, pgd)


def _white_box(
    team: Lineup, config: Any, dataset: str, parts: Parts, name: str
) -> Iterator[Record]:
    """An autoencoder with its noise, attacked through the whole."""
    few = dataclasses.replace(parts.study, n_eval=config.n_adaptive)
    deployed, model = parts.behind(name), parts.model
    mean = eot(deployed, config.draws)
    quiet = Purified(parts.autoencoders[name], parts.net)
    fgsm, pgd = grids(dataset)
    at = (RADII[name],)
    grid = tuple(sorted({*fgsm, *pgd, *at}))
    yield from curve(few, model, name, team.fgsm_mean, deployed, fgsm, mean, method="grid")
    yield from curve(few, model, name, team.pgd_mean, deployed, grid, mean)
    for each in team.noiseless:
        yield from curve(few, model, name, each, deployed, grid, quiet, knowledge=WHITE_BOX)
    yield from curve(few, model, name, team.grey, deployed, grid)
    for each in team.blind:
        yield from curve(few, model, name, each, deployed, at)
    if name in config.rand:
        beyond = tuple(eps for eps in grid if eps >= SMALL)
        yield from curve(few, model, name, team.rand, deployed, beyond, mean)
