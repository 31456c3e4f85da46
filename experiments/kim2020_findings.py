"""What came out of `kim2020_revisiting_autoencoders`, a sentence each."""

from collections.abc import Iterator
from typing import Any

from experiments.kim2020_lineup import FAINT, printed
from experiments.kim2020_parts import AE, CONTROL, CONTROLS, DIFFERENT, PCA, SMOOTHED
from experiments.pooling import Query
from experiments.telling import percent


def findings(view) -> list[str]:
    """All of them, for the head of the page."""
    told = []
    for dataset, title in view.titles.items():
        for eps in sorted({255 * eps for eps in printed(dataset)} | {FAINT[dataset]}):
            asked = (view.strongest(dataset, name, eps / 255) for name in ("none", AE))
            if cells := view.cells(*asked):
                told.append(
                    f"{title} at {eps:.0f}/255, strongest attacker measured: the classifier alone "
                    f"{percent(cells[0])}, {AE} {percent(cells[1])}{_best(view, dataset, eps)}."
                )
    return [*told, *_on_top(view), *_strangers(view), *_nets(view)]


def _on_top(view) -> Iterator[str]:
    """Figure 2: the autoencoder in front of a classifier trained with another loss."""
    for dataset, title in view.titles.items():
        for eps in sorted({FAINT[dataset], 255 * printed(dataset)[0]}):
            told, seeds = [], view.seeds(dataset, next(iter(SMOOTHED)))
            for bare, behind in [("none", AE), *((n, f"{AE}, {n}") for n in SMOOTHED)]:
                pair = (view.strongest(dataset, name, eps / 255) for name in (bare, behind))
                same = (Query({**query.fields, **seeds}, weakest=True) for query in pair)
                if cells := view.cells(*same):
                    loss = "cross-entropy" if bare == "none" else bare
                    told.append(f"{loss} {percent(*cells)}")
            if len(told) > 1:
                yield (
                    f"{title} at {eps:.0f}/255, strongest, by the classifier's training, without "
                    f"and with the autoencoder: {'; '.join(told)}."
                )


def _best(view, dataset: str, eps: float) -> str:
    """What the best control keeps of an attack that all have met, beside what is deployed."""
    attack = view.teams[dataset].suite_of_others.name
    fields: dict[str, Any] = {"attack": attack, "eps": eps / 255, **view.seeds(dataset, PCA)}
    own = view.query(dataset, AE, **fields)
    best = Query({**own.fields, "defence": (CONTROL, *CONTROLS)}, best=True)
    if not (cells := view.cells(own, best)):
        return ""
    name, seeds = cells[1].what.partition(":")[0].removesuffix(" (1 seed)"), cells[0].seeds
    control = f"the best control, {name}, {percent(cells[1])}"
    if not cells[1].value:
        control = "every control 0.0 %"
    return (
        f"; under {attack}, which controls met too, {percent(cells[0])} and {control} "
        f"({seeds} seed{'s' * (seeds > 1)})"
    )


def _strangers(view) -> Iterator[str]:
    """The black-box half: the paper's examples of substitutes, and Square."""
    for dataset, title in view.titles.items():
        eps = max(printed(dataset))
        knowledge = f"transfer, {DIFFERENT}, with AE"
        attack = view.teams[dataset].pgd.name
        fields: dict[str, Any] = {"attack": attack, "eps": eps, "knowledge": knowledge}
        transferred = [view.query(dataset, d, **fields) for d in ("none", AE, CONTROL)]
        if cells := view.cells(*transferred):
            line = (
                f"{title} at {255 * eps:.0f}/255, PGD examples of a substitute of another "
                f"architecture with an autoencoder: the classifier alone {percent(cells[0])}, "
                f"{AE} {percent(cells[1])}, {CONTROL} {percent(cells[2])}"
            )
            if cell := view.cell(view.black_box(dataset, AE, eps)):
                line += f"; of {AE} the strongest black box ({cell.what}) leaves {percent(cell)}"
            yield f"{line}."


def _nets(view) -> Iterator[str]:
    """Table 3."""
    names = ("joint lambda=0", "joint lambda=4", "alternating gamma=2")
    if "MNIST" in view.titles and (
        cells := view.cells(*(view.strongest("MNIST", name, 20 / 255) for name in names))
    ):
        left = ", ".join(f"{n} {percent(c)}" for n, c in zip(names, cells, strict=True))
        yield f"A shared encoder, MNIST at 20/255, strongest: {left}."
    told = []
    for kind in ("joint lambda=", "alternating gamma="):
        trained = sorted(
            {r.defence for r in view.records if r.defence.startswith(kind)},
            key=lambda name: float(name.partition("=")[2]),
        )
        # Most were trained for the first seed only.
        seeds = [view.seeds("MNIST", d) for d in trained]
        few: dict[str, Any] = min(seeds, key=lambda s: len(s["seed"]), default={})
        asked = (view.strongest("MNIST", d, 20 / 255) for d in trained)
        kept = [view.cell(Query({**q.fields, **few}, weakest=True)) for q in asked]
        shown = ", ".join(
            f"{d.removeprefix(kind)}: {percent(c)}" for d, c in zip(trained, kept, strict=True) if c
        )
        told += [f"{kind.strip('=')} {shown}"] * bool(shown)
        count = next((cell.n for cell in kept if cell), 0)
    if told:
        yield (
            f"The same of every lambda and gamma, of the seeds that have all ({count} images): "
            f"{'; '.join(told)} (the paper's text: a lambda above 4 and a gamma above 2 hurt)."
        )
