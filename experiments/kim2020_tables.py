"""Further tables on Kim et al. 2020: every network, losses, transfers, norms, gradients."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.kim2020_lineup import FAINT, FROM_C, NETS, printed
from experiments.kim2020_parts import AE, CONTROL, CONTROLS, SMOOTHED
from experiments.measuring import Around
from experiments.pooling import Query
from experiments.views import HOW, size_of, text
from jaxdefense import models
from jaxdefense.reporting import Table

AMPLITUDE = "gradient of probability, pixel mean"
"""Our reading of equation 2: values of the printed size are means over pixels."""
UNITS = {"[0, 1]": 1, "[0, 255]": 255}


def tables(view) -> list[Table]:
    """All of them, where something was measured."""
    made = (
        _networks(view, nets=False), _networks(view, nets=True), _losses(view), _queries(view),
        _transfers(view),
        _norms(view), _gradients(view),
    )  # fmt: skip
    return [table for table in made if table.rows]


def _networks(view, nets: bool) -> Table:
    """Every network under the paper's two attacks and the strongest."""
    rows = []
    for dataset, title in view.titles.items():
        team, at = view.teams[dataset], printed(dataset, nets)
        measured = [r for r in view.records if r.dataset == title and (r.model == NETS) == nets]
        # Most of those that share an encoder are of the first seed: the others would not compare.
        one = {"seed": min(r.seed for r in measured)} if nets and measured else {}
        for defence in dict.fromkeys(r.defence for r in measured):
            untouched = view.query(dataset, defence, attack=team.pgd.name, eps=0.0)
            queries = [view.clean(dataset, defence), untouched]
            for attack in (team.fgsm.name, team.pgd.name):
                queries += [view.query(dataset, defence, attack=attack, eps=e) for e in at]
            queries += [view.strongest(dataset, defence, e) for e in at]
            queries = [dataclasses.replace(q, fields={**q.fields, **one}) for q in queries]
            rows.append(_row(view, (dataset, defence), queries, last=len(at)))
    what = "Every network"
    if nets:
        what = "Nets that share an encoder with a decoder (table 3), of the first seed"
    caption = (
        f"{what}, attacked through the whole net, at the paper's two radii (MNIST "
        f"{_radii('MNIST', nets)}, CIFAR-10 {_radii('CIFAR-10', nets)}). Clean: of all test images "
        f"and of those attacked, which the column images counts. {HOW}"
    )
    header = ["data set", "defence", "seeds", "images", "clean, all", "clean"]
    header += [f"{a}, {r}" for a in ("FGSM", "PGD", "strongest") for r in ("smaller", "larger")]
    return Table(caption, tuple(header), tuple(rows), 2)


def _radii(dataset: str, nets: bool) -> str:
    return " and ".join(f"{255 * e:.0f}/255" for e in printed(dataset, nets)) or "none"


def _row(view, about: Sequence[str], queries: Sequence[Query], last: int = 0) -> tuple[str, ...]:
    cells = [view.cell(query) for query in queries]
    attacked = next((cell for cell in (*cells[1:], cells[0]) if cell), None)
    size = (str(attacked.seeds), str(attacked.n)) if attacked else ("-", "-")
    named = len(cells) - last
    return (*about, *size, *(text(cell, i >= named) for i, cell in enumerate(cells)))


def _losses(view) -> Table:
    """What the loss of the attacker does to classifiers with saturated or flattened outputs."""
    rows = []
    for dataset in view.titles:
        team = view.teams[dataset]
        for name in ("none", *SMOOTHED) if team.losses else ():
            for defence in ("none" if name == "none" else name, _behind(name)):
                for eps in sorted({FAINT[dataset] / 255, *printed(dataset)}):
                    attacks = (team.losses[0], team.pgd, *team.losses[1:])
                    queries = [
                        view.query(dataset, defence, attack=a.name, eps=eps) for a in attacks
                    ]
                    queries.append(view.strongest(dataset, defence, eps))
                    if view.cell(queries[0]) is not None:
                        about = (dataset, defence, f"{255 * eps:.0f}/255")
                        rows.append(_row(view, about, queries, last=1))
    caption = (
        "White-box PGD on other losses. Textbook: cross-entropy as log softmax, whose gradient "
        f"vanishes where float32 saturates; cross-entropy: the same function without that. {HOW}"
    )
    header = ("data set", "defence", "radius", "seeds", "images", "textbook", "cross-entropy",
              "margin", "DLR", "strongest")  # fmt: skip
    return Table(caption, header, tuple(rows), 2)


