"""Tables of `ghosh2024_ct_denoising`: the paper's two, and those that it describes."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments import ghosh2024_looks_tables
from experiments.cells import WHITE_BOX
from experiments.ghosh2024_active import LABELLING, STRATEGIES, called, sizes
from experiments.ghosh2024_cells import LEAKED, NEAREST
from experiments.ghosh2024_looks_tables import only, reading
from experiments.ghosh2024_parts import AE, BORDERS, GROUPED, HALF, PURIFIERS, SPLITS, Parts
from experiments.measuring import OBLIVIOUS, TRANSFER
from experiments.paper_numbers import of_paper
from experiments.pooling import plain
from experiments.views import HOW, View, in_255, row
from jaxdefense.models import count_parameters
from jaxdefense.reporting import Table

WAYS = tuple((name, known) for name in PURIFIERS for known in (OBLIVIOUS, WHITE_BOX))


def tables(view: View, parts: Parts) -> list[Table | str]:
    """All of them.

    Args:
        view: the records.
        parts: what was trained with the first seed.
    """
    made = [
        _data(view, parts), setting(view.config), _splits(view), _radii(view), _controls(view),
        _noise(view), *ghosh2024_looks_tables.tables(view, parts), _active(view), _sizes(parts),
    ]  # fmt: skip
    return [*(table for table in made if table.rows), _layers(parts), LEFT_OUT]


def _data(view: View, parts: Parts) -> Table:
    """Table 1, with what each split makes of it."""
    printed = {n.metric: n.value for n in of_paper("3") if n.table == "1"}
    names = parts.study.data.class_names
    about = [
        ("images COVID-19", f"class {names[1]}", "images of class 1"),
        ("images non COVID-19", f"class {names[0]}", "images of class 0"),
        ("images total", "all", "images in all"),
    ]
    rows = []
    for metric, name, ours in about:
        cell = view.cell(view.query(only(view), "none", metric=ours))
        rows.append((name, printed[metric], reading(cell)))
    for split in ("80/20 split", HALF, GROUPED):
        model = view.model if split == "80/20 split" else f"{view.model}, {split}"
        for what in ("for training", "of these for validation", "for testing"):
            cell = view.cell(view.query(only(view), "none", model=model, metric=f"images {what}"))
            rows.append((f"{split}, {what}", "-", reading(cell)))
    caption = (
        "Table 1: images. The paper prints 80 % for training and also 1,241 for each of training "
        "and validation, which only halves give. Its 93.23 % is 1157 of 1241 and no share of 496 "
        "or 497; its 92.46 % is no share of 1241."
    )
    return Table(caption, ("images", "paper", "ours"), tuple(rows), 1)


def setting(config: Any) -> Table:
    """Table 2."""
    given = config.classifier
    ours = {
        "learning rate": f"{given.lr:g}, constant", "batch size": str(given.batch_size),
        "max epochs": f"{given.epochs}, stopped after {given.patience} without a lower loss",
        "optimizer": "Adam", "loss": "cross-entropy of two logits",
    }  # fmt: skip
    printed = {n.metric: n.value for n in of_paper("3") if n.table == "2"}
    rows = tuple((name, printed[name], ours[name]) for name in printed)
    return Table("Table 2: set-up of the classifier.", ("setting", "paper", "ours"), rows, 3)


def _splits(view: View) -> Table:
    """What of the accuracy is the split's, or the border's."""
    rows: list[tuple[str, ...]] = []
    for name in ("80/20 split", *SPLITS):
        model = view.model if name == "80/20 split" else f"{view.model}, {name}"
        near = f"{NEAREST}, {model}"
        accuracies = [view.clean(only(view), "none", model=each) for each in (model, near)]
        for line in row(view, (name,), accuracies):
            shared = view.cell(view.query(only(view), "none", model=near, metric=LEAKED))
            share = "-" if shared is None else f"{100 * shared.value:.1f}"
            rows.append((*line, share))
    caption = (
        "Clean accuracy by split: the CNN, and without any learning the label of the training "
        "image that correlates most (16 x 16 pixels); share of test images with a near-duplicate "
        f"(correlation at least {view.config.threshold:g}) among the training images. The files "
        "carry no patient ids: near-duplicates stand for slices of one patient, and keeping them "
        f"together is a lower bound on the leak. {BORDERS}: all but a frame of an eighth of each "
        f"side (44 % of the pixels) black. {HOW}"
    )
    header = ("split", "seeds", "images", "CNN", NEAREST, "near-duplicates")
    return Table(caption, header, tuple(rows), 1)


def _radii(view: View) -> Table:
    """Figure 3 in numbers."""
    rows: list[tuple[str, ...]] = []
    team = view.teams[only(view)]
    for eps in view.config.radii:
        if eps == 0:
            continue
        for name, attack in team.printed.items():
            queries = [
                view.query(only(view), defence, attack=attack.name, eps=eps, knowledge=known)
                for defence, known in (("none", WHITE_BOX), *WAYS)
            ]
            queries += [view.strongest(only(view), d, eps) for d in ("none", *PURIFIERS)]
            rows += row(view, (in_255(eps), name), queries, last=3)
    caption = (
        "Figure 3 in numbers: the CNN alone; each autoencoder on the examples of the CNN alone "
        "(oblivious) and attacked through the whole (white-box); the attacker that leaves least. "
        f"{HOW}"
    )
    sides = (", ".join(way) for way in WAYS)
    last = (f"{name}, strongest" for name in ("CNN", *PURIFIERS))
    header = ("eps", "attack", "seeds", "images", "CNN", *sides, *last)
    return Table(caption, header, tuple(rows), 2)


def _controls(view: View) -> Table:
    """The same examples on what has no trained autoencoder."""
    rows: list[tuple[str, ...]] = []
    team, eps = view.teams[only(view)], view.config.eps
    known = {r.defence: r.knowledge for r in view.records if r.knowledge in (OBLIVIOUS, TRANSFER)}
    for name, knowledge in {"none": WHITE_BOX, **known}.items():
        queries = [view.clean(only(view), name)]
        queries += [
            view.query(only(view), name, attack=each.name, eps=eps, knowledge=knowledge)
            for each in team.printed.values()
        ]
        through = {"eps": eps / 2, "knowledge": WHITE_BOX}
        queries.append(view.query(only(view), name, attack=team.pgd.name, **through))
        rows += row(view, (name,), queries)
    caption = (
        f"Examples of the CNN alone (eps {in_255(eps)}) shown to autoencoders and to what has no "
        "trained one: what a control withstands as well is no merit of the autoencoder. Untrained "
        "AE: random weights, in front of the same CNN, and of one trained behind it (first seed; "
        "for that and the second seed the examples are another network's). Retraining is more "
        "training, too. Last: PGD through the whole at half of it, of the autoencoders, of "
        f"filters and of the CNN alone. {HOW}"
    )
    header = (
        "defence",
        "seeds",
        "images",
        "clean",
        *team.printed,
        f"PGD, white-box, {in_255(eps / 2)}",
    )
    return Table(caption, header, tuple(rows), 1)


def _noise(view: View) -> Table:
    """What the autoencoders were trained for."""
    rows: list[tuple[str, ...]] = []
    for defence in ("none", *PURIFIERS):
        queries = [
            view.query(only(view), defence, attack="gaussian", eps=sigma, norm="sigma")
            for sigma in view.config.sigmas
        ]
        rows += row(view, (defence,), queries)
    caption = f"Gaussian noise, which the autoencoders have met (sigma, pixels in [0, 1]). {HOW}"
    sigmas = (f"{sigma:g}" for sigma in view.config.sigmas)
    return Table(caption, ("defence", "seeds", "images", *sigmas), tuple(rows), 1)


def _active(view: View) -> Table:
    rows: list[tuple[str, ...]] = []
    team, eps = view.teams[only(view)], view.config.active_eps
    for labels in sizes(view.config):
        for strategy in STRATEGIES:
            model = called(strategy, labels)
            rest = view.cell(view.clean(only(view), "none", model=model, metric=LABELLING))
            queries = [
                view.clean(only(view), "none", model=model),
                view.query(
                    only(view), "none", model=model, attack=team.fgsm.name, eps=eps,
                    knowledge=WHITE_BOX,
                ),
            ]  # fmt: skip
            told = "-" if rest is None else rest.text()
            rows += [(*line, told) for line in row(view, (str(labels), strategy), queries)]
    caption = (
        "Active learning: the CNN trained from the start on so many labels, chosen where the last "
        "cycle's CNN is least certain (entropy) or by chance, always for the same number of steps; "
        f"test images clean and under FGSM at {in_255(eps)}; right labels for the images that have "
        f"none yet, from which entropy takes the hard ones away. {HOW}"
    )
    header = ("labels", "chosen by", "seeds", "images", "clean", "FGSM", "labelling accuracy")
    return Table(caption, header, tuple(rows), 2)


LEFT_OUT = """Left out, and why:

