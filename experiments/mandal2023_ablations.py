"""Tables beyond the paper's: controls, noise, other trainings, the defences it compares with."""

import os
import re
from collections.abc import Mapping

import jax

from experiments.mandal2023_further import ALONE, FIXED, MEAN, SILENT, SPREAD
from experiments.mandal2023_lineup import FEW
from experiments.mandal2023_parts import (
    AUTOENCODERS,
    BLUR,
    DEFENSE_GAN,
    FGSM_AE,
    PUVAE,
    RADII,
    RESAMPLED,
    SECOND,
    UNTRAINED,
    Parts,
)
from experiments.mandal2023_tables import each_kind
from experiments.views import HOW, row, size_of
from jaxdefense.models import count_parameters
from jaxdefense.reporting import Table

EPS = RADII[FGSM_AE]


def tables(view, first: Mapping[str, Parts]) -> list[Table]:
    """All of them."""
    return [
        _controls(view), _noise(view), _spreads(view), _variants(view, first), _baselines(view),
        _named(view), _norms(view), _seconds(view, first),
    ]  # fmt: skip


def _controls(view) -> Table:
    """The examples of table 2 shown to what has no trained autoencoder."""
    shown = (SECOND, BLUR, RESAMPLED, UNTRAINED)
    rows: list[tuple[str, ...]] = []
    for dataset, kind, name in each_kind(view):
        queries = [view.corrected(dataset, d, kind, RADII[name]) for d in ("none", name, *shown)]
        rows += row(view, (view.called(dataset), kind, f"{RADII[name]:g}"), queries)
    caption = (
        "The corrected examples of table 2 shown to the autoencoder trained for them, and to what "
        f"has none: where a control does as well, the gain is transfer. {UNTRAINED}: first seed. "
        f"{HOW}"
    )
    header = ("data set", "attack", "eps", "seeds", "images", "none", "its AE", *shown)
    return Table(caption, header, tuple(rows), 3)


def _noise(view) -> Table:
    """The noise at test time."""
    shown = {"sigma 1, as trained": FGSM_AE}
    others = (*(f"sigma {sigma:g}" for sigma in view.config.sigmas), FIXED, MEAN)
    shown |= {name: f"{FGSM_AE}, {name}" for name in others}
    rows: list[tuple[str, ...]] = []
    for dataset in view.titles:
        for name, defence in shown.items():
            queries = [view.corrected(dataset, defence, "fgsm", eps) for eps in (0.0, EPS)]
            rows += row(view, (view.called(dataset), name), queries)
    caption = (
        f"Noise on the code of {FGSM_AE} at test time, as coming from the same weights: on clean "
        f"images and on the corrected FGSM examples at {EPS:g}. {HOW}"
    )
    header = ("data set", "noise", "seeds", "images", "clean", f"FGSM {EPS:g}")
    return Table(caption, header, tuple(rows), 2)


def _spreads(view) -> Table:
    """How far the code has grown out of the noise's reach."""
    rows = []
    names = dict.fromkeys(r.defence for r in view.records if r.metric == SPREAD)
    for dataset in view.titles:
        for name in names:
            queries = (view.query(dataset, name, metric=m, model=ALONE) for m in (SPREAD, SILENT))
            if cells := view.cells(*queries):
                spread, silent = cells
                about = (view.called(dataset), name, str(spread.seeds), str(spread.n))
                rows.append((*about, spread.text(SPREAD), f"{100 * silent.value:.1f} %"))
    caption = (
        "Standard deviation of the code's numbers over clean test images, where the noise has 1, "
        "and the share of hidden units of the dense layers that no image makes positive (range "
        "over seeds)."
    )
    header = ("data set", "autoencoder", "seeds", "images", SPREAD, SILENT)
    return Table(caption, header, tuple(rows), 2)


def _variants(view, first: Mapping[str, Parts]) -> Table:
    """Autoencoders trained otherwise, of the first seed."""
    rows: list[tuple[str, ...]] = []
    for dataset, parts in first.items():
        team = view.teams[dataset]
        for name in ("", *parts.variants):
            defence = f"{FGSM_AE}, {name}" if name else FGSM_AE
            queries = [view.clean(dataset, defence)]
            queries += [view.corrected(dataset, defence, "fgsm", eps) for eps in FEW[1:]]
            adaptive = (team.pgd_mean.name, team.free.name)
            queries += [
                view.query(dataset, defence, True, attack=adaptive, eps=eps, knowledge="white-box")
                for eps in (0.1, 0.3)
            ]
            if parts.variants:
                rows += row(
                    view, (view.called(dataset), name or "as it is"), [*map(view.first, queries)], 2
                )
    caption = (
        f"{FGSM_AE} of the first seed, trained otherwise: with ReLU, without noise, with half of "
        "each batch left clean, and another network, a U-shaped autoencoder with skips and without "
        "noise or a code, of a ninth of the parameters. On clean "
        "images, on the corrected FGSM examples, and attacked through the whole by PGD (on means "
        f"over draws where there is noise). {HOW}"
    )
    header = ("data set", "training", "seeds", "images", "clean",
              *(f"FGSM {e:g}" for e in FEW[1:]), "PGD 0.1", "PGD 0.3")  # fmt: skip
    return Table(caption, header, tuple(rows), 2)


