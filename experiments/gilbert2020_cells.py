"""What `gilbert2020_denoising` measures: who attacks what, of one seed."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from experiments import measuring
from experiments.cells import WHITE_BOX, curve, known, shown, timed
from experiments.gilbert2020_functions import (
    EPS,
    RESNET,
    SEPRE,
    label,
    printed_attacks,
    scored,
)
from experiments.gilbert2020_parts import (
    AE,
    BARE,
    CODED,
    FILTERS,
    INITIAL,
    LAST,
    PHASES,
    SECOND,
    SMOOTH,
    UNTRAINED,
    Line,
    Parts,
    tag,
)
from experiments.harness import Study
from experiments.measuring import OBLIVIOUS
from experiments.readings import instead
from jaxdefense import attacks, linf
from jaxdefense.attacks import Attack
from jaxdefense.evaluation import craft
from jaxdefense.evaluation.identity import identity
from jaxdefense.reporting import Record

FAR = 64 / 255
"""Beyond all that the paper attacks with: what is left here says how strong an attack is."""
AT_8 = (EPS,)
TRAINING, RECRAFTED = ", training images", f"{OBLIVIOUS}, re-crafted"
TRANSFER = "transfer, ResNet-20"
ANOTHER = "transfer, another ResNet-20"
OWN = f"{WHITE_BOX}, images by themselves"
"""A network's own examples, counted like those that are shown to others: also where the clean image
is wrong."""
RESNETS_AE = "AE of ResNet-20"
ERROR, SURVIVES = "mean squared error of clean images", "share of the perturbation that is left"
LOSS, STEPS = "training loss, last epoch", "gradients to success"


@dataclasses.dataclass(frozen=True)
class Lineup:
    """The attackers beside those of the paper; made by `lineup`.

    Attributes:
        strong: PGD as it is used today, momentum, AutoAttack or a part of it, and what sees no
            gradients.
        leaks: FGSM with other labels than the true one.
        patient: in small steps, to see how many it takes.

    What is not part of a run is empty.
    """

    strong: tuple[Attack, ...]
    leaks: tuple[Attack, ...]
    patient: Attack


@functools.cache  # equal settings are the same attacks
def _lineup(
    steps: int, restarts: int, suite: str, queries: int, patience: int, many: bool
) -> Lineup:
    free = attacks.restarts(attacks.pgd(linf, steps), restarts)
    strong = (free, attacks.mifgsm(linf, 10), attacks.SUITES[suite](linf))
    chosen = (attacks.predicted, attacks.least_likely, attacks.random_wrong)
    fgsm = printed_attacks(False)[0]
    return Lineup(
        strong=(*strong, attacks.square(linf, queries)) * many,
        leaks=tuple(attacks.with_labels(fgsm, labels) for labels in chosen) * many,
        patient=attacks.bim(linf, patience, 0.05),
    )


def lineup(config: Any) -> Lineup:
    """The attackers of a run."""
    settings = (config.adaptive_steps, config.adaptive_restarts, config.suite, config.queries)
    return _lineup(*settings, config.patience, config.thorough)


def radii(config: Any) -> tuple[float, ...]:
    """Of every curve, for pixels in [0, 1]; the paper's is among them."""
    return tuple(sorted({EPS, *(eps / 255 for eps in config.radii)}))


def measured(config: Any, parts: Parts) -> Iterator[Record]:
    """All cells of one seed."""
    team, grid = lineup(config), radii(config)
    for line in parts.lines.values():
        yield _loss(parts.study, line)
        if line.coded:
            whole = line.stages(INITIAL, LAST)
            yield from _recrafted(parts.study, line, printed_attacks(False)[1:], whole, AT_8)
        else:
            yield from _white_box(team, parts.study, line, grid)
            yield from _effort(team, parts.study, line)
        # Last: of attackers that leave as little, the strongest is who comes first.
        yield from _static(parts.study, line, grid)
    yield from _on_training_images(parts)
    yield from _labels(team, parts)
    yield from _search(config, parts)
    yield from _variants(parts)
    yield from _controls(parts, grid)
    if parts.controls:
        yield from _seconds(config, parts)


