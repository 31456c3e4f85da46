"""What `gilbert2020_denoising` says: which records answer which printed number, and the page."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import gilbert2020_tables
from experiments.answers import Answer, answers
from experiments.cells import WHITE_BOX
from experiments.gilbert2020_cells import (
    LOSS,
    OWN,
    RECRAFTED,
    RESNETS_AE,
    TRAINING,
    TRANSFER,
    Lineup,
    lineup,
)
from experiments.gilbert2020_figures import figures
from experiments.gilbert2020_functions import (
    EFFICIENT,
    EPS,
    RESNET,
    SEPRE,
    TITLES,
    label,
    printed_attacks,
)
from experiments.gilbert2020_parts import (
    AE,
    BARE,
    CODED,
    FILTERS,
    INITIAL,
    LAST,
    ONLY_CLEAN,
    SECOND,
    UNTRAINED,
    Parts,
    tag,
)
from experiments.gilbert2020_predictions import predictions
from experiments.measuring import OBLIVIOUS
from experiments.paper_numbers import Number, of_paper
from experiments.pooling import Query
from experiments.publish import Outcome
from experiments.telling import percent
from experiments.views import Measured
from jaxdefense.reporting import Record

TITLE = "Gilbert 2020: Denoising with networks, a black-box defense to adversarial attacks"
QUESTION = (
    "Does a small denoising autoencoder in front of a classifier withstand FGSM and PGD? The paper "
    "crafts its examples once, on the network before fine-tuning and without the autoencoder; its "
    "public code besides on un-normalised images and with a loss of clipped probabilities."
)
COLUMNS = ("as attacked", "corrected", "re-crafted", "white-box", "strongest", "control")
"""How a printed number is answered: on the examples of the public code; without its faults; on
examples made anew on the fine-tuned network alone; through the whole; by the attacker that leaves
least; and, on the corrected examples, by the best control."""
KINDS = {"fgsm": 0, "pgd10": 1, "pgd": 1}


@dataclasses.dataclass(frozen=True)
class View(Measured):
    """What was measured.

    Attributes:
        config: of the script.
        trained: names of the networks of this run.
        team: the attackers.
    """

    config: Any
    trained: Sequence[str]
    team: Lineup

    def model(self, name: str, coded: bool = False) -> str:
        """A network in records."""
        return label(self.config, name) + CODED * coded

    def query(
        self, name: str, defence: str, coded: bool = False, weakest: bool = False, **fields: Any
    ) -> Query:
        """A number about one network and defence; an accuracy unless the fields say otherwise."""
        same = {"model": self.model(name, coded), "defence": defence, "metric": "accuracy"}
        return Query({**same, **fields}, weakest)

    def clean(self, name: str, defence: str, coded: bool = False) -> Query:
        """Without an attack."""
        return self.query(name, defence, coded, attack="none", knowledge="none")

    def attack(self, kind: str, coded: bool = False) -> str:
        """Name of one of the paper's attacks."""
        return printed_attacks(coded)[KINDS[kind]].name

    def static(
        self, name: str, defence: str, kind: str, coded: bool = False, eps: float = EPS
    ) -> Query:
        """Examples crafted once on the network before its fine-tuning."""
        known = OWN if defence == BARE and not coded else OBLIVIOUS
        attack = self.attack(kind, coded)
        return self.query(name, defence, coded, attack=attack, knowledge=known, eps=eps)

    def whole(
        self, name: str, defence: str, kind: str, coded: bool = False, eps: float = EPS
    ) -> Query:
        """The same attack through all that is scored; as coded, PGD without its faults only."""
        attack = self.attack(kind)
        return self.query(name, defence, coded, attack=attack, knowledge=WHITE_BOX, eps=eps)

    def known(self, name: str, defence: str, attack: str, eps: float = EPS) -> Query:
        """An attack through all that is scored, by its name."""
        return self.query(name, defence, attack=attack, knowledge=WHITE_BOX, eps=eps)

    def recrafted(self, name: str, kind: str, front: str = AE) -> Query:
        """Examples crafted anew on the fine-tuned network alone."""
        defence, attack = tag(front, LAST), self.attack(kind)
        known = OWN if front == BARE else RECRAFTED
        return self.query(name, defence, attack=attack, knowledge=known, eps=EPS)

    def strongest(self, name: str, defence: str, eps: float = EPS) -> Query:
        """The attacker that leaves least, whatever it knows."""
        return self.query(name, defence, weakest=True, norm="linf", eps=eps)

    def transferred(self, name: str, defence: str, kind: str, coded: bool = False) -> Query:
        """ResNet-20's examples on another network, behind ResNet-20's autoencoder or bare."""
        if name == RESNET:
            return self.static(name, AE if defence == RESNETS_AE else defence, kind, coded)
        attack = self.attack(kind, coded)
        return self.query(name, defence, coded, attack=attack, knowledge=TRANSFER, eps=EPS)

    def ways(self, name: str, front: str, phase: str, kind: str) -> dict[str, Query]:
        """One query for each of `COLUMNS` that applies to a cell of tables 2 and 3."""
        defence = tag(front, phase)
        asked: dict[str, Query]
        if kind == "none":
            asked = {
                "as attacked": self.clean(name, defence, coded=True),
                "corrected": self.clean(name, defence),
            }
            if front == AE:
                asked["control"] = self.control(self.clean(name, AE), phase)
            return asked
        asked = {
            "as attacked": self.static(name, defence, kind, coded=True),
            "corrected": self.static(name, defence, kind),
        }
        if phase == LAST:
            asked["re-crafted"] = self.recrafted(name, kind, front)
        asked["white-box"] = self.whole(name, defence, kind)
        asked["strongest"] = self.strongest(name, defence)
        if front == AE:
            asked["control"] = self.control(self.static(name, AE, kind), phase)
        return asked

    def control(self, query: Query, phase: str) -> Query:
        """What keeps most of the same images without a trained autoencoder."""
        own = [tag(each, phase) for each in FILTERS]
        others = (SECOND, UNTRAINED) if phase == INITIAL else ()
        return Query({**query.fields, "defence": (*own, *others)}, best=True)


