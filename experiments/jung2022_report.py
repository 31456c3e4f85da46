"""What Jung et al. 2022 print and what we measured: answers, predictions, tables and figures."""

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.answers import Answer, answers
from experiments.jung2022_figures import figures
from experiments.jung2022_parts import CONTROLS, PURIFIERS, SECOND, UNTRAINED, Parts
from experiments.jung2022_tables import tables, unbounded
from experiments.measuring import OBLIVIOUS
from experiments.paper_numbers import Number, of_paper, radii
from experiments.pooling import Cell, Query, find
from experiments.publish import Outcome, Prediction
from experiments.verdicts import CLOSE
from jaxdefense import models
from jaxdefense.evaluation.expense import flops, latency, parameters
from jaxdefense.reporting import (
    Record,
    Table,
)

_LEFT_OUT = """Left out, and why:

- The paper's traffic signs: it cites a table of vehicle counts for them, so GTSRB is taken.
- Attacks and defences that the text names in passing, without a number: L-BFGS, deep contractive
  networks, gradient regularisation, random resizing and padding, foveation, ComDefend, stacked
  denoising autoencoders; adversarial training is in Kim et al.
- "At any spatial scale": test images are brought to 16 x 16 and 8 x 8 pixels and back; networks of
  other sizes are not trained.
- Figure 3 (training and inference) has no numbers: the autoencoder is trained to reconstruct clean
  images, then the classifier on what it returns; at test time one follows the other."""


def outcome(
    config: Any, trained: Mapping[tuple[str, int], Parts], records: list[Record],
    printed_names: Mapping[str, str],
) -> Outcome:  # fmt: skip
    """Everything that is published.

    Args:
        config: of the run.
        trained: parts by data set and seed.
        records: all that was measured.
        printed_names: title of a data set -> what the paper calls it.
    """
    first = {parts.study.data.title: parts for parts in reversed(list(trained.values()))}
    model = next(iter(first.values())).model
    titles = {name: title for title, name in printed_names.items()}
    found = answers(
        of_paper("0"), records, lambda number: _ask(number, titles, model, config.steps)
    )
    headlines = [a for a in found if a.number.defence == "U-AE" and a.number.attack in _ATTACKS]
    return Outcome(
        paper="0",
        title="U-Autoencoder (Jung, Ham, Song and Moon 2022)",
        question="Does a U-shaped autoencoder in front of a classifier withstand attacks it never "
        "saw?",
        findings=_findings(found),
        setting=_setting(config, model),
        records=records,
        answers=found,
        headlines=headlines,
        predictions=_predictions(config, found, records, titles, model),
        tables=[
            _expenses(config, first),
            *tables(config, records, titles, model),
            _architecture(config),
            _LEFT_OUT,
        ],
        figures=figures(config, found, records, first, printed_names),
    )


_ATTACKS = ("fgsm", "pgd")


def _ask(number: Number, titles: Mapping[str, str], model: str, steps: int) -> Any:
    """Which records answer a printed number."""
    if number.dataset not in titles:
        return "its data set is not in this run (--datasets)"
    base = {"dataset": titles[number.dataset], "model": model, "defence": number.defence}
    if number.attack == "none":
        clean = {**base, "attack": "none"}
        control = {"control": Query({**clean, "defence": UNTRAINED}, best=True)}
        return {"as attacked": Query(clean), **(control if number.defence != "none" else {})}
    if number.attack == "gaussian":
        noise = {**base, "attack": "gaussian", "eps": number.radius}
        control = {"control": Query({**noise, "defence": CONTROLS}, best=True)}
        return {"as attacked": Query(noise), **(control if number.defence != "none" else {})}
    at = {**base, "norm": "linf", "eps": number.radius}
    attack = {"attack": "fgsm" if number.attack == "fgsm" else f"pgd-{steps}"}
    if number.defence == "none":
        bare = Query({**at, **attack, "knowledge": "white-box"})
        return {"as attacked": bare, "strongest": Query({**at, "knowledge": "white-box"}, True)}
    return {
        "as attacked": Query({**at, **attack, "knowledge": OBLIVIOUS}),
        "white-box": Query({**at, **attack, "knowledge": "white-box"}),
        "strongest": Query(at, weakest=True),
        "control": Query({**at, **attack, "knowledge": OBLIVIOUS, "defence": CONTROLS}, best=True),
    }


def _findings(found: Sequence[Answer]) -> list[str]:
    told = []
    for answer in found:
        number, cells = answer.number, answer.cells
        if number.defence == "U-AE" and number.attack == "pgd" and "strongest" in cells:
            seen, left = (cells[name].value for name in ("as attacked", "strongest"))
            told.append(
                f"{number.dataset}, U-AE, PGD at {number.eps}: {number.value} % printed, "
                f"{100 * seen:.1f} % of ours on examples crafted on the bare classifier, "
                f"{100 * left:.1f} % by the strongest ({cells['strongest'].what})"
            )
            if control := cells.get("control"):
                told[-1] += (
                    f"; of the same examples {100 * control.value:.1f} % of the best control, "
                    f"{control.what.partition(':')[0]}"
                )
            told[-1] += "."
    return told


def _setting(config: Any, model: str) -> str:
    size = "all" if config.n_train is None else f"{config.n_train}"
    return (
        f"{model} (paper: width 64), autoencoders of width {config.autoencoder_width} (paper: not "
        f"given), {size} training images of each set, {config.n_eval} test images attacked of each "
        "seed, seeds "
        f"{', '.join(map(str, config.seeds))}."
    )


