"""Figures 3 to 8 of Ghosh and Chatterjee 2024, and what it names without a figure."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy.special

from experiments import readings
from experiments.cells import WHITE_BOX
from experiments.ghosh2024_active import LABELLING, STRATEGIES, called, sizes
from experiments.ghosh2024_cells import Lineup
from experiments.ghosh2024_looks import Sight, features, planes, sights
from experiments.ghosh2024_parts import AE, PURIFIERS, RETRAINED, SECOND, Parts, part_of
from experiments.measuring import OBLIVIOUS, TRANSFER
from experiments.pooling import Query
from experiments.views import View, in_255
from jaxdefense.evaluation import calibration, grad_cam
from jaxdefense.reporting import (
    Line,
    Record,
    curve_panels,
    difference,
    image_grid,
    line_panels,
    overlay,
    scatter_panels,
    training_curves,
    verdict,
)

SHOWN = 4
BINS = 64
NAMES = {"none": "CNN alone", AE: "AE", RETRAINED: "retrained AE"}


def figures(view: View, parts: Parts) -> list[tuple[str, str, Any]]:
    """File name, caption and figure of each.

    Args:
        view: the records.
        parts: what was trained with the first seed, whose images are shown.
    """
    album = Album(view, parts)
    at = f"eps {in_255(view.config.eps)}"
    synthetic = " Data that stand in." if parts.study.data.synthetic else ""
    seed = f", first seed, {len(parts.study.examples[1])} test images.{synthetic}"
    bands = f" Bands: 95 % Clopper-Pearson intervals over the images of all seeds.{synthetic}"
    return [
        ("figure-3", f"Figure 3: accuracy against radius. {album.told}{bands}", album.curves()),
        (
            "figure-4",
            f"Figure 4: what speaks for the predicted class (Grad-CAM, each image's own scale), on "
            f"clean slices, PGD examples of the classifier alone ({at}) and what the autoencoders "
            "make of them; below, the true class and the answer.",
            album.heatmaps(),
        ),
        (
            "figure-5",
            f"Figure 5: grey levels of the images and of what the autoencoders make of them, clean "
            f"and attacked on the classifier alone ({at}){seed}",
            album.levels(),
        ),
        (
            "figure-6",
            f"Figure 6: t-SNE of clean and PGD features ({at}, on the classifier alone), by "
            f"perplexity; the paper reads overlap as denoising that fails{seed}",
            album.embedded("t-SNE"),
        ),
        (
            "figure-7",
            f"Figure 7: PCA of clean and PGD features ({at}, on the classifier alone){seed}",
            album.embedded("PCA"),
        ),
        (
            "figure-8",
            f"Figure 8: slices, clean and attacked on the classifier alone ({at}), and what the "
            "autoencoders make of them.",
            album.samples(),
        ),
        (
            "losses",
            f"Losses and accuracy of the trainings: cross-entropy of the CNN, squared error of the "
            f"autoencoders (retrained: of the last attack in turn), first seed.{synthetic}",
            training_curves(_losses(parts)),
        ),
        (
            "reliability",
            "Reliability: share of right answers against confidence. Dotted: calibrated. Attacked "
            f"on the classifier alone ({at}){seed}",
            album.reliability(),
        ),
        (
            "active-learning",
            "Active learning: labels for the rest of the training images, clean test images, and "
            f"FGSM on the classifier of the cycle (eps {in_255(view.config.active_eps)}), over all "
            f"seeds.{bands}",
            album.learning(),
        ),
    ]


def _losses(parts: Parts) -> dict[str, list[dict[str, float]]]:
    """Each loss by its own name, because they do not compare."""
    found = {}
    for name, history in parts.histories.items():
        loss = "squared_error" if name in PURIFIERS else "cross_entropy"
        found[name] = [
            {key.replace("loss", loss): line[key] for key in line if key != "step"}
            for line in history
        ]
    return found


@dataclasses.dataclass(frozen=True)
class Album:
    """What the figures show."""

    view: View
    parts: Parts

    @property
    def team(self) -> Lineup:
        """The attackers."""
        return next(iter(self.view.teams.values()))

    def sights(self, defence: str) -> list[Sight]:
        """What a defence is shown by an attacker of the classifier alone."""
        found = sights(self.team, self.view.config, self.parts, defence)
        return found[:3]

    # --------------------------------------------------------------------------------- accuracies

    told = (
        "Oblivious: examples of the classifier alone, shown to the defence; white-box: the same "
        "attack through the whole; second seed: the examples shown to another classifier."
    )

    def curves(self) -> Any:
        """Accuracy against radius, for both attacks."""
        panels = {
            name: dict(self._panel(attack.name)) for name, attack in self.team.printed.items()
        }
        return curve_panels(panels, columns=2, chance=0.5)

    def _panel(self, attack: str) -> Iterator[tuple[str, list[Record]]]:
        (dataset,) = self.view.titles
        lines = {"CNN alone": ("none", WHITE_BOX)}
        lines |= {
            f"{name}, {knowledge}": (name, knowledge)
            for name in PURIFIERS
            for knowledge in (OBLIVIOUS, WHITE_BOX)
        }
        lines[SECOND] = (SECOND, TRANSFER)
        for label, (defence, knowledge) in lines.items():
            points = []
            for eps in self.view.config.radii:
                query = self.view.query(
                    dataset, defence, attack=attack, knowledge=knowledge, eps=eps
                )
                points.append(self.view.point(query, eps))
            if drawn := [point for point in points if point]:
                yield label, drawn

    def reliability(self) -> Any:
        """Share of right answers against confidence."""
        y = self.parts.study.examples[1]
        panels: dict[str, dict[str, Line]] = {}
        for defence, deployed in self.parts.defended.items():
            for sight in self.sights(defence):
                logits = readings.outputs(self.parts.study, deployed, sight.x)
                found = calibration(scipy.special.softmax(logits, axis=-1), y)
                title = "clean" if sight.attack == "none" else sight.attack
                line = Line(found.confidence, found.accuracy)
                panels.setdefault(title, {})[NAMES[defence]] = line
        return line_panels(panels, ("confidence", "share of right answers"), diagonal=True)

    def learning(self) -> Any:
        """Accuracies over the cycles of active learning."""
        (dataset,) = self.view.titles
        attacked = {"attack": self.team.fgsm.name, "eps": self.view.config.active_eps}
        clean = {"attack": "none", "knowledge": "none"}
        asked: Mapping[str, Mapping[str, Any]] = {
            "labels for the rest": {**clean, "metric": LABELLING},
            "test, clean": {**clean, "metric": "accuracy"},
            "test, FGSM": {**attacked, "metric": "accuracy", "knowledge": WHITE_BOX},
        }
        panels: dict[str, dict[str, Line]] = {}
        for title, fields in asked.items():
            for strategy in STRATEGIES:
                cells = [
                    self.view.cell(Query({
                        "dataset": self.view.titles[dataset], "model": called(strategy, labels),
                        **fields,
                    }))
                    for labels in sizes(self.view.config)
                ]  # fmt: skip
                parts = (
                    [100 * getattr(cell, name) if cell else np.nan for cell in cells]
                    for name in ("value", "low", "high")
                )
                line = Line(sizes(self.view.config), *parts)
                panels.setdefault(title, {})[strategy] = line
        return line_panels(panels, ("labels", "accuracy (%)"))

    # ------------------------------------------------------------------------------------- images

    @property
    def rows(self) -> np.ndarray:
        """The images that are shown: as many of each class."""
        y = self.parts.study.examples[1]
        classes = range(self.parts.study.data.num_classes)
        return np.concatenate([np.flatnonzero(y == k)[: SHOWN // len(classes)] for k in classes])

    def _seen(self, defence: str, sight: Sight) -> np.ndarray:
        """What the classifier sees."""
        if defence == "none":
            return sight.x
        return readings.outputs(self.parts.study, self.parts.autoencoders[defence], sight.x)

    def _said(self, defence: str, sight: Sight) -> list[str]:
        """True class and answer of the images that are shown."""
        study = self.parts.study
        answers = readings.outputs(study, self.parts.defended[defence], sight.x).argmax(-1)
        names, y = study.data.class_names, study.examples[1]
        said = zip(y[self.rows], answers[self.rows], strict=True)
        return [verdict(names[true], names[answer]) for true, answer in said]

    def heatmaps(self) -> Any:
        """Images with what speaks for the answer, and what the attack changed."""
        maps, head = (part_of(self.parts.net, method) for method in ("maps", "head"))
        clean, _, pgd = self.sights("none")
        shown = {"clean": ("none", clean), "PGD": ("none", pgd)}
        shown |= {f"{name} of PGD": (name, pgd) for name in PURIFIERS}
        columns: dict[str, np.ndarray] = {}
        captions: dict[str, list[str]] = {}
        for place, (title, (defence, sight)) in enumerate(shown.items()):
            x = self._seen(defence, sight)[self.rows]
            columns[title], captions[title] = x, self._said(defence, sight)
            # Titles must differ; it stands beside its image.
            columns["Grad-CAM" + place * " "] = overlay(x, grad_cam(maps, head, x))
            if title == "PGD":
                named, change = difference(clean.x[self.rows], x)
                columns[named] = change
        return image_grid(columns, captions=captions)

    def samples(self) -> Any:
        """Images as they are, attacked, and restored."""
        columns: dict[str, np.ndarray] = {}
        captions: dict[str, list[str]] = {}
        for sight in self.sights("none"):
            attack = "clean" if sight.attack == "none" else sight.attack
            for defence in NAMES:
                title = attack if defence == "none" else f"{defence} of {attack}"
                columns[title] = self._seen(defence, sight)[self.rows]
                captions[title] = self._said(defence, sight)
        return image_grid(columns, captions=captions)

    def levels(self) -> Any:
        """How often each grey level occurs."""
        panels: dict[str, dict[str, Line]] = {}
        for defence in NAMES:
            for sight in self.sights(defence):
                seen = self._seen(defence, sight)
                share, edges = np.histogram(seen, BINS, range=(0, 1))
                title = "images" if defence == "none" else f"after {NAMES[defence]}"
                name = "clean" if sight.attack == "none" else sight.attack
                middle = (edges[1:] + edges[:-1]) / 2
                panels.setdefault(title, {})[name] = Line(middle, 100 * share / share.sum())
        return line_panels(panels, ("grey level", "pixels (%)"), marked=False)

    # ----------------------------------------------------------------------------------- features

    def embedded(self, how: str) -> Any:
        """Features in the plane, of every embedding whose name begins so."""
        panels: dict[str, dict[str, np.ndarray]] = {}
        for defence, name in NAMES.items():
            _, _, sight = self.sights(defence)
            for place, function in features(self.parts, defence).items():
                if place not in ("bottleneck", "penultimate"):
                    continue
                found = planes(self.view.config, self.parts, function, sight, embed=True)
                for title, points in found.items():
                    if title.startswith(how):
                        detail = title.partition(" of ")[2]
                        where = f"{name}, {place}" + (f"\n{detail}" if detail else "")
                        panels[where] = dict(zip(("clean", "PGD"), points, strict=True))
        axes = ("component 1", "component 2") if how == "PCA" else ("t-SNE 1", "t-SNE 2")
        columns = max(3, len(self.view.config.perplexities))
        return scatter_panels(panels, columns, axes)