def _queries(view) -> Table:
    """Attacks that see no gradients, beside those that do."""
    rows = []
    for dataset in view.titles:
        team = view.teams[dataset]
        shown = ("none", AE, CONTROL, *(n for s in SMOOTHED for n in (s, f"{AE}, {s}")))
        for defence in shown if team.queries else ():
            for eps in printed(dataset):
                queries = [
                    view.query(dataset, defence, attack=a.name, eps=eps, knowledge=knowledge)
                    for a, knowledge in (
                        *((a, "none") for a in team.queries),
                        (team.fgsm, "white-box"),
                        (team.pgd, "white-box"),
                    )
                ]
                queries.append(view.strongest(dataset, defence, eps))
                if view.cell(queries[0]) is not None:
                    about = (dataset, defence, f"{255 * eps:.0f}/255")
                    rows.append(_row(view, about, queries, last=1))
    caption = (
        "Attacks without gradients and with: where those without leave less than PGD, gradients "
        "are masked (FGSM may leave more than either: one step is too weak, not blind). Strongest: "
        f"of all attackers. {HOW}"
    )
    names = [a.name for team in view.teams.values() for a in team.queries][:2]
    header = ("data set", "defence", "radius", "seeds", "images", *names, "FGSM", "PGD",
              "strongest")  # fmt: skip
    return Table(caption, header, tuple(rows), 2)


def _behind(name: str) -> str:
    return AE if name == "none" else f"{AE}, {name}"


def _transfers(view) -> Table:
    """Examples of every source shown to every target."""
    rows = []
    sources = dict.fromkeys(
        r.knowledge for r in view.records if r.note.startswith("static") and r.defence == CONTROL
    )
    for dataset in view.titles:
        team = view.teams[dataset]
        for attack in team.handed_on:
            for source in sources:
                for eps in printed(dataset):
                    fields = {"attack": attack.name, "eps": eps, "knowledge": source}
                    targets = ("none", AE, CONTROL)
                    queries = [view.query(dataset, target, **fields) for target in targets]
                    if source == FROM_C:  # where C is the source, it is no target
                        queries[0] = view.query(dataset, "none", attack=attack.name, eps=eps)
                    best = view.query(dataset, (CONTROL, *CONTROLS), **fields)
                    queries.append(dataclasses.replace(best, best=True))
                    name = "C itself" if source == FROM_C else source.partition(", ")[2]
                    about = (dataset, attack.name, name, f"{255 * eps:.0f}/255")
                    rows.append(_row(view, about, queries, last=1))
    caption = (
        "Black box: examples of every source (substitutes trained on the same images, and C) shown "
        f"to every target; of all controls the best, by its name. {HOW}"
    )
    header = ("data set", "attack", "source", "radius", "seeds", "images", "C", AE, CONTROL,
              "best control")  # fmt: skip
    return Table(caption, header, tuple(rows), 3)


def _norms(view) -> Table:
    """What unbounded attacks leave, and how far they had to go."""
    rows = []
    for dataset in view.titles:
        team = view.teams[dataset]
        for attack in (team.cw, team.deepfool, *team.closest, *team.hasty):
            for defence in ("none", AE, CONTROL):
                left = view.cell(view.unbounded(dataset, defence, attack.name))
                fields = {"attack": attack.name, "metric": "median l2 norm"}
                norm = view.cell(view.query(dataset, defence, **fields))
                if left and norm:
                    size = size_of(norm)
                    about = (dataset, defence, attack.name, str(left.seeds), str(left.n))
                    rows.append((*about, left.text(), size))
    caption = (
        "Attacks of minimum l2 norm without a radius: what they leave is their failure; the median "
        "norm (pixels in [0, 1]; over the images right without an attack; range over seeds) is "
        "the measure of robustness, and the smallest of several attacks' norms the best bound: CW "
        "of so few steps may stay far above the minimum, so DDN is beside. A "
        f"cw-1x... and a deepfool-2 are stopped far too early on purpose. {HOW}"
    )
    header = ("data set", "defence", "attack", "seeds", "images", "left", "median l2 norm")
    return Table(caption, header, tuple(rows), 3)


