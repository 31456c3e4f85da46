"""Tables on Gilbert 2020: faults of the code, other attacks, controls, other codes, cost, sizes."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

from experiments.answers import Answer
from experiments.gilbert2020_cells import (
    ANOTHER,
    ERROR,
    FAR,
    LOSS,
    RESNETS_AE,
    STEPS,
    SURVIVES,
    radii,
)
from experiments.gilbert2020_functions import EFFICIENT, EPS, RESNET, SEPRE, TITLES
from experiments.gilbert2020_parts import (
    AE,
    BARE,
    FILTERS,
    INITIAL,
    LAST,
    PHASES,
    SECOND,
    UNTRAINED,
    Parts,
    tag,
)
from experiments.pooling import Query
from experiments.views import HOW, row, text
from jaxdefense import models
from jaxdefense.attacks import SUITES
from jaxdefense.models import count_parameters
from jaxdefense.reporting import Table

ENDS = (INITIAL, LAST)


def tables(view, found: Sequence[Answer], first: Parts) -> list[Table | str]:
    """All of them, where something was measured."""
    made = [
        _faults(found), _coded(view), _further(view), _controls(view), _labels(view), _search(view),
        _variants(view, first), _effort(view), _losses(view, first), _sizes(view, first),
    ]  # fmt: skip
    return [*(table for table in made if table.rows), _architecture(first), LEFT_OUT]


def _faults(found: Sequence[Answer]) -> Table:
    """What the faults of the public code are worth, for every printed accuracy."""
    rows = []
    for answer in found:
        number, cells = answer.number, answer.cells
        if "as attacked" in cells and number.metric == "accuracy":
            about = (number.table, number.model, number.phase, number.defence, number.attack)
            shown = (cells.get(name) for name in ("as attacked", "corrected", "re-crafted"))
            rows.append((*about, f"{100 * number.fraction:.2f}", *map(text, shown)))
    caption = (
        "Tables 2 and 3, the log of the fine-tuning and the model search: paper; as its public "
        "code has it (PGD on ResNet-20 was printed with other code, which is not public); without "
        "the faults of that code; and, after fine-tuning, with examples "
        "crafted anew on the fine-tuned network (without the autoencoder). As coded: the attacker "
        "differentiates the network on un-normalised images, by the cross-entropy of clipped "
        "probabilities; ImageNet's mean and deviation where it is scored; in fine-tuning logits "
        "are taken for probabilities, so that the loss stops at a true logit of 1. Attacked images "
        f"count by themselves, whether or not they are right when clean. {HOW}"
    )
    header = ("table", "network", "phase", "defence", "attack", "paper", "as coded", "corrected",
              "re-crafted")  # fmt: skip
    return Table(caption, header, tuple(rows), 5)


def _places() -> Iterator[tuple[str, str]]:
    """Network and defence, before and after fine-tuning."""
    for name in (RESNET, SEPRE):
        for phase in ENDS:
            for front in (BARE, AE):
                yield name, tag(front, phase)


def _coded(view) -> Table:
    """What the public code deploys, attacked by one who knows it."""
    rows: list[tuple[str, ...]] = []
    for name, defence in _places():
        queries = [view.static(name, defence, "pgd", coded=True)]
        queries += [view.whole(name, defence, "pgd", coded) for coded in (True, False)]
        rows += row(view, (TITLES[name], defence), queries)
    caption = (
        "Networks and autoencoders of the public code's making (its examples, its losses, "
        "ImageNet's statistics): PGD at 8/255 as coded, and without its faults through all that is "
        f"scored; beside that, the same of those made without the faults. {HOW}"
    )
    header = ("network", "defence", "seeds", "images", "as coded", "through the whole",
              "made without faults, through the whole")  # fmt: skip
    return Table(caption, header, tuple(rows), 2)


def _further(view) -> Table:
    """Other radii and other attacks than the paper's."""
    rows: list[tuple[str, ...]] = []
    team = view.team
    for name, defence in _places():
        for eps in (*radii(view.config), FAR):
            known = {"knowledge": "white-box", "eps": eps}
            queries = [view.static(name, defence, kind, eps=eps) for kind in ("fgsm", "pgd")]
            queries += [view.whole(name, defence, kind, eps=eps) for kind in ("fgsm", "pgd")]
            for each in team.strong:
                # Without gradients there is nothing to know.
                fields = known if each.cost.gradients else {"eps": eps, "knowledge": "none"}
                queries.append(view.query(name, defence, attack=each.name, **fields))
            rows += row(view, (TITLES[name], defence, f"{255 * eps:.0f}/255"), queries)
    caption = (
        "Every attack at other radii than the one that the autoencoder and the fine-tuning have "
        "met (8/255), without the faults of the code: on examples crafted once on the initial "
        "network, then through all that is scored. PGD-10 takes steps in proportion to the radius "
        f"(0.01 at 8/255). {view.config.suite}: {_suite(view.config.suite)} {HOW}"
    )
    header = ("network", "defence", "radius", "seeds", "images", "FGSM, static", "PGD-10, static",
              "FGSM", "PGD-10", *(each.name for each in team.strong))  # fmt: skip
    return Table(caption, header, tuple(rows), 3)


