"""Measured cells of experiment scripts: curves, static examples and clean accuracies, as records.

What was measured once is read from disk: a killed run goes on, and a second run only draws.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import jax
import numpy as np

from experiments.harness import Study
from jaxdefense.attacks import Attack, gaussian
from jaxdefense.classifiers import apply, is_random
from jaxdefense.data import as_images
from jaxdefense.evaluation import (
    Crafted,
    Robustness,
    craft,
    gradient_amplitude,
    interval,
    loss_surface,
    recall,
    reliability,
)
from jaxdefense.evaluation.clean import clean_correct
from jaxdefense.evaluation.gradients import Of
from jaxdefense.evaluation.identity import identity
from jaxdefense.evaluation.robustness import suspicions
from jaxdefense.precision import float32_products
from jaxdefense.reporting import Record, write_atomically
from jaxdefense.typing import Classifier, example_keys

# The sweep says "surrogate" where the attacker differentiates another function.
OBLIVIOUS, TRANSFER = "oblivious", "transfer"
WARNING = "warning: "
"""Before each warning in a record's note."""


def curve(
    study: Study,
    model: str,
    defence: str,
    attack: Attack,
    deployed: Classifier,
    radii: Sequence[float],
    surrogate: Classifier | None = None,
    progress: Callable[[str], None] = print,
    knowledge: str = OBLIVIOUS,
    method: str = "nested",
) -> list[Record]:
    """One curve as records, from disk if it was measured before.

    Args:
        study: data, folder, seed.
        model, defence: as they stand in tables.
        attack: any attack.
        deployed: what is evaluated.
        radii: the grid.
        surrogate: what the attacker differentiates instead; None for white-box.
        progress: called with one line when the curve is there.
        knowledge: what an attacker with a surrogate is called.
        method: of the sweep. With ``"grid"`` every radius counts by itself, as papers that attack
            once for each report it; else what breaks at a smaller radius is broken at larger ones.

    Returns:
        One record per radius.
    """
    x, y = study.examples
    found = recall(
        study.folder / "sweeps", attack, deployed, x, y, radii, study.key, surrogate,
        method=method, progress=None,
    )  # fmt: skip
    knowledge = {"surrogate": knowledge}.get(found.knowledge, found.knowledge)
    ends = f"{100 * found.robust_accuracy[0]:.1f} % to {100 * found.robust_accuracy[-1]:.1f} %"
    progress(f"{defence:>6}  {attack.name:<10} {knowledge:<10} {ends}")
    alone = method == "grid"
    return [
        _record(study, model, defence, found, knowledge, i, alone) for i in range(len(found.radii))
    ]


def static(
    study: Study,
    model: str,
    attack: Attack,
    source: Classifier,
    shown_to: Mapping[str, Classifier],
    radii: Sequence[float],
    progress: Callable[[str], None] = print,
    knowledge: str = OBLIVIOUS,
    alone: int | None = None,
) -> list[Record]:
    """Examples crafted once on one function and shown to others, as the papers do; as records.

    Args:
        study: data, folder, seed.
        model: as it stands in tables.
        attack: any attack.
        source: what is attacked.
        shown_to: what is evaluated, by the name of its defence.
        radii: each is crafted by itself.
        progress: called with one line for each function.
        knowledge: what the attacker is called.
        alone: with a number, attacked images count by themselves, as papers report them, and a
            random function's answer to them is the mean over so many draws; else only what is
            right both clean and attacked counts.

    Returns:
        One record for each function and radius.
    """
    x, y = study.examples
    crafted = functools.cache(lambda eps: craft(attack, source, x, y, eps, study.key))
    records = []
    for defence, deployed in shown_to.items():
        method = "static" if alone is None else f"static, {alone} draws alone"
        name = identity(attack, deployed, x, y, list(radii), study.key, source, method)
        right = kept(
            study.folder / "sweeps" / f"static-{attack.name}-{name[:16]}.json",
            functools.partial(_right, deployed, crafted, radii, alone),
        )
        shares = np.array(right) / len(y)
        norm = attack.ball.name if attack.ball else "sigma"
        notes = ["static"]
        if deployed is source:  # what is shown to others may well do better at larger radii
            said = suspicions(shares, shares, np.array(radii), y, norm, 0, 0)
            notes += [f"{WARNING}{text}" for text in said]
        for eps, count in zip(radii, right, strict=True):
            low, high = interval(round(count), len(y))
            records.append(
                cell(
                    study, model=model, defence=defence, attack=attack.name, knowledge=knowledge,
                    norm=norm, eps=np.float32(eps),
                    value=count / len(y), low=low, high=high, n=len(y),
                    gradients=attack.cost.gradients * len(y),
                    forwards=(attack.cost.forwards + 1) * len(y), note=" ".join(notes),
                )
            )  # fmt: skip
        told = ", ".join(f"{100 * share:.1f}" for share in shares)
        progress(f"{defence:>6}  {attack.name:<10} {knowledge:<10} {told} %")
    return records