def outcome(config: Any, first: Parts, records: Sequence[Record]) -> Outcome:
    """All that is published.

    Args:
        config: of the script.
        first: what was trained with the first seed.
        records: all that was measured.
    """
    view = View(records, config, (RESNET, SEPRE, *config.siblings), lineup(config))
    found = answers(of_paper("1"), records, functools.partial(ask, view))
    return Outcome(
        paper="1",
        title=TITLE,
        question=QUESTION,
        findings=_findings(view),
        setting=_setting(view, first),
        records=records,
        answers=found,
        headlines=[answer for answer in found if _headline(answer)],
        predictions=predictions(view),
        tables=gilbert2020_tables.tables(view, found, first),
        figures=figures(view, first),
    )


def ask(view: View, number: Number) -> Mapping[str, Query] | str:
    """Which records answer a printed number, or why none do."""
    kind = number.attack or "none"
    if number.table == "model-search":
        return _searched(view, number, kind)
    if number.metric.startswith("train MSE"):
        return {
            "as attacked": view.query(SEPRE, AE, coded=True, metric=LOSS),
            "corrected": view.query(SEPRE, AE, metric=LOSS),
        }
    name = number.model.lower().replace("-", "")
    if number.phase == "train split":
        model, attack = view.model(name, coded=True) + TRAINING, view.attack(kind)
        known = OBLIVIOUS
        query = view.query(name, BARE, model=model, attack=attack, eps=EPS, knowledge=known)
        return {"as attacked": query}
    phase = {"finetuned": LAST}.get(number.phase, number.phase.partition(" ")[0])
    return view.ways(name, number.defence, phase, kind)


def _searched(view: View, number: Number, kind: str) -> Mapping[str, Query] | str:
    """The model search: ResNet-20's examples and autoencoder with other networks."""
    name, front = number.model, BARE if number.defence == BARE else RESNETS_AE
    if name not in view.trained:
        return f"{TITLES[name]} is not trained by this run, for time; --preset paper trains all"
    own = AE if name == RESNET and front == RESNETS_AE else front
    if kind == "none":
        return {
            "as attacked": view.clean(name, own, coded=True),
            "corrected": view.clean(name, own),
        }
    return {
        "as attacked": view.transferred(name, front, kind, coded=True),
        "corrected": view.transferred(name, front, kind),
        "white-box": view.whole(name, own, kind),
        "strongest": view.strongest(name, own),
    }


