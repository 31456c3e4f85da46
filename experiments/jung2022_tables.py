"""Further tables on Jung et al. 2022: controls, other readings, steps, degraded images."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.jung2022_parts import CONTROLS, PURIFIERS, SMOOTH
from experiments.measuring import OBLIVIOUS
from experiments.paper_numbers import radii
from experiments.pooling import Cell, Query, find
from experiments.views import HOW, View, row, size_of
from jaxdefense.reporting import Record, Table

_DEFENCES = ("none", *PURIFIERS)


def tables(
    config: Any, records: Sequence[Record], titles: Mapping[str, str], model: str
) -> list[Table]:
    """All of them, where something was measured.

    Args:
        config: of the script.
        records: all that was measured.
        titles: the paper's name of a data set -> ours.
        model: name of the classifier.
    """
    view = _View(records, titles, {}, model, config)
    made = (
        _controls(view), _through(view), _strengths(view), _readings(view), _ladder(view),
        _norms(view, config.cw), _degraded(view),
    )  # fmt: skip
    return [table for table in made if table.rows]


class _View(View):
    def attacked(self, dataset: str, defence: str, kind: str, knowledge: str) -> Query:
        """At the paper's radius."""
        name = "fgsm" if kind == "fgsm" else f"pgd-{self.config.steps}"
        (eps,) = radii("0", dataset, kind)
        return self.query(dataset, defence, attack=name, norm="linf", eps=eps, knowledge=knowledge)

    def defences(self, dataset: str) -> list[str]:
        """All that was attacked through itself or shown examples, the paper's first."""
        title = self.titles[dataset]
        found = dict.fromkeys(r.defence for r in self.records if r.dataset == title)
        return [*_DEFENCES, *(name for name in found if name not in _DEFENCES)]


def _controls(view: _View) -> Table:
    rows: list[tuple[str, ...]] = []
    for dataset in view.titles:
        for defence in (*PURIFIERS, *CONTROLS):
            queries = [view.attacked(dataset, defence, kind, OBLIVIOUS) for kind in ("fgsm", "pgd")]
            if view.cell(queries[0]):
                queries.insert(0, view.clean(dataset, defence))
                rows += row(view, (view.called(dataset), defence), queries)
    caption = (
        "The examples crafted on the bare classifier, at the paper's radii, shown to the trained "
        "autoencoders and to what has none: what a control keeps as well is no merit of the "
        "autoencoder. In front of the untrained one, as of the trained, a classifier is trained "
        "behind it. Of grey images, repeated over three channels, PCA also undoes all that differs "
        f"between channels, which nothing in clean ones does. {HOW}"
    )
    return Table(caption, ("data set", "shown to", "seeds", "images", "clean", "FGSM", "PGD"),
                 tuple(rows), 2)  # fmt: skip


def _through(view: _View) -> Table:
    rows: list[tuple[str, ...]] = []
    attack = f"pgd-{view.config.steps}"
    known: dict[str, Any] = {"attack": attack, "norm": "linf", "knowledge": "white-box"}
    grid = sorted({r.eps for r in view.records if (r.attack, r.norm) == (attack, "linf")})
    for dataset, defence in itertools.product(view.titles, (*_DEFENCES, *SMOOTH)):
        queries = [view.query(dataset, defence, eps=eps, **known) for eps in grid if eps]
        rows += row(view, (view.called(dataset), defence), queries)
    caption = (
        f"PGD of {view.config.steps} steps through the whole, of the trained autoencoders and of "
        "what has learned nothing of attacks: blur, half size and PCA in front of the bare "
        "classifier, the untrained autoencoder in front of one trained behind it. JPEG and 3 bits "
        f"round, have no gradients to follow and are left out. {HOW}"
    )
    header = ("data set", "defence", "seeds", "images", *(f"{eps:g}" for eps in grid if eps))
    return Table(caption, header, tuple(rows), 2)


def _readings(view: _View) -> Table:
    rows: list[tuple[str, ...]] = []
    for dataset in view.titles:
        for defence in view.defences(dataset):
            if defence in ("none", *CONTROLS):
                continue
            queries = [view.clean(dataset, defence)]
            queries += [view.attacked(dataset, defence, k, OBLIVIOUS) for k in ("fgsm", "pgd")]
            queries.append(view.attacked(dataset, defence, "pgd", "white-box"))
            rows += row(view, (view.called(dataset), defence), [*map(view.first, queries)])
    caption = (
        "Other readings of the paper beside ours, first seed: skips that concatenate or add the "
        "input, a classifier trained without the autoencoder, both trained jointly; at the paper's "
        f"radii, examples crafted on the bare classifier unless white-box. {HOW}"
    )
    header = ("data set", "reading", "seeds", "images", "clean", "FGSM", "PGD", "PGD, white-box")
    return Table(caption, header, tuple(rows), 2)


