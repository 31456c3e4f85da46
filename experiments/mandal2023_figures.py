"""Figures of Mandal 2023: data, attacked and restored images, accuracy against radius, losses."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.mandal2023_functions import deployed
from experiments.mandal2023_lineup import grids
from experiments.mandal2023_parts import AUTOENCODERS, FGSM_AE, PGD_AE, RADII, Parts
from experiments.measuring import outputs
from jaxdefense.attacks import Attack
from jaxdefense.data import as_images
from jaxdefense.reporting import (
    Record,
    curve_panels,
    difference,
    image_grid,
    training_curves,
    verdict,
)
from jaxdefense.typing import Purifier

SHOWN = 4
Figures = list[tuple[str, str, Any]]


def figures(view, first: Mapping[str, Parts]) -> Figures:
    """File name, caption and figure of each.

    Args:
        view: the records.
        first: the paper's name of a data set -> what was trained with the first seed.
    """
    found = [_curves(view)]
    for dataset, parts in first.items():
        stem, title, team = dataset.lower(), parts.study.data.title, view.teams[dataset]
        album = Album(parts)
        fgsm, pgd = grids(dataset)
        found += [
            (
                f"figure-2-{stem}",
                f"Figure 2: {title}, test images of every class.",
                _classes(parts),
            ),
            (
                f"figure-3-{stem}",
                f"Figure 3: {title}, FGSM on the classifier alone at every radius of table 1a, and "
                "what the classifier makes of it.",
                album.strip(team.fgsm, fgsm, noise=False),
            ),
            (
                f"figure-4-{stem}",
                f"Figure 4: {title}, PGD on the classifier alone at every radius of table 1b, and "
                "the noise that it adds (grey: unchanged).",
                album.strip(team.pgd, pgd, noise=True),
            ),
            (
                f"figure-6-{stem}",
                f"Figure 6: {title}, clean images and examples crafted on the classifier alone, "
                "each with what the autoencoder for it makes of it and what the classifier says to "
                "that. The edge at the right and below is the published architecture's: the first "
                "of its transposed convolutions reaches one row and one column by its bias only.",
                album.restored(team.fgsm, team.pgd),
            ),
            *(
                [
                    (
                        f"baselines-{stem}",
                        f"{title}: what PuVAE and Defense-GAN make of clean images and of FGSM on "
                        "the classifier alone, at the 0.3 that PuVAE's authors show and the 0.6 of "
                        "table 3, and what the classifier says to that.",
                        album.regenerated(team.fgsm),
                    )
                ]
                if parts.baselines
                else []
            ),
            (
                f"losses-{stem}",
                f"{title}: mean squared error of the autoencoders' trainings (pixels in [0, 1]), "
                "first seed; the last epoch is taken.",
                training_curves(_losses(parts)),
            ),
        ]
    return found


def _losses(parts: Parts) -> dict[str, list[dict[str, float]]]:
    return {
        name: [{"epoch": line["epoch"], "mean_squared_error": line["loss"]} for line in history]
        for name, history in parts.histories.items()
    }


def _classes(parts: Parts):
    """A few test images of every class, beside each other."""
    data = parts.study.data
    rows = [np.flatnonzero(data.y_test == label)[:SHOWN] for label in range(data.num_classes)]
    count = min(map(len, rows))
    return image_grid({
        name: as_images(data.x_test[some[:count]])
        for name, some in zip(data.class_names, rows, strict=True)
    })  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Album:
    """Attacked and restored images of one data set, with the classifier's answers."""

    parts: Parts

    @property
    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """The first attacked test images and their labels."""
        x, y = self.parts.study.examples
        return x[:SHOWN], y[:SHOWN]

    def attacked(self, attack: Attack, eps: float) -> np.ndarray:
        """Examples crafted on the classifier alone."""
        x, y = self.images
        return np.asarray(attack(self.parts.study.key, self.parts.net, x, y, eps))

    def told(self, shown: np.ndarray) -> list[str]:
        """True class and answer for each image."""
        names, y = self.parts.study.data.class_names, self.images[1]
        answers = outputs(self.parts.net, shown, self.parts.study.key).argmax(-1)
        return [verdict(names[true], names[said]) for true, said in zip(y, answers, strict=True)]

    def strip(self, attack: Attack, radii: Sequence[float], noise: bool):
        """A column for each radius, and the perturbation beside it where asked for."""
        columns: dict[str, np.ndarray] = {}
        captions: dict[str, list[str]] = {}
        for eps in radii:
            shown = self.attacked(attack, eps)
            columns[f"eps {eps:g}"], captions[f"eps {eps:g}"] = shown, self.told(shown)
            if noise and eps:
                _, change = difference(self.images[0], shown, gain=1.0)
                columns[f"noise {eps:g}"] = change
        return image_grid(columns, captions=captions)

    def restored(self, fgsm: Attack, pgd: Attack):
        """The autoencoders on clean images, and each on the examples of table 2 that it met."""
        own = {
            name: deployed(self.parts.autoencoders[name]) for name in AUTOENCODERS.values()
        }  # fmt: skip
        return self.grid({
            "clean": (self.images[0], own),
            f"FGSM {RADII[FGSM_AE]:g}": (
                self.attacked(fgsm, RADII[FGSM_AE]), {FGSM_AE: own[FGSM_AE]}
            ),
            f"PGD {RADII[PGD_AE]:g}": (self.attacked(pgd, RADII[PGD_AE]), {PGD_AE: own[PGD_AE]}),
        })  # fmt: skip

    def regenerated(self, fgsm: Attack):
        """The generative defences on clean images and on FGSM examples."""
        radii, named = (0.3, RADII[FGSM_AE]), self.parts.baselines
        attacked = {f"FGSM {eps:g}": (self.attacked(fgsm, eps), named) for eps in radii}
        return self.grid({"clean": (self.images[0], named), **attacked})

    def grid(self, shown: Mapping[str, tuple[np.ndarray, Mapping[str, Purifier]]]):
        """Images by name, each beside what some purifiers make of them."""
        columns: dict[str, np.ndarray] = {}
        for title, (images, purifiers) in shown.items():
            columns[title] = images
            for name, purifier in purifiers.items():
                columns[f"{name} of {title}"] = outputs(purifier, images, self.parts.study.key)
        captions = {title: self.told(images) for title, images in columns.items()}
        return image_grid(columns, captions=captions)