def _right(deployed: Classifier, crafted: Callable, radii: Sequence, alone: int | None) -> list:
    if alone is not None:
        return [_right_alone(deployed, crafted(eps), alone) for eps in radii]
    return [int(crafted(eps).accuracy(deployed).robust.sum()) for eps in radii]


def _right_alone(deployed: Classifier, made: Crafted, draws: int) -> float:
    shown = np.where(made.valid[:, None, None, None], made.x_adv, made.x)
    draws, rows = draws if is_random(deployed) else 1, min(128, made.n)
    keys = (jax.random.fold_in(made.key, index) for index in range(draws))
    return sum(int(clean_correct(deployed, shown, made.y, k, rows).sum()) for k in keys) / draws


def kept(path: Path, measure: Callable[[], list]) -> list:
    """Numbers from a file, or measured and written to it."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text())
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = measure()
    write_atomically(path, json.dumps(numbers))
    return numbers


def minimum(
    study: Study,
    model: str,
    defence: str,
    attack: Attack,
    deployed: Classifier,
    radii: Sequence[float],
    progress: Callable[[str], None] = print,
) -> list[Record]:
    """A minimum-norm attack: its white-box curve, and the median norm it needs.

    Args:
        study, model, defence, deployed, progress: as in `curve`.
        attack: one that looks for the closest fooling point.
        radii: the largest should hold every image, so that the accuracy there is the attack's
            failure rate.

    Returns:
        One record per radius, and one whose value is the median norm over the images that are
        right without an attack; NaN where there are none or the attack fails on half of them.
    """
    x, y = study.examples
    records = curve(study, model, defence, attack, deployed, radii, progress=progress)
    folder = study.folder / "sweeps"
    found = recall(folder, attack, deployed, x, y, radii, study.key, progress=None)
    right = found.distance[found.distance > 0]
    median = float(np.median(right)) if right.size else np.inf
    return [*records, dataclasses.replace(
        records[-1], metric=f"median {found.norm} norm", eps=0.0, gradients=0, forwards=0,
        value=median if np.isfinite(median) else np.nan, low=np.nan, high=np.nan,
        n=len(right) or len(y),
    )]  # fmt: skip


def amplitudes(study: Study, model: str, defence: str, deployed: Classifier) -> list[Record]:
    """Absolute gradients at the attacked test images, averaged over them: one record per reading.

    The metric is ``gradient of <what>, <pixel mean or pixel sum>``, for pixels in [0, 1].
    """
    x, y = study.examples
    records = []
    for of in get_args(Of):
        found = gradient_amplitude(deployed, x, y, of=of)
        for what, values in (("pixel mean", found.mean), ("pixel sum", found.total)):
            records.append(
                cell(
                    study, model=model, defence=defence, attack="none", knowledge="white-box",
                    norm="linf", eps=0.0, metric=f"gradient of {of}, {what}",
                    value=values.mean(dtype=np.float64), low=np.nan, high=np.nan, n=len(y),
                    gradients=len(y), forwards=0,
                    note=f"{100 * found.zero_share:.1f} % of the images have no gradient at all",
                )
            )  # fmt: skip
    return records


class Around(NamedTuple):
    """Whether the gradients at the attacked images can be trusted.

    Attributes:
        offsets, loss: see `loss_surface`; the loss is the mean over the images ``[p, p]``.
        checks: name, outcome and words of each check of `reliability`.
    """

    offsets: Sequence[float]
    loss: np.ndarray
    checks: Sequence[tuple[str, str, str]]


def around(study: Study, deployed: Classifier, eps: float) -> Around:
    """Loss surface up to a radius, and checks of the gradients within it."""
    x, y = study.examples

    def measure() -> list:
        found = loss_surface(deployed, x, y, eps, key=study.key)
        checks = reliability(deployed, x, y, study.key, eps=eps)
        loss = found.loss.mean(0, dtype=np.float64)
        told = [(check.name, check.outcome, check.says) for check in checks]
        return [found.offsets.tolist(), loss.tolist(), told]

    name = identity(gaussian(), deployed, x, y, [eps], study.key, None, "around")
    offsets, loss, checks = kept(study.folder / "sweeps" / f"around-{name[:16]}.json", measure)
    return Around(offsets, np.array(loss), [tuple(check) for check in checks])


def clean(study: Study, model: str, defence: str, deployed: Classifier) -> Record:
    """Clean accuracy of a deployed function on all test images, as a record."""
    x, y = as_images(study.data.x_test), study.data.y_test
    # Noise of strength 0 leaves the images as they are.
    name = identity(gaussian(), deployed, x, y, [0.0], study.key, None, "clean")
    path = study.folder / "sweeps" / f"clean-{name[:16]}.json"
    (right,) = kept(path, lambda: [int((outputs(deployed, x, study.key).argmax(-1) == y).sum())])
    low, high = interval(right, len(y))
    return cell(
        study, model=model, defence=defence, attack="none", knowledge="none", norm="linf",
        eps=0.0, value=right / len(y), low=low, high=high, n=len(y), gradients=0, forwards=len(y),
    )  # fmt: skip


def outputs(function: Callable, x: np.ndarray, key: jax.Array) -> np.ndarray:
    """Logits, or images where it is a purifier, of a function that may be random."""
    # All chunks of one shape, for one program.
    size = min(256, len(x))
    padded = np.concatenate([x, np.broadcast_to(x[:1], (-len(x) % size, *x.shape[1:]))])
    keys = example_keys(key, len(padded)).reshape(-1, size)
    chunks = zip(keys, padded.reshape(-1, size, *x.shape[1:]), strict=True)
    with float32_products():
        return np.concatenate([_call(function, *chunk) for chunk in chunks])[: len(x)]


@jax.jit
def _call(function: Callable, keys: jax.Array, x: jax.Array) -> jax.Array:
    return apply(function, keys, x)


def _record(
    study: Study, model: str, defence: str, curve: Robustness, knowledge: str, i: int,
    alone: bool = False,
) -> Record:  # fmt: skip
    # The sweep's cost is shared out, so that records add up to what was spent.
    value, (low, high) = curve.robust_accuracy[i], curve.interval[i]
    if alone:
        value = curve.raw_accuracy[i]
        low, high = interval(round(value * curve.n), curve.n)
    share = lambda total: total // len(curve.radii) + (i < total % len(curve.radii))
    return cell(
        study, model=model, defence=defence, attack=curve.attack, knowledge=knowledge,
        norm=curve.norm, eps=curve.radii[i], value=value, low=low, high=high, n=curve.n,
        gradients=share(curve.evaluations.gradients), forwards=share(curve.evaluations.forwards),
        note=" ".join(f"{WARNING}{text}" for text in curve.warnings),
    )  # fmt: skip


def cell(study: Study, **measured) -> Record:
    """A record with what all cells of a study have in common."""
    data = study.data
    return Record(
        experiment=study.name, dataset=data.title, seed=study.seed, provenance=data.provenance,
        synthetic=data.synthetic, **measured,
    )  # fmt: skip