def _static(study: Study, line: Line, grid: tuple[float, ...]) -> Iterator[Record]:
    """Examples crafted once on the network before fine-tuning, as the paper has them.

    As coded they are not even crafted on that: the attacker's network is not normalised.
    """
    functions = line.stages(*PHASES) | ({} if line.coded else line.filtered())
    for name, function in functions.items():
        yield measuring.clean(study, line.model, name, function)
    for attack in printed_attacks(line.coded):
        given = (study, line.model, attack, line.source, functions)
        if line.coded:
            yield from shown(*given, AT_8, alone=1)
        else:
            yield from known(BARE, *given, grid, called=OWN, alone=1)


def _recrafted(study, line, team: Iterable[Attack], functions, grid) -> Iterator[Record]:
    """Each function attacked through the whole, every radius by itself."""
    for name, function in functions.items():
        for each in team:
            yield from curve(study, line.model, name, each, function, grid, method="grid")


def _white_box(team: Lineup, study: Study, line: Line, grid: tuple[float, ...]) -> Iterator[Record]:
    """The paper's attacks on the model being assessed, as its text says; then stronger ones."""
    printed, ends = printed_attacks(False), line.stages(INITIAL, LAST)
    between = line.stages(*(phase for phase in PHASES if phase not in (INITIAL, LAST)))
    yield from _recrafted(study, line, printed, ends, grid)
    yield from _recrafted(study, line, printed, between, AT_8)
    for name, function in ends.items():
        for each in team.strong:
            yield from curve(study, line.model, name, each, function, (*grid, FAR))
    # Anew on the fine-tuned network, by an attacker who does not know of the autoencoder.
    tuned = line.deployed(LAST)
    bare, behind = tag(BARE, LAST), tag(AE, LAST)
    last = {bare: tuned, behind: line.deployed(LAST, line.purifier)}
    for each in printed:
        given = (study, line.model, each, tuned, last, AT_8)
        yield from known(bare, *given, called=OWN, knowledge=RECRAFTED, alone=1)


def _effort(team: Lineup, study: Study, line: Line) -> Iterator[Record]:
    """How many gradients it takes until an image that is right when clean is not any more."""
    for name, function in line.stages(INITIAL, LAST).items():
        given = (study, line.model, name, team.patient, function, (0.0, EPS))
        clean, last = curve(*given, method="grid")
        yield last
        right, stood = (round(record.value * record.n) for record in (clean, last))
        # Those that never fall would count as the most that anyone tries.
        spent = clean.gradients + last.gradients - stood * team.patient.cost.gradients
        if fell := right - stood:
            yield dataclasses.replace(
                last, metric=STEPS, value=spent / fell, n=fell, low=np.nan, high=np.nan,
                note=f"of those that fall within {team.patient.cost.gradients}; {stood} stand",
            )  # fmt: skip


def _loss(study: Study, line: Line) -> Record:
    """Where the training of the autoencoder ended."""
    return _number(study, line.model, AE, LOSS, line.history[-1]["loss"], line.pairs)


def _number(study, model: str, defence: str, metric: str, value: float, n: int) -> Record:
    return measuring.cell(
        study, model=model, defence=defence, attack="none", knowledge="none", norm="linf", eps=0.0,
        metric=metric, value=value, low=np.nan, high=np.nan, n=n, gradients=0, forwards=n,
    )  # fmt: skip


def _on_training_images(parts: Parts) -> Iterator[Record]:
    """The one number that is printed of them: as coded, of the network of table 3."""
    data = parts.study.data
    again = instead(parts.study, data.x_train, data.y_train, "training images")
    line = parts.lines[SEPRE, True]
    bare, (fgsm, _) = {BARE: line.deployed()}, printed_attacks(True)
    yield from shown(again, line.model + TRAINING, fgsm, line.source, bare, AT_8, alone=1)


def _labels(team: Lineup, parts: Parts) -> Iterator[Record]:
    """Whether the perturbation tells the autoencoder the label that it was made with."""
    line = parts.lines[RESNET, False]
    for each in team.leaks:
        given = (parts.study, line.model, each, line.source, line.stages(INITIAL), AT_8)
        yield from known(BARE, *given, alone=1)