def _baselines(view) -> Table:
    """Table 3 with all that was measured of it."""
    rows: list[tuple[str, ...]] = []
    for dataset in view.titles:
        for name in (FGSM_AE, PUVAE, DEFENSE_GAN):
            coded = view.coded(dataset, name, "fgsm", EPS)
            static = [view.corrected(dataset, name, "fgsm", eps) for eps in FEW[1:]]
            strongest = [view.strongest(dataset, name, eps) for eps in FEW[1:]]
            if dataset == "MNIST":
                queries = [view.clean(dataset, name), coded, *static, *strongest]
                rows += row(view, (name,), queries, last=len(strongest))
    trained, seeds = view.config.baselines.gan_seeds, len(view.config.seeds)
    few = f"Defense-GAN is trained for {trained} seed(s) of {seeds}, as nothing takes longer. "
    few *= trained < seeds
    caption = (
        "Table 3 on the same classifier: clean images (of PuVAE and Defense-GAN "
        f"{view.config.baselines.n_clean} each seed); FGSM {EPS:g} as coded; corrected FGSM "
        "examples, crafted on the classifier alone; the strongest attacker. PuVAE is attacked "
        "through the class that it chose, on means over draws and without its noise, and by what "
        "its choice of a class depends on; Defense-GAN as if it did not change the image (BPDA), "
        "through all steps of its search, and in its generator's latent space. What their authors "
        "print of clean images is not to hand, so whether ours are within its reach stays open: "
        "for PuVAE on MNIST an index of results (wizwand.com) has 92.92 %, without saying under "
        "which attack, for both others print what table 3 quotes, without the radius. "
        f"{few}{HOW}"
    )
    header = ("defence", "seeds", "images", "clean", f"as coded {EPS:g}",
              *(f"FGSM {e:g}" for e in FEW[1:]),
              *(f"strongest {e:g}" for e in FEW[1:]))  # fmt: skip
    return Table(caption, header, tuple(rows), 1)


def _named(view) -> Table:
    """Attacks that the paper names in passing, of the first seed."""
    rows: list[tuple[str, ...]] = []
    for dataset in view.titles:
        team = view.teams[dataset]
        for each in team.named:
            for name in ("none", *AUTOENCODERS.values()):
                told = each.name if name == "none" else f"{each.name}-eot-{view.config.draws}"
                at = (
                    view.query(dataset, name, attack=told, eps=eps, knowledge="white-box")
                    for eps in FEW[1:]
                )
                rows += row(view, (view.called(dataset), name, told), [*map(view.first, at)])
    caption = (
        "Attacks that the paper names in passing: the basic iterative method and PGD towards the "
        f"least likely class, through the whole; first seed. {HOW}"
    )
    header = ("data set", "defence", "attack", "seeds", "images", *(f"{e:g}" for e in FEW[1:]))
    return Table(caption, header, tuple(rows), 3)


def _norms(view) -> Table:
    """The same of minimum norm."""
    rows = []
    for dataset in view.titles:
        for each in view.teams[dataset].minimum:
            for name in ("none", *(f"{n}, sigma 0" for n in AUTOENCODERS.values())):
                same = {"attack": each.name, "metric": "median l2 norm"}
                if cell := view.cell(view.query(dataset, name, **same)):
                    size = size_of(cell)
                    rows.append(
                        (view.called(dataset), name, each.name, str(cell.seeds), str(cell.n), size)
                    )
    caption = (
        "Median l2 norm that an attack without a radius needs, over the images that are right "
        "without one, for pixels in [0, 1]: DDN and C&W, the autoencoders without their noise; "
        "first seed."
    )
    header = ("data set", "defence", "attack", "seeds", "images", "median l2 norm")
    return Table(caption, header, tuple(rows), 3)


def _seconds(view, first: Mapping[str, Parts]) -> Table:
    """Latency and size, all on one machine."""
    rows = []
    for dataset, parts in first.items():
        held = {FGSM_AE: parts.autoencoders[FGSM_AE].variables}
        held |= {n: p.function.variables for n, p in parts.baselines.items()}
        for name in ("none", *held):
            numbers = f"{count_parameters(held[name]):,}" if name in held else "-"
            told = [
                _seconds_of(view, dataset, name, size, model)
                for model in (ALONE, view.model) for size in (1, 64)
            ]  # fmt: skip
            if any(text != "-" for text in told):
                rows.append((view.called(dataset), name, numbers, *told))
    given = view.config.baselines
    caption = (
        "Latency on one machine, compiled, warmed up and waited for: seconds a call, medians "
        f"(quartiles) of {view.config.repeats} calls, of PuVAE and Defense-GAN "
        f"{view.config.slow_repeats}; purifier alone and with the classifier, with one image and "
        f"with a batch of 64; {jax.devices()[0].device_kind}, {os.cpu_count()} cores, first seed. "
        f"Defense-GAN: {given.restarts} restarts of {given.steps} steps (its authors: 10 of 200), "
        f"{given.gan_features} channels (64). Parameters are the purifier's, of this run's width. "
        "The paper prints 0.008, 0.11 and 14.80 s; the latter two are of other papers, for "
        "mini-batches on other hardware, and compare with nothing here."
    )
    header = ("data set", "defence", "parameters", "alone, 1", "alone, 64", "with classifier, 1",
              "with classifier, 64")  # fmt: skip
    return Table(caption, header, tuple(rows), 2)


def _seconds_of(view, dataset: str, name: str, size: int, model: str) -> str:
    """Median and quartiles of the first seed's calls."""
    query = view.first(view.query(dataset, name, metric=f"seconds, batch {size}", model=model))
    if (cell := view.cell(query)) is None:
        return "-"
    (note,) = (
        r.note for r in view.records
        if all(getattr(r, field) == value for field, value in query.fields.items())
    )  # fmt: skip
    low, high = re.findall(r"\d[\d.e+-]*", note)[:2]
    return f"{cell.value:.2g} ({float(low):.2g} to {float(high):.2g})"
