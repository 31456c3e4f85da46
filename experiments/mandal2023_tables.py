"""Tables on the paper's own numbers: as coded and corrected, every radius, bound, other attacks."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from experiments.answers import Answer
from experiments.mandal2023_lineup import FEW, grids
from experiments.mandal2023_parts import AUTOENCODERS, CODED_AE, FGSM_AE, LARGE, RADII, Parts
from experiments.paper_numbers import of_paper
from experiments.side_by_side import data_set
from experiments.views import HOW, row, text
from jaxdefense.reporting import Table

EVERY = (*AUTOENCODERS.values(), CODED_AE)


def tables(view, found: Sequence[Answer], first: Mapping[str, Parts]) -> list[Table]:
    """All of them.

    Args:
        view: the records.
        found: the answers to the printed numbers.
        first: the paper's name of a data set -> what was trained with the first seed.
    """
    printed = (_radii(view, kind) for kind in AUTOENCODERS)
    return [_faults(found), *printed, _bound(view, first), _crossed(view), _labels(view)]


def _faults(found: Sequence[Answer]) -> Table:
    """What the faults of the public code are worth, for every printed accuracy."""
    rows = []
    for answer in found:
        number, cells = answer.number, answer.cells
        if "corrected" in cells and number.metric == "accuracy":
            about = (number.table, data_set(answer), number.defence, number.attack, number.eps)
            shown = (cells.get(name) for name in ("as attacked", "corrected"))
            rows.append((*about, f"{100 * number.fraction:.2f}", *map(text, shown)))
    caption = (
        "Paper, as its public code attacks, and without the faults of that code. As coded: FGSM on "
        "the true logit in place of a likelihood, dropout on whenever anything is attacked or "
        "scored, table 1b on training images and for Fashion-MNIST with 7 steps of 0.01. "
        "Corrected: cross-entropy, evaluation mode, test images, 40 steps, pixels kept in [0, 1]. "
        "(Third-party numbers are of evaluation mode: their column is the code's attack there.) "
        f"Attacked images count by themselves, answers with noise are means over draws. {HOW}"
    )
    header = ("table", "data set", "defence", "attack", "eps", "paper", "as coded", "corrected")
    return Table(caption, header, tuple(rows), 5)


def _radii(view, kind: str) -> Table:
    """Tables 1a and 1b with what stands behind them."""
    name, table = AUTOENCODERS[kind], {"fgsm": "1a", "pgd": "1b"}[kind]
    printed = {
        (n.dataset, n.radius): f"{100 * n.fraction:.2f}"
        for n in of_paper("2") if n.table == table
    }  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for dataset in view.titles:
        for eps in grids(dataset)[kind == "pgd"]:
            bare = view.ways(dataset, "none", kind, eps)
            large = view.query(
                dataset, "none", model=LARGE, attack=getattr(view.teams[dataset], kind).name,
                eps=eps, knowledge="white-box",
            )  # fmt: skip
            queries = (
                bare["as attacked"], bare["corrected"], large,
                view.corrected(dataset, name, kind, eps), view.white_box(dataset, name, kind, eps),
                bare["strongest"], view.strongest(dataset, name, eps),
            )  # fmt: skip
            about = (view.called(dataset), f"{eps:g}", printed.get((dataset, eps), "-"))
            rows += row(view, about, queries, last=2)
    caption = (
        f"Table {table}, {kind.upper()} at every radius: without a defence as coded, corrected and "
        f"on {LARGE} (corrected, first seed); {name} on the corrected examples of the classifier "
        "and attacked through the whole; the strongest attacker without and with it. From 0.5 "
        f"upwards every image can be made the same grey, from 1 any image can be any other. {HOW}"
    )
    header = ("data set", "eps", "paper", "seeds", "images", "none, as coded", "none, corrected",
              LARGE, f"{name}, corrected", f"{name}, white-box", "none, strongest",
              f"{name}, strongest")  # fmt: skip
    return Table(caption, header, tuple(rows), 3)


def _bound(view, first: Mapping[str, Parts]) -> Table:
    """What nobody can exceed where images can be made the same, beside what was measured."""
    rows: list[tuple[str, ...]] = []
    eps = RADII[FGSM_AE]
    for dataset, parts in first.items():
        whole, some = parts.study.data.y_test, parts.study.examples[1]
        shares = (f"{100 * np.bincount(y).max() / len(y):.2f}" for y in (whole, some))
        grey = view.teams[dataset].grey.name
        queries = [
            view.query(dataset, defence, attack=grey, eps=eps) for defence in ("none", FGSM_AE)
        ]
        queries.append(view.corrected(dataset, FGSM_AE, "fgsm", eps))
        queries.append(view.strongest(dataset, FGSM_AE, eps))
        rows += row(view, (view.called(dataset), f"{eps:g}", *shares), queries, last=1)
    caption = (
        f"The grey-image bound beside eps {eps:g}: share of the largest class among all test "
        "images and among those attacked (first seed), which no accuracy can exceed from 0.5 "
        "upwards; what is left when every image is made the same grey; the paper's examples; the "
        f"strongest attacker. {HOW}"
    )
    header = ("data set", "eps", "bound, all", "bound, attacked", "seeds", "images", "grey, none",
              f"grey, {FGSM_AE}", "FGSM examples", "strongest")  # fmt: skip
    return Table(caption, header, tuple(rows), 2)


def _crossed(view) -> Table:
    """Every autoencoder on every attack and radius, as the paper names for further work."""
    rows: list[tuple[str, ...]] = []
    for dataset in view.titles:
        team = view.teams[dataset]
        for name in ("none", *EVERY):
            at = [(team.fgsm, e) for e in FEW[1:]] + [(team.coded_fgsm, RADII[FGSM_AE])]
            at += [(team.pgd, e) for e in (0.05, 0.15, 0.3)]
            queries = [view.clean(dataset, name)]
            queries += [view.transferred(dataset, name, each.name, eps) for each, eps in at]
            rows += row(view, (view.called(dataset), name), queries)
    caption = (
        "Every autoencoder on clean images and on examples of every attack and radius, crafted on "
        f"the classifier alone. {FGSM_AE} and {CODED_AE} were trained at 0.6 (cross-entropy; true "
        f"logit), PGD-AE at 0.15. {HOW}"
    )
    header = ("data set", "defence", "seeds", "images", "clean",
              *(f"FGSM {e:g}" for e in FEW[1:]), f"FGSM on logit {RADII[FGSM_AE]:g}",
              *(f"PGD {e:g}" for e in (0.05, 0.15, 0.3)))  # fmt: skip
    return Table(caption, header, tuple(rows), 2)


def _labels(view) -> Table:
    """What the label that a perturbation was made with is worth to the defence."""
    rows: list[tuple[str, ...]] = []
    for dataset in view.titles:
        team = view.teams[dataset]
        for name in ("none", *EVERY):
            for eps in FEW[1:] if team.leaks else ():
                queries = [
                    view.transferred(dataset, name, each.name, eps)
                    for each in (team.fgsm, *team.leaks)
                ]
                rows += row(view, (view.called(dataset), name, f"{eps:g}"), queries)
    caption = (
        "FGSM examples made with the true label, with the one that the classifier predicts, and "
        "with a random wrong one: where a defence does well on the first only, it reads the label "
        f"off the perturbation. {HOW}"
    )
    header = ("data set", "defence", "eps", "seeds", "images", "true label", "predicted label",
              "random wrong label")  # fmt: skip
    return Table(caption, header, tuple(rows), 3)


def each_kind(view) -> Iterator[tuple[str, str, str]]:
    """Data set, attack and autoencoder."""
    for dataset in view.titles:
        for kind, name in AUTOENCODERS.items():
            yield dataset, kind, name