def _search(config: Any, parts: Parts) -> Iterator[Record]:
    """Networks that were not attacked, on the examples and behind the autoencoder of ResNet-20."""
    study, pgd = parts.study, printed_attacks(False)[1]
    nets = {**parts.siblings, SEPRE: parts.lines[SEPRE, False].nets[INITIAL]}
    for name, net in nets.items():
        for coded in (True, False):
            line, model = parts.lines[RESNET, coded], label(config, name) + CODED * coded
            front = scored(net, coded, line.purifier)
            functions = {BARE: scored(net, coded), RESNETS_AE: front}
            for defence, function in functions.items():
                if name != SEPRE or defence != BARE:  # that is measured with its own
                    yield measuring.clean(study, model, defence, function)
            for each in printed_attacks(coded):
                given = (study, model, each, line.source, functions, AT_8)
                yield from shown(*given, knowledge=TRANSFER, alone=1)
        for defence, function in functions.items():
            if name != SEPRE or defence != BARE:
                yield from curve(study, model, defence, pgd, function, AT_8, method="grid")


def _variants(parts: Parts) -> Iterator[Record]:
    """Autoencoders of other code lengths and other inputs, beside the paper's."""
    if not parts.variants:
        return
    study, line, printed = parts.study, parts.lines[RESNET, False], printed_attacks(False)
    fronts = {AE: line.purifier}
    fronts |= {f"{AE}, {what}": front for what, front in parts.variants.items()}
    functions = {name: line.deployed(INITIAL, front) for name, front in fronts.items()}
    for name, front in {**fronts, **FILTERS}.items():
        error, left = _cleaning(study, line, printed[1], front)
        yield _number(study, line.model, name, ERROR, error, study.n_eval)
        yield _number(study, line.model, name, SURVIVES, left, study.n_eval)
    del functions[AE]
    for name, function in functions.items():
        yield measuring.clean(study, line.model, name, function)
    for each in printed:
        yield from shown(study, line.model, each, line.source, functions, AT_8, alone=1)
    yield from _recrafted(study, line, printed[1:], functions, AT_8)


def _cleaning(study: Study, line: Line, attack: Attack, front: Any) -> list[float]:
    """How blurred clean images come out, and how much of a perturbation comes through."""
    x, y = study.examples

    def measure() -> list[float]:
        changed = np.asarray(craft(attack, line.source, x, y, EPS, study.key).x_adv)
        clean, dirty = (measuring.outputs(front, each, study.key) for each in (x, changed))
        left = np.linalg.norm(dirty - clean) / max(float(np.linalg.norm(changed - x)), 1e-12)
        return [float(((clean - x) ** 2).mean()), float(left)]

    whole = line.deployed(INITIAL, front)
    name = identity(attack, whole, x, y, AT_8, study.key, line.source, "cleaning")
    return measuring.kept(study.folder / "sweeps" / f"cleaning-{name[:16]}.json", measure)


def _controls(parts: Parts, grid: tuple[float, ...]) -> Iterator[Record]:
    """The same examples shown to another network, and to one behind an untrained autoencoder.

    And the other network's examples shown to the first, bare and behind its autoencoder; and PGD
    through the whole of what has no trained autoencoder.
    """
    line, deep = parts.lines[RESNET, False], parts.lines[SEPRE, False]
    for name, function in parts.controls.items():
        yield measuring.clean(parts.study, line.model, name, function)
    for each in printed_attacks(False) if parts.controls else ():
        yield from shown(parts.study, line.model, each, line.source, parts.controls, grid, alone=1)
        given = (parts.study, line.model, each, parts.controls[SECOND], line.stages(INITIAL), AT_8)
        yield from shown(*given, knowledge=ANOTHER, alone=1)
        # To the deep network the first is another.
        other = {SECOND: line.deployed()}
        yield from shown(parts.study, deep.model, each, deep.source, other, grid, alone=1)
    if parts.controls:
        yield measuring.clean(parts.study, deep.model, SECOND, line.deployed())
        through = {tag(name, INITIAL): line.deployed(INITIAL, FILTERS[name]) for name in SMOOTH}
        through[UNTRAINED] = parts.controls[UNTRAINED]
        pgd = printed_attacks(False)[1]
        yield from _recrafted(parts.study, line, (pgd,), through, (EPS / 2, EPS))


def _seconds(config: Any, parts: Parts) -> Iterator[Record]:
    """What the autoencoder adds to the time for an answer."""
    for line in (parts.lines[name, False] for name in (RESNET, SEPRE)):
        for name, function in line.stages(INITIAL).items():
            about = {"model": line.model, "defence": name}
            yield timed(parts.study, function, 64, config.repeats, **about)