def _suite(name: str) -> str:
    """What the attack that stands for AutoAttack consists of."""
    first = str(SUITES[name].__doc__).partition("\n")[0]
    return first[:1].lower() + first[1:]


def _controls(view) -> Table:
    """The static examples shown to what has no trained autoencoder."""
    rows: list[tuple[str, ...]] = []
    sizes = sorted({EPS, radii(view.config)[-1]})
    for name in (RESNET, SEPRE):
        for phase in PHASES:
            others = (SECOND, UNTRAINED) if phase == INITIAL else ()
            shown = [tag(front, phase) for front in (BARE, AE, *FILTERS)] + list(others)
            for defence in shown:
                queries = [view.clean(name, defence)]
                queries += [
                    view.static(name, defence, kind, eps=eps)
                    for kind in ("fgsm", "pgd") for eps in sizes
                ]  # fmt: skip
                rows += row(view, (TITLES[name], defence), queries)
    for defence in (BARE, AE):
        queries = [view.clean(RESNET, defence)]
        for kind in ("fgsm", "pgd"):
            fields = {"attack": view.attack(kind), "knowledge": ANOTHER}
            queries += [view.query(RESNET, defence, eps=eps, **fields) for eps in sizes]
        rows += row(view, (TITLES[RESNET], f"{defence}, examples of {SECOND}"), queries)
    caption = (
        "The corrected static examples shown to the autoencoder trained for them and to what has "
        "none: where a control does as well, the gain is not the autoencoder's. Blur: sigma 1 "
        f"pixel; JPEG: quality 75. {SECOND} (to the deep network the first): nothing in front; "
        f"{UNTRAINED}: a ResNet-20 trained behind an autoencoder with random weights. Last: "
        f"the examples of that other ResNet-20, at 8/255. {HOW}"
    )
    header = ("network", "defence", "seeds", "images", "clean",
              *(f"{kind} {255 * e:.0f}/255" for kind in ("FGSM", "PGD") for e in sizes),
              )  # fmt: skip
    return Table(caption, header, tuple(rows), 2)


def _labels(view) -> Table:
    """What the label that a perturbation was made with is worth to the autoencoder."""
    rows: list[tuple[str, ...]] = []
    for defence in (BARE, AE) if view.team.leaks else ():
        known = "white-box" if defence == BARE else "oblivious"
        queries = [view.static(RESNET, defence, "fgsm")]
        queries += [
            view.query(RESNET, defence, attack=each.name, eps=EPS, knowledge=known)
            for each in view.team.leaks
        ]
        rows += row(view, (defence,), queries)
    caption = (
        "ResNet-20, FGSM at 8/255 made with the true label, with the one that the network "
        "predicts, with the least likely and with a random wrong one (away from these two as from "
        f"the true one), before fine-tuning. {HOW}"
    )
    header = ("defence", "seeds", "images", "true label", "predicted", "least likely",
              "random wrong")  # fmt: skip
    return Table(caption, header, tuple(rows), 1)


def _search(view) -> Table:
    """Networks that were never attacked, with those that the paper does not print."""
    rows: list[tuple[str, ...]] = []
    for name in view.trained:
        for front in (BARE, RESNETS_AE):
            own = AE if (name, front) == (RESNET, RESNETS_AE) else front
            queries = [view.clean(name, own)]
            queries += [view.transferred(name, front, kind) for kind in ("fgsm", "pgd")]
            queries.append(view.whole(name, own, "pgd"))
            rows += row(view, (view.model(name), front), queries)
    caption = (
        "The model search, corrected: examples at 8/255 crafted on ResNet-20, shown to every "
        "network without an autoencoder and behind the one trained for ResNet-20, and PGD-10 "
        f"through all that is scored. The paper left {TITLES[EFFICIENT]} unfinished. {HOW}"
    )
    header = ("network", "defence", "seeds", "images", "clean", "FGSM of ResNet-20",
              "PGD of ResNet-20", "PGD-10, white-box")  # fmt: skip
    return Table(caption, header, tuple(rows), 2)


def _variants(view, first: Parts) -> Table:
    """Autoencoders of other code lengths and other inputs."""
    rows: list[tuple[str, ...]] = []
    seed = first.study.seed
    of_first = lambda query: Query({**query.fields, "seed": seed}, query.weakest)
    for defence in (AE, *(f"{AE}, {what}" for what in first.variants), *FILTERS):
        numbers = [
            view.cell(of_first(view.query(RESNET, defence, metric=metric)))
            for metric in (ERROR, SURVIVES)
        ]
        queries = [view.clean(RESNET, defence)]
        queries += [view.static(RESNET, defence, kind) for kind in ("fgsm", "pgd")]
        queries.append(view.whole(RESNET, defence, "pgd"))
        shown = tuple(f"{cell.value:.3g}" if cell else "-" for cell in numbers)
        rows += row(view, (defence, *shown), [*map(of_first, queries)]) if any(numbers) else ()
    caption = (
        "ResNet-20 behind autoencoders of other code lengths than the published one (first row), "
        "behind one that met attacked images only, as the text of the paper has it (its code "
        "adds clean ones), behind one that met clean images only, in as many steps, and behind "
        f"filters. {ERROR.capitalize()}: how blurred they come out. "
        f"{SURVIVES.capitalize()}: norm of what the autoencoder makes of PGD's perturbation over "
        f"its norm. At 8/255, before fine-tuning, first seed. {HOW}"
    )
    header = ("defence", ERROR, SURVIVES, "seeds", "images", "clean", "FGSM, static",
              "PGD-10, static", "PGD-10, white-box")  # fmt: skip
    return Table(caption, header, tuple(rows), 1)


