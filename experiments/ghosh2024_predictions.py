"""What should break in Ghosh and Chatterjee 2024, and what did: how it is told from the numbers."""

from typing import Any

from experiments.cells import WHITE_BOX
from experiments.ghosh2024_active import LABELLING, STRATEGIES, called, sizes
from experiments.ghosh2024_cells import NEAREST
from experiments.ghosh2024_looks import FLAT
from experiments.ghosh2024_looks_tables import looked, only
from experiments.ghosh2024_parts import AE, APART, BLUR, GROUPED, PURIFIERS, RESAMPLED, RETRAINED
from experiments.measuring import OBLIVIOUS
from experiments.pooling import Query
from experiments.publish import Prediction
from experiments.telling import agreed, at_most, percent, prediction
from experiments.views import View, in_255

CLOSE, CLEARLY = 0.05, 0.1
"""Accuracies within the first are equal; what differs by the second is clearly another."""


def predictions(view: View) -> list[Prediction]:
    """All of them."""
    made = (_overlap, _plane, _denoised, _negative, _leak, _shortcut, _active)
    return [predict(view) for predict in made]


def shown(view: View, defence: str, knowledge: str, eps: float | None = None) -> Query:
    """PGD, at the radius that is looked at closely unless another is given."""
    team = view.teams[only(view)]
    eps = view.config.eps if eps is None else eps
    return view.query(only(view), defence, attack=team.pgd.name, eps=eps, knowledge=knowledge)


def _overlap(view: View) -> Prediction:
    """Prediction 1, first half."""
    held, told = [], []
    seen = {}
    for name in PURIFIERS:
        sighting = (name, "PGD", OBLIVIOUS, view.config.eps)
        queries = [looked(view, sighting, "AUC", model=place) for place in ("input", "output")]
        if cells := view.cells(*queries, shown(view, name, OBLIVIOUS)):
            before, after, right = (cell.value for cell in cells)
            told.append(f"{name}: {before:.2f} before, {after:.2f} after, {100 * right:.1f} %")
            seen[name] = after, right
    if len(seen) == 2:
        (one, poor), (other, good) = seen[AE], seen[RETRAINED]
        # What differs by less says nothing either way.
        if min(abs(other - one), abs(good - poor)) > CLOSE:
            held.append((other - one) * (good - poor) < 0)
    return prediction(
        "Overlap is no failure: of the two autoencoders the one that leaves clean and attacked "
        "images less separable (AUC of a linear probe on its output) restores more of the answers "
        "to PGD examples of the CNN alone (not to be told where either differs by less than "
        f"{CLOSE}).", held, told,
    )  # fmt: skip


def _plane(view: View) -> Prediction:
    """Prediction 1, second half.

    A straight line parts what is apart in a plane of PCA; t-SNE's islands lie as they fall.
    """
    held, told = [], []
    hows = ("PCA", *(f"t-SNE of perplexity {p:g}" for p in view.config.perplexities))
    for name in PURIFIERS:
        sighting = (name, "PGD", OBLIVIOUS, view.config.eps)
        asked = ("AUC", *(f"AUC {FLAT}, {how}" for how in hows))
        queries = [looked(view, sighting, metric, model="bottleneck") for metric in asked]
        if cells := view.cells(*queries):
            whole, *flat = (cell.value for cell in cells)
            each = ", ".join(f"{how} {auc:.2f}" for how, auc in zip(hows, flat, strict=True))
            told.append(f"{name}: all features {whole:.2f}, {each}")
            held.append(whole - flat[0] > CLEARLY)
    return prediction(
        "A picture in the plane says little about features of many dimensions: a straight line "
        "through all features of the bottleneck tells clean from PGD images by more than 0.1 of "
        "AUC better than one in the plane of PCA. (What t-SNE parts lies in islands, so that a "
        "line's AUC there, which changes with the perplexity, says less than the picture.)",
        held, told,
    )  # fmt: skip


