"""What Jung et al. 2022 print and what we measured: answers, predictions, tables and figures."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.answers import Answer, answers
from experiments.jung2022_figures import figures
from experiments.jung2022_parts import CONTROLS, FAINT, PURIFIERS, SMOOTH, UNTRAINED, Parts
from experiments.jung2022_predictions import predictions
from experiments.jung2022_tables import tables
from experiments.measuring import OBLIVIOUS
from experiments.paper_numbers import Number, of_paper
from experiments.pooling import Query, find
from experiments.publish import Outcome
from experiments.telling import compare, percent
from jaxdefense import Frozen, Purified, attacks, linf, models
from jaxdefense.evaluation.expense import flops, latency, parameters
from jaxdefense.reporting import Record, Table
from jaxdefense.typing import Classifier

_LEFT_OUT = """Left out, and why:

- The paper's traffic signs: it cites a table of vehicle counts for them, so GTSRB is taken, and
  where an accuracy is as printed of signs, that is a coincidence.
- The loss as printed, the norm of X + D(X) - D(E(X) + X): autoencoders are trained by the mean
  squared error between what they return and the image. Of those that add the input ("the sum of
  the encoder input and the decoder output") a decoder of nothing but zeros is a solution, and no
  defence at all.
- A classifier of its own behind blur, half size, JPEG, bits and PCA: they stand in front of the
  bare one, which is to their disadvantage. The untrained autoencoder has its own.
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
        findings=_findings(config, found, records, titles, model),
        setting=_setting(config, model),
        records=records,
        answers=found,
        headlines=headlines,
        predictions=predictions(config, found, records, titles, model),
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


def _findings(
    config: Any, found: Sequence[Answer], records: Sequence[Record], titles: Mapping[str, str],
    model: str,
) -> list[str]:  # fmt: skip
    told = []
    for answer in found:
        number, cells = answer.number, answer.cells
        seen, control = cells.get("as attacked"), cells.get("control")
        if number.defence != "U-AE" or number.attack == "none" or seen is None:
            continue
        parts = [
            f"{number.dataset}, U-AE, {number.attack} at {number.eps}: printed {number.value} %, "
            f"ours {100 * seen.value:.1f} %"
        ]
        if control:
            name = control.what.partition(":")[0]
            parts.append(f"the best control, {name}, {100 * control.value:.1f} %")
        if last := cells.get("strongest"):
            parts.append(f"against the strongest ({last.what}) {100 * last.value:.1f} %")
        told.append(", ".join(parts) + f": {answer.verdict}.")
    return [*told, *_skips(found, titles), *_gains(config, records, titles, model)]


def _skips(found: Sequence[Answer], titles: Mapping[str, str]) -> Iterator[str]:
    """What the paper is about: whether the U-AE keeps more than the AE of what it attacks with."""
    for dataset in titles:
        told = []
        for attack in ("gaussian", *_ATTACKS):
            pair = [
                a for name in PURIFIERS for a in found
                if (a.number.dataset, a.number.defence, a.number.attack) == (dataset, name, attack)
            ]  # fmt: skip
            cells = [a.cells["as attacked"] for a in pair if "as attacked" in a.cells]
            if len(cells) == len(PURIFIERS):
                printed = " and ".join(f"{a.number.value}" for a in pair)
                more = compare(operator.gt, cells[1], cells[0])
                said = {True: "more", False: "no more", None: "seeds disagree"}[more]
                said += " (1 seed)" * (cells[0].seeds == 1)
                told.append(f"{attack} {percent(*cells)}, {said} (printed {printed})")
        if told:
            names = " and ".join(PURIFIERS)
            yield f"{dataset}, {names} as the paper attacks: {'; '.join(told)}."


def _gains(
    config: Any, records: Sequence[Record], titles: Mapping[str, str], model: str
) -> Iterator[str]:
    """Where an autoencoder gains over the bare classifier through the whole: at faint radii."""
    attacks_there = [f"pgd-{config.steps}"]
    if config.suite_of_faint is not None:
        attacks_there.append(attacks.SUITES[config.suite_of_faint](linf).name)
    names = ("no defence", *PURIFIERS)
    for dataset, title in titles.items():
        told = []
        for attack in attacks_there:
            fields = {"dataset": title, "model": model, "attack": attack, "norm": "linf",
                      "knowledge": "white-box", "eps": FAINT[dataset]}  # fmt: skip
            asked = (Query({**fields, "defence": d}) for d in ("none", *PURIFIERS))
            cells = [cell for query in asked if (cell := find(records, query))]
            if len(cells) < len(names):
                continue
            kept = ", ".join(
                f"{name} {percent(cell)}" for name, cell in zip(names, cells, strict=True)
            )
            control = find(records, Query({**fields, "defence": SMOOTH}, best=True))
            best = "no control was attacked"
            if control:
                name = control.what.partition(":")[0]
                best = f"the best control, {name}, {percent(control)}"
            told.append(f"{attack}: {kept}; {best}")
        if told:
            yield (
                f"{dataset} at {FAINT[dataset]:g}, a radius so faint that something is left, "
                f"through the whole, {'. '.join(told)}."
            )


def _setting(config: Any, model: str) -> str:
    size = "all" if config.n_train is None else f"{config.n_train}"
    return (
        f"{model} (paper: width 64), autoencoders of width {config.autoencoder_width} (paper: not "
        f"given), {size} training images of each set, {config.n_eval} test images attacked of each "
        "seed, seeds "
        f"{', '.join(map(str, config.seeds))}."
    )


def _expenses(config: Any, first: Mapping[str, Parts]) -> Table:
    """The claim that the autoencoder costs nothing: parameters, operations, time."""
    parts = next(iter(first.values()))
    one, many = parts.study.examples[0][:1], np.resize(
        parts.study.examples[0], (64, *parts.study.data.image_shape)
    )  # fmt: skip
    # In turns, and the least of three, for whatever else the machine does meanwhile.
    taken = [
        {(name, len(x)): latency(deployed, x).median
         for name, deployed in parts.deployed.items() for x in (one, many)}
        for _ in range(3)
    ]  # fmt: skip
    rows, times = [], {key: min(each[key] for each in taken) for key in taken[0]}
    for name, deployed in parts.deployed.items():
        rows.append((
            {"none": "no defence"}.get(name, name), f"{parameters(deployed):,}",
            f"{flops(deployed, one.shape) / 1e6:.1f}", f"{1e3 * times[name, 1]:.2f}",
            f"{1e3 * times[name, 64] / 64:.2f}",
        ))  # fmt: skip
    wide = dict(_as_published(config, parts))
    for name, untrained in wide.items():
        size = f"{parameters(untrained):,}", f"{flops(untrained, one.shape) / 1e6:.1f}"
        rows.append((name, *size, "-", "-"))
    more = [
        f"{100 * (count('U-AE') / count('none') - 1):+.0f} % of {what}"
        for what, count in (
            ("parameters", lambda name: parameters(parts.deployed[name])),
            ("operations", lambda name: flops(parts.deployed[name], one.shape)),
        )
    ]
    alone, batch = (1, "an image alone"), (64, "one in a batch")
    waits = " and ".join(
        f"{100 * (times['U-AE', size] / times['none', size] - 1):+.0f} % ({what})"
        for size, what in (alone, batch)
    )
    caption = (
        f"What the defence costs at test time ({parts.model}, autoencoders of width "
        f"{config.autoencoder_width}; {jax.devices()[0].device_kind}): parameters, millions of "
        "operations an image, milliseconds an image alone and in a batch of 64 (median of 30, "
        "the least of three times). "
        f'The paper claims "no additional time complexities"; to the classifier of this run the '
        f"U-AE adds {' and '.join(more)}, and {waits} of the time."
    )
    if wide:
        counts = [parameters(each) for each in wide.values()]
        caption += (
            f" To one of the paper's width ({PUBLISHED[0]}, an autoencoder of {PUBLISHED[1]}; "
            f"counted, not timed) {100 * (counts[1] / counts[0] - 1):+.1f} % of parameters."
        )
    header = ("model", "parameters", "MFLOP", "ms, batch 1", "ms, batch 64")
    return Table(caption, header, tuple(rows), left=1)


PUBLISHED = (64, 32)
"""Width of the paper's classifier, and of the autoencoder that preset paper takes for its own."""


def _as_published(config: Any, parts: Parts) -> Iterator[tuple[str, Classifier]]:
    """Classifier and whole of the paper's size, untrained, where the run's are others."""
    if (config.width, config.autoencoder_width) == PUBLISHED:
        return
    data, key = parts.study.data, jax.random.key(0)
    shape, classes = data.image_shape, data.num_classes
    wide, front = (
        models.build(name, width=width, **given)
        for name, width, given in zip(
            (config.model, PURIFIERS["U-AE"]),
            PUBLISHED,
            ({"num_classes": classes}, {}),
            strict=True,
        )
    )
    net = Frozen(wide, models.initialize(wide, key, shape))
    yield f"no defence, width {PUBLISHED[0]}", net
    yield (
        f"U-AE, widths {PUBLISHED[0]} and {PUBLISHED[1]}",
        Purified(Frozen(front, models.initialize(front, key, shape)), net),
    )


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