def _gradients(view) -> Table:
    """Table 4 in all its readings."""
    rows = []
    metrics = dict.fromkeys(r.metric for r in view.records if r.metric.startswith("gradient of"))
    for dataset in view.titles:
        for metric in metrics:
            queries = [view.query(dataset, name, metric=metric) for name in ("none", AE, CONTROL)]
            cells = [cell for cell in map(view.cell, queries) if cell]
            if len(cells) < len(queries):
                continue
            for unit, scale in UNITS.items():
                values = [f"{cell.value / scale:.2e}" for cell in cells]
                change = f"x {cells[1].value / cells[0].value:.2f}" if cells[0].value else "-"
                about = (dataset, metric, unit, str(cells[0].seeds), str(cells[0].n))
                rows.append((*about, *values, change))
    caption = (
        "Equation 2 (table 4) in its readings: mean absolute gradient at clean test images, mean "
        "over seeds. Probability: of the predicted class; softmax: summed over all classes. Pixels "
        f"in [0, 1] or [0, 255]. Side by side with the paper stands the {AMPLITUDE} (pixels in "
        "[0, 1])."
    )
    header = ("data set", "reading", "pixels", "seeds", "images", "C", AE, CONTROL, "C to AE-C")
    return Table(caption, header, tuple(rows), 3)


def checks(around: Mapping[str, Around]) -> list[Table]:
    """Whether the gradients can be trusted, if that was looked at."""
    rows = tuple(
        (title.replace("\n", ", "), *check) for title, found in around.items()
        for check in found.checks
    )  # fmt: skip
    caption = (
        "Checks of the gradients at random points within the paper's larger radius (Croce and Hein "
        "2020; first seed). A *fail* says that robust accuracies may be too high; where a network "
        "without a defence fails for few images, it is so sure of them that float32 has no "
        "gradient left."
    )
    table = Table(caption, ("network", "check", "outcome", "what was found"), rows, 4)
    return [table] if rows else []


def architectures(config: Any) -> list[str]:
    """Figures 1 and 3 of the paper as tables of layers, and what is left out."""
    widths = config.mnist.autoencoder_widths
    plain = {"width": 120, "force_terminal": False, "no_color": True}
    told = []
    for figure, name, method in (
        ("Figure 1 of the paper, the autoencoder in front of the classifier", "pooling_autoencoder",
         "__call__"),
        ("Figure 3, encoder with a classifier and a decoder", "encoder_classifier", "both"),
    ):  # fmt: skip
        model = models.build(name, widths=widths)
        x = np.zeros((1, 28, 28, 1), np.float32)
        text = model.tabulate(jax.random.key(0), x, method=method, console_kwargs=plain)
        told.append(f"{figure} (MNIST, this run's widths):\n\n```\n{text.strip()}\n```")
    return [*told, _LEFT_OUT]


_LEFT_OUT = """Left out, and why:

- A control with the gradient norm of AE-C: its minimum norms and the attacks without gradients
  answer the same question.
- Widths of the autoencoder's bottleneck: one more autoencoder and classifier for each; on two cores
  there is no time for them.
- More seeds for other readings, controls and adversarial training, and PGD with more than two
  restarts, in preset `small`: its time.
- Temperature and guided complement entropy on MNIST, in preset `small`: the paper shows CIFAR-10.
- Defences and readings that the text names in passing, without a number: cascaded autoencoders,
  high-level guided denoisers, distillation, feature scattering, the comparison with Chen and
  Sirkeci-Mergen, robust and other features; PuVAE is in Mandal's script. All gradients are the
  networks' own, so that there is nothing for BPDA to replace.
- More than three seeds of table 3, where five were asked for, in preset `small`: their time. What
  every seed gains stands with the prediction.
- PGD's steps of 0.01, as others take on MNIST: here they are a tenth of the radius, at 20/255
  0.0078, so that every radius is reached and passed four times.
- The comparison of a white box at 20/255 with a black box at 80/255, which the text makes: both are
  in their tables, at the same radii."""