def _denoised(view: View) -> Prediction:
    """Prediction 2: the number that is not printed."""
    held, told = [], []
    for name in PURIFIERS:
        # Clean, too, of the images that are attacked.
        queries = [shown(view, name, OBLIVIOUS, eps) for eps in (0.0, None)]
        if cells := view.cells(*queries):
            told.append(f"{name}: clean and PGD images, both denoised {percent(*cells)}")
            if name == AE:
                seeds, attacked = (view.by_seed(query) for query in queries)
                falls = [clean - attacked[seed] for seed, clean in seeds.items()]
                told[-1] += ", lost by seed " + ", ".join(f"{100 * fall:.1f}" for fall in falls)
                held.append(agreed([fall > CLEARLY for fall in falls]))
    bare = view.cell(shown(view, "none", WHITE_BOX, 0.0))
    if bare:
        told.append(f"the same images clean, without an autoencoder {percent(bare)}")
    return prediction(
        "The paper prints no accuracy after denoising. The autoencoder that has met no attack does "
        "not undo PGD on the CNN alone: they stay more than 10 points below clean images, both "
        "denoised (not to be told where seeds disagree).", held, told,
    )  # fmt: skip


def _negative(view: View) -> Prediction:
    """Prediction 2: its finding is negative, which is the most credible of all."""
    held, told = [], []
    counts = [
        view.query(only(view), "none", metric=f"attacked images of class {k}") for k in (0, 1)
    ]
    both = [cell.value for cell in view.cells(*counts) or ()]
    share = max(both) / sum(both) if both else 0.0
    one_class = f" ({100 * share:.1f} % of the attacked images are of one class)" if both else ""
    through = lambda name, eps: view.query(
        only(view), name, weakest=True, norm="linf", eps=eps, knowledge=WHITE_BOX
    )
    for name in PURIFIERS:
        for eps in (eps for eps in view.config.radii if eps > 0):
            queries = [view.strongest(only(view), each, eps) for each in (name, "none")]
            if cells := view.cells(*queries):
                told.append(f"{name} at {in_255(eps)}, and without it: {percent(*cells)}")
                filters = [
                    cell for each in (BLUR, RESAMPLED)
                    if (cell := view.cell(through(each, eps)))
                ]  # fmt: skip
                if filters:
                    told[-1] += f", behind {BLUR} and {RESAMPLED} {percent(*filters)}"
                others = (cells[1].value, share, *(cell.value for cell in filters))
                held.append(at_most(cells[0], max(others) + CLOSE))
    return prediction(
        "The negative finding is right: against an attacker who knows it neither autoencoder "
        "leaves more than 5 points above the best of the CNN alone, of it behind a filter (where "
        f"these were attacked) and of one answer for all{one_class}, at any radius.",
        held, told,
    )  # fmt: skip


def _leak(view: View) -> Prediction:
    """Prediction 3, leakage."""
    held, told = [], []
    names = (view.model, f"{view.model}, {GROUPED}", f"{NEAREST}, {view.model}")
    if cells := view.cells(*(view.clean(only(view), "none", model=name) for name in names)):
        random, grouped, nearest = cells
        told.append(f"random {percent(random)}, grouped {percent(grouped)}")
        told.append(f"the label of the most similar training image {percent(nearest)}")
        held += [grouped.high < random.low, random.value - nearest.value <= CLOSE]
    return prediction(
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
        told.append(f"{percent(borders)}, largest class {100 * share:.1f} %")
        held.append(borders.low > share + CLEARLY)
    return prediction(
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
            told.append(f"{strategy}, {last} labels: {percent(*cells)}")
    if len(found) == 2:
        chosen, chance = (found[strategy] for strategy in STRATEGIES)
        held = [chosen[0].low > chance[0].high, chosen[1].value >= chance[1].value]
        held.append(chosen[2].value <= chance[2].value + CLOSE)
    return prediction(
        "The paper describes active learning and shows none. Labels where the CNN is uncertain "
        "label the rest better than labels by chance (intervals apart; it has lost its hardest "
        "images to them), test images no worse, and make it no more robust to FGSM at "
        f"{in_255(view.config.active_eps)} (labels for the rest, clean, FGSM).", held, told,
    )  # fmt: skip
