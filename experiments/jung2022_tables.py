"""Further tables on Jung et al. 2022: controls, other readings, steps, degraded images."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.answers import Query
from experiments.jung2022_parts import CONTROLS, PURIFIERS
from experiments.measuring import OBLIVIOUS
from experiments.paper_numbers import radii
from experiments.views import HOW, Measured, row
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
    view = _View(records, titles, model, config.steps)
    made = (_controls(view), _readings(view), _ladder(view), _degraded(view))
    return [table for table in made if table.rows]


@dataclasses.dataclass(frozen=True)
class _View(Measured):
    titles: Mapping[str, str]
    model: str
    steps: int

    def query(self, dataset: str, defence: str, **fields: Any) -> Query:
        same = {"dataset": self.titles[dataset], "defence": defence, "model": self.model}
        return Query({**same, "metric": "accuracy", **fields})

    def clean(self, dataset: str, defence: str, **fields: Any) -> Query:
        return self.query(dataset, defence, attack="none", knowledge="none", **fields)

    def attacked(self, dataset: str, defence: str, kind: str, knowledge: str) -> Query:
        """At the paper's radius."""
        name = "fgsm" if kind == "fgsm" else f"pgd-{self.steps}"
        (eps,) = radii("0", dataset, kind)
        return self.query(dataset, defence, attack=name, norm="linf", eps=eps, knowledge=knowledge)

    def named(self, dataset: str) -> str:
        """A data set as tables call it."""
        title = self.titles[dataset]
        return dataset if title == dataset else f"{dataset}: ours {title}"

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
                rows += row(view, (view.named(dataset), defence), queries)
    caption = (
        "The examples crafted on the bare classifier, at the paper's radii, shown to the trained "
        "autoencoders and to what has none: where a control does as well, the gain is transfer. "
        f"{HOW}"
    )
    return Table(caption, ("data set", "shown to", "seeds", "images", "clean", "FGSM", "PGD"),
                 tuple(rows), 2)  # fmt: skip


def _readings(view: _View) -> Table:
    rows: list[tuple[str, ...]] = []
    for dataset in view.titles:
        for defence in view.defences(dataset):
            if defence in (*_DEFENCES, *CONTROLS):
                continue
            queries = [view.clean(dataset, defence)]
            queries += [view.attacked(dataset, defence, k, OBLIVIOUS) for k in ("fgsm", "pgd")]
            queries.append(view.attacked(dataset, defence, "pgd", "white-box"))
            rows += row(view, (view.named(dataset), defence), queries)
    caption = (
        "Other readings of the paper, first seed: skips that concatenate or add the input, a "
        "classifier trained without the autoencoder, both trained jointly; at the paper's radii, "
        f"examples crafted on the bare classifier unless white-box. {HOW}"
    )
    header = ("data set", "reading", "seeds", "images", "clean", "FGSM", "PGD", "PGD, white-box")
    return Table(caption, header, tuple(rows), 2)


def _ladder(view: _View) -> Table:
    rows: list[tuple[str, ...]] = []
    attacks = {r.attack for r in view.records if r.attack.startswith("pgd-") and r.norm == "linf"}
    lengths = sorted(int(a.removeprefix("pgd-")) for a in attacks if a[4:].isdigit())
    for dataset in view.titles:
        (eps,) = radii("0", dataset, "pgd")
        for defence in _DEFENCES:
            about = {"norm": "linf", "eps": eps, "knowledge": "white-box"}
            queries = [view.query(dataset, defence, attack=f"pgd-{n}", **about) for n in lengths]
            if all(view.cell(query) for query in queries) and len(queries) > 1:
                rows += row(view, (view.named(dataset), defence, f"{eps:g}"), queries)
    header = ("data set", "defence", "eps", "seeds", "images", *(f"{n} steps" for n in lengths))
    return Table(f"White-box PGD of other lengths. {HOW}", header, tuple(rows), 2)


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
            rows += row(view, (view.named(dataset), defence), queries)
    caption = f"Test images made smaller and brought back, blurred or compressed; no attack. {HOW}"
    return Table(caption, ("data set", "defence", "seeds", "images", "as they are", *found),
                 tuple(rows), 2)  # fmt: skip
