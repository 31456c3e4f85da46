"""Who attacks in `mandal2023_convolutional_autoencoder`, and at which radii."""

import dataclasses
from typing import Any

from experiments.mandal2023_functions import minus_logit, renamed, stepping
from experiments.paper_numbers import radii
from jaxdefense import attacks, l2, linf
from jaxdefense.attacks import Attack

FEW = (0.0, 0.1, 0.3, 0.6)
"""Radii of what no table prints."""


@dataclasses.dataclass(frozen=True)
class Lineup:
    """The attackers of one data set; made by `lineup`.

    Attributes:
        coded_fgsm, coded_pgd: as the public code attacks for tables 1a and 1b.
        fgsm, pgd: the same two without its faults. Like those as coded, FGSM hands on where its
            step ends, even where that is no better than the clean image.
        leaks: FGSM with other labels than the true one.
        free: PGD as it is used today, for what does not draw.
        suite: AutoAttack or a part of it, for what does not draw.
        fgsm_mean, pgd_mean: FGSM and PGD on the mean over draws of a random defence (EOT).
        noiseless: PGD and `suite` on the defence without its noise.
        grey: moves every image towards the same grey.
        blind: what sees no gradients.
        rand: AutoAttack's version for random defences.
        named: what the paper names in passing.
        minimum: the same, of minimum l2 norm.

    What is not part of a run is empty.
    """

    coded_fgsm: Attack
    coded_pgd: Attack
    fgsm: Attack
    pgd: Attack
    leaks: tuple[Attack, ...]
    free: Attack
    suite: tuple[Attack, ...]
    fgsm_mean: Attack
    pgd_mean: Attack
    noiseless: tuple[Attack, ...]
    grey: Attack
    blind: tuple[Attack, ...]
    rand: Attack
    named: tuple[Attack, ...]
    minimum: tuple[Attack, ...]


def lineup(config: Any, dataset: str) -> Lineup:
    """The attackers of one data set, by the paper's name for it."""
    (steps, size), draws, last = config.pgd, config.draws, attacks.last_iterate
    fgsm = last(attacks.fgsm(linf))
    many = bool(config.thorough)
    longer = averaged(attacks.pgd(linf, config.adaptive_steps), draws)
    leaked = (attacks.predicted, attacks.random_wrong)
    suite = () if config.suite is None else (attacks.SUITES[config.suite](linf),)
    targeted = attacks.towards(attacks.pgd(linf, 10), attacks.least_likely)
    return Lineup(
        coded_fgsm=renamed(last(attacks.fgsm(linf, loss=minus_logit)), "fgsm-logit"),
        coded_pgd=last(stepping(steps if dataset == "MNIST" else config.fashion_steps, size)),
        fgsm=fgsm,
        pgd=stepping(steps, size),
        leaks=tuple(attacks.with_labels(fgsm, chosen) for chosen in leaked) * many,
        free=attacks.pgd(linf, steps),
        suite=suite,
        fgsm_mean=averaged(attacks.fgsm(linf), draws),
        pgd_mean=attacks.restarts(longer, config.adaptive_restarts),
        noiseless=tuple(
            renamed(each, f"{each.name}-noiseless") for each in (attacks.pgd(linf, steps), *suite)
        ),
        grey=attacks.grey(linf),
        blind=(attacks.square(linf, config.queries),) * many,
        rand=averaged(attacks.SUITES["rand"](linf), draws),
        named=(attacks.bim(linf), targeted) * many,
        minimum=(attacks.ddn(l2, 50), attacks.carlini_wagner(l2, 2, 50)) * many,
    )


def averaged(attack: Attack, draws: int) -> Attack:
    """Named after the draws over which its gradients are averaged (`jaxdefense.eot`)."""
    return renamed(attack, f"{attack.name}-eot-{draws}")


def grids(dataset: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The radii of tables 1a and 1b."""
    steps = "pgd40" if dataset == "MNIST" else "pgd7"
    return radii("2", dataset, "fgsm"), radii("2", dataset, steps)
