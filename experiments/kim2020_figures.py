"""Figures 2 and 4 of Kim et al. 2020, from our records."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.kim2020_parts import AE, DIFFERENT, HARDENED, SMOOTHED
from experiments.pooling import over_seeds
from jaxdefense.reporting import Record, curve_panels, surface_panels

NAMES = {"none": "C", HARDENED: "advC", f"{AE}, {HARDENED}": "AE + advC"}
NAMES |= {name: f"C, {name}" for name in SMOOTHED}
BLACK_BOX = f"transfer, {DIFFERENT}"


def figures(view) -> list[tuple[str, str, Any]]:
    """File name, caption and figure of each, where its data set was run."""
    found = []
    for name, caption, panels in (
        ("figure-2", _SECOND, dict(_smoothed(view))),
        ("figure-4", _FOURTH, dict(_hardened(view))),
    ):
        if panels:
            cells = [r for curves in panels.values() for rows in curves.values() for r in rows]
            few = _of_one_seed(view, panels)
            images = " or ".join(map(str, sorted({cell.n for cell in cells})))
            caption += f" Data: {', '.join(sorted({cell.dataset for cell in cells}))}."
            caption += f" Bands: 95 % Clopper-Pearson intervals over {images} images of all seeds"
            caption += f"; of one seed: {', '.join(few)}" * bool(few)
            caption += ", data that stand in." if any(r.synthetic for r in cells) else "."
            found.append((name, caption, curve_panels(panels, chance=0.1)))
    return found


def _of_one_seed(view, panels: Mapping[str, Mapping[str, list[Record]]]) -> list[str]:
    """Names of the curves that were measured for the first seed only, where others have more."""
    seeds: dict[str, set[int]] = {}
    for record in view.records:
        seeds.setdefault(NAMES.get(record.defence, record.defence), set()).add(record.seed)
    shown = {name: None for curves in panels.values() for name in curves}
    many = any(len(found) > 1 for found in seeds.values())
    return [name for name in shown if many and len(seeds[name]) == 1]


def landscape(around: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """The losses around images, if they were measured."""
    panels = {title: (found.offsets, found.loss) for title, found in around.items()}
    return [("loss-surfaces", _AROUND, surface_panels(panels))] if panels else []


_AROUND = (
    "Cross-entropy around the attacked test images of the first seed, up to the paper's larger "
    "radius (pixels in [0, 1]; one colour scale for each data set). A defence that masks its "
    "gradients is flat along them at the image and rises elsewhere."
)
_SECOND = (
    "Figure 2: training at a temperature (upper row) and by guided complement entropy (lower row), "
    "with and without the autoencoder. White box: through the whole net; black box: "
    "from substitutes of another architecture, behind an autoencoder of the attacker's own where "
    "the target has one. Of the paper's curves only those of C and AE-C have printed points "
    "(tables 1 and 2a)."
)
_FOURTH = (
    "Figure 4: white-box attacks on classifiers trained on clean images (C, AE-C) and "
    "adversarially (advC, AE + advC). Of the paper's curves only those of C and AE-C have printed "
    "points (table 1). What stronger attackers leave stands in the table of every network."
)


def _smoothed(view) -> Iterator[tuple[str, Mapping[str, list[Record]]]]:
    dataset = "CIFAR-10"
    if dataset not in view.titles:
        return
    team = view.teams[dataset]
    for method in SMOOTHED:
        shown = ("none", AE, method, f"{AE}, {method}")
        for box in ("white", "black"):
            for kind in ("fgsm", "pgd"):
                curves = _curves(view, dataset, shown, getattr(team, kind), box)
                yield f"{method}: {kind.upper()}, {box} box", curves


def _hardened(view) -> Iterator[tuple[str, Mapping[str, list[Record]]]]:
    shown = ("none", AE, HARDENED, f"{AE}, {HARDENED}")
    places = ((d, attack) for d in view.titles for attack in ("fgsm", "pgd"))
    for letter, (dataset, kind) in zip("abcd", places, strict=False):
        curves = _curves(view, dataset, shown, getattr(view.teams[dataset], kind), "white")
        yield f"({letter}) {view.titles[dataset]},\n{kind.upper()}", curves


def _curves(view, dataset: str, defences, attack, box: str) -> dict[str, list[Record]]:
    """The curves of all defences that were measured."""
    curves = {NAMES.get(d, d): _curve(view, dataset, d, attack, box) for d in defences}
    return {name: cells for name, cells in curves.items() if cells}


def _curve(view, dataset: str, defence: str, attack, box: str) -> list[Record]:
    """One record for each radius, over all seeds."""
    knowledge = "white-box"
    if box == "black":
        knowledge = BLACK_BOX + (", with AE" if defence.startswith(AE) else "")
    found = []
    for record in view.records:
        same = (record.dataset, record.defence, record.attack, record.metric)
        # Nothing was crafted at radius 0, where both boxes are one.
        known = record.knowledge in (knowledge, "white-box" if record.eps == 0 else knowledge)
        if known and same == (view.titles[dataset], defence, attack.name, "accuracy"):
            found.append(record)
    return over_seeds(sorted(found, key=lambda record: record.eps))
