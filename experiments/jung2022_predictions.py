"""What should break in Jung et al. 2022, and what did: how it is told from the numbers."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from experiments.answers import Answer
from experiments.jung2022_parts import CONTROLS, PURIFIERS, SECOND
from experiments.jung2022_tables import unbounded
from experiments.measuring import OBLIVIOUS
from experiments.paper_numbers import radii
from experiments.pooling import Cell, Query, find
from experiments.publish import Prediction
from experiments.telling import by_seed, compare, percent, prediction
from experiments.verdicts import CLOSE
from jaxdefense.reporting import Record

Side = tuple[str, Cell | None, str, Cell | None]
"""What is compared: name and cell, and the same of what it is compared with."""


def predictions(
    config: Any, found: Sequence[Answer], records: Sequence[Record], titles: Mapping[str, str],
    model: str,
) -> list[Prediction]:  # fmt: skip
    """All of them.

    Args:
        config: of the run.
        found: answers to the printed numbers.
        records: all that was measured.
        titles: the paper's name of a data set -> ours.
        model: name of the classifier.
    """
    steps = config.steps
    cells = {(a.number.dataset, a.number.defence, a.number.attack): a.cells for a in found}
    made = []

    def predict(
        text: str, relation: Callable[[float, float], bool], sides: Sequence[Side], none: str = ""
    ):
        known = [(a, x, b, y) for a, x, b, y in sides if x and y]
        told = [_told(*side, relation) for side in known]
        held = [compare(relation, x, y) for _, x, _, y in known]
        made.append(prediction(text, held, told) if known else Prediction(text, None, none))

    def get(dataset: str, defence: str, attack: str, column: str) -> Cell | None:
        return cells.get((dataset, defence, attack), {}).get(column)

    def both(defence: str, column: str) -> Side:
        pgd, fgsm = (get("Fingers", defence, attack, column) for attack in ("pgd", "fgsm"))
        return f"{defence} PGD", pgd, "FGSM", fgsm

    noiseless = lambda title: find(
        records,
        Query({"dataset": title, "model": model, "defence": "none", "attack": "gaussian",
               "eps": 0.0}),
    )  # fmt: skip
    second = lambda title, dataset: find(
        records,
        Query({"dataset": title, "model": model, "defence": SECOND, "attack": f"pgd-{steps}",
               "knowledge": OBLIVIOUS, "norm": "linf", "eps": radii("0", dataset, "pgd")[0]}),
    )  # fmt: skip
    limit = _limit(0.05, config.seeds)
    predict(
        "Fingers, 0.1: on examples crafted on the bare classifier PGD fools the defences less "
        "often than FGSM.",
        operator.gt,
        [both(defence, "as attacked") for defence in PURIFIERS],
    )
    predict(
        "Through the defence it fools at least as often: the paper's order is a sign of transfer.",
        operator.le,
        [both(defence, "white-box") for defence in PURIFIERS],
    )
    predict(
        "Adaptive PGD at 0.1 leaves below 5 % of signs and fingers.",
        operator.lt,
        [
            (f"{dataset} {defence}", get(dataset, defence, "pgd", "white-box"), "limit", limit)
            for dataset in ("TrafficSign", "Fingers")
            for defence in PURIFIERS
        ],
    )
    predict(
        "Noise does not raise the undefended classifier's accuracy, as the paper prints for signs "
        '(70.65 clean, 85.86 noisy, and "perfectly classifies noise-free images" in the text).',
        operator.le,
        [
            (f"{dataset} noisy", get(dataset, "none", "gaussian", "as attacked"),
             "the same images clean", noiseless(title))
            for dataset, title in titles.items()
        ],
    )  # fmt: skip
    predict(
        "Skips let gradients through: under white-box PGD the U-AE is no better than the plain AE, "
        "within 5 points, at any radius that leaves more than 5 % of either.",
        lambda skips, plain: skips <= plain + CLOSE,
        [
            (f"{dataset} at {eps:g} U-AE", skips, "AE", plain)
            for dataset, title in titles.items()
            for eps, skips, plain in _both(records, title, model, f"pgd-{steps}")
        ],
        none="(no radius leaves as much)" * any(r.knowledge == "white-box" for r in records),
    )
    predict(
        "The gain is transfer: a second classifier without any autoencoder does as well on the "
        "same examples, within 5 points.",
        lambda second, defence: second >= defence - CLOSE,
        [
            (f"{dataset} second seed", second(title, dataset),
             "U-AE", get(dataset, "U-AE", "pgd", "as attacked"))
            for dataset, title in titles.items()
        ],
    )  # fmt: skip
    predict(
        "Nor is it the merit of an autoencoder that has learned: of the same examples the best of "
        f"{', '.join(CONTROLS)} (of those that all seeds have) keeps as much as the U-AE, "
        "within 5 points.",
        lambda control, defence: control >= defence - CLOSE,
        [
            (f"{dataset} best control", get(dataset, "U-AE", "pgd", "control"),
             "U-AE", get(dataset, "U-AE", "pgd", "as attacked"))
            for dataset in titles
        ],
    )  # fmt: skip
    if config.cw is not None:
        hundredth = _limit(0.01, config.seeds)
        predict(
            '"Any kind of attack": CW without a radius leaves at most 1 % behind either '
            "autoencoder, wherever it was tried.",
            operator.le,
            [
                (f"{title} {defence}", unbounded(records, title, defence, config.cw), "limit",
                 hundredth)
                for title in titles.values() for defence in PURIFIERS
            ],
        )  # fmt: skip
    return made


def _limit(value: float, seeds: Sequence[int]) -> Cell:
    """A number that every seed is compared with."""
    each = dict.fromkeys(seeds, value)
    return Cell(value, 0, 0, 0, 0, 0, 0, "", synthetic=False, by_seed=each)


def _told(
    name: str, cell: Cell, other_name: str, other: Cell, relation: Callable[[float, float], bool]
) -> str:
    """Two cells in a sentence, by seed where seeds disagree."""
    text = f"{name} {100 * cell.value:.1f}, {other_name} {percent(other)}"
    if compare(relation, cell, other) is not None:
        return text
    return f"{text} (by seed {by_seed(cell, other)})"


def _both(
    records: Sequence[Record], title: str, model: str, attack: str
) -> Iterator[tuple[float, Cell, Cell]]:
    """What white-box PGD leaves of U-AE and AE, at radii where it leaves something."""
    about = {"dataset": title, "model": model, "attack": attack, "norm": "linf"}
    grid = sorted({r.eps for r in records if r.attack == attack and r.dataset == title})
    for eps in (eps for eps in grid if eps > 0):
        fields = {**about, "knowledge": "white-box", "eps": eps}
        sides = (find(records, Query({**fields, "defence": name})) for name in ("U-AE", "AE"))
        skips, plain = sides
        if skips and plain and max(skips.value, plain.value) > CLOSE:
            yield eps, skips, plain