def _headline(answer: Answer) -> bool:
    number = answer.number
    return number.table in ("2", "3") and number.defence == AE and number.attack == "pgd10"


def _controls(view: View) -> list[str]:
    """What the gain on the static examples is worth: the same without the training for it."""
    told = []
    for name in (RESNET, SEPRE):
        others = {
            AE: "behind the autoencoder",
            SECOND: f"{SECOND if name == RESNET else TITLES[RESNET]} with nothing in front",
            UNTRAINED: "one trained behind an autoencoder with random weights",
            **{what: f"behind {what}" for what in FILTERS},
        }
        parts = []
        for defence, what in others.items():
            queries = view.static(name, defence, "pgd"), view.clean(name, defence)
            if cells := view.cells(*queries):
                parts.append(f"{what} {percent(cells[0])} (clean {percent(cells[1])})")
        if parts:
            told.append(f"Right of {TITLES[name]}'s static examples of PGD: {', '.join(parts)}.")
    queries = view.static(RESNET, f"{AE}, {ONLY_CLEAN}", "pgd"), view.static(RESNET, AE, "pgd")
    first = [Query({**query.fields, "seed": view.config.seeds[0]}) for query in queries]
    if cells := view.cells(*first):
        told.append(
            "An autoencoder that has met clean images only keeps "
            f"{percent(cells[0])} of ResNet-20's, the one trained to undo them {percent(cells[1])} "
            "(first seed)."
        )
    return told


def _findings(view: View) -> list[str]:
    told = []
    for name in (RESNET, SEPRE):
        bare, behind = (view.cell(view.clean(name, front)) for front in (BARE, AE))
        if bare and behind:
            both = f"{percent(bare, behind)} behind the autoencoder"
            told.append(f"{TITLES[name]} of clean images: {both}.")
        tuned = view.cells(*(view.clean(name, tag(front, LAST)) for front in (BARE, AE)))
        if tuned:
            told.append(f"{TITLES[name]} of clean images, fine-tuned: {percent(*tuned)} behind it.")
        for phase in (INITIAL, LAST):
            ways = view.ways(name, AE, phase, "pgd10")
            cells = [(column, view.cell(ways[column])) for column in COLUMNS if column in ways]
            left = ", ".join(
                f"{column} {100 * c.value:.1f}" for column, c in cells if c and column != "control"
            )
            when = "initial" if phase == INITIAL else "fine-tuned"
            told.append(f"{TITLES[name]} with the autoencoder, {when}, PGD at 8/255: {left} %.")
    return [*told, *_controls(view)]


def _setting(view: View, first: Parts) -> str:
    config = view.config
    classifier, tuned, denoiser = config.classifier, config.finetune, config.autoencoder
    held = first.study.data
    static = min(config.n_static or len(held.x_train), len(held.x_train))
    return (
        f"Networks: {', '.join(view.model(name) for name in view.trained)}; trained by Adam for "
        f"{classifier.epochs} epochs"
        + f" (EfficientNet-B0: {config.efficient.epochs})"
        * (EFFICIENT in view.trained)
        + f" (lr {classifier.lr:g}, cosine) on {len(held.x_train)} images of {held.title} "
        "(a tenth of those loaded is held out), where the paper takes pretrained ones. "
        f"Autoencoder (3,795 parameters, as published): {denoiser.epochs} epochs on clean, FGSM "
        f"and PGD images of {static} training images, kept as 8-bit images; fine-tuning on the "
        "same, the four logged rounds run0 to run3 (the last is what is fine-tuned) with lr "
        f"{tuned.lr:g} (log: 1e-4) and batches of {tuned.batch_size} (256). {len(held.x_test)} "
        f"test images clean, {config.n_eval} attacked of each seed; seeds "
        f"{', '.join(map(str, config.seeds))}. The other networks "
        "and autoencoders are of the first seed only, for time. Side "
        "by side, what stands under *as attacked* was made and attacked with the faults of the "
        "public code; corrected, white-box, strongest and control without them."
    )