def _effort(view) -> Table:
    """What a successful attack costs."""
    rows = []
    for name, defence in _places():
        steps = view.cell(view.query(name, defence, metric=STEPS))
        attack, known = view.team.patient.name, {"eps": EPS, "knowledge": "white-box"}
        left = view.cell(view.query(name, defence, attack=attack, **known))
        seconds = view.cell(view.query(name, defence, metric="seconds, batch 64"))
        if left:
            found = (str(steps.seeds), str(steps.n), f"{steps.value:.1f}") if steps else ("-",) * 3
            rows.append((
                TITLES[name], defence, *found, text(left),
                f"{seconds.value:.2g}" if seconds else "-",
            ))  # fmt: skip
    caption = (
        "What a successful attack costs: gradients until an image that is right when clean is "
        f"wrong, in steps of a twentieth of 8/255 ({view.team.patient.name}, mean over images; "
        "those that never fall are left out), accuracy that is left, and seconds for the answers "
        f"to 64 images (mean of the seeds' medians, {jax.devices()[0].device_kind})."
    )
    header = ("network", "defence", "seeds", "images", "gradients", "left", "seconds")
    return Table(caption, header, tuple(rows), 2)


def _losses(view, first: Parts) -> Table:
    """How the trainings of the autoencoders went, and where they ended."""
    rows = []
    epochs = [e for e in (1, 10, 20, 64, 100) if e < view.config.autoencoder.epochs]
    for (name, coded), line in first.lines.items():
        if cell := view.cell(view.query(name, AE, coded, metric=LOSS)):
            early = [f"{line.history[epoch - 1]['loss']:.2g}" for epoch in epochs]
            pairs, last = f"{line.pairs:,}", cell.text(LOSS)
            rows.append((view.model(name, coded), *early, str(cell.seeds), pairs, last))
    caption = (
        "Mean squared error over an epoch of the autoencoders' trainings, of the first seed but "
        "for the last epoch (log: 0.0072, 0.0017, 0.0016, 0.0015, 0.0015 over epochs 1, 10, 20, "
        "64 and 100, SEPreResNet-56)."
    )
    header = ("trained against", *(f"epoch {epoch}" for epoch in epochs), "seeds", "pairs", LOSS)
    return Table(caption, header, tuple(rows), 1)


def _sizes(view, first: Parts) -> Table:
    """Parameters of all networks, as published and of this run."""
    line = first.lines[RESNET, False]
    held = {name: first.lines[name, False].nets[INITIAL] for name in (RESNET, SEPRE)}
    rows = []
    for name, net in {**held, **first.siblings}.items():
        here = f"{count_parameters(net.variables):,}"
        rows.append((view.model(name), _published(name), here))
    here = f"{count_parameters(line.purifier.variables):,}"
    rows.append(("denoising autoencoder", _published("denoising_autoencoder"), here))
    caption = "Parameters that are trained: as published, of 10 classes, and of this run."
    return Table(caption, ("network", "published size", "this run"), tuple(rows), 1)


def _architecture(first: Parts) -> str:
    """Table 1 of the paper."""
    module, shape = first.lines[RESNET, False].purifier.module, first.study.data.image_shape
    plain = {"width": 120, "force_terminal": False, "no_color": True}
    text = module.tabulate(jax.random.key(0), jnp.zeros((1, *shape)), console_kwargs=plain)
    return f"Table 1 of the paper, the autoencoder, layer by layer:\n\n```\n{text.strip()}\n```"


def _published(name: str) -> str:
    shapes = jax.eval_shape(models.build(name).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    return f"{count_parameters(shapes):,}"


LEFT_OUT = """Left out, and why:

- Pretrained networks of tf2cv: trained here instead, by Adam in place of SGD over hundreds of
  epochs, with shifts but without flips.
- The choice of a checkpoint by the accuracy on test images, as in the public fine-tuning: the last
  epoch counts here. Rounds of fine-tuning that the log does not hold.
- The learning rate that falls where the loss of the autoencoder stands still: cosine here.
- Images in floating point for training the autoencoder and for fine-tuning: 8 bits here. What is
  evaluated is not rounded.
- EfficientNet-B0, which the paper left unfinished, and deeper networks of its search, unless they
  stand among the networks above: on two cores they take too long. Preset paper trains all.
- AutoAttack in full, in preset small: a part of it, `quick`.
- NVAE and VQ-VAE-2, named as further work: no number is printed.
- Randomised smoothing and adversarial training, named in passing: defences of their own."""
