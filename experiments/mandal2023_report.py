"""What `mandal2023_convolutional_autoencoder` says: which records answer which printed number."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import mandal2023_ablations, mandal2023_tables
from experiments.answers import CLEAN, Answer, answers
from experiments.mandal2023_architectures import layers, sizes
from experiments.mandal2023_cells import SMALL
from experiments.mandal2023_figures import figures
from experiments.mandal2023_lineup import averaged, lineup
from experiments.mandal2023_parts import (
    AUTOENCODERS,
    CODED_AE,
    CONTROLS,
    DEFENSE_GAN,
    FGSM_AE,
    FIXED,
    PGD_AE,
    PUVAE,
    RADII,
    SECOND,
    Parts,
)
from experiments.mandal2023_predictions import predictions
from experiments.mandal2023_view import COLUMNS, GAIN, View, gains
from experiments.paper_numbers import Number, of_paper
from experiments.pooling import Cell, Query
from experiments.publish import Outcome
from experiments.telling import percent
from jaxdefense import attacks, linf
from jaxdefense.reporting import Record, Table

TITLE = "Mandal 2023: Defense against adversarial attacks using convolutional auto-encoders"
QUESTION = (
    "Does an autoencoder with noise on its code withstand FGSM and PGD? The paper crafts its "
    "examples on the classifier alone, with dropout on; without a defence, PGD is on training "
    "images, and on Fashion-MNIST it takes seven steps."
)
DEFENCES = {"convAE (ours)": FGSM_AE, DEFENSE_GAN: DEFENSE_GAN, PUVAE: PUVAE}
"""Names in table 3."""


def outcome(config: Any, first: Mapping[str, Parts], records: Sequence[Record]) -> Outcome:
    """All that is published.

    Args:
        config: of the script.
        first: the paper's name of a data set -> what was trained with the first seed.
        records: all that was measured.
    """
    titles = {dataset: parts.study.data.title for dataset, parts in first.items()}
    teams = {dataset: lineup(config, dataset) for dataset in first}
    view = View(records, titles, teams, next(iter(first.values())).model, config)
    view = dataclasses.replace(view, records=[*records, *gains(view)])
    found = answers(of_paper("2"), view.records, functools.partial(ask, view))
    return Outcome(
        paper="2",
        title=TITLE,
        question=QUESTION,
        findings=_findings(view),
        setting=_setting(view),
        records=view.records,
        answers=found,
        headlines=[answer for answer in found if _headline(answer)],
        predictions=predictions(view),
        tables=_tables(view, found, first),
        figures=figures(view, first),
    )


def _tables(view: View, found: Sequence[Answer], first: Mapping[str, Parts]) -> list[Table | str]:
    made = mandal2023_tables.tables(view, found, first) + mandal2023_ablations.tables(view, first)
    return [*(table for table in made if table.rows), sizes(first), *layers(first)]


def ask(view: View, number: Number) -> Mapping[str, Query] | str:
    """Which records answer a printed number, or why none do."""
    kind = "fgsm" if "fgsm" in number.attack else "pgd"
    dataset = number.dataset
    if number.metric == GAIN:
        dataset = "Fashion-MNIST" if "F-MNIST" in number.attack else "MNIST"
    if dataset not in view.titles:
        return f"this run leaves out {dataset}"
    if number.metric == GAIN:
        same: dict[str, Any] = {"metric": GAIN, "eps": RADII[AUTOENCODERS[kind]]}
        query = functools.partial(view.query, dataset, AUTOENCODERS[kind], **same)
        return {column: query(knowledge=column) for column in COLUMNS}
    if number.table == "3":
        return _baseline(view, number, dataset)
    defence = AUTOENCODERS[kind] if number.defence == "convAE" else "none"
    eps = number.radius
    asked = view.ways(dataset, defence, kind, eps)
    if eps == 0:  # nobody attacks, so all test images count
        del asked["white-box"], asked["strongest"]
        asked["corrected"] = view.clean(dataset, defence)
    if number.table == "third-party":
        # That run scores in evaluation mode, with the public code's attacks.
        team = view.teams[dataset]
        name = (team.coded_fgsm if kind == "fgsm" else team.pgd).name
        own = CODED_AE if (kind, defence) == ("fgsm", FGSM_AE) else defence
        asked["as attacked"] = view.transferred(dataset, own, name, eps)
    if defence != "none":
        asked |= _beside(view, dataset, defence, kind, eps)
    return asked


def _beside(view: View, dataset: str, defence: str, kind: str, eps: float) -> dict[str, Query]:
    """The best control on the same examples; and the defence on the same images, clean."""
    query = view.corrected(dataset, SECOND, kind, eps)
    return {
        "control": Query({**query.fields, "defence": CONTROLS}, best=True),
        CLEAN: view.corrected(dataset, defence, kind, 0.0),
    }


def _baseline(view: View, number: Number, dataset: str) -> Mapping[str, Query] | str:
    """Table 3: what the defences leave on the paper's examples, and how long they take."""
    if number.attack == "none":
        return {"as attacked": view.clean(dataset, "none")}
    defence = DEFENCES[number.defence]
    if number.metric == "latency":
        # Printed per mini-batch, says the literature that two of the three come from.
        same: dict[str, Any] = {"metric": "seconds, batch 64", "attack": "none"}
        sides = {"as attacked": defence, "control": "none"}
        return {column: view.query(dataset, name, **same) for column, name in sides.items()}
    eps = number.radius
    asked = view.ways(dataset, defence, "fgsm", eps)
    if defence == DEFENSE_GAN:  # one step says nothing of a search among images
        del asked["white-box"]
    elif defence == PUVAE:
        through = averaged(attacks.fgsm(linf), view.config.baselines.draws).name
        asked["white-box"] = view.query(
            dataset, defence, attack=through, eps=eps, knowledge="white-box"
        )
    return asked | _beside(view, dataset, defence, "fgsm", eps)


