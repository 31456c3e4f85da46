"""What `kim2020_revisiting_autoencoders` says: which records answer what, tables, figures."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.answers import CLEAN, Answer, answers
from experiments.kim2020_figures import figures, landscape
from experiments.kim2020_findings import findings
from experiments.kim2020_lineup import NETS, Lineup, everywhere, lineup
from experiments.kim2020_parts import AE, CONTROL, CONTROLS, DIFFERENT, SAME
from experiments.kim2020_predictions import predictions
from experiments.kim2020_tables import AMPLITUDE, architectures, checks, tables
from experiments.measuring import Around
from experiments.paper_numbers import Number, of_paper
from experiments.pooling import Query
from experiments.publish import Outcome
from experiments.views import Measured
from jaxdefense.reporting import Record

TITLE = "Kim, Kim, Lee and Ro 2020: Revisiting role of autoencoders in adversarial settings"


@dataclasses.dataclass(frozen=True)
class View(Measured):
    """The records, as tables, figures and predictions ask for them.

    Attributes:
        records: all that was measured.
        titles: the paper's name of a data set -> ours.
        teams: the paper's name of a data set -> its attackers.
        limits: the paper's name of a data set -> the l2 radius that holds every image.
    """

    titles: Mapping[str, str]
    teams: Mapping[str, Lineup]
    limits: Mapping[str, float]

    def query(self, dataset: str, defence: str, weakest: bool = False, **fields: Any) -> Query:
        """A query for an accuracy of white-box attackers, unless the fields say otherwise."""
        same = {"dataset": self.titles[dataset], "defence": defence, "metric": "accuracy"}
        return Query({"knowledge": "white-box", **same, **fields}, weakest)

    def clean(self, dataset: str, defence: str) -> Query:
        """Without an attack."""
        return self.query(dataset, defence, attack="none", knowledge="none")

    def strongest(self, dataset: str, defence: str, eps: float) -> Query:
        """The l-inf attacker that leaves least at a radius, whatever it knows."""
        same = {"dataset": self.titles[dataset], "defence": defence, "metric": "accuracy"}
        return Query({**same, "norm": "linf", "eps": eps}, weakest=True)

    def black_box(self, dataset: str, defence: str, eps: float) -> Query:
        """The same of those who see neither the weights nor the gradients of what they attack."""
        knowledge = {r.knowledge for r in self.records if r.eps > 0} - {"white-box"}
        return self.query(
            dataset, defence, weakest=True, norm="linf", eps=eps, knowledge=tuple(knowledge)
        )

    def unbounded(self, dataset: str, defence: str, attack: str | tuple[str, ...]) -> Query:
        """A minimum-norm attack without a radius."""
        eps, weakest = self.limits[dataset], isinstance(attack, tuple)
        return self.query(dataset, defence, weakest, norm="l2", attack=attack, eps=eps)

    def seeds(self, dataset: str, defence: str) -> dict[str, tuple[int, ...]]:
        """The seeds for which a network was measured, as a field of a query."""
        about = (self.titles[dataset], defence)
        return {"seed": tuple({r.seed for r in self.records if (r.dataset, r.defence) == about})}


def outcome(
    config: Any, titles: Mapping[str, str], shapes: Mapping[str, tuple],
    records: Sequence[Record], around: Mapping[str, Around],
) -> Outcome:  # fmt: skip
    """All that is published.

    Args:
        config: of the script.
        titles: the paper's name of a data set -> ours.
        shapes: the paper's name of a data set -> shape of its images.
        records: all that was measured.
        around: title -> losses and gradients around images, where they were looked at.
    """
    settings = {"MNIST": config.mnist, "CIFAR-10": config.cifar10}
    teams = {name: lineup(config, settings[name]) for name in titles}
    limits = {name: everywhere(shape) for name, shape in shapes.items()}
    view = View(records, titles, teams, limits)
    asked = lambda number: _not_trained(config, settings, number) or ask(view, number)
    found = answers(of_paper("4"), records, asked)
    return Outcome(
        paper="4",
        title=TITLE,
        question="Does an autoencoder in front of a classifier trained behind it withstand "
        "attackers who know it?",
        findings=findings(view),
        setting=_setting(config, settings, view),
        records=records,
        answers=found,
        headlines=[answer for answer in found if _headline(answer)],
        predictions=predictions(view),
        tables=[*tables(view), *checks(around), *architectures(config)],
        figures=[*figures(view), *landscape(around)],
    )


def _not_trained(config: Any, settings: Mapping[str, Any], number: Number) -> str:
    """Why a run has no network for a number, where its settings leave it out."""
    setting = settings[number.dataset]
    groups = (*setting.every, *setting.once)
    if number.table.startswith("2") and "substitutes" not in groups:
        return "no substitutes are trained by this run"
    if number.table.startswith("3"):
        trained = {f"joint lambda={weight:g}" for weight in (0, *config.lambdas)}
        trained |= {f"alternating gamma={count}" for count in (0, *config.gammas)}
        if "nets" not in groups or number.defence not in trained:
            return f"{number.defence} is not trained by this run"
    return ""


def ask(view: View, number: Number) -> Mapping[str, Query] | str:
    """Which records answer a printed number, or why none do."""
    dataset, defence = number.dataset, number.defence
    if dataset not in view.titles:
        return f"this run leaves out {dataset}"
    if number.table == "4":
        amplitude = lambda name: view.query(dataset, name, metric=AMPLITUDE)
        control = {"control": amplitude(CONTROL)} if defence != "none" else {}
        return {"as attacked": amplitude(defence)} | control
    if number.table.startswith("3"):
        return _joint(view, number)
    if number.attack == "none":
        return _sides(lambda name: view.clean(dataset, name), defence, "as attacked")
    team, eps = view.teams[dataset], number.radius
    named = {"fgsm": team.fgsm, "pgd": team.pgd, "cw c=0": team.cw, "deepfool": team.deepfool}
    attack = named[number.attack].name
    if not number.eps:
        asked = _sides(
            lambda name: view.unbounded(dataset, name, attack), defence, "as attacked", "white-box"
        )
        every = tuple(each.name for each in (team.cw, team.deepfool, *team.closest, *team.hasty))
        return asked | {"strongest": view.unbounded(dataset, defence, every)}
    strongest = {
        "strongest": view.strongest(dataset, defence, eps), CLEAN: view.clean(dataset, defence)
    }  # fmt: skip
    white_box = lambda name: view.query(dataset, name, attack=attack, eps=eps)
    if number.table == "1":
        return _sides(white_box, defence, "as attacked", "white-box") | strongest
    kind = SAME if "same" in number.phase else DIFFERENT
    source = f"transfer, {kind}" + ("" if defence == "none" else ", with AE")
    shown = lambda name: view.query(dataset, name, attack=attack, eps=eps, knowledge=source)
    # A claim about black boxes is judged by them; what the white box does stands beside it.
    beyond = {
        "strongest": view.black_box(dataset, defence, eps), CLEAN: view.clean(dataset, defence)
    }  # fmt: skip
    return _sides(shown, defence, "as attacked") | {"white-box": white_box(defence)} | beyond


def _sides(query, defence: str, *columns: str) -> dict[str, Query]:
    """The same for the defence and, of the defence only, for the best control."""
    asked = {column: query(defence) for column in columns}
    if defence == "none":
        return asked
    control = dataclasses.replace(query((CONTROL, *CONTROLS)), best=True)
    return asked | {"control": control}


def _joint(view: View, number: Number) -> dict[str, Query]:
    """Table 3; without any reconstruction, joint and alternating training are the same."""
    team, bare = view.teams[number.dataset], "joint lambda=0"
    defence = bare if number.defence == "alternating gamma=0" else number.defence
    attack = {"fgsm": team.fgsm, "pgd": team.pgd}[number.attack].name
    white_box = lambda name: view.query(
        number.dataset, name, attack=attack, eps=number.radius, model=NETS
    )
    asked = {"as attacked": white_box(defence), "white-box": white_box(defence)}
    asked["strongest"] = view.strongest(number.dataset, defence, number.radius)
    return asked if defence == bare else asked | {"control": white_box(bare)}


def _headline(answer: Answer) -> bool:
    number = answer.number
    if number.table == "2a" and number.defence == AE:
        return (number.attack, number.eps) in (("pgd", "80"), ("pgd", "10"))
    if number.defence != AE:
        return number.defence == "joint lambda=4" and (number.attack, number.eps) == ("pgd", "20")
    chosen = (("fgsm", "80"), ("pgd", "20"), ("pgd", "5"), ("deepfool", ""))
    return number.table == "1" and (number.attack, number.eps) in chosen


_GROUPS = {
    "hardened": "adversarial training", "readings": "other readings of AE-C",
    "controls": "further controls", "smoothed": "temperature and GCE", "nets": "table 3",
    "substitutes": "substitutes",
}  # fmt: skip
"""What `Setting.once` names, in words."""


def _setting(config: Any, settings: Mapping[str, Any], view: View) -> str:
    networks = "; ".join(
        f"{name}: {s.model}" + (f" of width {s.width}" if s.width else "")
        + f", autoencoder {s.autoencoder_widths}, substitute {s.substitute}"
        + (f" of width {s.substitute_width}" if s.substitute_width else "")
        + f", {s.n_train or 'all'} training images"
        + (
            f" ({s.n_other} for autoencoders and further networks)" if s.n_other else ""
        )
        + f", for classifiers shifted by up to {s.classifier.shift} pixels"
        + (
            f", hardened by PGD-{s.hardening_steps} at "
            f"{' then '.join(f'{eps:g}' for eps in s.hardening_eps)}/255 in "
            f"{s.hardening.epochs} epochs each" if "hardened" in (*s.every, *s.once) else ""
        )
        + f", {s.n_eval} attacked of each seed; for the first"
        f" seed only: {', '.join(_GROUPS[name] for name in s.once) or 'nothing'}; PGD of {s.steps} "
        f"steps of {s.step_size:g} of the radius"
        for name, s in settings.items() if name in view.titles
    )  # fmt: skip
    groups = {name for s in settings.values() for name in (*s.every, *s.once)}
    sums = ": 784 and 3136 are what 1 and 4 would be of a sum" * (784 in config.lambdas)
    return (
        f"Seeds {', '.join(map(str, config.seeds))}. {networks}. "
        + "What is trained at a temperature is tested at 1. " * ("smoothed" in groups)
        + "CW and DeepFool are unbounded: their accuracies are failures of the attack, and the "
        f"norms are told in a table. Lambda weighs the mean squared error of a pixel{sums}. The "
        "paper's substitute on CIFAR-10 is ResNet-110, its VGG-16 of width 64."
    )