Side = tuple[str, Cell | None, str, Cell | None]


def _predictions(
    config: Any, found: Sequence[Answer], records: Sequence[Record], titles: Mapping[str, str],
    model: str,
) -> list[Prediction]:  # fmt: skip
    steps = config.steps
    cells = {(a.number.dataset, a.number.defence, a.number.attack): a.cells for a in found}
    made = []

    def predict(text: str, relation: Callable[[float, float], bool], sides: Sequence[Side]):
        known = [(a, x.value, b, y.value) for a, x, b, y in sides if x and y]
        told = "; ".join(f"{a} {100 * x:.1f}, {b} {100 * y:.1f}" for a, x, b, y in known)
        held = all(relation(x, y) for _, x, _, y in known) if known else None
        made.append(Prediction(text, held, f"({told} %)" if told else ""))

    def get(dataset: str, defence: str, attack: str, column: str) -> Cell | None:
        return cells.get((dataset, defence, attack), {}).get(column)

    def both(defence: str, column: str) -> Side:
        pgd, fgsm = (get("Fingers", defence, attack, column) for attack in ("pgd", "fgsm"))
        return f"{defence} PGD", pgd, "FGSM", fgsm

    mean = lambda title, defence: _mean(records, title, model, defence, f"pgd-{steps}")
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
    limit = Cell(0.05, 0, 0, 0, 0, 0, 0, "", synthetic=False)
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
        "Skips let gradients through: under white-box PGD, averaged over the radii, the U-AE is "
        "no better than the plain AE, within 5 points.",
        lambda skips, plain: skips <= plain + CLOSE,
        [
            (f"{dataset} U-AE", mean(title, "U-AE"), "AE", mean(title, "AE"))
            for dataset, title in titles.items()
        ],
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
        f"{', '.join(CONTROLS)} keeps as much as the U-AE, within 5 points.",
        lambda control, defence: control >= defence - CLOSE,
        [
            (f"{dataset} best control", get(dataset, "U-AE", "pgd", "control"),
             "U-AE", get(dataset, "U-AE", "pgd", "as attacked"))
            for dataset in titles
        ],
    )  # fmt: skip
    if config.cw is not None:
        hundredth = dataclasses.replace(limit, value=0.01)
        predict(
            '"Any kind of attack": CW without a radius leaves at most 1 % behind either '
            "autoencoder.",
            operator.le,
            [
                (f"{title} {defence}", unbounded(records, title, defence, config.cw), "limit",
                 hundredth)
                for title in titles.values() for defence in PURIFIERS
            ],
        )  # fmt: skip
    return made


def _mean(
    records: Sequence[Record], title: str, model: str, defence: str, attack: str
) -> Cell | None:
    about = {
        "dataset": title, "model": model, "defence": defence, "attack": attack, "norm": "linf",
    }  # fmt: skip
    grid = sorted({r.eps for r in records if r.attack == attack and r.dataset == title})
    fields = [Query({**about, "knowledge": "white-box", "eps": eps}) for eps in grid if eps > 0]
    cells = [cell for cell in (find(records, query) for query in fields) if cell is not None]
    if not cells:
        return None
    return dataclasses.replace(cells[0], value=float(np.mean([cell.value for cell in cells])))


def _expenses(config: Any, first: Mapping[str, Parts]) -> Table:
    """The claim that the autoencoder costs nothing: parameters, operations, time."""
    parts = next(iter(first.values()))
    rows = []
    for name, deployed in parts.deployed.items():
        one, many = parts.study.examples[0][:1], np.resize(
            parts.study.examples[0], (64, *parts.study.data.image_shape)
        )  # fmt: skip
        seconds = [latency(deployed, x).median for x in (one, many)]
        rows.append((
            {"none": "no defence"}.get(name, name), f"{parameters(deployed):,}",
            f"{flops(deployed, one.shape) / 1e6:.1f}", f"{1e3 * seconds[0]:.2f}",
            f"{1e3 * seconds[1] / 64:.2f}",
        ))  # fmt: skip
    more = [
        f"{100 * (count('U-AE') / count('none') - 1):+.0f} % {what}"
        for what, count in (
            ("parameters", lambda name: parameters(parts.deployed[name])),
            ("operations", lambda name: flops(parts.deployed[name], one.shape)),
        )
    ]
    caption = (
        f"What the defence costs at test time ({parts.model}, autoencoders of width "
        f"{config.autoencoder_width}; {jax.devices()[0].device_kind}): parameters, millions of "
        "operations an image, milliseconds an image alone and in a batch of 64 (median of 30). "
        f'The paper claims "no additional time complexities"; the U-AE adds {" and ".join(more)}.'
    )
    header = ("model", "parameters", "MFLOP", "ms, batch 1", "ms, batch 64")
    return Table(caption, header, tuple(rows), left=1)


def _architecture(config: Any) -> str:
    """Figure 2 of the paper as a table of layers."""
    model = models.build("u_autoencoder", width=config.autoencoder_width)
    x = np.zeros((1, 32, 32, 3), np.float32)
    plain = {"width": 120, "force_terminal": False, "no_color": True}
    text = model.tabulate(jax.random.key(0), x, console_kwargs=plain)
    return (
        "Figure 2 of the paper, the U-autoencoder, layer by layer (its skips, which have no layers "
        "of their own, add what each stage of the encoder has made to the decoder's of the same "
        f"size):\n\n```\n{text.strip()}\n```"
    )
