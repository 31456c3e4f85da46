"""What `ghosh2024_ct_denoising` says: answers to the printed numbers, predictions, summary."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.answers import answers
from experiments.ghosh2024_cells import NEAREST, TRAINING, VALIDATION, lineup
from experiments.ghosh2024_figures import figures
from experiments.ghosh2024_looks_tables import only
from experiments.ghosh2024_parts import (
    BLUR,
    HALF,
    PURIFIERS,
    RESAMPLED,
    SPLITS,
    Parts,
)
from experiments.ghosh2024_predictions import predictions, shown
from experiments.ghosh2024_tables import setting, tables
from experiments.measuring import OBLIVIOUS
from experiments.paper_numbers import Number, of_paper
from experiments.pooling import Query
from experiments.publish import Outcome
from experiments.telling import percent
from experiments.views import View, in_255
from jaxdefense.reporting import Record

TITLE = "Ghosh and Chatterjee 2024: Autoencoder-based denoising for image security (CT slices)"
COUNTS = {
    "images COVID-19": "images of class 1",
    "images non COVID-19": "images of class 0",
    "images total": "images in all",
}
HALVES = {
    "train images (abstract)": "images for training",
    "validation images (abstract)": "images for testing",
}


def outcome(config: Any, parts: Parts, records: Sequence[Record]) -> Outcome:
    """All that is published.

    Args:
        config: of the script.
        parts: what was trained with the first seed.
        records: all that was measured.
    """
    name = of_paper("3")[0].dataset
    titles, teams = {name: parts.study.data.title}, {name: lineup(config)}
    view = View(records, titles, teams, parts.model, config)
    found = answers(of_paper("3"), records, functools.partial(ask, view))
    return Outcome(
        paper="3",
        title=TITLE,
        question="Does a denoising autoencoder undo attacks on a CNN for CT slices, and does "
        "overlap of features say so? The paper prints accuracies without an attack only.",
        findings=_findings(view),
        setting=_setting(view),
        records=records,
        answers=found,
        headlines=[a for a in found if a.number.metric == "test accuracy" and a.cells],
        predictions=predictions(view),
        tables=tables(view, parts),
        figures=figures(view, parts),
    )


def ask(view: View, number: Number) -> Mapping[str, Query] | str:
    """Which records answer a printed number, or why none do."""
    clean = functools.partial(view.clean, only(view), "none")
    if number.table == "2":
        (ours,) = (row[2] for row in setting(view.config).rows if row[0] == number.metric)
        return f"a setting, no result; here {ours}"
    if number.metric in COUNTS:
        return {"as attacked": clean(metric=COUNTS[number.metric])}
    if number.metric in HALVES:
        model = f"{view.model}, {HALF}"
        return {"as attacked": clean(model=model, metric=HALVES[number.metric])}
    if number.metric != "test accuracy":
        ending = TRAINING if number.metric.startswith("train") else VALIDATION
        return {"as attacked": clean(model=view.model + ending)}
    return {"as attacked": clean(), "control": clean(model=f"{NEAREST}, {view.model}")}


def _findings(view: View) -> list[str]:
    config, told = view.config, []
    for defence in ("none", *PURIFIERS):
        asked = {"clean": view.clean(only(view), defence)}
        if defence != "none":
            asked["on PGD examples of the CNN alone"] = shown(view, defence, OBLIVIOUS)
        asked["strongest"] = view.strongest(only(view), defence, config.eps)
        if cells := view.cells(*asked.values()):
            spread = ", ".join(
                f"{what} {100 * c.value:.1f} ({100 * c.least:.1f} to {100 * c.most:.1f})"
                for what, c in zip(asked, cells, strict=True)
            )
            name = "The CNN alone" if defence == "none" else defence[0].upper() + defence[1:]
            told.append(f"{name} at eps {in_255(config.eps)}: {spread} % (range over seeds).")
    splits = {
        "80/20 split": view.model,
        **{split: f"{view.model}, {split}" for split in SPLITS},
        "no learning, the label of the most similar training image": f"{NEAREST}, {view.model}",
    }
    asked = {what: view.clean(only(view), "none", model=model) for what, model in splits.items()}
    if cells := view.cells(*asked.values()):
        left = "; ".join(
            f"{what} {100 * c.value:.1f}" for what, c in zip(asked, cells, strict=True)
        )
        told.append(f"Clean accuracy of the CNN alone: {left} %.")
    return [*told, *_filters(view)]


def _filters(view: View) -> list[str]:
    """What filters that have learned nothing keep, beside the autoencoders."""
    told = []
    for name in (*PURIFIERS, BLUR, RESAMPLED):
        queries = (view.clean(only(view), name), shown(view, name, OBLIVIOUS))
        if cells := view.cells(*queries):
            told.append(f"{name} {percent(*cells)}")
    if not told:
        return []
    return ["In front of the CNN, clean and on PGD examples of the CNN alone: " + "; ".join(told)
            + "."]  # fmt: skip


def _setting(view: View) -> str:
    config = view.config
    given, again, active = config.classifier, config.retrained, config.active
    start, more, cycles = config.labels
    return (
        "Where what is left behind an autoencoder is of one class (confusion matrices), it has "
        "moved the CNN towards that answer, which is no robustness. "
        f"Slices of {config.size} x {config.size} (paper: 224, files to hand: 128), "
        f"{config.n_train or 'all'} training images; {view.model}, dense layer {config.hidden}; "
        f"autoencoder {'-'.join(map(str, config.autoencoder))}; Adam at a constant {given.lr:g} "
        f"(paper: 1e-4), batches of {given.batch_size}, at most {given.epochs} epochs (paper: 60 "
        f"or 50), {config.denoiser.epochs} for the autoencoder on clean images and with noise of "
        f"sigma {config.sigmas[0]:g} to {config.sigmas[1]:g}, then {again.epochs} on these, FGSM "
        f"and PGD of {config.met[0]} steps at {in_255(config.met[1])}; PGD of {config.steps} steps "
        f"attacks, and {config.suite or 'no suite'}; seeds {', '.join(map(str, config.seeds))}, of "
        f"each {config.n_eval} test images attacked. Active learning: {start} labels and "
        f"{cycles} times {more} more, {active.epochs} epochs of {start + cycles * more} images."
    )