def _curves(view) -> tuple[str, str, Any]:
    """Accuracy against radius, for both attacks and data sets."""
    panels = {
        f"{title}, {kind.upper()}": dict(_panel(view, dataset, kind))
        for dataset, title in view.titles.items() for kind in AUTOENCODERS
    }  # fmt: skip
    caption = (
        "Accuracy against radius: the classifier as the public code attacks it and corrected, its "
        "examples through the autoencoder that was trained on that attack, the same attack through "
        "the whole, and the strongest attacker on the whole. They were trained on FGSM at "
        f"{RADII[FGSM_AE]:g} and PGD at {RADII[PGD_AE]:g}. Where one step through the whole leaves "
        "more than chance from 0.5 on, it is too weak: all images can be the same grey. Bands: "
        "95 % Clopper-Pearson intervals over the images of all seeds"
    )
    synthetic = any(record.synthetic for record in view.records)
    caption += ", data that stand in." if synthetic else "."
    return "curves", caption, curve_panels(panels, columns=2, chance=0.1)


def _panel(view, dataset: str, kind: str) -> Iterator[tuple[str, list[Record]]]:
    name = AUTOENCODERS[kind]
    queries = {
        "no defence, as coded": lambda eps: view.coded(dataset, "none", kind, eps),
        "no defence, corrected": lambda eps: view.corrected(dataset, "none", kind, eps),
        "its AE, oblivious": lambda eps: view.corrected(dataset, name, kind, eps),
        "its AE, white-box": lambda eps: view.white_box(dataset, name, kind, eps),
        "its AE, strongest": lambda eps: view.strongest(dataset, name, eps),
    }
    for label, query in queries.items():
        radii = grids(dataset)[kind == "pgd"]
        points = [view.point(query(eps), eps) for eps in radii]
        if drawn := [point for point in points if point]:
            yield label, drawn