def _headline(answer: Answer) -> bool:
    number = answer.number
    if number.metric != "accuracy":
        return False
    return number.table == "2" and number.defence == "convAE"


def _findings(view: View) -> list[str]:
    told = []
    for dataset, title in view.titles.items():
        for kind, name in AUTOENCODERS.items():
            ways = view.ways(dataset, name, kind, RADII[name])
            found = [(column, view.cell(query)) for column, query in ways.items()]
            left = ", ".join(f"{column} {100 * c.value:.1f}" for column, c in found if c)
            told.append(f"{title}, {name} at {RADII[name]:g}: {left} %.")
        small = [view.strongest(dataset, name, SMALL) for name in ("none", PGD_AE)]
        if cells := view.cells(*small):
            controls = {name: view.cell(view.strongest(dataset, name, SMALL)) for name in FIXED}
            known = {name: cell for name, cell in controls.items() if cell}
            # A control of the first seed only is no match for a mean over all.
            most = max((cell.seeds for cell in known.values()), default=0)
            known = {name: cell for name, cell in known.items() if cell.seeds == most}
            best = "no control was attacked there, so whose merit that is stays open"
            if known:
                name = max(known, key=lambda name: known[name].value)
                best = f"the best control, {name}, {_counted(known[name])}"
            told.append(
                f"{title} at {SMALL:g}, strongest: the classifier alone {_counted(cells[0])}, "
                f"{PGD_AE} {_counted(cells[1])}; {best}."
            )
    return [*told, *_compared(view)]


def _counted(cell: Cell) -> str:
    """With its interval, range over seeds, images and attacker: not all have met the same."""
    return f"{cell.text()} % of {cell.n} ({cell.what})"


def _compared(view: View) -> list[str]:
    """Table 3's question: which of the three keeps most."""
    told = []
    for name in DEFENCES.values() if "MNIST" in view.titles else ():
        queries = (
            view.clean("MNIST", name), view.corrected("MNIST", name, "fgsm", 0.3),
            view.strongest("MNIST", name, SMALL),
        )  # fmt: skip
        if cells := view.cells(*queries):
            clean, seen, left = map(percent, cells)
            told.append(
                f"{name} {clean} clean, {seen} at FGSM 0.3, {left} of {cells[2].n} at {SMALL:g} "
                f"under the strongest measured ({cells[2].what})"
            )
    given = view.config.baselines
    effort = (
        f" (Of Defense-GAN an upper bound: its attackers take {given.attack_steps} steps, and "
        f"{given.latent_steps} on the code. Both are smaller and trained for less long than their "
        "authors', which shows in what they leave of clean images and of FGSM.)"
    )
    return ["Table 3 on MNIST: " + "; ".join(told) + f".{effort * (len(told) > 1)}"] if told else []


def _setting(view: View) -> str:
    config = view.config
    given, met = config.baselines, config.pgd_met
    gan = ", ".join(map(str, config.seeds[: given.gan_seeds]))
    noiseless = "*, *".join(each.name for each in next(iter(view.teams.values())).noiseless)
    return (
        "From eps 0.5 every image can be made the same grey, so that nobody can be right more "
        "often than the largest class. *fgsm-logit*: on the true logit, as the public code; "
        f"*{noiseless}*: on the defence without its noise; *latent-{given.latent_steps}*: so "
        "many steps on Defense-GAN's code, *choice*: on which class's reconstruction PuVAE takes; "
        'of FGSM "as attacked" is of the autoencoder that was '
        "trained as coded, the other columns of the one without the code's faults. "
        f"{view.model} with dense layers {config.hidden} (paper: width 64, 4096 and 4096), "
        f"autoencoder as in the paper; {config.n_train or 'all'} training images of each set, of "
        f"which a tenth is held out; {config.classifier.epochs} epochs for the classifier, "
        f"{config.fgsm_ae.epochs} for {FGSM_AE}, "
        f"{config.pgd_ae.epochs} for {PGD_AE}, whose examples take {met[0]} steps of {met[1]:g} "
        f"(paper: 15, 5, 40 of 0.01); seeds {', '.join(map(str, config.seeds))}, of each "
        f"{config.n_eval} test images attacked, {config.n_adaptive} through random defences, "
        f"whose gradients are means of {config.draws} draws. Defense-GAN: "
        f"{given.gan_features} channels, {given.gan.epochs} epochs of {given.updates} critic "
        f"updates for each of the generator, R={given.restarts}, L={given.steps} (its authors: 64, "
        f"200,000 updates, 5, 10, 200), seeds {gan}; PuVAE: {given.vae_features} channels of "
        f"{given.kernel} x {given.kernel}, {given.vae.epochs} epochs (32 of 7 x 7); "
        f"{given.n_eval} static images, {given.n_adaptive} attacked. "
        "Batch norm always uses its trained statistics: the code's batch statistics couple the "
        "images of a batch. Gains subtract what is left of the classifier alone of "
        f"{config.n_eval} images, also where the autoencoder has met attackers of all of it on "
        f"{config.n_adaptive}. Latencies side by side are of 64 images at once (control: without a "
        "defence); those of one image have a table of their own."
    )