def _ladder(view: _View) -> Table:
    rows: list[tuple[str, ...]] = []
    attacks = {r.attack for r in view.records if r.attack.startswith("pgd-") and r.norm == "linf"}
    lengths = sorted(int(a.removeprefix("pgd-")) for a in attacks if a[4:].isdigit())
    for dataset in view.titles:
        title = view.titles[dataset]
        grid = {r.eps for r in view.records if r.dataset == title and r.attack in attacks}
        for defence, eps in itertools.product(_DEFENCES, sorted(grid)):
            about: dict[str, Any] = {"norm": "linf", "eps": eps, "knowledge": "white-box"}
            queries = [view.query(dataset, defence, attack=f"pgd-{n}", **about) for n in lengths]
            if all(view.cell(query) for query in queries) and len(queries) > 1:
                rows += row(view, (view.called(dataset), defence, f"{eps:g}"), queries)
    header = ("data set", "defence", "eps", "seeds", "images", *(f"{n} steps" for n in lengths))
    caption = (
        f"White-box PGD of other lengths ({view.config.steps} steps: of a tenth of the radius "
        f"each; others: of 2.5 radii over their number, at least 0.15). {HOW}"
    )
    return Table(caption, header, tuple(rows), 2)


def _strengths(view: _View) -> Table:
    rows: list[tuple[str, ...]] = []
    named, third = f"pgd-{view.config.steps}", f"pgd-{view.config.steps}-step-third"
    for dataset, defence in itertools.product(view.titles, _DEFENCES):
        known = "white-box" if defence == "none" else OBLIVIOUS
        (eps,) = radii("0", dataset, "pgd")
        ways = ((named, "linf", eps), (named, "l2", eps), (third, "linf", 0.3))
        queries = [
            view.query(dataset, defence, attack=attack, norm=norm, eps=size, knowledge=known)
            for attack, norm, size in ways
        ]
        rows += row(view, (view.called(dataset), defence), queries)
    caption = (
        "The paper's strength of PGD in other readings, on examples crafted on the bare classifier "
        "(for which they are white-box): the radius of an l-inf ball, as everywhere else here; of "
        "an l2 ball, which would leave the bare classifier nearly as it was, where 0 % is printed; "
        f"the size of each step within l-inf 0.3. {HOW}"
    )
    return Table(caption, ("data set", "defence", "seeds", "images", "l-inf radius", "l2 radius",
                           "step size"), tuple(rows), 2)  # fmt: skip


def unbounded(
    records: Sequence[Record], title: str, defence: str, cw: tuple[int, int]
) -> Cell | None:
    """What CW leaves at a radius that holds every image; None where it was not run."""
    name = f"cw-{cw[0]}x{cw[1]}"
    mine = [r for r in records if (r.dataset, r.attack, r.defence) == (title, name, defence)]
    widest = max((r.eps for r in mine), default=0.0)
    return find(mine, Query({"metric": "accuracy", "eps": widest}))


def _norms(view: _View, cw: tuple[int, int] | None) -> Table:
    rows: list[tuple[str, ...]] = []
    for dataset, defence in itertools.product(view.titles, _DEFENCES):
        left = unbounded(view.records, view.titles[dataset], defence, cw) if cw else None
        norm = view.cell(view.query(dataset, defence, metric="median l2 norm"))
        if left and norm:
            size = size_of(norm)
            about = (view.called(dataset), defence, str(left.seeds), str(left.n))
            rows.append((*about, left.text(), size))
    caption = (
        "CW without a radius, through the whole: what it leaves is its failure, the median l2 norm "
        "(over the images right without an attack; pixels in [0, 1]) the measure of robustness. "
        f"{HOW}"
    )
    header = ("data set", "defence", "seeds", "images", "left", "median l2 norm")
    return Table(caption, header, tuple(rows), 2)


def _degraded(view: _View) -> Table:
    found = dict.fromkeys(
        r.model.removeprefix(f"{view.model}, ")
        for r in view.records if r.model.startswith(f"{view.model}, ")
    )  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for dataset in view.titles if found else ():
        for defence in _DEFENCES:
            queries = [view.clean(dataset, defence)]
            queries += [
                view.clean(dataset, defence, model=f"{view.model}, {what}") for what in found
            ]
            rows += row(view, (view.called(dataset), defence), queries)
    caption = f"Test images made smaller and brought back, blurred or compressed; no attack. {HOW}"
    return Table(caption, ("data set", "defence", "seeds", "images", "as they are", *found),
                 tuple(rows), 2)  # fmt: skip