- CW and DeepFool, which an abstract of the authors' on the same slices names beside FGSM and PGD:
  PGD with restarts, AutoAttack (a part of it in preset small) and Square stand for them.
- Images of 224 pixels a side, as in the paper, and of 128 (preset paper has these): on two cores
  all networks of 48 pixels take half an hour.
- Transfer learning and feature attention, named as further work."""


def _sizes(parts: Parts) -> Table:
    held = {parts.model: parts.net, "autoencoder": parts.autoencoders[AE]}
    rows = tuple((name, plain(count_parameters(n.variables))) for name, n in held.items())
    caption = "Parameters that are trained; the paper prints no architecture."
    return Table(caption, ("network", "parameters"), rows, 1)


def _layers(parts: Parts) -> str:
    """Figures 1 and 2 of the paper as text."""
    x = jnp.zeros((1, *parts.study.data.image_shape))
    shown = {"width": 120, "force_terminal": False, "no_color": True}
    text = parts.autoencoders[AE].module.tabulate(jax.random.key(0), x, console_kwargs=shown)
    return (
        "Figure 2 of the paper, the flow: slice, autoencoder, CNN; the CNN is trained on clean "
        "slices and kept. Figure 1, the autoencoder, layer by layer:\n\n"
        f"```\n{text.strip()}\n```"
    )
