"""Figures on Gilbert 2020, which has none: accuracy against radius, images, codes, trainings."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from experiments.gilbert2020_cells import radii
from experiments.gilbert2020_functions import EPS, RESNET, SEPRE, TITLES, printed_attacks
from experiments.gilbert2020_parts import (
    AE,
    BARE,
    CODED,
    FILTERS,
    INITIAL,
    LAST,
    NO_CLEAN,
    ONLY_CLEAN,
    Parts,
    code_length,
    tag,
)
from experiments.measuring import outputs
from experiments.pooling import Query
from jaxdefense.reporting import (
    Bar,
    Record,
    bars,
    curve_panels,
    image_grid,
    training_curves,
    verdict,
)

SHOWN = 4
STATIC, WHOLE = "static examples", "clean, or attacked through the whole"
Figures = list[tuple[str, str, Any]]


def figures(view, first: Parts) -> Figures:
    """File name, caption and figure of each."""
    data = first.study.data
    about = f" {data.title}." + " Data that stand in." * data.synthetic
    found = [
        (
            "curves",
            "(The paper has no figures.) Accuracy against radius in units of pixels in [0, 1]: "
            "PGD-10 on examples crafted "
            "once on the initial network (static), and through all that is scored (white-box); the "
            "strongest attacker. Bands: 95 % Clopper-Pearson intervals over the images of all "
            f"seeds.{about}",
            curve_panels(dict(_panels(view)), columns=2, chance=0.1),
        ),
        (
            "images",
            "Clean images (the first that are right), FGSM and PGD at 8/255 on the bare ResNet-20, "
            "what the autoencoder makes of each, PGD through the autoencoder, and what it makes of "
            f"that; below each what the network says to it.{about}",
            _images(first),
        ),
        (
            "losses",
            f"Mean squared error of the trainings of the autoencoders, first seed.{about}",
            training_curves(_losses(first)),
        ),
    ]
    if first.variants:
        found += [
            (
                "codes",
                "ResNet-20 behind autoencoders of other code lengths (the published one has "
                f"{code_length(first.study)} numbers of {np.prod(first.study.data.image_shape)}), "
                "and behind those that met no clean image or clean ones only; static examples "
                f"(pale), and through the whole (full) at 8/255, first seed.{about}",
                bars({"Length of the code, or what was met in training": [*_codes(view, first)]}),
            ),
            (
                "codes-images",
                f"What autoencoders of other code lengths make of clean images.{about}",
                _restored(first),
            ),
        ]
    return found


def _panels(view) -> Iterator[tuple[str, dict[str, list[Record]]]]:
    for name in (RESNET, SEPRE):
        for phase in (INITIAL, LAST):
            when = "initial" if phase == INITIAL else "fine-tuned"
            yield f"{TITLES[name]}, {when}", dict(_curves(view, name, phase))


def _curves(view, name: str, phase: str) -> Iterator[tuple[str, list[Record]]]:
    """Accuracy against radius of one network in one phase, clean at 0."""
    control = list(FILTERS)[-1]
    ways: dict[str, tuple[str, Callable[..., Query]]] = {
        "no AE, white-box": (BARE, view.whole),
        "no AE, static": (BARE, view.static),
        f"{control}, static": (control, view.static),
        "AE, static": (AE, view.static),
        "AE, white-box": (AE, view.whole),
        "AE, strongest": (AE, lambda name, defence, _, eps: view.strongest(name, defence, eps)),
    }
    for what, (front, query) in ways.items():
        # Before fine-tuning, static examples are white-box to the bare network.
        if phase == INITIAL and query == view.static and front == BARE:
            continue
        defence = tag(front, phase)
        points = [view.point(view.clean(name, defence), 0.0)]
        points += [
            view.point(query(name, defence, "pgd", eps=eps), eps) for eps in radii(view.config)
        ]
        yield what, [each for each in points if each]


def _images(first: Parts):
    """One row an image, one column a stage."""
    line, study = first.lines[RESNET, False], first.study
    # As many as are attacked elsewhere, so that the programs are the same.
    x, y = (each[:128] for each in study.examples)
    made = {"clean": x}
    for title, attack in zip(("FGSM", "PGD"), printed_attacks(False), strict=True):
        made[title] = np.asarray(attack(study.key, line.source, x, y, EPS))
    whole = line.deployed(INITIAL, line.purifier)
    made["PGD through AE"] = np.asarray(printed_attacks(False)[1](study.key, whole, x, y, EPS))
    columns: dict[str, np.ndarray] = {}
    for title, images in made.items():
        columns[title] = images
        columns[f"AE of {title}"] = outputs(line.purifier, images, study.key)
    # The first that are right clean, so that every change is an attack's or the autoencoder's.
    right = outputs(line.deployed(), x, study.key).argmax(-1) == y
    chosen = np.argsort(~right, kind="stable")[:SHOWN]
    names, captions = study.data.class_names, {}
    for title, images in columns.items():
        said = outputs(line.deployed(), images, study.key).argmax(-1)
        captions[title] = [verdict(names[a], names[b]) for a, b in zip(y, said, strict=True)]
    return image_grid(
        {title: images[chosen] for title, images in columns.items()},
        captions={title: [told[i] for i in chosen] for title, told in captions.items()},
    )


def _named(first: Parts) -> dict[str, str]:
    """What is under a group of bars -> the defence, by length of the code."""
    others = [n for n in (NO_CLEAN, ONLY_CLEAN) if n in first.variants]
    lengths = {int(n.split()[-1]): f"{AE}, {n}" for n in first.variants if n not in others}
    lengths[code_length(first.study)] = AE
    named = {str(length): lengths[length] for length in sorted(lengths)}
    return named | {n: f"{AE}, {n}" for n in others}


def _codes(view, first: Parts) -> Iterator[Bar]:
    seed = first.study.seed
    of_first = lambda query: type(query)({**query.fields, "seed": seed}, query.weakest)
    for group, defence in _named(first).items():
        asked = {
            "clean": {WHOLE: view.clean(RESNET, defence)},
            "FGSM": {STATIC: view.static(RESNET, defence, "fgsm")},
            "PGD": {
                STATIC: view.static(RESNET, defence, "pgd"),
                WHOLE: view.whole(RESNET, defence, "pgd"),
            },
        }
        for subject, ways in asked.items():
            cells = {way: view.cell(of_first(query)) for way, query in ways.items()}
            values = {way: (c.value, c.low, c.high) for way, c in cells.items() if c}
            yield Bar(group.replace(" ", "\n"), subject, values)


def _restored(first: Parts):
    study, line = first.study, first.lines[RESNET, False]
    x = study.examples[0]
    fronts = {AE: line.purifier, **{f"{AE}, {n}": p for n, p in first.variants.items()}}
    columns = {"clean": x[:SHOWN]}
    for group, defence in _named(first).items():
        columns[group] = outputs(fronts[defence], x, study.key)[:SHOWN]
    return image_grid(columns)


def _losses(first: Parts) -> dict[str, list[dict[str, float]]]:
    return {
        TITLES[name] + CODED * coded: [
            {"epoch": row["epoch"], "mean_squared_error": row["loss"]} for row in line.history
        ]
        for (name, coded), line in first.lines.items()
    }
