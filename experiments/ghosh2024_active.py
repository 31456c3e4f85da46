"""Active learning on CT slices: labels where the classifier is uncertain, or anywhere.

Ghosh and Chatterjee 2024 name labelling accuracy and robustness over active-learning cycles among
their metrics and show neither.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.special

from experiments import measuring, readings
from experiments.ghosh2024_parts import Parts, classifier
from experiments.harness import Study
from jaxdefense import Frozen
from jaxdefense.attacks import Attack
from jaxdefense.data import as_images
from jaxdefense.evaluation import entropy, interval
from jaxdefense.reporting import Record

STRATEGIES = ("entropy", "random")
LABELLING = "labelling accuracy"


def called(strategy: str, labels: int) -> str:
    """The classifier of one cycle in records."""
    return f"CNN, {labels} labels by {strategy}"


def sizes(config: Any) -> list[int]:
    """Labels of each cycle."""
    start, more, cycles = config.labels
    return [start + more * cycle for cycle in range(cycles + 1)]


def learned(config: Any, parts: Parts, attack: Attack) -> Iterator[Record]:
    """Labelling, clean and adversarial accuracy after each cycle of both strategies, of one seed.

    Args:
        config: of the script.
        parts: what was trained.
        attack: of the adversarial accuracy, on the classifier of the cycle.
    """
    study = parts.study
    order = np.random.default_rng([study.seed, 7]).permutation(len(study.data.x_train))
    for strategy in STRATEGIES:
        chosen, rest = np.split(order, [sizes(config)[0]])
        for labels in sizes(config):
            net = _taught(config, study, chosen, strategy)
            yield from _judged(config, study, net, rest, called(strategy, labels), attack)
            wanted = _ranked(study, net, rest, strategy)
            more, rest = np.split(wanted, [config.labels[1]])
            chosen = np.concatenate([chosen, more])


def _ranked(study: Study, net: Frozen, rest: np.ndarray, strategy: str) -> np.ndarray:
    """The images without a label, most wanted first."""
    if strategy == "random":
        return rest
    unsure = entropy(scipy.special.softmax(_answers(study, net, rest), axis=-1))
    return rest[np.argsort(-unsure, kind="stable")]


def _answers(study: Study, net: Frozen, rows: np.ndarray) -> np.ndarray:
    return readings.outputs(study, net, as_images(study.data.x_train[rows]))


def _taught(config: Any, study: Study, chosen: np.ndarray, strategy: str) -> Frozen:
    """The classifier trained from the start on what has a label."""
    # Repeated up to the last cycle's number, so that all cycles take equally many steps.
    rows, data = np.resize(chosen, sizes(config)[-1]), study.data
    first = len(chosen) == sizes(config)[0]
    by = "chance" if first else strategy
    data = dataclasses.replace(
        data, x_train=data.x_train[rows], y_train=data.y_train[rows], groups_train=None,
        provenance=f"{data.provenance}, {len(chosen)} labels chosen by {by}",
    )  # fmt: skip
    # The validation images have labels too, which nobody has paid for: the lowest loss is that on
    # the training images.
    told = dataclasses.replace(study, data=data, x_val=data.x_train, y_val=data.y_train)
    return classifier(config, told, f"active_{by}_{len(chosen)}", training=config.active)[0]


def _judged(
    config: Any, study: Study, net: Frozen, rest: np.ndarray, model: str, attack: Attack
) -> Iterator[Record]:
    right = _answers(study, net, rest).argmax(-1) == study.data.y_train[rest]
    low, high = interval(int(right.sum()), len(right))
    yield measuring.cell(
        study, model=model, defence="none", attack="none", knowledge="none", norm="linf", eps=0.0,
        metric=LABELLING, value=right.mean(), low=low, high=high, n=len(right), gradients=0,
        forwards=len(right), note="images that have no label yet",
    )  # fmt: skip
    yield measuring.clean(study, model, "none", net)
    yield from measuring.curve(
        study, model, "none", attack, net, (0.0, config.active_eps), progress=lambda line: None
    )
