"""Figures on Jung et al. 2022: the paper's bars, accuracy against radius, images."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.answers import Answer
from experiments.jung2022_parts import PCA, PURIFIERS, Parts
from experiments.measuring import OBLIVIOUS
from experiments.paper_numbers import radii
from experiments.pooling import over_seeds
from jaxdefense import attacks, linf
from jaxdefense.reporting import (
    Bar,
    Record,
    bars,
    difference,
    image_grid,
    robustness_curves,
    verdict,
)

SHOWN = 5
_CAPTION = (
    "Figure 1 of the paper for all data sets: Gaussian noise, FGSM and PGD at the paper's "
    "strengths. Pale: as the paper attacked (examples crafted on the bare classifier); full: the "
    "strongest attacker through the defence (of noise there is one way only); black: the paper's "
    "number. Whiskers: 95 % intervals."
)


def figures(
    config: Any, found: Sequence[Answer], records: Sequence[Record], first: Mapping[str, Parts],
    printed_names: Mapping[str, str],
) -> list[tuple[str, str, Any]]:  # fmt: skip
    """File name, caption and figure of each.

    Args:
        config: of the run.
        found: the answers to the printed numbers.
        records: all that was measured.
        first: title of a data set -> what was trained with the first seed.
        printed_names: title of a data set -> what the paper calls it.
    """
    model = next(iter(first.values())).model
    made = [("figure-1", _CAPTION, bars(_bars(found, printed_names)))]
    for title, parts in first.items():
        stem = printed_names[title].lower()
        chance = 1 / parts.study.data.num_classes
        curves = robustness_curves(over_seeds(_curves(records, title, model)), chance)
        caption = (
            f"{title}: accuracy under Gaussian noise; on examples crafted on the bare classifier "
            "(oblivious; of the bare classifier these are white-box); through the defence "
            f"(white-box). {PCA}: a linear filter in front of the bare classifier, which has met "
            f"no attack either. Bands: 95 % intervals over {config.n_eval} images of each of "
            f"{len(config.seeds)} seeds; the axes of eps are square roots."
        )
        made.append((f"curves-{stem}", caption, curves))
        caption = (
            f"{title}: clean, noisy and attacked images, what the U-AE makes of them, and the true "
            "class and the answer behind it. Oblivious: crafted on the bare classifier."
        )
        made.append((f"images-{stem}", caption, _images(config, parts, printed_names[title])))
    return made


def _bars(found: Sequence[Answer], printed_names: Mapping[str, str]) -> dict[str, list[Bar]]:
    panels: dict[str, list[Bar]] = {
        title if title == name else f"{name}: {title}": [] for title, name in printed_names.items()
    }
    place = dict(zip(printed_names.values(), panels, strict=True))
    for answer in found:
        number, cells = answer.number, answer.cells
        if number.attack != "none" and "as attacked" in cells:
            ways = {"as the paper attacked": cells["as attacked"]}
            if "strongest" in cells:
                ways["strongest attacker"] = cells["strongest"]
            group = f"{_LABELS[number.attack]}\n{number.radius:g}"
            subject = {"none": "no defence"}.get(number.defence, number.defence)
            measured = {way: (cell.value, cell.low, cell.high) for way, cell in ways.items()}
            panels[place[number.dataset]].append(Bar(group, subject, measured, number.fraction))
    return {title: some for title, some in panels.items() if some}


_LABELS = {"gaussian": "Gaussian", "fgsm": "FGSM", "pgd": "PGD"}


def _curves(records: Sequence[Record], title: str, model: str) -> list[Record]:
    """The cells of the paper's three models under its three kinds of perturbation.

    And of the linear filter under attacks.
    """
    grids: dict[str, set[float]] = {}
    for r in records:
        grids.setdefault(r.attack, set()).add(r.eps)
    shown = [
        r for r in records
        if (r.dataset, r.model) == (title, model) and r.defence in ("none", *PURIFIERS, PCA)
        and (r.defence, r.attack) != (PCA, "gaussian") and r.attack != "autoattack"
        and r.knowledge in ("none", OBLIVIOUS, "white-box")
        and r.norm != "l2" and 0 in grids[r.attack]
        and not (r.attack.startswith("pgd") and r.attack.count("-") > 1)
    ]  # fmt: skip
    # Of no radius it is all the same what is known, and so it is measured once.
    begin = [r for r in shown if r.eps == 0 and r.knowledge == "white-box" and r.defence != "none"]
    return shown + [dataclasses.replace(r, knowledge=OBLIVIOUS) for r in begin]


def _images(config: Any, parts: Parts, dataset: str):
    study = parts.study
    x, y = study.examples[0][:SHOWN], study.examples[1][:SHOWN]
    deployed, purifier = parts.deployed["U-AE"], parts.purifiers["U-AE"]
    names = study.data.class_names
    sigma, eps = radii("0", dataset, "gaussian")[0], radii("0", dataset, "pgd")[0]
    noisy = np.asarray(attacks.gaussian()(study.key, deployed, x, y, sigma))
    pgd = attacks.pgd(linf, config.steps, 0.1)
    x_adv = np.asarray(pgd(study.key, deployed, x, y, eps))
    blind = np.asarray(pgd(study.key, parts.deployed["none"], x, y, eps))
    predict = lambda images: [names[i] for i in np.asarray(deployed(images)).argmax(-1)]
    true = [names[i] for i in y]
    told = lambda images: [verdict(t, p) for t, p in zip(true, predict(images), strict=True)]
    title, change = difference(x, x_adv)
    columns = {
        "clean": x,
        "reconstructed": np.asarray(purifier(x)),
        f"Gaussian {sigma:g}": noisy,
        "reconstructed ": np.asarray(purifier(noisy)),
        f"PGD {eps:g}, oblivious": blind,
        "reconstructed  ": np.asarray(purifier(blind)),
        f"PGD {eps:g}, white-box": x_adv,
        title: change,
        "reconstructed   ": np.asarray(purifier(x_adv)),
    }
    shown = {name: told(columns[name]) for name in list(columns)[:8:2]}
    return image_grid(columns, captions=shown)
