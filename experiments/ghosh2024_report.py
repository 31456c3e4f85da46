"""What `ghosh2024_ct_denoising` says: answers to the printed numbers, predictions, summary."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.answers import answers
from experiments.cells import WHITE_BOX
from experiments.ghosh2024_active import LABELLING, STRATEGIES, called, sizes
from experiments.ghosh2024_cells import NEAREST, TRAINING, VALIDATION, lineup
from experiments.ghosh2024_figures import figures
from experiments.ghosh2024_looks import FLAT
from experiments.ghosh2024_looks_tables import looked, only
from experiments.ghosh2024_parts import (
    AE,
    APART,
    GROUPED,
    HALF,
    PURIFIERS,
    RETRAINED,
    SPLITS,
    Parts,
)
from experiments.ghosh2024_tables import setting, tables
from experiments.measuring import OBLIVIOUS
from experiments.paper_numbers import Number, of_paper
from experiments.pooling import Query
from experiments.publish import Outcome, Prediction
from experiments.views import View
from jaxdefense.reporting import Record

TITLE = "Ghosh and Chatterjee 2024: Autoencoder-based denoising for image security (CT slices)"
CLOSE, CLEARLY = 0.05, 0.1
"""Accuracies within the first are equal; what differs by the second is clearly another."""
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
        predictions=[predict(view) for predict in PREDICTIONS],
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


def _percent(*cells: Any) -> str:
    return " and ".join(f"{100 * cell.value:.1f}" for cell in cells) + " %"


def _findings(view: View) -> list[str]:
    config, told = view.config, []
    for defence in ("none", *PURIFIERS):
        asked = {"clean": view.clean(only(view), defence)}
        if defence != "none":
            asked["on PGD examples of the CNN alone"] = _shown(view, defence, OBLIVIOUS)
        asked["strongest"] = view.strongest(only(view), defence, config.eps)
        if cells := view.cells(*asked.values()):
            spread = ", ".join(
                f"{what} {100 * c.value:.1f} ({100 * c.least:.1f} to {100 * c.most:.1f})"
                for what, c in zip(asked, cells, strict=True)
            )
            name = "The CNN alone" if defence == "none" else defence[0].upper() + defence[1:]
            told.append(f"{name} at eps {config.eps:.3g}: {spread} % (range over seeds).")
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
    return told


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
        f"and PGD of {config.met[0]} steps at {config.met[1]:.3g}; PGD of {config.steps} steps "
        f"attacks, and {config.suite or 'no suite'}; seeds {', '.join(map(str, config.seeds))}, of "
        f"each {config.n_eval} test images attacked. Active learning: {start} labels and "
        f"{cycles} times {more} more, {active.epochs} epochs of {start + cycles * more} images."
    )


# ------------------------------------------------------------------------------------ predictions


def _shown(view: View, defence: str, knowledge: str, eps: float | None = None) -> Query:
    """PGD, at the radius that is looked at closely unless another is given."""
    team = view.teams[only(view)]
    eps = view.config.eps if eps is None else eps
    return view.query(only(view), defence, attack=team.pgd.name, eps=eps, knowledge=knowledge)


def _prediction(text: str, held: Sequence[bool], told: Sequence[str]) -> Prediction:
    """Holds where every part of it does; was not measured where no part was."""
    return Prediction(text, all(held) if held else None, "; ".join(told) + "." if told else "")


def _overlap(view: View) -> Prediction:
    """Prediction 1, first half."""
    held, told = [], []
    seen = {}
    for name in PURIFIERS:
        sighting = (name, "PGD", OBLIVIOUS, view.config.eps)
        queries = [looked(view, sighting, "AUC", model=place) for place in ("input", "output")]
        if cells := view.cells(*queries, _shown(view, name, OBLIVIOUS)):
            before, after, right = (cell.value for cell in cells)
            told.append(f"{name}: {before:.2f} before, {after:.2f} after, {100 * right:.1f} %")
            seen[name] = after, right
    if len(seen) == 2:
        (one, poor), (other, good) = seen[AE], seen[RETRAINED]
        # What differs by less says nothing either way.
        if min(abs(other - one), abs(good - poor)) > CLOSE:
            held.append((other - one) * (good - poor) < 0)
    return _prediction(
        "Overlap is no failure: of the two autoencoders the one that leaves clean and attacked "
        "images less separable (AUC of a linear probe on its output) restores more of the answers "
        "to PGD examples of the CNN alone (not to be told where either differs by less than "
        f"{CLOSE}).", held, told,
    )  # fmt: skip


def _plane(view: View) -> Prediction:
    """Prediction 1, second half."""
    held, told = [], []
    hows = ("PCA", *(f"t-SNE of perplexity {p:g}" for p in view.config.perplexities))
    for name in PURIFIERS:
        sighting = (name, "PGD", OBLIVIOUS, view.config.eps)
        asked = ("AUC", *(f"AUC {FLAT}, {how}" for how in hows))
        queries = [looked(view, sighting, metric, model="bottleneck") for metric in asked]
        if cells := view.cells(*queries):
            whole, *flat = (cell.value for cell in cells)
            shown = ", ".join(f"{how} {auc:.2f}" for how, auc in zip(hows, flat, strict=True))
            told.append(f"{name}: all features {whole:.2f}, {shown}")
            held.append(whole - max(flat) > CLEARLY)
    return _prediction(
        "A picture in the plane says little about features of many dimensions: all features of the "
        "bottleneck tell clean from PGD images by more than 0.1 of AUC better than any embedding.",
        held, told,
    )  # fmt: skip


def _denoised(view: View) -> Prediction:
    """Prediction 2: the number that is not printed."""
    held, told = [], []
    for name in PURIFIERS:
        # Clean, too, of the images that are attacked.
        queries = (_shown(view, name, OBLIVIOUS, eps) for eps in (0.0, None))
        if cells := view.cells(*queries):
            told.append(f"{name}: clean and PGD images, both denoised {_percent(*cells)}")
            if name == AE:
                held.append(cells[0].value - cells[1].value > CLEARLY)
    return _prediction(
        "The paper prints no accuracy after denoising. The autoencoder that has met no attack does "
        "not undo PGD on the CNN alone: they stay more than 10 points below clean images.",
        held, told,
    )  # fmt: skip


def _negative(view: View) -> Prediction:
    """Prediction 2: its finding is negative, which is the most credible of all."""
    held, told = [], []
    for name in PURIFIERS:
        for eps in (eps for eps in view.config.radii if eps > 0):
            queries = [view.strongest(only(view), each, eps) for each in (name, "none")]
            if cells := view.cells(*queries):
                told.append(f"{name} at {255 * eps:.3g}/255, and without it: {_percent(*cells)}")
                held.append(cells[0].value <= cells[1].value + CLOSE)
    return _prediction(
        "The negative finding is right: against an attacker who knows it neither autoencoder "
        "leaves more than 5 points above the CNN alone, at any radius.", held, told,
    )  # fmt: skip


def _leak(view: View) -> Prediction:
    """Prediction 3, leakage."""
    held, told = [], []
    names = (view.model, f"{view.model}, {GROUPED}", f"{NEAREST}, {view.model}")
    if cells := view.cells(*(view.clean(only(view), "none", model=name) for name in names)):
        random, grouped, nearest = cells
        told.append(f"random {_percent(random)}, grouped {_percent(grouped)}")
        told.append(f"the label of the most similar training image {_percent(nearest)}")
        held += [grouped.high < random.low, random.value - nearest.value <= CLOSE]
    return _prediction(
        "Leakage inflates the accuracy: with near-duplicates on one side it is lower (intervals "
        "apart), and copying the label of the most similar training image comes within 5 points.",
        held, told,
    )  # fmt: skip


def _shortcut(view: View) -> Prediction:
    """Prediction 3, shortcuts."""
    held, told = [], []
    queries = [view.clean(only(view), "none", model=f"{view.model}, {APART}")]
    queries += [
        view.query(only(view), "none", metric=metric)
        for metric in ("images of class 0", "images of class 1", "images in all")
    ]
    if cells := view.cells(*queries):
        borders, one, other, every = cells
        share = max(one.value, other.value) / every.value
        told.append(f"{_percent(borders)}, largest class {100 * share:.1f} %")
        held.append(borders.low > share + CLEARLY)
    return _prediction(
        "The borders alone, a frame of an eighth of each side, tell the classes apart with "
        "near-duplicates on one side, too: more than 10 points above the share of the larger "
        "class.", held, told,
    )  # fmt: skip


def _active(view: View) -> Prediction:
    """Prediction 4."""
    last, held, told = sizes(view.config)[-1], [], []
    found = {}
    for strategy in STRATEGIES:
        same: dict[str, Any] = {"model": called(strategy, last)}
        attack = {"attack": view.teams[only(view)].fgsm.name, "knowledge": WHITE_BOX}
        queries = (
            view.clean(only(view), "none", metric=LABELLING, **same),
            view.clean(only(view), "none", **same),
            view.query(only(view), "none", eps=view.config.active_eps, **attack, **same),
        )
        if cells := view.cells(*queries):
            found[strategy] = cells
            told.append(f"{strategy}, {last} labels: {_percent(*cells)}")
    if len(found) == 2:
        chosen, chance = (found[strategy] for strategy in STRATEGIES)
        held = [chosen[0].low > chance[0].high, chosen[1].value >= chance[1].value]
        held.append(chosen[2].value <= chance[2].value + CLOSE)
    return _prediction(
        "The paper describes active learning and shows none. Labels where the CNN is uncertain "
        "label the rest better than labels by chance (intervals apart; it has lost its hardest "
        "images to them), test images no worse, and make it no more robust to FGSM at "
        f"{view.config.active_eps:.3g} (labels for the rest, clean, FGSM).", held, told,
    )  # fmt: skip


PREDICTIONS = (_overlap, _plane, _denoised, _negative, _leak, _shortcut, _active)
